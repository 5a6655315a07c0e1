"""A run's figures do not depend on the order in which its episodes ended, and an unfinished run says so."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from userrl.errors import DataError
from userrl.evaluate.cautions import cautions
from userrl.evaluate.compare import compare
from userrl.evaluate.front import front
from userrl.evaluate.metrics import figures
from userrl.evaluate.outlines import outline
from userrl.evaluate.played import Unfinished, in_order, unfinished
from userrl.evaluate.run import EvalJob, evaluate
from userrl.evaluate.users import Cell, factor
from userrl.gyms.base import find
from userrl.pipeline.seats import PerGym
from userrl.report.content import report
from userrl.report.frames import load
from userrl.report.tables import to_csv, to_latex

JOB = EvalJob("expert:0.8", gyms=("intention", "function"), tasks=7, attempts=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    asyncio.run(evaluate(JOB, PerGym(lambda gym: find(gym).expert(0.8)), lambda gym: find(gym).cast(), folder))
    return folder


def changed(run: Path, folder: Path, lines: list[str]) -> Path:
    """The same run with other lines, in a folder of the same name."""
    shutil.copytree(run, folder / run.name)
    (folder / run.name / "episodes.jsonl").write_text("".join(lines), "utf-8")
    return folder / run.name


def lines(run: Path) -> list[str]:
    return (run / "episodes.jsonl").read_text("utf-8").splitlines(keepends=True)


@pytest.fixture
def shuffled(whole: Path, tmp_path: Path) -> Path:
    """With an episode that failed at first."""
    mixed = lines(whole)
    random.Random(1).shuffle(mixed)
    failed = {**json.loads(mixed[-1]), "stop": "error", "error": "gone"}
    return changed(whole, tmp_path, [json.dumps(failed) + "\n", *mixed])


@pytest.fixture
def part(whole: Path, tmp_path: Path) -> Path:
    return changed(whole, tmp_path, sorted(lines(whole), key=len)[:3])


def test_the_figures_of_a_run_are_the_same_in_whatever_order_its_episodes_ended(whole: Path, shuffled: Path) -> None:
    assert [e.key for e in load(shuffled).records] == [e.key for e in load(whole).records]
    found = [figures(load(run).records) for run in (whole, shuffled)]
    assert repr(found[0]) == repr(found[1])
    told = [report([run]) for run in (whole, shuffled)]
    for write in (to_csv, to_latex):
        assert [write(t) for t in told[0].tables] == [write(t) for t in told[1].tables]
    assert list(outline(shuffled, ["score"]).episodes) == [e.key for e in load(whole).records]


def test_the_order_is_the_jobs_and_tasks_that_are_gone_come_last_by_name(whole: Path) -> None:
    ids = [task.id for task in find("intention").tasks("test")[:3]]
    keys = [("function", "x-10", 0), ("function", "x-9", 0), *(("intention", task, i) for i in (1, 0) for task in reversed(ids))]
    ordered = in_order(whole, keys)
    assert ordered[:-2] == [("intention", task, i) for task in ids for i in (0, 1)]
    assert ordered[-2:] == [("function", "x-9", 0), ("function", "x-10", 0)]


def test_a_cell_of_a_grid_has_the_digits_of_its_own_evaluation(whole: Path) -> None:
    for gyms in (("intention",), ("intention", "function")):
        episodes = [e for e in load(whole).records if e.task.gym in gyms]
        found = figures(episodes)
        [cell] = factor([(Cell(EvalJob("expert:0.8", gyms=gyms), whole), episodes)], "share").figures
        assert cell.gyms == {s.gym: s.share for s in found.gyms}
        assert cell.mean == (found.averages or found.gyms)[0].share


def test_a_whole_run_is_not_called_unfinished(whole: Path, shuffled: Path) -> None:
    assert load(whole).unfinished is None is load(shuffled).unfinished
    assert list(report([whole]).cautions) == []


def test_an_unfinished_run_says_so_wherever_its_figures_are_shown(whole: Path, part: Path) -> None:
    missing = Unfinished(3, 28)
    assert load(part).unfinished == missing == outline(part, ["score"], "intention").unfinished
    assert cautions(figures(load(part).records), missing)[0].startswith("Unfinished: 3 of 28 episodes. ")
    told = report([whole, part])
    assert told.sections[0].name == "cautions" and next(told.tables).name == "cautions"
    [line] = told.cautions
    assert line.startswith("B, ") and "3 of 28 episodes" in line
    assert {p.run: p.unfinished for p in front([whole, part]).points} == {str(whole): None, str(part): missing}


def test_an_unfinished_run_is_compared_only_where_that_is_asked_for(whole: Path, part: Path) -> None:
    with pytest.raises(DataError, match=r"unfinished: 3 of 28 episodes\..* Or add --unfinished"):
        compare(whole, part)
    assert compare(whole, part, unfinished=True).unfinished == (None, Unfinished(3, 28))
    assert asdict(compare(whole, whole))["unfinished"] == (None, None)


def test_nothing_is_claimed_where_the_tasks_are_others_now_or_their_number_is_not_known(part: Path) -> None:
    config = json.loads((part / "config.json").read_text("utf-8"))
    for other in (
        {**config, "contents": {"tasks": {**config["contents"]["tasks"], "function": "0" * 64}}},
        {**config, "gyms": ["intention", "gone"]},
        {**config, "top_k": 3},
        {**config, "kind": "rl"},
        {name: value for name, value in config.items() if name != "contents"},
    ):
        (part / "config.json").write_text(json.dumps(other), "utf-8")
        assert unfinished(part, 3) is None
