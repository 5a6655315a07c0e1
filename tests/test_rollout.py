"""The one loop: order, failures as data, limits, and going on where a run stopped."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from userrl.core import INVALID, Action, Agent, Cast, Episode, Query, Task, Turn
from userrl.errors import (
    ConfigError,
    EndpointError,
    EndpointRefused,
    EpisodeOver,
    ReplyError,
    RunStopped,
    SeatError,
    StoreError,
    UnknownName,
)
from userrl.gyms import base
from userrl.gyms.base import Gym
from userrl.rollout import advance, play, play_many, play_recorded, run, starts
from userrl.scripted import Acting, Listed, Scripted
from userrl.store import RunFolder, read


class Words(BaseModel):
    words: str


class Echo(Gym):
    """The user echoes; the judge ends the game when it hears "end". Each turn earns 0.1."""

    name = "echo"
    actions: ClassVar[Mapping[str, str]] = {"action": "say something", "answer": "say it to the judge"}
    settings: ClassVar[Mapping[str, Any]] = {"pay": 0.1}

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        seat = cast.user if action.kind == "action" else cast.judge
        heard = await seat.answer(Query("echo.say", Words, "", {"said": action.text}))
        return Turn(action, heard.words, reward=self.config["pay"], done=heard.words == "end")


@pytest.fixture(autouse=True)
def _the_gym_is_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(base, "find", {"echo": Echo}.__getitem__)
    base._made.cache_clear()
    yield
    base._made.cache_clear()


def seat(fail: Exception | None = None, on: str = "") -> Scripted:
    """Echoes; fails when it hears `on`, which everything holds."""

    def answer(query: Query[Any]) -> Words:
        if fail is not None and on in query.facts["said"]:
            raise fail
        return Words(words=query.facts["said"])

    return Scripted({"echo.say": answer})


CAST = Cast(seat(), seat())
END = Action("action", "end")


def episode(task_id: str = "t", **fields: Any) -> Episode:
    return Episode(Task(task_id, "echo", "Talk."), **fields)


def once(result: Any) -> Any:
    return asyncio.run(result)


# --- one action ----------------------------------------------------------------------------------------------


def test_an_action_is_answered_by_the_rules_with_the_settings_of_the_episode() -> None:
    after = once(advance(episode(rules={"pay": 0.5}), Action("action", "hello"), CAST))
    assert (after.turns[0].feedback, after.rewards, after.stop) == ("hello", [0.5], "running")


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (Action(INVALID, raw="?", problem="Your tool call is not valid JSON."), "Your tool call is not valid JSON."),
        (Action("search", "x"), "The choice 'search' is not offered here."),
        (Action("finish", "x"), "The choice 'finish' is not offered here."),
    ],
)
def test_an_invalid_action_costs_a_turn_earns_nothing_and_is_told_what_was_expected(action: Action, said: str) -> None:
    nobody = Cast(seat(AssertionError("asked")), seat(AssertionError("asked")))
    after = once(advance(episode(), action, nobody))
    [turn] = after.turns
    assert (turn.action, turn.reward, turn.done, turn.label, after.stop) == (action, 0.0, False, INVALID, "running")
    assert said in turn.feedback
    assert '"action" to say something; "answer" to say it to the judge' in turn.feedback


def test_the_note_of_an_action_is_told_with_its_feedback() -> None:
    after = once(advance(episode(), Action("action", "hello", note="Only the first."), CAST))
    assert after.turns[0].feedback == "hello\n(Only the first.)"


def test_an_ended_episode_takes_no_action() -> None:
    ended = once(advance(episode(), END, CAST))
    with pytest.raises(EpisodeOver, match=r"\('echo', 't', 0\) has ended \(done\)"):
        once(advance(ended, END, CAST))


@pytest.mark.parametrize(("role", "kind"), [("user", "action"), ("judge", "answer")])
def test_a_failing_seat_is_named_by_its_role(role: str, kind: str) -> None:
    cast = dataclasses.replace(CAST, **{role: seat(ReplyError("no usable reply"))})
    with pytest.raises(ReplyError, match=f"^{role}: no usable reply$"):
        once(advance(episode(), Action(kind, "x"), cast))


# --- one episode ---------------------------------------------------------------------------------------------


def test_an_episode_is_played_to_its_end_by_the_rules() -> None:
    after = once(play(episode(), Listed([Action("action", "a"), END]), CAST))
    assert (after.stop, len(after.turns)) == ("done", 2)


def test_an_episode_that_the_rules_do_not_end_is_ended_by_the_turn_limit() -> None:
    after = once(play(episode(max_turns=3), Acting(lambda e: Action("action", "a")), CAST))
    assert (after.stop, len(after.turns)) == ("turn_limit", 3)


def test_an_episode_is_played_on_from_where_it_stands() -> None:
    actions = [Action("action", "a"), Action("action", "b"), END]
    whole = once(play(episode(), Listed(actions), CAST))
    half = once(advance(episode(), actions[0], CAST))
    assert once(play(half, Listed(actions), CAST)) == whole


@pytest.mark.parametrize(("role", "kind"), [("user", "action"), ("judge", "answer")])
@pytest.mark.parametrize("error", [ReplyError, EndpointError])
def test_a_failing_user_or_judge_ends_the_episode_as_an_error_that_keeps_its_turns(
    role: str, kind: str, error: type[SeatError]
) -> None:
    cast = dataclasses.replace(CAST, **{role: seat(error("no"), on="x")})
    after = once(play(episode(), Listed([Action("action", "a"), Action(kind, "x")]), cast))
    assert (after.stop, after.error, after.rewards) == ("error", f"{role}: no", [0.1])


def test_a_failing_agent_ends_the_episode_as_an_error() -> None:
    after = once(play(episode(), Listed([Action("action", "a")]), CAST))
    assert (after.stop, len(after.turns)) == ("error", 1)
    assert after.error == "agent: The list of 1 actions is used up."


def test_a_bug_is_no_failure_of_a_seat_and_passes() -> None:
    def act(e: Episode) -> Action:
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        once(play(episode(), Acting(act), CAST))


def test_a_refused_endpoint_passes_because_no_other_episode_can_fare_better() -> None:
    with pytest.raises(EndpointRefused, match=r"^judge: wrong key$"):
        once(play(episode(), Listed([Action("answer", "x")]), Cast(seat(), seat(EndpointRefused("wrong key")))))


# --- many episodes -------------------------------------------------------------------------------------------


class Waiting:
    """Ends its episode after waiting as many loop ticks as the task's id says; counts how many play at once."""

    def __init__(self) -> None:
        self.playing = self.most = 0

    async def act(self, e: Episode) -> Action:
        self.playing += 1
        self.most = max(self.most, self.playing)
        for _ in range(int(e.task.id)):
            await asyncio.sleep(0)
        self.playing -= 1
        return END


