"""The golden cases of tau: what agrees passes, what differs is named, and missing data is a failure."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.errors import DataError
from userrl.evaluate import golden_tau
from userrl.evaluate.golden import check

EXTRACTS = Path(__file__).parents[1] / "golden" / "tau"
DATA = Path(__file__).parents[1] / "data" / "tau_bench"
SHARED = Path(os.environ.get("USERRL_SHARED") or Path(__file__).parents[3] / "shared")
"""The full set, for those who have it beside their checkout or in the folder that USERRL_SHARED names."""

CASES = {
    "calls_airline.json": 12,
    "calls_retail.json": 12,
    "rewards_airline.json": 3,
    "rewards_retail.json": 11,
    "tasks_airline_test.json": 2,
    "tasks_retail_test.json": 3,
}
ALL = {
    "calls_airline.json": 63,
    "calls_retail.json": 95,
    "rewards_airline.json": 44,
    "rewards_retail.json": 41,
    "tasks_airline_test.json": 36,
    "tasks_retail_test.json": 85,
    "tasks_retail_train.json": 331,
}


def test_the_extracts_agree_on_the_small_data_beside_them() -> None:
    assert {r.name: (r.compared, r.not_compared, r.messages) for r in check([EXTRACTS])} == {
        n: (c, 0, ()) for n, c in CASES.items()
    }


@pytest.mark.skipif(
    not (SHARED / "golden" / "tau").is_dir() or not (SHARED / "data" / "tau_bench").is_dir(),
    reason="the full golden cases or tau-bench's data are not beside this checkout; the extracts have run",
)
@pytest.mark.parametrize("name", ALL)
def test_all_golden_cases_agree_where_they_are_present(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    [result] = check([SHARED / "golden" / "tau" / name])
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {result.compared} compared, {result.not_compared} not compared, {result.failed} failed\n")
    assert (result.compared, result.messages) == (ALL[name], ())


def differing(name: str, change: Callable[[dict[str, Any]], None]) -> list[str]:
    """What is wrong with an extract after a change."""
    file = json.loads((EXTRACTS / name).read_text("utf-8"))
    change(file)
    return [problem for problem in golden_tau.check(file, DATA) if problem]


def call(file: dict[str, Any], case: str, number: int = 0) -> dict[str, Any]:
    [found] = [c for c in file.get("cases", []) if c["id"] == case]
    step: dict[str, Any] = found["calls"][number]
    return step


@pytest.mark.parametrize(
    ("name", "case", "field", "value", "problem"),
    [
        ("calls_retail.json", "retail/cancel.ok", "obs_sha256", "0" * 64, "the digest of"),
        ("calls_retail.json", "retail/cancel.ok", "obs_canon_sha256", "0" * 64, "the canonical digest of"),
        ("calls_retail.json", "retail/cancel.ok", "changed", False, "changed is True, expected False"),
        ("calls_retail.json", "retail/cancel.ok", "db_hash_after", "0" * 64, "the database has another hash afterwards"),
        ("calls_retail.json", "retail/cancel.ok", "obs_kind", "error", "code 'ok', expected a refusal"),
        (
            "calls_retail.json",
            "retail/order.nohash",
            "error_code",
            "user_not_found",
            "code 'order_not_found', expected 'user_not_found'",
        ),
        ("calls_retail.json", "retail/order.nohash", "obs_kind", "json", "refused with 'order_not_found', expected a result"),
        ("calls_airline.json", "airline/book.cert_dup", "changed", False, "changed is True, expected False"),
    ],
)
def test_a_call_that_differs_is_named_with_its_case(name: str, case: str, field: str, value: Any, problem: str) -> None:
    [found] = differing(name, lambda file: call(file, case).update({field: value}))
    assert found.startswith(f"{case}, call 0 (")
    assert problem in found


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("final_db_hash", "0" * 64, "the final database has another hash"),
        ("db_unchanged", True, "db_unchanged should be True"),
    ],
)
def test_a_task_that_differs_is_named(field: str, value: Any, problem: str) -> None:
    found = differing("tasks_retail_test.json", lambda file: file["tasks"][0].update({field: value}))
    assert found == [f"retail-000: {problem}"]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("final_reward", 0.0, "reward 1, expected 0"),
        ("done", False, "done is True, expected False"),
        ("steps_used", 3, "2 turns, expected 3"),
        ("script", [["say", "Bye.", "###STOP###"], ["say", "Hm?", "ok"]], "ours had ended before (done), the original goes on"),
        ("task", "retail-999", "holds no task 'retail-999'"),
    ],
)
def test_an_episode_that_differs_is_named(field: str, value: Any, problem: str) -> None:
    [found] = differing("rewards_retail.json", lambda file: file["cases"][0].update({field: value}))
    assert found.startswith("retail/perfect.0")
    assert problem in found


def test_data_that_the_cases_were_not_made_with_is_refused() -> None:
    with pytest.raises(DataError, match="the hash of the retail database is not 000000000000"):
        differing("calls_retail.json", lambda file: file.update(initial_db_hash="0" * 64))


def test_missing_data_fails_every_case_unless_it_is_named_or_may_be_missing(tmp_path: Path) -> None:
    folder = tmp_path / "golden" / "tau"
    folder.mkdir(parents=True)
    file = folder / "calls_retail.json"
    file.write_bytes((EXTRACTS / "calls_retail.json").read_bytes())
    [missing] = check([file])
    assert (missing.compared, missing.failed) == (12, 12)
    assert "name it with --data, or leave it out with --allow-missing" in missing.messages[0]
    [allowed] = check([file], allow_missing=True)
    assert (allowed.compared, allowed.not_compared, allowed.failed) == (0, 12, 0)
    [named] = check([file], data=DATA)
    assert (named.compared, named.failed) == (12, 0)
    (tmp_path / "empty").mkdir()
    [wrong] = check([file], data=tmp_path / "empty")
    assert (wrong.compared, wrong.failed) == (12, 12)
    assert "orders.json: cannot be read" in wrong.messages[0]


def test_a_file_of_another_form_has_failed(tmp_path: Path) -> None:
    file = tmp_path / "odd.json"
    file.write_text(json.dumps({"domain": "retail", "cases": [{"id": "x"}]}), "utf-8")
    [result] = check([file], data=DATA)
    assert result.failed == 1
    assert "is not as expected (KeyError: 'setup')" in result.messages[0]
