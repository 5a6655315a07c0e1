"""What is said above the figures of a run."""

from __future__ import annotations

import pytest

from userrl.cli.evaluating import Shown, report
from userrl.core import INVALID, Action, Episode, Turn
from userrl.evaluate.cautions import cautions
from userrl.evaluate.metrics import figures
from userrl.evaluate.results import eval_document, measure
from userrl.evaluate.run import EvalJob
from userrl.gyms.base import find

TASKS = find("intention").tasks("test")[:10]


def played(*labels: str, stop: str = "turn_limit", reward: float = 0.0, task: int = 0, **fields: object) -> Episode:
    turns = tuple(Turn(Action("action", "?"), "ok", reward=reward, label=label) for label in labels)
    return Episode(TASKS[task], turns, stop=stop, **fields)  # type: ignore[arg-type]


def test_a_run_of_which_nothing_need_be_said_has_no_cautions() -> None:
    assert cautions(figures([played("new", INVALID)])) == []


def test_figures_that_rest_on_one_of_six_episodes_say_so() -> None:
    failed = [played(stop="error", error="gone", task=i) for i in range(5)]
    [line] = cautions(figures([*failed, played("new", task=5)]))
    assert line == "intention: 5 of 6 episodes failed and have no score; its figures are of the other 1."
    [line] = cautions(figures(failed))
    assert line.endswith("5 of 5 episodes failed and have no score; it has no figures.")


def test_a_few_failures_are_left_to_their_column() -> None:
    failed = played(stop="error", error="gone")
    assert cautions(figures([failed, *(played("new", task=i % 10, attempt=i) for i in range(10))])) == []


def test_an_agent_that_made_no_valid_call_is_told_from_a_bad_one() -> None:
    [line] = cautions(figures([played(INVALID, INVALID), played(INVALID, task=1)]))
    assert line.startswith("intention: not one valid call was made") and "`tools = false`" in line


def test_a_share_above_what_is_within_reach_is_named() -> None:
    [line] = cautions(figures([played("new", reward=50.0)]))
    assert line.startswith("intention: shares are above 1.")


def test_cautions_are_in_the_document_and_stand_above_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    failed = [played(stop="error", error="gone", task=i) for i in range(5)]
    found = measure(EvalJob("a"), [*failed, played("new", task=5)])
    assert eval_document(found)["cautions"] == cautions(found.figures) != []
    report(found, Shown())
    shown = capsys.readouterr().out
    assert -1 < shown.find("5 of 6 episodes failed") < shown.find("score [95%]")


def test_a_gym_in_which_everything_failed_has_no_empty_row_of_actions(capsys: pytest.CaptureFixture[str]) -> None:
    task = find("function").tasks("test")[0]
    report(measure(EvalJob("a"), [played("new"), Episode(task, (), "error", "gone")]), Shown())
    assert "function" not in capsys.readouterr().out.partition("Share of each sort of action")[2]