def test_starts_gives_every_attempt_of_a_task_before_the_next_task() -> None:
    tasks = [Task("a", "echo", ""), Task("b", "echo", "")]
    made = list(starts(tasks, attempts=2, seed=5, max_turns=3, rules={"pay": 0.2}))
    assert [e.key for e in made] == [("echo", "a", 0), ("echo", "a", 1), ("echo", "b", 0), ("echo", "b", 1)]
    assert {(e.seed, e.max_turns, e.rules["pay"]) for e in made} == {(5, 3, 0.2)}


def test_episodes_come_back_in_order_however_they_end() -> None:
    ended: list[str] = []
    episodes = [episode(i) for i in ("40", "20", "0")]
    played = run(episodes, Waiting(), CAST, on_end=lambda e: ended.append(e.task.id))
    assert [e.task.id for e in played] == ["40", "20", "0"]
    assert ended == ["0", "20", "40"]
    assert all(e.stop == "done" for e in played)


def test_no_more_episodes_than_asked_for_are_in_flight() -> None:
    agent = Waiting()
    assert len(run([episode("3") for _ in range(20)], agent, CAST, at_once=4)) == 20
    assert agent.most == 4


@pytest.mark.parametrize("at_once", [0, -1])
def test_less_than_one_episode_in_flight_is_refused(at_once: int) -> None:
    with pytest.raises(ConfigError, match=f"at_once is {at_once}; expected at least 1 episode in flight"):
        run([episode("3")], Listed([]), CAST, at_once=at_once)


def test_the_cast_may_depend_on_the_gym() -> None:
    asked: list[str] = []

    def cast_of(gym: str) -> Cast:
        asked.append(gym)
        return CAST

    run([episode("0")], Waiting(), cast_of)
    assert asked == ["echo"]


def test_a_failed_episode_is_returned_among_the_others_as_data() -> None:
    agent = Acting(lambda e: Action("action", "broken") if e.task.id == "1" else END)
    played = run([episode(i) for i in "012"], agent, Cast(seat(ReplyError("no"), on="broken"), seat()))
    assert [(e.stop, e.error) for e in played] == [("done", None), ("error", "user: no"), ("done", None)]


def failing() -> tuple[Agent, Cast]:
    return Acting(lambda e: Action("action", "x")), Cast(seat(ReplyError("no reply")), seat())


def test_a_run_with_too_many_failures_stops_and_says_what_failed() -> None:
    agent, cast = failing()
    kept: list[Episode] = []
    with pytest.raises(RunStopped, match=r"3 episodes ended by a failure \(at most 2 are allowed\).*user: no reply"):
        run([episode(str(i)) for i in range(10)], agent, cast, at_once=1, max_errors=2, on_end=kept.append)
    assert [e.task.id for e in kept] == ["0", "1", "2"]


