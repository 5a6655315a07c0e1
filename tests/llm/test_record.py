"""Replies are kept as they come, and found again by their place and by what was asked."""

import asyncio
import json
from typing import Any

import pytest

from userrl.core import Place
from userrl.errors import DataError, DeadlinePassed, EndpointError, EndpointRefused, StoreError
from userrl.llm.client import Endpoint
from userrl.llm.fake import FakeClient, Reply
from userrl.llm.record import EpisodeId, Line, Recorded, Replies, asked, episode_of
from userrl.llm.wire import Completion, Usage

PLACE = Place("g", "t", 0, 5, 2)


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


class Run:
    """A run's lines, and sittings that go on with them."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.sittings = 0

    def sit(self, *replies: Reply, replay: bool = False) -> Recorded:
        """A model's seat in a new sitting, or in a replay; the model has so many replies left."""
        before = json.loads(json.dumps(self.lines))

        def past(episode: EpisodeId) -> list[Line]:
            return [line for line in before if tuple(line["place"][:4]) == episode]

        self.replies = Replies()
        self.replies.open(None if replay else self.lines.append, past, self.sittings)
        self.sittings += not replay
        return Recorded(FakeClient(replies, Endpoint("m", "http://fake.invalid/v1")), "user", self.replies)


def ask(seat: Recorded, *texts: str, place: Place = PLACE, **options: Any) -> str:
    return asyncio.run(seat.chat(said(*texts), place=place, **options)).content


def test_a_reply_is_written_with_its_place_and_what_it_took() -> None:
    run = Run()
    ask(run.sit(Completion("To Italy.", usage=Usage(9, 3, 1), finish_reason="stop", reasoning="hm")), "Where?")
    [line] = run.lines
    assert line.pop("s") >= 0
    assert line == {
        "schema": 1,
        "sitting": 0,
        "place": ["g", "t", 0, 5, 2],
        "role": "user",
        "asked": asked(said("Where?"), None, None),
        "model": "m",
        "content": "To Italy.",
        "usage": [9, 3, 1],
        "finish_reason": "stop",
        "reasoning": "hm",
    }


def test_a_recorded_reply_comes_back_as_it_was_and_is_not_asked_for_again() -> None:
    run = Run()
    calls = ({"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}},)
    whole = Completion("é \U0001f600\n", calls, Usage(9, 3, 1), "tool_calls", "hm")
    assert asyncio.run(run.sit(whole).chat(said("Where?"), place=PLACE)) == whole
    assert asyncio.run(run.sit().chat(said("Where?"), place=PLACE)) == whole
    assert len(run.lines) == 1


def test_the_same_question_asked_twice_in_a_turn_has_two_replies_in_order() -> None:
    run = Run()
    first = run.sit("one", "two")
    assert [ask(first, "Well?"), ask(first, "Well?")] == ["one", "two"]
    second = run.sit("three")
    assert [ask(second, "Well?") for _ in range(3)] == ["one", "two", "three"]
    third = run.sit()
    assert [ask(third, "Well?") for _ in range(3)] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "changed",
    [
        {"place": Place("h", "t", 0, 5, 2)},
        {"place": Place("g", "u", 0, 5, 2)},
        {"place": Place("g", "t", 1, 5, 2)},
        {"place": Place("g", "t", 0, 6, 2)},
        {"place": Place("g", "t", 0, 5, 3)},
        {"seed": 1},
        {"temperature": 0.5},
        {"texts": ("Where to?",)},
        {"texts": ("earlier", "Where?")},
    ],
)
def test_another_place_or_question_never_gets_that_reply(changed: dict[str, Any]) -> None:
    run = Run()
    ask(run.sit("old"), "Where?")
    texts = changed.pop("texts", ("Where?",))
    assert ask(run.sit("new"), *texts, **{"place": PLACE, **changed}) == "new"


def test_another_role_never_gets_that_reply() -> None:
    run = Run()
    ask(run.sit("old"), "Where?")
    run.sit()
    judge = Recorded(FakeClient(["new"]), "judge", run.replies)
    assert ask(judge, "Where?") == "new"


def test_a_hash_tells_roles_contents_and_calls_apart() -> None:
    talks = [
        said("ab", "c"),
        said("a", "bc"),
        [{"role": "system", "content": "ab"}, *said("c")],
        [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "x"}}]}, *said("c")],
        [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "y"}}]}, *said("c")],
        said("a\ud800", "c"),
    ]
    assert len({asked(talk, None, None) for talk in talks}) == len(talks)
    assert asked(said("x", "a", "b"), None, None) == asked(said("y", "a", "b"), None, None)
    assert asked(said("x", "a", "b"), None, None, whole=True) != asked(said("y", "a", "b"), None, None, whole=True)


# --- failures --------------------------------------------------------------------------------------------------


