"""`userrl check` and `userrl data record`."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from userrl.cli.scaffold import new_gym
from userrl.evaluate.conformance import Report
from userrl.gyms.base import find, known

GOLDEN = Path(__file__).parents[1] / "golden"


def test_the_golden_extracts_pass_and_each_file_is_counted(cli: Callable[..., Any]) -> None:
    done = cli("check", "golden", GOLDEN)
    assert done.code == 0
    *table, last = done.out.splitlines()
    assert re.fullmatch(r"[1-9]\d* passed, 0 failed", last)
    assert table[1].split() == ["file", "compared", "not", "compared", "failed"]
    rows = [line.split() for line in table[3:]]
    assert [row[0] for row in rows] == sorted(file.name for file in GOLDEN.iterdir() if file.is_file())
    assert sum(int(row[1]) for row in rows) == int(last.split()[0])
    assert {row[3] for row in rows} == {"0"}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("function.jsonl", '"reward":1.0', '"reward":0.5'),
        ("intention.jsonl", '"reward":0.6', '"reward":0.8'),
    ],
)
def test_a_number_that_is_changed_in_a_golden_file_is_found(
    cli: Callable[..., Any], tmp_path: Path, name: str, old: str, new: str
) -> None:
    text = (GOLDEN / name).read_text("utf-8")
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new, 1), "utf-8")
    done = cli("check", "golden", tmp_path / name)
    assert done.code == 1
    assert re.fullmatch(r"\d+ passed, 1 failed", done.out.splitlines()[-1])
    expected, found = new.split(":")[1], old.split(":")[1].removesuffix(".0")
    assert f"reward {found}, expected {expected}" in done.out


@pytest.mark.parametrize("name", ["turn_credits.json", "advantages.json"])
def test_a_figure_that_is_changed_in_a_golden_table_is_found(cli: Callable[..., Any], tmp_path: Path, name: str) -> None:
    table = json.loads((GOLDEN / name).read_text("utf-8"))
    case = table["cases"][0]
    row = case["out"][0]["turn_Equalized"] if "out" in case else next(row for row in case["adv_no_std"] if any(row))
    index = next(i for i, value in enumerate(row) if value)
    row[index] += 0.5
    (tmp_path / name).write_text(json.dumps(table), "utf-8")
    done = cli("check", "golden", tmp_path / name)
    assert done.code == 1
    assert done.out.splitlines()[-1].endswith(" passed, 1 failed")


def test_a_golden_file_that_is_missing_is_a_failure(cli: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "function.jsonl", tmp_path)
    done = cli("check", "golden", tmp_path / "function.jsonl", tmp_path / "nowhere.jsonl")
    assert done.code == 1
    assert done.out.splitlines()[-1] == "5 passed, 1 failed"
    assert "nowhere.jsonl cannot be read" in done.out


def reports(monkeypatch: pytest.MonkeyPatch, *failures: str) -> list[Any]:
    """Stands in for the conformance test, which has tests of its own; returns what it is asked."""
    asked: list[Any] = []

    def check_gym(name: str, *, tasks: str, watch: Callable[[int, int, int], None]) -> Report:
        asked.append((name, tasks))
        watch(3, 3, len(failures))
        return Report(name, 3, 9, 99, failures)

    monkeypatch.setattr("userrl.cli.checking.check_gym", check_gym)
    return asked


def test_gyms_that_conform_are_told_with_what_they_went_through(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = reports(monkeypatch)
    done = cli("check", "gyms", "intention", "function")
    assert done.code == 0
    assert done.out.splitlines() == [
        "intention: 3 tasks, 9 episodes, 99 turns: ok",
        "function: 3 tasks, 9 episodes, 99 turns: ok",
        "2 of 2 gyms passed",
    ]
    assert "check intention  3/3" in done.err
    cli("check", "gyms", "function", "--all")
    assert asked == [("intention", "sample"), ("function", "sample"), ("function", "all")]


def test_gyms_that_do_not_conform_are_told_why_and_exit_with_1(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    reports(monkeypatch, *(f"leak {i} of [red]x[/red]\x1b[2J" for i in range(25)))
    done = cli("check", "gyms", "function")
    assert done.code == 1
    assert "function: 3 tasks, 9 episodes, 99 turns: 25 failed" in done.out
    assert "  leak 19 of [red]x[/red]\N{REPLACEMENT CHARACTER}[2J\n  and 5 more\n0 of 1 gyms passed\n" in done.out


def test_a_gym_goes_through_the_conformance_test_itself(cli: Callable[..., Any]) -> None:
    done = cli("check", "gyms", "function")
    assert done.code == 0
    assert re.search(r"^function: [1-9]\d* tasks, [1-9]\d* episodes, [1-9]\d* turns: ok$", done.out, re.MULTILINE)


def test_a_change_of_tasks_that_is_meant_is_recorded(cli: Callable[..., Any], own_gym: Callable[..., Path]) -> None:
    tasks = own_gym('{"id": "a", "prompt": "p", "hidden": {}}', '{"id": "b", "prompt": "p", "hidden": {}}')
    assert "but the manifest names 0" in cli("eval", "own").err
    done = cli("data", "record", "own")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("own/test: 2 tasks, SHA-256 ")
    entry = json.loads((tasks / "manifest.json").read_text("utf-8"))["sets"]["test"]
    assert (entry["count"], entry["license"]) == (2, "CC0-1.0")
    assert entry["sha256"].startswith(done.out.split()[-1].rstrip("…"))
    assert find("own").tasks("test")[1].id == "b"


def test_the_bias_of_every_estimator_is_measured_and_printed(cli: Callable[..., Any]) -> None:
    done = cli("check", "bias", "--groups", "4000", "--group-size", "4")
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert ["estimator", "credit", "verdict", "bias", "factor", "rest"] in rows
    assert ["rloo", "equalized", "no", "bias"] in [row[:4] for row in rows], "so few do not show that it is unbiased"
    assert ["mt_grpo", "(none)", "biased"] in [row[:3] for row in rows]


def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> Path:
    """A gym "mine" with a line more at the begin of `step`; where its rules are."""
    rules = new_gym("mine", tmp_path / "mine", "ask") / "src" / "userrl_mine" / "__init__.py"
    step = "        return self.resolve(episode, action) if"
    rules.write_text(rules.read_text("utf-8").replace(step, f"        {line}\n{step}"), "utf-8")
    monkeypatch.syspath_prepend(rules.parents[1])
    monkeypatch.setitem(known(), "mine", "userrl_mine")
    return rules


@pytest.fixture
def forgotten() -> Iterator[None]:
    yield
    for name in ("userrl_mine", "userrl_mine.scripted"):
        sys.modules.pop(name, None)
    find.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_a_crash_in_a_gym_is_told_once_with_its_line_and_how_often(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = broken(tmp_path, monkeypatch, "1 / 0")
    at = rules.read_text("utf-8").splitlines().index("        1 / 0") + 1
    where = f"ZeroDivisionError: division by zero ({rules}, line {at}, in step)"
    done = cli("check", "gyms", "mine")
    assert done.code == 1
    [failure, unseen] = [line for line in done.out.splitlines() if line.startswith("  ")]
    assert re.fullmatch(rf"  expert on task \S+: crashed with {re.escape(where)} \(\d+ times, this is the first\)", failure)
    assert "no turn was labeled 'asked', 'repeated'" in unseen
    done = cli("eval", "mine", "--tasks", "1", "--out", "run")
    assert (done.code, done.err.count("\n")) == (1, 3)
    assert f"Error: Gym 'mine' crashed with {where}. Mend it; `userrl check gyms mine` looks for more." in done.err
    assert "USERRL_DEBUG=1 before the command shows the whole traceback." in done.err


@pytest.mark.usefixtures("forgotten")
def test_a_gym_that_cannot_be_loaded_fails_its_check_and_no_other(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = broken(tmp_path, monkeypatch, "x = (")
    done = cli("check", "gyms", "mine", "persuade")
    assert done.code == 1
    assert f"Gym 'mine' cannot be loaded: SyntaxError: '(' was never closed ({rules}, line " in done.out
    assert re.search(r"^persuade: .*: ok$", done.out, re.MULTILINE)
    assert done.out.splitlines()[-1] == "1 of 2 gyms passed"
    assert cli("gyms").code == 0
