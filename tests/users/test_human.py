"""A person as the user: sees each thing once, the agent's words always, and is asked until the reply fits."""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import BaseModel, Field, ValidationInfo, model_validator

from userrl.core import Query
from userrl.users.human import HumanSeat


class Words(BaseModel):
    words: Annotated[str, Field(min_length=2, description="Your answer.")]


class Verdict(BaseModel):
    word: Literal["Yes", "No", "Maybe"]


class Choice(BaseModel):
    name: str

    @model_validator(mode="after")
    def _is_one_of_them(self, info: ValidationInfo) -> Self:
        if info.context and self.name not in info.context["names"]:
            raise ValueError(f"expected one of {info.context['names']}")
        return self


class Several(BaseModel):
    sure: bool = Field(description="Whether you are sure.")
    numbers: list[int]


class Table:
    """A seat at a table where `typed` is typed and everything else is noted."""

    def __init__(self, typed: Iterable[str] = (), known: Iterable[str] = ()) -> None:
        self.typed, self.asked, self.hints = iter(typed), [], []
        self.shown: list[tuple[str, Any, bool]] = []
        self.seat = HumanSeat(self.ask, lambda *fact: self.shown.append(fact), self.hints.append, known)

    def ask(self, what: str) -> str:
        self.asked.append(what)
        return next(self.typed)

    def answer(self, reply: type[Any], **facts: Any) -> Any:
        return asyncio.run(self.seat.answer(Query("g.q", reply, "", facts, frozenset({"question", "said"}))))


WISHES = [{"about": "when", "wish": "in May"}, {"about": "where", "wish": "Rome"}]


def test_wishes_are_shown_once_and_the_agents_words_each_time_last() -> None:
    table = Table(["in May", "in Rome", "I said it"], known=["Help me."])
    table.answer(Words, question="When?", task="Help me.", wishes=WISHES, said=[])
    assert table.shown == [("wishes", WISHES, False), ("question", "When?", True)]
    table.shown.clear()
    table.answer(Words, question="Where?", task="Help me.", wishes=WISHES, said=["When?"])
    table.answer(Words, question="Where?", task="Help me.", wishes=WISHES, said=["When?", "Where?"])
    assert table.shown == [("question", "Where?", True)] * 2


def test_a_person_sees_what_the_template_shows_a_model_and_each_line_of_a_talk_once() -> None:
    table = Table(["Ada."])
    talk = [{"who": "agent", "text": "Hello."}, {"who": "user", "text": "Hi."}, {"who": "agent", "text": "Your name?"}]
    facts = {"wish": "a refund", "script": {"name": "Ada"}, "transcript": talk, "message": "Your name?"}
    template = "You want $wish. So far: ${transcript} Now: $message It costs $$5."
    query = Query("g.q", Words, template, facts, frozenset({"transcript", "message"}))
    asyncio.run(table.seat.answer(query))
    assert table.shown == [("wish", "a refund", False), ("transcript", talk[:2], True), ("message", "Your name?", True)]
    table.shown.clear()
    facts["transcript"] = [*talk, {"who": "user", "text": "Ada."}, {"who": "agent", "text": "Thanks."}]
    facts["message"] = "Thanks."
    table.typed = iter(["Bye."])
    asyncio.run(table.seat.answer(query))
    assert table.shown == [("message", "Thanks.", True)]


def test_what_the_person_said_is_not_shown_as_news() -> None:
    table = Table(["Never.", "Well."])
    table.answer(Words, question="Why?", said=[])
    table.answer(Words, question="Really?", said=["Why?", "Never."])
    assert [fact for _, fact, _ in table.shown] == ["Why?", "Really?"]


def test_of_a_list_only_what_is_new_is_shown() -> None:
    table = Table(["ok", "ok"])
    table.answer(Words, wishes=WISHES[:1])
    table.answer(Words, wishes=WISHES)
    assert [fact for _, fact, _ in table.shown] == [WISHES[:1], WISHES[1:]]


def test_a_text_is_asked_for_until_it_is_given_and_fits() -> None:
    table = Table(["", "  ", "x", " in May "])
    assert table.answer(Words) == Words(words="in May")
    assert table.asked == ["you"] * 4
    assert table.hints == ["words: String should have at least 2 characters"]


def test_a_choice_is_read_without_regard_to_case() -> None:
    table = Table(["perhaps", "mAyBe"])
    assert table.answer(Verdict).word == "Maybe"
    assert table.asked == ["you (Yes/No/Maybe)"] * 2
    assert table.hints == ["'perhaps' is not one of them."]


def test_a_reply_that_does_not_fit_the_facts_is_asked_for_again() -> None:
    table = Table(["c", "b"])
    assert table.answer(Choice, names=["a", "b"]).name == "b"
    assert table.hints == ["reply: Value error, expected one of ['a', 'b']"]


def test_several_fields_are_asked_for_by_what_they_mean() -> None:
    table = Table(["y", "[1, oops", "no", "[1, 2]"])
    assert table.answer(Several) == Several(sure=False, numbers=[1, 2])
    assert table.asked == ["Whether you are sure (yes/no)", "numbers"] * 2
    assert "numbers: Input should be a valid list" in table.hints[0]


@pytest.mark.parametrize("typed", ["[" * 100_000, "NaN", "{}"])
def test_what_is_typed_is_data_whatever_it_is(typed: str) -> None:
    table = Table(["yes", typed, "yes", "[3]"])
    assert table.answer(Several).numbers == [3]
    assert len(table.hints) == 1
