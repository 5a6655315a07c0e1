"""Collecting: play, keep the best, and have them ready for training."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from userrl.collect import Selection, rank, report
from userrl.collect import run as collecting
from userrl.collect.contamination import HeldOut
from userrl.collect.run import CollectJob, SelectJob, collect, load, played, select_again
from userrl.collect.select import Unplayed
from userrl.core import Agent
from userrl.errors import ConfigError, ResumeError, StoreError
from userrl.gyms.base import make
from userrl.scripted import Listed
from userrl.store import Store

GYM = make("intention")
JOB = CollectJob("expert:0.5", tasks=6, attempts=2, max_turns=5, top_k=4)


def collected(folder: Path, job: CollectJob = JOB, agent: Agent | None = None, *, resume: bool = False) -> Selection:
    return asyncio.run(collect(job, agent or GYM.expert(0.5), GYM.cast(), folder, resume=resume))


def test_the_selection_is_written_best_first_and_read_back(tmp_path: Path) -> None:
    selection = collected(tmp_path / "run")
    assert len(selection.kept) == 4 and selection.count("beaten") == 8
    assert load(tmp_path / "run") == list(selection.kept) == rank(selection.kept)
    everything = load(tmp_path / "run" / "episodes.jsonl")
    assert len(everything) == 12 and {e.task.id for e in everything} == {t.id for t in GYM.tasks("train")[:6]}
    assert rank(everything)[0] == selection.kept[0]
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["top_k"] == 4


def test_a_resumed_collection_plays_nothing_twice_and_selects_the_same(tmp_path: Path) -> None:
    first = collected(tmp_path / "run")
    (tmp_path / "run" / "selected.jsonl").unlink()
    nobody = Listed([])
    assert collected(tmp_path / "run", agent=nobody, resume=True) == first
    assert load(tmp_path / "run") == list(first.kept)


def test_a_collection_is_gone_on_with_only_under_the_same_settings(tmp_path: Path) -> None:
    collected(tmp_path / "run")
    with pytest.raises(StoreError, match="already holds a run"):
        collected(tmp_path / "run")
    with pytest.raises(ResumeError, match="top_k was 4, now 9"):
        collected(tmp_path / "run", CollectJob("expert:0.5", tasks=6, attempts=2, max_turns=5, top_k=9), resume=True)


def test_a_folder_without_a_selection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no selected\.jsonl; expected one of `userrl sft collect`"):
        load(tmp_path)


def test_what_was_left_out_and_a_report_are_written_beside_the_data(tmp_path: Path) -> None:
    selection = collected(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "left_out.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 8 and {line["why"] for line in lines} == {"beaten"}
    keys = {(line["gym"], line["task"], line["attempt"]) for line in lines} | {e.key for e in selection.kept}
    assert keys == {e.key for e in load(tmp_path / "run" / "episodes.jsonl")}
    [row] = report.read(tmp_path / "run")
    assert (row.gym, row.episodes, row.kept, row.left) == ("intention", 12, 4, {"beaten": 8})


def test_tasks_of_the_test_split_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    job = CollectJob("expert:0.5", split="test", tasks=3, max_turns=2)
    with pytest.raises(ConfigError, match=r"No episode of the split 'test' would be kept: each of the 3 tasks"):
        collected(tmp_path / "none", job)
    assert not (tmp_path / "none").exists()
    assert collected(tmp_path / "a", replace(job, play_held_out=True)).count("held-out id") == 3
    assert len(collected(tmp_path / "b", replace(job, decontaminate=False)).kept) == 3


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of the second training task, of which a held-out one is made to be the twin."""
    second = GYM.tasks("train")[1]
    monkeypatch.setattr(collecting, "held_out", lambda gym: HeldOut([replace(second, id="twin", prompt="Hello.")]))
    return second.id