def test_a_failure_is_kept_with_the_tokens_it_took() -> None:
    run, thought = Run(), EndpointError("only its reasoning")
    thought.usage = Usage(9, 30, 30)
    with pytest.raises(EndpointError, match="only its reasoning"):
        ask(run.sit(thought), "Where?")
    assert (run.lines[0]["error"], run.lines[0]["usage"]) == ("only its reasoning", [9, 30, 30])
    with pytest.raises(EndpointError, match=r"^only its reasoning$"):
        ask(run.sit(), "Where?")


def test_a_refusal_is_not_kept_as_it_says_nothing_about_the_next_sitting() -> None:
    run = Run()
    with pytest.raises(EndpointRefused):
        ask(run.sit(EndpointRefused("out of credit")), "Where?")
    assert run.lines == []
    assert ask(run.sit("To Italy."), "Where?") == "To Italy."


def test_a_turn_that_was_given_up_is_asked_anew_from_its_beginning_and_the_turns_before_it_are_not() -> None:
    run, failed = Run(), EndpointError("broken")
    first = run.sit("turn 1", "turn 2, agent", failed)
    ask(first, "a", place=Place("g", "t", turn=0))
    ask(first, "b", place=Place("g", "t", turn=1))
    with pytest.raises(EndpointError):
        ask(first, "c", place=Place("g", "t", turn=1))
    run.replies.give_up(Place("g", "t", turn=1), "user: broken")

    second = run.sit("anew", "better")
    assert ask(second, "a", place=Place("g", "t", turn=0)) == "turn 1"
    assert ask(second, "b", place=Place("g", "t", turn=1)) == "anew"
    assert ask(second, "c", place=Place("g", "t", turn=1)) == "better"

    third = run.sit()  # the second sitting was killed here: what it paid for is not paid for again
    replies = [ask(third, text, place=Place("g", "t", turn=turn)) for text, turn in (("a", 0), ("b", 1), ("c", 1))]
    assert replies == ["turn 1", "anew", "better"]


def test_what_was_read_for_an_episode_is_forgotten_when_it_has_ended() -> None:
    run = Run()
    ask(run.sit("old"), "Where?")
    seat = run.sit()
    ask(seat, "Where?")
    assert list(run.replies._open) == [episode_of(PLACE)]
    run.replies.ended(episode_of(PLACE))
    assert not run.replies._open


def test_a_reply_that_cannot_be_written_is_not_used() -> None:
    def full(line: Line) -> None:
        raise StoreError("disk full")

    replies = Replies()
    replies.open(full, lambda _: ())
    with pytest.raises(StoreError):
        ask(Recorded(FakeClient(["To Italy."]), "user", replies), "Where?")


def test_before_a_record_is_opened_nothing_is_kept() -> None:
    seat = Recorded(FakeClient(["one", "two"]), "user", Replies())
    assert [ask(seat, "Well?"), ask(seat, "Well?")] == ["one", "two"]


# --- replay ----------------------------------------------------------------------------------------------------


def test_a_replay_asks_nobody_and_writes_nothing() -> None:
    run = Run()
    ask(run.sit("To Italy."), "Where?")
    seat = run.sit("never asked", replay=True)
    assert ask(seat, "Where?") == "To Italy."
    run.replies.give_up(PLACE, "no matter")
    assert len(run.lines) == 1


def test_a_replay_without_the_reply_says_what_is_missing() -> None:
    run = Run()
    ask(run.sit("To Italy."), "Where?")
    with pytest.raises(DataError, match=r"no reply of the user to what is asked in turn 3 of g task 't', attempt 0\."):
        ask(run.sit(replay=True), "Where to?")


def test_a_replay_meets_the_failure_that_an_episode_ended_with() -> None:
    run, turn = Run(), Place("g", "t", turn=1)
    with pytest.raises(EndpointError):
        ask(run.sit(EndpointError("broken")), "b", place=turn)
    run.replies.give_up(turn, "user: broken")
    with pytest.raises(EndpointError, match=r"^broken$"):
        ask(run.sit(replay=True), "b", place=turn)


def test_a_replay_meets_the_deadline_that_an_episode_ended_by() -> None:
    run, turn = Run(), Place("g", "t", turn=1)
    ask(run.sit("in time"), "a", place=turn)
    run.replies.give_up(turn, "The turn took longer than turn_timeout_s=2")
    replay = run.sit(replay=True)
    assert ask(replay, "a", place=turn) == "in time"
    with pytest.raises(DeadlinePassed, match=r"^The turn took longer than turn_timeout_s=2$"):
        ask(replay, "b", place=turn)


def test_a_replay_passes_over_failures_that_were_played_anew() -> None:
    run, turn = Run(), Place("g", "t", turn=1)
    with pytest.raises(EndpointError):
        ask(run.sit(EndpointError("broken")), "b", place=turn)
    run.replies.give_up(turn, "user: broken")
    ask(run.sit("well"), "b", place=turn)
    assert ask(run.sit(replay=True), "b", place=turn) == "well"
