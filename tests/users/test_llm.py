"""Models as user and judge: one repair turn, then the episode is an error, never a reward."""

import asyncio
import gc
import json
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel

from userrl.core import Action, Cast, Episode, Query, Task, Turn
from userrl.errors import EndpointError, EndpointRefused, ReplyError
from userrl.gyms.base import Gym
from userrl.llm.client import ChatClient, Endpoint
from userrl.llm.fake import FakeClient, Request, Response, fake_server
from userrl.llm.replies import schema_of
from userrl.rollout import play
from userrl.scripted import Listed
from userrl.users.llm import LLMSeat, llm_cast

GOOD, BAD = '{"word": "Yes"}', '{"word": "Perhaps"}'


class Verdict(BaseModel):
    word: Literal["Yes", "No"]


QUESTION: Query[Verdict] = Query("tiny.guess", Verdict, "Is it $guess?", {"guess": "a <tree>"}, frozenset(["guess"]))


class Tiny(Gym):
    """The user greets, the judge marks each guess; a right one earns 1 and ends the game."""

    name = "tiny"
    actions: ClassVar[Mapping[str, str]] = {"answer": "make a guess"}

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        heard: Verdict = await cast.user.answer(Query("tiny.heard", Verdict, "Did you hear it?", {}))
        verdict: Verdict = await cast.judge.answer(Query("tiny.guess", Verdict, "Is it $guess?", {"guess": action.text}))
        right = verdict.word == "Yes"
        return Turn(action, heard.word, reward=float(right), done=right)


def played(cast: Cast, guesses: int = 2) -> Episode:
    agent = Listed([Action("answer", f"guess {i}") for i in range(guesses)])
    return asyncio.run(play(Episode(Task("t", "tiny", "Guess."), max_turns=guesses), agent, cast, Tiny()))


def test_a_fitting_reply_is_asked_for_once_with_its_schema() -> None:
    client = FakeClient([GOOD])
    assert asyncio.run(LLMSeat(client, "judge").answer(QUESTION)) == Verdict(word="Yes")
    (call,) = client.calls
    assert call["schema"] == schema_of(Verdict)
    assert "a &lt;tree&gt;" in call["messages"][1]["content"]


def test_a_reply_that_does_not_fit_is_asked_for_once_more_with_what_was_wrong() -> None:
    client = FakeClient([BAD, GOOD])
    assert asyncio.run(LLMSeat(client, "judge").answer(QUESTION)) == Verdict(word="Yes")
    first, second = client.calls
    assert second["messages"][:2] == first["messages"]
    reply, complaint = second["messages"][2:]
    assert reply == {"role": "assistant", "content": BAD}
    assert complaint["role"] == "user"
    assert "word: Input should be 'Yes' or 'No'" in complaint["content"]
    assert second["schema"] == first["schema"]


@pytest.mark.parametrize(("reply", "echoed"), [("", "(empty)"), ("x" * 100_000, "x" * 4000)])
def test_the_repair_turn_shows_the_reply_in_bounds(reply: str, echoed: str) -> None:
    client = FakeClient([reply, GOOD])
    asyncio.run(LLMSeat(client, "user").answer(QUESTION))
    assert client.calls[1]["messages"][2]["content"] == echoed


def test_a_second_misfit_is_a_reply_error_that_names_role_query_and_both_problems() -> None:
    client = FakeClient([BAD, "no idea", GOOD])
    with pytest.raises(ReplyError) as caught:
        asyncio.run(LLMSeat(client, "judge").answer(QUESTION))
    text = str(caught.value)
    assert text.startswith("judge: No usable reply to 'tiny.guess'")
    assert "word: Input should be" in text
    assert "no JSON object" in text
    assert "'no idea'" in text
    assert len(client.calls) == 2


@pytest.mark.parametrize("replies", [[BAD, GOOD], [BAD, BAD]])
def test_a_reply_that_was_repaired_leaves_no_cycle_for_the_collector(replies: list[str]) -> None:
    async def main() -> None:
        client = FakeClient(replies)
        gone = weakref.ref(client)
        with suppress(ReplyError):
            await LLMSeat(client, "judge").answer(QUESTION)
        del client
        assert gone() is None

    gc.collect()
    gc.disable()  # as it is during play
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_a_failing_endpoint_names_the_role_once() -> None:
    with pytest.raises(EndpointError, match=r"^user: down$"):
        asyncio.run(LLMSeat(FakeClient([EndpointError("down")]), "user").answer(QUESTION))


def test_user_and_judge_are_asked_each_by_its_own_client() -> None:
    user, judge = FakeClient([GOOD, GOOD]), FakeClient(['{"word": "No"}', GOOD])
    episode = played(llm_cast(user, judge))
    assert (episode.stop, episode.rewards) == ("done", [0.0, 1.0])
    assert {c["messages"][1]["content"] for c in user.calls} == {"Did you hear it?"}
    assert [c["messages"][1]["content"] for c in judge.calls] == ["Is it guess 0?", "Is it guess 1?"]


def served(handler: Any) -> Episode:
    """A game whose user and judge answer over HTTP."""

    async def main() -> Episode:
        async with fake_server(handler) as url, ChatClient(Endpoint("m", url, max_retries=1, backoff_s=0.001)) as client:
            agent = Listed([Action("answer", "a tree"), Action("answer", "a house")])
            return await play(Episode(Task("t", "tiny", "Guess."), max_turns=2), agent, llm_cast(client, client), Tiny())

    return asyncio.run(main())


def judge_says(*replies: str) -> Any:
    """A handler whose user always fits and whose judge says `replies` in turn."""
    left = list(replies)

    def handler(request: Request) -> Response | str:
        return GOOD if "hear" in request.messages[1]["content"] else left.pop(0)

    return handler


def test_a_game_over_http_goes_on_after_a_repair_turn() -> None:
    episode = served(judge_says("Let me think.", '```json\n{"word": "No"}\n```', GOOD))
    assert (episode.stop, episode.rewards) == ("done", [0.0, 1.0])


def test_a_judge_that_fails_twice_ends_the_episode_as_an_error_and_keeps_its_turns() -> None:
    episode = served(judge_says('{"word": "No"}', BAD, BAD))
    assert episode.stop == "error"
    assert episode.error is not None
    assert episode.error.startswith("judge: No usable reply")
    assert episode.rewards == [0.0]


def test_a_failing_user_ends_the_episode_as_an_error_without_a_reward() -> None:
    episode = served(lambda _: Response("oops", status=500))
    assert (episode.stop, episode.rewards) == ("error", [])
    assert episode.error is not None
    assert episode.error.startswith("user: ")
    assert "tried 2 times" in episode.error


def test_an_endpoint_that_refuses_stops_the_game_instead_of_ending_the_episode() -> None:
    with pytest.raises(EndpointRefused, match=r"^user: .*HTTP 401"):
        served(lambda _: Response(json.dumps({"error": {"message": "no"}}), status=401))
