"""Runs that earlier versions wrote can be read, told and compared, and are gone on with or refused in so many words."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import userrl
from userrl import store
from userrl.calls import Calls
from userrl.core import Episode
from userrl.errors import DataError, ResumeError
from userrl.evaluate.compare import compare
from userrl.evaluate.metrics import summarize
from userrl.evaluate.rescore import Rescored, RescoreJob
from userrl.evaluate.rescore import rescore as run_rescore
from userrl.evaluate.run import evaluate, recorded_job
from userrl.gyms.base import find
from userrl.pipeline import seats
from userrl.pipeline.seats import PerGym
from userrl.report.content import report
from userrl.report.page import html
from userrl.store import MIGRATIONS, SCHEMA, SETTINGS_MIGRATIONS, SETTINGS_SCHEMA, RunFolder, index, read, settings

OLD = Path(__file__).parent / "old_runs"
PLAYED = ("first", "second", "third")
ALL = (*PLAYED, "models")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the old runs."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def go_on(folder: Path) -> list[Episode]:
    """Resume an evaluation of a scripted expert."""
    job = recorded_job(folder)
    gyms = {gym: find(gym) for gym in job.gyms}
    agent = PerGym(lambda gym: find(gym).expert(0.7))
    return list(asyncio.run(evaluate(job, agent, lambda gym: gyms[gym].cast(), folder, resume=True)))


@pytest.mark.parametrize("name", ALL)
def test_an_old_run_is_read_and_summarized(name: str) -> None:
    episodes = list(read(OLD / name / "episodes.jsonl"))
    assert len(episodes) == len(index(OLD / name / "episodes.jsonl")) == (2 if name == "models" else 4)
    summaries = summarize(episodes)
    assert [s.gym for s in summaries] == (["telepathy"] if name == "models" else ["intention", "function"])
    assert all(0 <= s.score.mean <= 10 and not s.errors for s in summaries)


@pytest.mark.parametrize("name", ALL)
def test_an_old_run_becomes_data_frames_and_a_page(name: str) -> None:
    run = userrl.load(OLD / name)
    assert run.turns.num_rows == sum(run.episodes["turns"].to_pylist()) > 0
    assert run.calls.num_rows == (13 if name == "models" else 0)
    assert "Sample episodes" in html(report([OLD / name]))


def test_the_first_runs_settings_are_read_as_todays() -> None:
    assert settings(OLD / "first")["max_new"] == 512
    assert recorded_job(OLD / "first").max_new == 512
    assert "schema" not in settings(OLD / "first")


def test_old_runs_are_compared_with_each_other() -> None:
    found = compare(OLD / "first", OLD / "third")
    assert {d.gym for d in found.gyms} == {"intention", "function"}


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_run_that_did_not_keep_what_its_tasks_held_is_refused_when_resumed(old: Path, name: str) -> None:
    before = (old / name / "episodes.jsonl").read_bytes()
    with pytest.raises(ResumeError, match="made by an earlier version of userrl, which did not keep what the files"):
        go_on(old / name)
    assert (old / name / "episodes.jsonl").read_bytes() == before


def test_a_run_of_the_last_version_is_gone_on_with(old: Path) -> None:
    file = old / "third" / "episodes.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:1]))
    config = old / "third" / "config.json"
    written = json.loads(config.read_text("utf-8"))
    for gym in written["contents"]["tasks"]:  # whatever has become of the gyms' tasks since: this is about the files' form
        written["contents"]["tasks"][gym] = find(gym).sets()["test"].sha256
    config.write_text(json.dumps(written), "utf-8")
    again = go_on(old / "third")
    assert len(again) == 4
    assert file.read_bytes().startswith(lines[0])


def test_an_old_run_is_marked_anew_from_the_verdicts_on_record(old: Path) -> None:
    done = rescore("models", old)
    assert (done.marked, done.changed, done.failed) == (2, 0, 0)
    assert done.figures[0].difference.mean == 0.0


def rescore(name: str, old: Path) -> Rescored:
    async def marked() -> Rescored:
        async with AsyncExitStack() as stack:
            calls = Calls(replay=old / name / "replies.jsonl")
            cast = await seats.cast("scripted", settings(old / name)["judge"], stack, calls=calls)
            return await run_rescore(RescoreJob(str(old / name)), cast, old / "again")

    return asyncio.run(marked())


# --- what comes next -----------------------------------------------------------------------------------------------


def test_every_earlier_version_has_a_migration() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))
    assert sorted(SETTINGS_MIGRATIONS) == list(range(1, SETTINGS_SCHEMA))


def test_records_go_through_each_migration_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As it will be when the format changes twice: a field is renamed, then another unit is used."""
    file = tmp_path / "episodes.jsonl"
    lines = (OLD / "first" / "episodes.jsonl").read_text("utf-8").splitlines()
    old = json.loads(lines[0])
    old["limit"] = old.pop("max_turns") // 2
    file.write_text(json.dumps(old) + "\n", "utf-8")
    monkeypatch.setattr(store, "SCHEMA", 3)
    renamed = {1: lambda r: {**r, "half": r["limit"]}, 2: lambda r: {**r, "max_turns": 2 * r["half"]}}
    monkeypatch.setattr(store, "MIGRATIONS", renamed)
    [episode] = read(file)
    assert episode.max_turns == 16
    assert len(index(file)) == 1


@pytest.mark.parametrize("schema", [99, 0, "1", None])
def test_records_of_an_unknown_version_are_refused(old: Path, schema: object) -> None:
    file = old / "third" / "episodes.jsonl"
    record = json.loads(file.read_text("utf-8").splitlines()[0])
    file.write_text(json.dumps({**record, "schema": schema}) + "\n", "utf-8")
    for look in (lambda: list(read(file)), lambda: index(file), lambda: userrl.load(old / "third").episodes):
        with pytest.raises(DataError, match=r"this version of userrl reads up to 1\. Update userrl"):
            look()


def test_settings_of_a_newer_version_are_refused(old: Path) -> None:
    file = old / "third" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "schema": 99}), "utf-8")
    with pytest.raises(DataError, match="schema is 99"):
        userrl.load(old / "third")
    with pytest.raises(ResumeError, match="schema is 99"):
        RunFolder(old / "third", {"kind": "eval"}, resume=True)


def test_replies_of_a_newer_version_are_refused(old: Path) -> None:
    file = old / "models" / "replies.jsonl"
    file.write_text(file.read_text("utf-8").replace('"schema":1', '"schema":99', 1), "utf-8")
    for look in (lambda: Calls(replay=file), lambda: userrl.load(old / "models").calls):
        with pytest.raises(DataError, match="schema is 99"):
            look()


def test_todays_settings_name_their_version(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", {"kind": "eval"}, resume=False)
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["schema"] == SETTINGS_SCHEMA
    RunFolder(tmp_path / "run", {"kind": "eval"}, resume=True)