def test_a_run_with_as_many_failures_as_allowed_goes_on() -> None:
    agent, cast = failing()
    assert len(run([episode(str(i)) for i in range(3)], agent, cast, max_errors=3)) == 3


def test_a_refused_endpoint_stops_the_run_at_once() -> None:
    kept: list[Episode] = []
    cast = Cast(seat(EndpointRefused("no such model"), on="x"), seat())
    agent = Acting(lambda e: Action("action", "x") if e.task.id == "1" else END)
    with pytest.raises(EndpointRefused, match=r"^user: no such model$"):
        run([episode(i) for i in "0123"], agent, cast, at_once=1, on_end=kept.append)
    assert [e.task.id for e in kept] == ["0"]


@pytest.mark.parametrize("error", [StoreError("disk full"), RunStopped("enough")])
def test_a_failing_store_stops_the_run_with_its_own_error(error: Exception) -> None:
    def full(e: Episode) -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        run([episode(str(i)) for i in range(5)], Waiting(), CAST, on_end=full)


def test_an_unknown_setting_of_a_gym_stops_the_run_with_its_near_miss() -> None:
    with pytest.raises(UnknownName, match=r"No setting of gym 'echo' named 'payy'\. Did you mean 'pay'"):
        run([episode("0", rules={"payy": 1})], Waiting(), CAST)


# --- going on with a run ---------------------------------------------------------------------------------------


def recorded(tmp_path: Path, episodes: list[Episode], agent: Agent, cast: Cast = CAST, **options: Any) -> list[Episode]:
    folder = RunFolder(tmp_path, {}, resume=(tmp_path / "config.json").exists())
    return list(asyncio.run(play_recorded(episodes, agent, cast, folder, **options)))


def counting(plays: list[str], act: Callable[[Episode], Action]) -> Agent:
    def counted(e: Episode) -> Action:
        plays.append(e.task.id)
        return act(e)

    return Acting(counted)


def test_a_recorded_episode_is_never_played_again(tmp_path: Path) -> None:
    plays: list[str] = []
    agent = counting(plays, lambda e: END)
    episodes = [episode(i) for i in "0123"]
    first = recorded(tmp_path, episodes[:2], agent)
    assert recorded(tmp_path, episodes, agent)[:2] == first
    assert plays == ["0", "1", "2", "3"]


def test_an_episode_that_ended_as_an_error_is_played_anew_when_the_run_goes_on(tmp_path: Path) -> None:
    agent = Acting(lambda e: END)
    [failed] = recorded(tmp_path, [episode("0")], agent, Cast(seat(ReplyError("no")), seat()))
    [played] = recorded(tmp_path, [episode("0")], agent)
    assert (failed.stop, played.stop) == ("error", "done")
    assert [e.stop for e in RunFolder(tmp_path, {}, resume=True).episodes()] == ["error", "done"]


def test_what_ended_before_a_run_stopped_is_kept_and_not_played_again(tmp_path: Path) -> None:
    plays: list[str] = []
    agent = counting(plays, lambda e: Action("action", "x") if e.task.id == "2" else END)
    refused = Cast(seat(EndpointRefused("gone"), on="x"), seat())
    episodes = [episode(i, max_turns=1) for i in "0123"]
    with pytest.raises(EndpointRefused):
        recorded(tmp_path, episodes, agent, refused, at_once=1)
    assert [e.stop for e in recorded(tmp_path, episodes, agent)] == ["done", "done", "turn_limit", "done"]
    assert plays == ["0", "1", "2", "2", "3"]


def test_many_episodes_can_be_played_inside_a_running_loop() -> None:
    assert [e.stop for e in once(play_many([episode("0")], Waiting(), CAST))] == ["done"]


# --- deadlines and stops ---------------------------------------------------------------------------------------


class Stuck:
    """Says "go on", and never comes back from the turns it is stuck in."""

    def __init__(self, *turns: int) -> None:
        self.turns = turns

    async def act(self, e: Episode) -> Action:
        if len(e.turns) in self.turns:
            await asyncio.sleep(3600)
        return Action("action", "go on")


def test_a_turn_that_takes_too_long_ends_the_episode_as_nobodys_failure() -> None:
    [it] = run([episode(max_turns=4)], Stuck(2), CAST, turn_timeout_s=0.05)
    assert (it.stop, len(it.turns)) == ("error", 2)
    assert (it.error or "").startswith("The turn took longer than turn_timeout_s=0.05; it was given up. ")


