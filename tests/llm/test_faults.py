"""What each fault of an endpoint does to an episode is what docs/faults.md says."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from userrl.agents.llm import LLMAgent
from userrl.core import INVALID, Cast, Episode
from userrl.errors import EndpointRefused
from userrl.gyms.base import find
from userrl.llm.client import ChatClient, Endpoint
from userrl.llm.fake import Request, Response, completion, fake_server
from userrl.llm.faults import FAULTS, faulty
from userrl.render import SEVERAL, TOOL_NAME
from userrl.rollout import play, play_recorded, starts
from userrl.store import RunFolder, read
from userrl.users.llm import LLMSeat

PAGE = (Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8")
CHAIRS = ("agent", "user", "judge")
GOOD = {
    "agent": completion(calls=[(TOOL_NAME, {"choice": "action", "content": "Where do you want to go?"})]),
    "user": completion('{"words": "To Italy."}'),
    "judge": completion('{"addressed": [1], "on_task": true}'),
}


def table() -> dict[str, list[str]]:
    """Fault -> the other cells of its row."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    return {name: cells for name, *cells in rows[2:]}


ROWS = table()


@dataclass
class Played:
    """What came of an episode: the episode, or what stopped the run; and what each chair's model was asked."""

    episode: Episode | None
    refusal: str
    asked: Mapping[str, list[Any]]


def played(chair: str = "", fault: str = "", every_time: bool = False) -> Played:
    """Two turns of a game in which all chairs are models of one server, and one of them meets a fault."""
    asked: dict[str, list[Any]] = {name: [] for name in CHAIRS}

    def handler(request: Request) -> Response:
        model, good = request.body["model"], Response(GOOD[request.body["model"]])
        asked[model].append(request.messages)
        return FAULTS[fault](good) if model == chair and (every_time or len(asked[model]) == 1) else good

    async def main() -> Played:
        gym = find("intention")
        [episode] = starts(list(gym.tasks("test"))[:1], max_turns=2)
        settings: dict[str, Any] = {"max_retries": 2, "backoff_s": 0.001, "timeout_s": 0.3 if fault == "hang" else 30.0}
        async with fake_server(handler) as url:
            clients = {name: ChatClient(Endpoint(name, url, **settings)) for name in CHAIRS}
            cast = Cast(LLMSeat(clients["user"], "user"), LLMSeat(clients["judge"], "judge"))
            try:
                return Played(await play(episode, LLMAgent(clients["agent"]), cast), "", asked)
            except EndpointRefused as error:
                return Played(None, str(error), asked)

    return asyncio.run(main())


@pytest.fixture(scope="module")
def clean() -> Played:
    return played()


def outcome(it: Played, clean: Played, chair: str) -> str:
    """What happened, in the words of the table."""
    more = len(it.asked[chair]) - len(clean.asked[chair])
    if it.episode is None:
        assert it.refusal.startswith(f"{chair}: ")
        return "stops the run"
    if it.episode.stop == "error":
        assert (it.episode.error or "").startswith(f"{chair}: ")
        assert it.episode.turns == ()
        return "error"
    invalid = [turn.label == INVALID for turn in it.episode.turns]
    if any(invalid):
        assert sum(it.episode.rewards) <= sum((clean.episode or it.episode).rewards)
        return "costs each turn" if all(invalid) else "costs a turn"
    if SEVERAL in it.episode.turns[0].feedback:
        return "first one played"
    assert it.episode == clean.episode
    if not more:
        return "waited for"
    assert more == 1
    return "repaired" if "cannot be used" in it.asked[chair][1][-1]["content"] else "tried again"


def test_the_table_has_a_row_for_each_fault() -> None:
    assert list(ROWS) == list(FAULTS)


@pytest.mark.parametrize("every_time", [False, True], ids=["once", "every-time"])
@pytest.mark.parametrize("chair", CHAIRS)
@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_does_to_an_episode_what_its_row_says(fault: str, chair: str, every_time: bool, clean: Played) -> None:
    *cells, says = ROWS[fault]
    it = played(chair, fault, every_time)
    found = outcome(it, clean, chair)
    assert found == cells[(chair != "agent") * 2 + every_time]
    if found in ("error", "stops the run"):
        assert says
        assert says in (it.episode.error or "" if it.episode else it.refusal)


def test_no_episode_is_lost_or_doubled_when_any_request_may_meet_any_fault(tmp_path: Path) -> None:
    met: Counter[str] = Counter()
    passing = [name for name in FAULTS if ROWS[name][0] != "stops the run" and name != "hang"]
    handler = faulty(lambda request: Response(GOOD[request.body["model"]]), 0.3, 7, passing, met)

    async def main() -> list[Episode]:
        episodes = starts(find("intention").tasks("test")[:40], max_turns=2, attempts=2)
        async with fake_server(handler) as url:
            clients = {name: ChatClient(Endpoint(name, url, max_retries=3, backoff_s=0.001)) for name in CHAIRS}
            cast = Cast(LLMSeat(clients["user"], "user"), LLMSeat(clients["judge"], "judge"))
            return list(await play_recorded(episodes, LLMAgent(clients["agent"]), cast, RunFolder(tmp_path, {}, resume=False)))

    episodes = asyncio.run(main())
    assert [e.key for e in episodes] == [e.key for e in starts(find("intention").tasks("test")[:40], attempts=2)]
    assert sorted(e.key for e in read(tmp_path / "episodes.jsonl")) == sorted(e.key for e in episodes)
    ends = Counter(e.stop for e in episodes)
    assert {"turn_limit", "error"} <= set(ends) <= {"done", "turn_limit", "error"}
    assert all((e.error or "").startswith(CHAIRS) for e in episodes if e.stop == "error")
    assert len(met) > 15


def test_faults_are_drawn_by_the_seed_alone() -> None:
    request = Request(0, "/", {}, {})

    def drawn(share: float, seed: int) -> list[Response]:
        handler = faulty(lambda _: Response(GOOD["user"]), share, seed, ["HTTP 500", "HTTP 400"])
        return [handler(request) for _ in range(200)]

    assert drawn(0.5, 1) == drawn(0.5, 1) != drawn(0.5, 2)
    assert {r.status for r in drawn(0.0, 1)} == {200}
    assert Counter(r.status for r in drawn(0.1, 1))[200] in range(160, 197)
