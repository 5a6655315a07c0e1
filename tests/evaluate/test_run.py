"""An evaluation: the same episodes every time, each played once however often the run broke off."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from userrl.core import Action, Agent, Cast, Episode, Query
from userrl.errors import ConfigError, EndpointRefused, ReplyError, ResumeError, RunStopped, StoreError, UnknownName
from userrl.evaluate.run import EvalJob, chosen_tasks, evaluate, longest_reply, plan, planned
from userrl.gyms.base import make
from userrl.scripted import Acting, Scripted
from userrl.store import read

GYM = make("intention")
JOB = EvalJob("expert", tasks=8, attempts=2, max_turns=4, seed=3)


class Counting:
    """The expert, with a count of the moves asked of it; gives up for good after so many."""

    def __init__(self, give_up_after: int | None = None) -> None:
        self.moves: list[tuple[str, int]] = []
        self.give_up_after = give_up_after
        self.expert = GYM.expert(0.7)

    async def act(self, episode: Episode) -> Action:
        if len(self.moves) == self.give_up_after:
            raise EndpointRefused("out of credit")
        self.moves.append((episode.task.id, episode.attempt))
        return await self.expert.act(episode)


def played(folder: Path, agent: Agent, cast: Cast | None = None, job: EvalJob = JOB, **options: Any) -> list[Episode]:
    return list(asyncio.run(evaluate(job, agent, cast or GYM.cast(), folder, **options)))


def gone(word: str) -> Cast:
    """A user who fails whenever the question holds the word."""
    plain = GYM.cast()
    answer = plain.user.answers["intention.answer"]  # type: ignore[attr-defined]

    def maybe(query: Query[Any]) -> Any:
        if word in query.facts["question"]:
            raise ReplyError("gone")
        return answer(query)

    return Cast(Scripted({"intention.answer": maybe}), plain.judge)


def test_a_plan_names_every_attempt_of_the_first_tasks_under_the_jobs_settings() -> None:
    episodes = list(plan(EvalJob("x", tasks=2, attempts=3, max_turns=5, seed=7, rules={"compat": "userrl"})))
    ids = [t.id for t in GYM.tasks("test")[:2]]
    assert [(e.task.id, e.attempt) for e in episodes] == [(i, n) for i in ids for n in range(3)]
    assert {(e.seed, e.max_turns, e.rules["compat"], e.stop) for e in episodes} == {(7, 5, "userrl", "running")}
    sized = [EvalJob("x", gyms=("intention", "function"), tasks=4), EvalJob("x", split="validation")]
    sized.append(EvalJob("x", gyms=("function",), attempts=3))
    assert [len(list(plan(job))) for job in sized] == [planned(job) for job in sized] == [8, 120, 180]


def test_a_reply_may_take_a_quarter_of_a_short_window_unless_a_length_is_given(tmp_path: Path) -> None:
    def longest(window: int, **given: Any) -> int:
        (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": window}), "utf-8")
        return longest_reply(EvalJob(str(tmp_path), **given))

    assert (longest(1024), longest(8192), longest(1024, max_new=512)) == (256, 512, 512)
    assert longest_reply(EvalJob("expert")) == 512


def test_the_length_of_a_reply_that_was_chosen_is_kept_with_the_run(tmp_path: Path) -> None:
    played(tmp_path / "run", GYM.expert(0.7))
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["max_new"] == 512


def test_a_split_or_gym_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownName, match=r"No split of gym 'intention' named 'tst'\. Did you mean 'test'"):
        chosen_tasks(["intention"], "tst", None)
    with pytest.raises(UnknownName, match="No gym named 'intension'"):
        chosen_tasks(["intension"], "test", None)
    with pytest.raises(ConfigError, match="tasks is 0; expected at least 1"):
        chosen_tasks(["intention"], "test", 0)


def test_an_evaluation_records_every_episode_and_its_settings(tmp_path: Path) -> None:
    episodes = played(tmp_path / "run", GYM.expert(0.7))
    assert [e.key for e in episodes] == [e.key for e in plan(JOB)]
    assert sorted(e.key for e in read(tmp_path / "run" / "episodes.jsonl")) == sorted(e.key for e in episodes)
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert (config["kind"], config["agent"], config["seed"], config["gyms"]) == ("eval", "expert", 3, ["intention"])


def test_the_same_job_gives_the_same_episodes_however_many_play_at_once(tmp_path: Path) -> None:
    one = played(tmp_path / "one", GYM.expert(0.7), at_once=1)
    assert one == played(tmp_path / "many", GYM.expert(0.7), at_once=64)


def test_a_resumed_evaluation_never_plays_a_finished_episode_again(tmp_path: Path) -> None:
    whole = played(tmp_path / "whole", GYM.expert(0.7))
    first = Counting(give_up_after=30)
    with pytest.raises(EndpointRefused, match="out of credit"):
        played(tmp_path / "run", first, at_once=3)
    finished = {e.key[1:] for e in read(tmp_path / "run" / "episodes.jsonl")}
    assert 0 < len(finished) < 16

    second = Counting()
    ended: list[Episode] = []
    resumed = played(tmp_path / "run", second, at_once=3, resume=True, on_end=ended.append)
    assert resumed == whole
    assert not finished & set(second.moves)
    assert {(e.task.id, e.attempt) for e in resumed} - finished == set(second.moves)
    assert sorted(e.key for e in ended) == sorted(e.key for e in whole)

    third = Counting()
    assert played(tmp_path / "run", third, resume=True) == whole and third.moves == []


def test_episodes_that_ended_as_an_error_are_played_anew(tmp_path: Path) -> None:
    whole = played(tmp_path / "whole", GYM.expert(0.7))
    broken = played(tmp_path / "run", GYM.expert(0.7), gone("budget"))
    failed = [e.key[1:] for e in broken if e.stop == "error"]
    assert 0 < len(failed) < 16 and all(e.error == "user: gone" for e in broken if e.stop == "error")

    again = Counting()
    assert played(tmp_path / "run", again, resume=True) == whole
    assert set(again.moves) == set(failed)
    assert len(list(read(tmp_path / "run" / "episodes.jsonl"))) == 16 + len(failed)
    assert played(tmp_path / "run", Counting(give_up_after=0), resume=True) == whole


def test_a_crash_in_the_middle_of_a_record_costs_that_episode_only(tmp_path: Path) -> None:
    whole = played(tmp_path / "run", GYM.expert(0.7), at_once=1)
    records = tmp_path / "run" / "episodes.jsonl"
    records.write_bytes(records.read_bytes()[:-40])
    again = Counting()
    assert played(tmp_path / "run", again, resume=True) == whole
    assert set(again.moves) == {whole[-1].key[1:]}


def test_too_many_failures_stop_an_evaluation_and_keep_what_was_played(tmp_path: Path) -> None:
    silent = Cast(Scripted({}), GYM.cast().judge)
    with pytest.raises(RunStopped, match=r"Stopped: 9 episodes ended by a failure \(at most 8 are allowed\)"):
        played(tmp_path / "run", GYM.expert(), silent, at_once=1)
    assert len(list(read(tmp_path / "run" / "episodes.jsonl"))) == 9
    with pytest.raises(RunStopped, match="at most 2 are allowed"):
        played(tmp_path / "few", GYM.expert(), silent, at_once=1, max_errors=2)
    assert len(played(tmp_path / "all", GYM.expert(), silent, max_errors=16)) == 16


def test_a_folder_with_a_run_is_refused_unless_it_is_resumed_with_the_same_settings(tmp_path: Path) -> None:
    silent = Acting(lambda e: Action("action", "Hm?"))
    played(tmp_path / "run", silent)
    with pytest.raises(StoreError, match="already holds a run"):
        played(tmp_path / "run", silent)
    with pytest.raises(ResumeError, match="max_turns was 4, now 5"):
        played(tmp_path / "run", silent, job=EvalJob("expert", tasks=8, attempts=2, max_turns=5, seed=3), resume=True)


def test_an_evaluation_of_a_folder_that_has_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("1", "utf-8")
    job = EvalJob(str(model), tasks=2, max_turns=2)
    played(tmp_path / "run", Counting(), job=job)
    assert len(json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["contents"]["agent"]) == 64
    played(tmp_path / "run", Counting(), job=job, resume=True)
    (model / "weights").write_text("2", "utf-8")
    with pytest.raises(ResumeError, match=r"contents\.agent was '\w{64}', now '\w{64}'"):
        played(tmp_path / "run", Counting(), job=job, resume=True)