def test_a_task_like_a_held_out_one_is_known_by_its_text_and_not_played(twin: str, tmp_path: Path) -> None:
    selection = collected(tmp_path / "run")
    assert selection.unplayed == [Unplayed("intention", twin, "held-out hidden", "twin")]
    assert len({e.task.id for e in load(tmp_path / "run" / "episodes.jsonl")} | {twin}) == JOB.tasks
    [line] = (tmp_path / "run" / "not_played.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line) == asdict(selection.unplayed[0])
    [row] = report.read(tmp_path / "run")
    assert (row.episodes, row.unplayed) == (10, 1)
    assert collected(tmp_path / "run", agent=Listed([]), resume=True) == selection

    played = collected(tmp_path / "all", replace(JOB, play_held_out=True))
    assert not played.unplayed and played.count("held-out hidden") == 2 and played.kept == selection.kept
    assert not (tmp_path / "all" / "not_played.jsonl").exists()


def test_what_an_earlier_version_played_of_such_tasks_is_left_out_as_it_was_then(
    twin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "screen", lambda job, folder: [])
        first = collected(tmp_path / "run")
    assert first.count("held-out hidden") == 2
    assert collected(tmp_path / "run", agent=Listed([]), resume=True) == first


def test_a_selection_is_made_anew_without_playing(tmp_path: Path) -> None:
    collected(tmp_path / "run")
    before = (tmp_path / "run" / "selected.jsonl").read_bytes()
    for top_k in (2, 5):
        select_again(SelectJob(runs=(str(tmp_path / "run"),), top_k=top_k), tmp_path / "new")
        assert load(tmp_path / "new") == rank(load(tmp_path / "run" / "episodes.jsonl"))[:top_k]
    saved = json.loads((tmp_path / "new" / "config.json").read_text("utf-8"))
    assert saved["top_k"] == 5 and saved["kind"] == "select" and list(saved["contents"]) == [str(tmp_path / "run")]
    assert (tmp_path / "run" / "selected.jsonl").read_bytes() == before


def test_several_runs_and_files_are_one_choice_and_what_they_share_is_kept_once(tmp_path: Path) -> None:
    collected(tmp_path / "run")
    file = tmp_path / "run" / "episodes.jsonl"
    other = tmp_path / "other"
    asyncio.run(
        collect(CollectJob("expert", ("function",), tasks=3), make("function").expert(1.0), make("function").cast(), other)
    )
    selection = select_again(SelectJob(runs=(str(tmp_path / "run"), str(file), str(other))), tmp_path / "new")
    assert selection.count("duplicate") == 12 and len(selection.kept) == 15


def test_an_episode_that_was_played_anew_counts_as_it_ended_last(tmp_path: Path) -> None:
    collected(tmp_path / "run")
    first = load(tmp_path / "run" / "episodes.jsonl")[0]
    with Store(tmp_path / "all.jsonl") as store:
        store.append(first.fail("user: gone"))
        store.append(first)
    assert played([tmp_path / "all.jsonl"]) == [first]


def test_a_selection_never_writes_over_a_run_that_was_played(tmp_path: Path) -> None:
    collected(tmp_path / "run")
    with pytest.raises(StoreError, match="holds a run of another command \\(kind 'eval'\\)"):
        select_again(SelectJob(runs=(str(tmp_path / "run"),)), tmp_path / "run")


def test_a_selection_never_writes_over_what_it_is_chosen_from(tmp_path: Path) -> None:
    collected(tmp_path / "run")
    select_again(SelectJob(runs=(str(tmp_path / "run"),)), tmp_path / "new")
    before = (tmp_path / "new" / "selected.jsonl").read_bytes()
    for run in ("new", "new/selected.jsonl"):
        with pytest.raises(StoreError, match="holds the selection that is to be chosen from"):
            select_again(SelectJob(runs=(str(tmp_path / run),), top_k=1), tmp_path / "new")
    assert (tmp_path / "new" / "selected.jsonl").read_bytes() == before


def test_a_collection_from_before_a_setting_was_there_is_gone_on_with(tmp_path: Path) -> None:
    first = collected(tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    new = ("per_task", "min_share", "near", "decontaminate", "mix", "splits", "preset")
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text("utf-8")).items() if k not in new}), "utf-8")
    assert collected(tmp_path / "run", agent=Listed([]), resume=True) == first
    with pytest.raises(ResumeError, match=r"near was 0\.9, now 0\.5"):
        collected(tmp_path / "run", replace(JOB, near=0.5), resume=True)


def test_a_mixture_of_a_gym_that_is_not_played_is_refused_before_anything_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="The mixture names 'turtle', which is not played"):
        collected(tmp_path / "run", replace(JOB, mix={"turtle": 1.0}))
    assert not (tmp_path / "run").exists()


def test_failed_episodes_of_a_file_are_left_out_with_a_warning(tmp_path: Path) -> None:
    collected(tmp_path / "run")
    whole = load(tmp_path / "run")
    cut = replace(whole[0], turns=(), stop="running")
    with Store(tmp_path / "all.jsonl") as store:
        for one in (cut, cut.fail("user: gone"), *whole, replace(cut, stop="turn_limit")):
            store.append(one)
    with pytest.warns(UserWarning, match=r"3 of 7 episodes in .*all\.jsonl failed or have no turn"):
        assert load(tmp_path / "all.jsonl") == whole


def test_runs_without_episodes_are_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("", "utf-8")
    with pytest.raises(ConfigError, match=r"none\.jsonl holds no episodes; collect some"):
        select_again(SelectJob(runs=(str(tmp_path / "none.jsonl"),)), tmp_path / "new")
