"""The model calls of a run: kept, counted, resumed without asking twice, replayed."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.agents.llm import LLMAgent
from userrl.calls import FILE, Calls
from userrl.core import Cast, Episode, Place
from userrl.errors import BudgetSpent, ConfigError, DataError, EndpointError, EndpointRefused
from userrl.evaluate.run import EvalJob, evaluate
from userrl.gyms.base import find
from userrl.llm.client import Endpoint
from userrl.llm.fake import FakeClient, Messages
from userrl.llm.pool import Pool
from userrl.llm.wire import Completion, Usage
from userrl.render import call_text
from userrl.store import Store, read, to_record
from userrl.users.llm import LLMSeat

QUESTIONS = ("Where do you want to go?", "On what date?", "How many people are you?", "What is your budget?", "Any allergies?")
JOB = EvalJob("m@", tasks=4, attempts=2, max_turns=4, seed=3, user="m@", judge="m@")
ROLES = ("agent", "user", "judge")


class Killed(BaseException):
    """The process is gone at this moment."""


def said_by(role: str, messages: Messages) -> Completion:
    """What a model in that chair says, which depends on what it is asked alone."""
    drawn = hashlib.blake2b(json.dumps([role, list(messages)]).encode(), digest_size=2).digest()
    text = {
        "agent": call_text("action", QUESTIONS[drawn[0] % len(QUESTIONS)]),
        "user": json.dumps({"words": f"Number {drawn[0]}."}),
        "judge": json.dumps({"addressed": [0, 1, 2] if drawn[0] % 2 else [1], "on_task": True}),
    }[role]
    return Completion(text, usage=Usage(100, 20))


class Models:
    """Three models, what they were asked, and what befalls them: a function of (role, place, how many were asked before)."""

    def __init__(self, befalls: Callable[[str, Place, int], None] = lambda *_: None, **settings: Any) -> None:
        self.befalls, self.settings = befalls, settings
        self.asked: list[tuple[str, Place, str]] = []

    def client(self, role: str) -> FakeClient:
        models = self

        class Model(FakeClient):
            async def chat(self, messages: Messages, place: Place = Place(), **_: Any) -> Completion:  # type: ignore[override]  # noqa: B008
                count = len(models.asked)
                models.asked.append((role, place, json.dumps(list(messages))))
                await asyncio.sleep(0)
                models.befalls(role, place, count)
                return said_by(role, messages)

        return Model([], Endpoint("m", "http://fake.invalid/v1", tools=False, **self.settings))


def sit(folder: Path, models: Models, calls: Calls | None = None, job: EvalJob = JOB, **options: Any) -> list[Episode]:
    """One sitting of a run; a run that is there is gone on with."""
    calls = calls or Calls()
    agent, user, judge = (calls.door(models.client(role), role) for role in ROLES)  # type: ignore[arg-type]
    resume = (folder / "config.json").exists()
    options = {"at_once": 3, "resume": resume, **options}
    played = evaluate(job, LLMAgent(agent), Cast(LLMSeat(user, "user"), LLMSeat(judge, "judge")), folder, calls=calls, **options)
    return list(asyncio.run(played))


def records(episodes: list[Episode]) -> dict[Any, Any]:
    return {episode.key: to_record(episode) for episode in episodes}


def killed_after(count: int) -> Callable[[str, Place, int], None]:
    def befalls(role: str, place: Place, before: int) -> None:
        if before >= count:
            raise Killed

    return befalls


def killed(folder: Path, models: Models, **options: Any) -> None:
    with pytest.raises(Killed):
        sit(folder, models, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """The undisturbed run."""
    episodes = sit(tmp_path_factory.mktemp("whole") / "run", Models())
    assert len({len(e.turns) for e in episodes}) > 1
    return records(episodes)


# --- resume ----------------------------------------------------------------------------------------------------


def test_a_run_that_is_killed_again_and_again_asks_nothing_twice_but_what_was_in_flight(
    tmp_path: Path, whole: dict[Any, Any]
) -> None:
    sittings: list[Models] = []
    while True:
        models = Models(killed_after(7))
        sittings.append(models)
        try:
            episodes = sit(tmp_path / "run", models)
            break
        except Killed:
            continue
    assert len(sittings) > 10
    assert records(episodes) == whole
    asked = Counter(question for models in sittings for question in models.asked)
    again = sum(asked.values()) - len(asked)
    assert 0 < again <= 3 * (len(sittings) - 1)  # three are in flight
    ended = [e.key for e in read(tmp_path / "run" / "episodes.jsonl")]
    assert len(ended) == len(set(ended)) == len(whole)


def test_only_the_turn_that_failed_is_asked_anew(tmp_path: Path, whole: dict[Any, Any]) -> None:
    def broken(role: str, place: Place, before: int) -> None:
        if role == "judge" and place.turn == 2:
            raise EndpointError("broken")

    first, second = Models(broken), Models()
    failed = [e for e in sit(tmp_path / "run", first) if e.stop == "error"]
    assert len(failed) > 3
    assert all((len(e.turns), e.error) == (2, "judge: broken") for e in failed)
    assert records(sit(tmp_path / "run", second)) == whole
    assert min(place.turn for _, place, _ in second.asked) == 2
    again = {(place.task, place.attempt, role) for role, place, _ in second.asked if place.turn == 2}
    assert again == {(e.task.id, e.attempt, role) for e in failed for role in ROLES}


def test_a_turn_paid_for_after_a_failure_is_not_paid_for_again_when_that_sitting_is_killed(
    tmp_path: Path, whole: dict[Any, Any]
) -> None:
    def broken(role: str, place: Place, before: int) -> None:
        if role == "judge" and place.turn == 1:
            raise EndpointError("broken")

    sit(tmp_path / "run", Models(broken))
    second, third = Models(killed_after(20)), Models()
    killed(tmp_path / "run", second)
    assert records(sit(tmp_path / "run", third)) == whole
    assert len(second.asked) > 20
    assert len(set(second.asked) & set(third.asked)) <= 3


def test_a_failure_that_ended_an_episode_just_before_the_end_is_asked_anew(tmp_path: Path, whole: dict[Any, Any]) -> None:
    def broken(role: str, place: Place, before: int) -> None:
        if role == "judge" and place.turn == 1:
            raise EndpointError("broken")

    sit(tmp_path / "run", Models(broken))
    (tmp_path / "run" / "episodes.jsonl").write_bytes(b"")  # as if the end of each had not been written any more
    assert records(sit(tmp_path / "run", Models())) == whole


@pytest.mark.parametrize("at", [1, 5, 20, 60])
def test_a_refused_run_goes_on_without_a_failure(tmp_path: Path, whole: dict[Any, Any], at: int) -> None:
    def refused(role: str, place: Place, before: int) -> None:
        if before >= at:
            raise EndpointRefused("out of credit")

    with pytest.raises(EndpointRefused):
        sit(tmp_path / "run", Models(refused), at_once=8)
    assert records(sit(tmp_path / "run", Models(), max_errors=0)) == whole


def test_a_torn_last_reply_is_asked_for_again(tmp_path: Path, whole: dict[Any, Any]) -> None:
    killed(tmp_path / "run", Models(killed_after(20)))
    file = tmp_path / "run" / FILE
    kept = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(kept)[:-10])
    models = Models()
    assert records(sit(tmp_path / "run", models)) == whole
    [role, place] = [json.loads(kept[-1])[name] for name in ("role", "place")]
    assert (role, place) in [(r, [p.gym, p.task, p.attempt, p.seed, p.turn]) for r, p, _ in models.asked]
    assert (tmp_path / "run" / f"{FILE}.torn").read_bytes().strip() == kept[-1][:-10]


@pytest.mark.parametrize("line", ["{}", "[1]", '{"place": ["g", "t"], "sitting": 0}'])
def test_a_line_that_is_no_reply_is_named(tmp_path: Path, line: str) -> None:
    killed(tmp_path / "run", Models(killed_after(5)))
    file = tmp_path / "run" / FILE
    size = file.stat().st_size
    file.write_text(f"{file.read_text('utf-8')}{line}\n", "utf-8")
    with pytest.raises(DataError, match=rf"replies\.jsonl, byte {size}: not a recorded reply"):
        sit(tmp_path / "run", Models())


# --- budgets and the ledger ------------------------------------------------------------------------------------


def test_a_run_stops_within_its_budget_and_goes_on_with_a_larger_one(tmp_path: Path, whole: dict[Any, Any]) -> None:
    models, calls = [Models() for _ in range(4)], []
    for budget, model in zip((2000, 4000, 8000, None), models, strict=True):
        calls.append(Calls(max_tokens=budget))
        if budget is not None:
            with pytest.raises(BudgetSpent, match="Raise --max-tokens to go on"):
                sit(tmp_path / "run", model, calls[-1])
            spent = calls[-1].ledger.total
            assert budget / 2 < spent.read + spent.written <= budget
        else:
            assert records(sit(tmp_path / "run", model, calls[-1])) == whole
    asked = [question for model in models for question in model.asked]
    assert len(asked) == len(set(asked)) == calls[-1].ledger.total.calls
    rows = json.loads((tmp_path / "run" / "cost.json").read_text("utf-8"))
    assert sum(row["calls"] for row in rows) == len(asked)
    assert sum(row["read"] for row in rows) == 100 * len(asked)
    assert {row["role"] for row in rows} == set(ROLES)


def test_an_unchanged_budget_stops_the_next_sitting_within_it_too(tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent):
        sit(tmp_path / "run", Models(), Calls(max_tokens=2000))
    calls = Calls(max_tokens=2000)
    with pytest.raises(BudgetSpent, match=r"\d+ are spent"):
        sit(tmp_path / "run", Models(), calls)
    spent = calls.ledger.total
    assert 1000 < spent.read + spent.written <= 2000


def test_failed_calls_of_earlier_sittings_are_counted(tmp_path: Path) -> None:
    def broken(role: str, place: Place, before: int) -> None:
        if role == "judge" and place.turn == 0 and place.attempt == 1:
            error = EndpointError("only reasoning")
            error.usage = Usage(100, 50)
            raise error

    sit(tmp_path / "run", Models(broken))
    calls = Calls()
    sit(tmp_path / "run", Models(), calls)
    judge = calls.ledger.rows["judge", "intention", "m"]
    assert judge.failed == JOB.tasks
    assert judge.written == 20 * (judge.calls - judge.failed) + 50 * judge.failed


def test_answers_lost_in_earlier_sittings_are_counted_once(tmp_path: Path) -> None:
    def lost(role: str, place: Place, before: int) -> None:
        if role == "judge" and place.turn == 1 and place.attempt == 1:
            error = EndpointError("broken off")
            error.lost = 3
            raise error

    first, second = Calls(), Calls()
    sit(tmp_path / "run", Models(lost), first)
    sit(tmp_path / "run", Models(), second)
    for calls in (first, second):
        assert calls.ledger.rows["judge", "intention", "m"].lost == 3 * JOB.tasks
    rows = json.loads((tmp_path / "run" / "cost.json").read_text("utf-8"))
    assert [row["lost"] for row in rows if row["role"] == "judge"] == [3 * JOB.tasks]


def test_a_budget_of_dollars_needs_the_price_of_each_model() -> None:
    with pytest.raises(ConfigError, match="needs the price of the judge's model 'm'"):
        Calls(max_usd=1.0).door(Models().client("judge"), "judge")


def test_a_budget_of_dollars_needs_one_price_for_all_endpoints_of_a_chair() -> None:
    def pool(*prices: float) -> Pool:
        return Pool([FakeClient([], Endpoint("m", f"http://{p}.invalid/v1", usd_read=p, usd_written=p)) for p in prices], [1, 1])

    with pytest.raises(ConfigError, match=r"one price for all of the user's endpoints.*\(model 'm'\): 1 and 1;"):
        Calls(max_usd=1.0).door(pool(1.0, 9.0), "user")
    assert Calls(max_usd=1.0).door(pool(2.0, 2.0), "user").endpoint.usd_read == 2.0
    assert Calls(max_tokens=1e6).door(pool(1.0, 9.0), "user").endpoint.usd_read == 1.0


# --- sharing ---------------------------------------------------------------------------------------------------


class Whims(Models):
    """A user who never says the same thing twice; the agent asks the same questions in every attempt."""

    def client(self, role: str) -> FakeClient:
        models = self

        class Model(FakeClient):
            async def chat(self, messages: Messages, place: Place = Place(), **_: Any) -> Completion:  # type: ignore[override]  # noqa: B008
                models.asked.append((role, place, json.dumps(list(messages))))
                text = json.dumps({"words": f"Whim {len(models.asked)}."})
                await asyncio.sleep(0)
                if role == "agent":
                    text = call_text("action", QUESTIONS[place.turn + (2 if place.attempt == 2 else 0)])
                elif role == "judge":
                    text = json.dumps({"addressed": [], "on_task": True})
                return Completion(text, usage=Usage(100, 20))

        return Model([], Endpoint("m", "http://fake.invalid/v1", tools=False, **self.settings))


GROUP = EvalJob("m@", tasks=2, attempts=3, max_turns=2, user="m@", judge="m@", shared_user_noise=True)


def feedback(episodes: list[Episode]) -> dict[tuple[str, int], list[str]]:
    return {(e.task.id, e.attempt): [turn.feedback for turn in e.turns] for e in episodes}


def test_with_shared_noise_attempts_that_ask_the_same_hear_the_same(tmp_path: Path) -> None:
    models, calls = Whims(), Calls(shared_user_noise=True)
    heard = feedback(sit(tmp_path / "run", models, calls, job=GROUP))
    tasks = sorted({task for task, _ in heard})
    for task in tasks:
        assert heard[task, 0] == heard[task, 1]
        assert not set(heard[task, 0]) & set(heard[task, 2])
    assert not set(heard[tasks[0], 0]) & set(heard[tasks[1], 0])
    roles = Counter(role for role, _, _ in models.asked)
    assert roles == {"agent": 12, "user": 8, "judge": 8}
    assert calls.ledger.total.calls == 28
    lines = [json.loads(line) for line in (tmp_path / "run" / FILE).read_text("utf-8").splitlines()]
    assert len(lines) == 36  # each attempt's own record is whole
    assert sum(line.get("shared", False) for line in lines) == 8

    again = Calls(shared_user_noise=True)
    sit(tmp_path / "run", models, again, job=GROUP)
    assert again.ledger.total == calls.ledger.total  # what was shared is not counted twice


def test_a_failure_that_is_shared_is_counted_once_over_sittings(tmp_path: Path) -> None:
    class Thinker(FakeClient):
        async def chat(self, messages: Messages, **_: Any) -> Completion:  # type: ignore[override]
            await asyncio.sleep(0)
            error = EndpointError("only its reasoning")
            error.usage = Usage(100, 50)
            raise error

    class Thinking(Whims):
        def client(self, role: str) -> FakeClient:
            return Thinker([], Endpoint("m", "http://fake.invalid/v1")) if role == "judge" else super().client(role)

    calls, again = Calls(shared_user_noise=True), Calls(shared_user_noise=True)
    sit(tmp_path / "run", Thinking(), calls, job=GROUP, max_errors=99)
    judge = calls.ledger.rows["judge", "intention", "m"]
    assert judge.failed == judge.calls == 4  # of 2 tasks, each with attempts 0 and 1 that ask the same, and attempt 2
    with Store(tmp_path / "run" / FILE) as store:
        for role in ("agent", "user", "judge"):
            again.door(Thinking().client(role), role)  # type: ignore[arg-type]
        again.keep(store)
    assert again.ledger.rows == calls.ledger.rows


def test_without_it_every_attempt_asks_for_itself(tmp_path: Path) -> None:
    models = Whims()
    heard = feedback(sit(tmp_path / "run", models, job=EvalJob("m@", tasks=1, attempts=2, max_turns=2, user="m@", judge="m@")))
    assert len({text for texts in heard.values() for text in texts}) == 4


def test_a_cached_endpoint_is_asked_the_same_thing_once_in_a_run(tmp_path: Path) -> None:
    models = Models(cache=True, temperature=0.0)
    episodes = sit(tmp_path / "run", models)
    questions = [(role, text) for role, _, text in models.asked]
    assert len(questions) == len(set(questions)) < sum(3 * len(e.turns) for e in episodes)


def test_a_gym_named_twice_is_refused_as_its_episodes_would_be_played_and_paid_for_twice(tmp_path: Path) -> None:
    models = Models()
    with pytest.raises(ConfigError, match="gyms names one twice: intention, intention"):
        sit(tmp_path / "run", models, job=EvalJob("m@", ("intention", "intention"), tasks=1, user="m@", judge="m@"))
    assert not models.asked
    assert not (tmp_path / "run").exists()


# --- replay ----------------------------------------------------------------------------------------------------


def replayed(run: Path, **options: Any) -> list[Episode]:
    models = Models(killed_after(0))  # it must not be asked
    calls = Calls(replay=run / FILE)
    episodes = sit(run.with_name("again"), models, calls, **options)
    assert not (run.with_name("again") / FILE).exists()
    assert not (run.with_name("again") / "cost.json").exists()
    return episodes


def test_a_replay_gives_the_same_episodes_with_their_failures_and_asks_nobody(tmp_path: Path) -> None:
    def broken(role: str, place: Place, before: int) -> None:
        if role == "user" and place.turn == 1 and place.attempt == 1:
            raise EndpointError("broken")

    episodes = sit(tmp_path / "run", Models(broken))
    assert {e.stop for e in episodes} >= {"error", "turn_limit"}
    assert records(replayed(tmp_path / "run")) == records(episodes)


def test_a_replay_gives_the_same_episodes_after_kills_and_mended_failures(tmp_path: Path, whole: dict[Any, Any]) -> None:
    def broken(role: str, place: Place, before: int) -> None:
        if role == "user" and place.turn == 1:
            raise EndpointError("broken")

    killed(tmp_path / "run", Models(killed_after(15)))
    sit(tmp_path / "run", Models(broken))
    killed(tmp_path / "run", Models(killed_after(15)))
    sit(tmp_path / "run", Models())
    assert records(replayed(tmp_path / "run")) == whole


def test_a_replay_gives_the_deadline_that_an_episode_passed(tmp_path: Path) -> None:
    class Slow(Models):
        def client(self, role: str) -> FakeClient:
            quick = super().client(role)
            chat = quick.chat

            async def maybe(messages: Messages, place: Place = Place(), **options: Any) -> Completion:  # noqa: B008
                if role == "judge" and place.turn == 1 and place.attempt == 1:
                    await asyncio.sleep(3600)
                return await chat(messages, place=place, **options)

            quick.chat = maybe  # type: ignore[method-assign]
            return quick

    episodes = sit(tmp_path / "run", Slow(), turn_timeout_s=1.0, at_once=8)
    late = [e for e in episodes if e.stop == "error"]
    assert late
    assert all((e.error or "").startswith("The turn took longer than turn_timeout_s=1; it was given up.") for e in late)
    assert records(replayed(tmp_path / "run")) == records(episodes)


def test_what_cannot_be_replayed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only a run whose agent, user or judge is a model can be replayed"):
        Calls(replay=tmp_path / FILE)
    killed(tmp_path / "run", Models(killed_after(20)))
    with pytest.raises(DataError, match="The recorded run has no reply of the"):
        replayed(tmp_path / "run")


# --- the rest --------------------------------------------------------------------------------------------------


def test_a_run_without_models_keeps_no_record(tmp_path: Path) -> None:
    gym = find("intention")
    calls = Calls()
    asyncio.run(evaluate(EvalJob("expert", tasks=1), gym.expert(), gym.cast(), tmp_path / "run", calls=calls))
    assert not calls.any
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["config.json", "episodes.jsonl"]


def test_a_record_may_be_gone_on_with_where_every_episode_is_played_again(tmp_path: Path) -> None:
    calls = Calls()
    door = calls.door(FakeClient(["once"], Endpoint("m", "http://fake.invalid/v1")), "user")
    place, hello = Place("g", "t"), [{"role": "user", "content": "Hello"}]
    with Store(tmp_path / FILE) as store:
        calls.keep(store)
        assert asyncio.run(door.chat(hello, place=place)).content == "once"
    again = Calls()
    door = again.door(FakeClient([], Endpoint("m", "http://fake.invalid/v1")), "user")
    with Store(tmp_path / FILE) as store:
        again.keep(store)
        assert asyncio.run(door.chat(hello, place=place)).content == "once"
    assert again.ledger.total.calls == 1