def test_an_episode_that_takes_too_long_is_told_from_a_turn_that_does() -> None:
    [it] = run([episode(max_turns=4)], Stuck(3), CAST, turn_timeout_s=60, episode_timeout_s=0.05)
    assert (it.stop, len(it.turns)) == ("error", 3)
    assert (it.error or "").startswith("The episode took longer than episode_timeout_s=0.05; it was given up. ")


def test_a_timeout_inside_of_a_turn_is_no_deadline() -> None:
    def act(e: Episode) -> Action:
        raise TimeoutError("a bug")

    with pytest.raises(TimeoutError, match="a bug"):
        run([episode()], Acting(act), CAST, turn_timeout_s=60)


@pytest.mark.parametrize("name", ["turn_timeout_s", "episode_timeout_s"])
@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_time_that_is_not_above_zero_is_refused(name: str, seconds: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*; expected a number of seconds above 0"):
        run([episode()], Stuck(), CAST, **{name: seconds})


def test_a_run_that_stops_lets_the_turns_in_flight_end_and_begins_no_other() -> None:
    refused = asyncio.Event()
    begun: list[int] = []

    class Half:
        async def act(self, e: Episode) -> Action:
            if e.task.id == "refused":
                refused.set()
                raise EndpointRefused("out of credit")
            begun.append(len(e.turns))
            await refused.wait()
            await asyncio.sleep(0.01)  # the run is stopping by now
            return Action("action", "go on")

    ended: list[Episode] = []
    with pytest.raises(EndpointRefused, match="out of credit"):
        run(
            [episode("a"), episode("refused"), episode("b", max_turns=1), episode("c")],
            Half(),
            CAST,
            at_once=3,
            on_end=ended.append,
        )
    assert begun == [0, 0]
    assert [(e.task.id, e.stop) for e in ended] == [("b", "turn_limit")]  # a's turn was played, and a is left where it stands


def test_a_bug_stops_a_run_without_waiting_for_anybody() -> None:
    class Broken(Stuck):
        async def act(self, e: Episode) -> Action:
            if e.task.id == "bug":
                raise KeyError("bug")
            return await super().act(e)

    with pytest.raises(KeyError, match="bug"):
        run([episode("a"), episode("bug")], Broken(0), CAST)


def test_an_agent_that_is_cancelled_from_within_stops_the_run_instead_of_losing_its_episode() -> None:
    class Cancelled:
        async def act(self, e: Episode) -> Action:
            if e.task.id == "lost":
                raise asyncio.CancelledError
            return END

    with pytest.raises(RuntimeError, match="cancelled from within"):
        run([episode("a"), episode("lost"), episode("b")], Cancelled(), CAST)


def test_too_many_invalid_actions_stop_a_run_earlier_ones_included() -> None:
    agent = Acting(lambda e: Action(INVALID, raw="?", problem="Not a call.") if e.task.id == "bad" else END)
    plan = [episode("good"), episode("bad", max_turns=4)]
    assert len(run(plan, agent, CAST, max_invalid=4)) == 2
    with pytest.raises(
        RunStopped, match=r"3 actions were no valid calls \(at most 2 .*The last one: Nothing was done. Not a call"
    ):
        run(plan, agent, CAST, at_once=1, max_invalid=2)
    with pytest.raises(RunStopped, match="3 actions were no valid calls"):
        run(plan, agent, CAST, at_once=1, max_invalid=2, invalid=2)


def test_invalid_actions_of_earlier_sittings_count_but_for_those_of_failed_episodes(tmp_path: Path) -> None:
    bad = Acting(lambda e: Action(INVALID, raw="?", problem="Not a call."))
    recorded(tmp_path, [episode("a", max_turns=2)], bad)
    recorded(tmp_path, [episode("b", max_turns=4)], Listed([Action(INVALID, raw="?")] * 2))
    assert recorded(tmp_path, [episode("a"), episode("b", max_turns=2)], bad, max_invalid=4)[1].stop == "turn_limit"
    with pytest.raises(RunStopped, match="5 actions were no valid calls"):
        recorded(tmp_path, [episode("a"), episode("b"), episode("c")], bad, max_invalid=4)


# --- records read when they are looked at ----------------------------------------------------------------------


def test_the_episodes_of_a_run_are_read_from_its_file_in_order_and_in_part(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, {}, resume=False)
    found = asyncio.run(play_recorded([episode(i) for i in ("40", "20", "0")], Waiting(), CAST, folder))
    assert [e.task.id for e in read(tmp_path / "episodes.jsonl")] == ["0", "20", "40"]
    assert [e.task.id for e in found] == ["40", "20", "0"]
    assert (len(found), found[1].task.id, found[-1].task.id) == (3, "20", "0")
    assert [e.task.id for e in found[1:]] == ["20", "0"]
    assert [e.task.id for e in reversed(found)] == ["0", "20", "40"]
