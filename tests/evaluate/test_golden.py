"""The replayer passes what agrees with the original, and names what does not."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.core import INVALID, Action, Cast, Episode, Turn
from userrl.errors import SeatError
from userrl.evaluate import golden
from userrl.evaluate.golden import ADAPTERS, Adapter, check, read_action
from userrl.gyms.intention import Intention

EXTRACTS = Path(__file__).parents[1] / "golden"
SHARED = Path(os.environ.get("USERRL_SHARED") or Path(__file__).parents[3] / "shared") / "golden"
"""The full set, for those who have it beside their checkout or in the folder that USERRL_SHARED names."""

Change = Callable[[dict[str, Any]], None]


def changed(tmp_path: Path, name: str, case: str, change: Change) -> Path:
    """An extract of one episode, with a change."""
    head, *rows = [json.loads(line) for line in (EXTRACTS / name).read_text("utf-8").splitlines()]
    [row] = [row for row in rows if row["name"] == case]
    change(row)
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, (head, row))), "utf-8")
    return path


def test_the_extracts_agree_with_our_rules_under_compat() -> None:
    expected = {
        "advantages.json": (12, 0, 0),
        "turn_credits.json": (7, 0, 0),
        "function.jsonl": (5, 1, 0),
        "intention.jsonl": (10, 6, 0),
        "persuade.jsonl": (9, 6, 0),
        "search.jsonl": (10, 4, 0),
        "telepathy.jsonl": (9, 4, 0),
        "travel.jsonl": (16, 3, 0),
        "turtle.jsonl": (8, 4, 0),
    }
    assert {path.name for path in EXTRACTS.iterdir() if path.is_file()} == set(expected)
    results = check([EXTRACTS / name for name in expected])
    assert {r.name: (r.compared, r.not_compared, r.failed) for r in results} == expected
    assert not any(r.messages for r in results)


def test_a_folder_stands_for_the_golden_files_in_it(tmp_path: Path) -> None:
    for name in ("turn_credits.json", "function.jsonl"):
        (tmp_path / name).write_bytes((EXTRACTS / name).read_bytes())
    (tmp_path / "README.md").write_text("Not a golden file.", "utf-8")
    assert [(r.name, r.failed) for r in check([tmp_path])] == [("function.jsonl", 0), ("turn_credits.json", 0)]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the full golden cases are not beside this checkout; the extracts have run")
@pytest.mark.parametrize("name", ["turn_credits.json", "advantages.json", *(f"{gym}.jsonl" for gym in ADAPTERS)])
def test_all_golden_cases_agree_where_they_are_present(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    [result] = check([SHARED / name])
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {result.compared} compared, {result.not_compared} not compared, {result.failed} failed\n")
    assert result.compared > 0
    assert (result.failed, result.messages) == (0, ())


def test_a_reward_that_differs_is_named_with_its_episode_and_step(tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row["steps"][1]["result"]["reward"] = 0.9

    [result] = check([changed(tmp_path, "intention.jsonl", "random_0", change)])
    assert (result.compared, result.passed, result.failed) == (1, 0, 1)
    assert result.messages == ("random_0, step 1 (action 'question?'): reward 1, expected 0.9",)


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_an_end_that_differs_is_named(tmp_path: Path, flag: str) -> None:
    def change(row: dict[str, Any]) -> None:
        row["steps"][0]["result"][flag] = True

    [result] = check([changed(tmp_path, "intention.jsonl", "random_0", change)])
    assert f"step 0 (action 'question?'): {flag} False, expected True" in result.messages[0]


def test_an_episode_of_ours_that_ends_too_early_or_too_late_fails(tmp_path: Path) -> None:
    def goes_on(row: dict[str, Any]) -> None:
        row["steps"][-1]["result"] = row["steps"][0]["result"]

    def ends_before(row: dict[str, Any]) -> None:
        row["steps"][1]["result"] = {"raises": "ValueError"}

    [early] = check([changed(tmp_path, "intention.jsonl", "random_0", goes_on)])
    assert "ours had ended before (done)" in early.messages[0]
    [late] = check([changed(tmp_path, "intention.jsonl", "random_0", ends_before)])
    assert "the original had ended before, ours goes on" in late.messages[0]


def test_a_query_without_a_recorded_verdict_fails(tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row["steps"][0]["judge"] = row["steps"][0]["judge"][:1]

    [result] = check([changed(tmp_path, "intention.jsonl", "random_0", change)])
    assert "our rules ask 'intention.addressed', to which the original has no verdict here" in result.messages[0]


def test_an_episode_with_a_setting_that_we_do_not_carry_is_not_compared(tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row["config"] = {"reward_scale": 0.5}
        row["steps"][1]["result"]["reward"] = 99.0

    [result] = check([changed(tmp_path, "intention.jsonl", "random_0", change)])
    assert (result.compared, result.not_compared, result.failed) == (0, 1, 0)


def test_an_episode_with_a_setting_that_nobody_knows_fails(tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row["config"] = {"multi_detail_penlty": 0.5}

    [result] = check([changed(tmp_path, "intention.jsonl", "random_0", change)])
    assert "Did you mean 'multi_detail_penalty'?" in result.messages[0]


class Swallowing(Intention):
    """A gym that scores a failed user or judge 0, as the original does."""

    __module__ = Intention.__module__

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        try:
            return await super().step(episode, action, cast)
        except SeatError:
            return Turn(action, "?")


@pytest.mark.parametrize(
    ("case", "call"),
    [
        ("coverage_judge_http_failure", "coverage"),
        ("coverage_reply_not_json", "coverage"),
        ("user_reply_fails_but_reward_given", "user_reply"),
        ("indices_not_list", "coverage"),
    ],
)
def test_a_gym_that_scores_a_failed_user_or_judge_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, call: str
) -> None:
    path = changed(tmp_path, "intention.jsonl", case, lambda row: None)
    [ours] = check([path])
    assert (ours.compared, ours.not_compared, ours.failed) == (0, 1, 0)
    monkeypatch.setattr(golden, "make", lambda name, **settings: Swallowing(**settings))
    [result] = check([path])
    assert (result.compared, result.failed) == (1, 1)
    assert f"the recorded {call} failed, but the turn was scored" in result.messages[0]


def test_a_raw_reply_that_our_parser_can_read_is_accepted(tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row["steps"][0]["judge"][1]["raw"] = 'Well: {"covered_detail_indices": [0], "is_task_related": true}'

    path = changed(tmp_path, "intention.jsonl", "coverage_reply_not_json", change)
    assert check([path])[0].failed == 0


def test_steps_before_a_fault_are_compared(tmp_path: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row["steps"].insert(0, json.loads(json.dumps(row["steps"][-1])))
        row["steps"][0]["result"]["reward"] = 0.1

    [result] = check([changed(tmp_path, "intention.jsonl", "coverage_judge_http_failure", change)])
    assert "step 0 (action 'question?'): reward 0.7, expected 0.1" in result.messages[0]


@pytest.mark.parametrize(("key", "name"), [("turn_R2G", "turn_credits.json"), ("adv_norm_std", "advantages.json")])
def test_a_credit_or_advantage_that_differs_fails_with_its_case(tmp_path: Path, key: str, name: str) -> None:
    golden_file = json.loads((EXTRACTS / name).read_text("utf-8"))
    case = golden_file["cases"][4]
    rows = case["out"][0] if name == "turn_credits.json" else case
    cell = rows[key] if name == "turn_credits.json" else rows[key][0]
    cell[0] += 0.01
    (tmp_path / name).write_text(json.dumps(golden_file), "utf-8")
    [result] = check([tmp_path / name])
    assert result.failed == 1 and result.passed == len(golden_file["cases"]) - 1
    assert result.messages[0].startswith("case 4") and key in result.messages[0]


def test_episodes_of_a_gym_that_cannot_be_replayed_fail_one_and_all(tmp_path: Path) -> None:
    row = {"name": "a", "task": {}, "config": {}, "steps": []}
    path = tmp_path / "chess.jsonl"
    path.write_text("\n".join(map(json.dumps, ({"gym": "chess"}, row, row))), "utf-8")
    [result] = check([path])
    assert (result.compared, result.failed) == (2, 2)
    assert "'chess', for which userrl has no gym" in result.messages[0]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("torn.jsonl", '{"gym": "function"}\n{"name": ', "cannot be read"),
        ("list.json", "[1]", "holds no JSON objects"),
        ("empty.jsonl", "", "holds no JSON objects"),
        ("other.json", '{"cases": [{"a": 1}]}', "is of no known kind"),
        ("short.jsonl", '{"gym": "function"}\n{"name": "a", "task": {}, "config": {}}', "line 2 has no field 'steps'"),
    ],
)
def test_a_file_that_is_no_golden_file_has_failed(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    [result] = check([tmp_path])
    assert (result.compared, result.passed, result.failed) == (1, 0, 1)
    assert problem in result.messages[0]


@pytest.mark.parametrize("name", ["missing.json", "folder"])
def test_a_missing_file_and_an_empty_folder_have_failed(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    [result] = check([tmp_path / name])
    assert result.failed == 1 and "cannot be read" in result.messages[0]


def test_tau_files_without_their_data_fail_unless_that_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "golden" / "tau"
    folder.mkdir(parents=True)
    path = folder / "calls_retail.json"
    path.write_text('{"domain": "retail", "cases": []}', "utf-8")
    [result] = check([path])
    assert result.failed == 1 and "name it with --data" in result.messages[0]
    [result] = check([path], allow_missing=True)
    assert (result.compared, result.not_compared, result.failed) == (0, 1, 0)
    assert "not compared" in result.messages[0]


def test_raw_text_is_a_choice_only_where_it_starts_with_one_in_brackets() -> None:
    plain, any_case = Adapter(lambda task: {}), Adapter(lambda task: {}, finish_in_any_case=True)

    def raw(content: str, adapter: Adapter = plain) -> tuple[str, str]:
        action = read_action({"choice": "raw", "content": content}, adapter)
        return action.kind, action.text or action.raw

    assert raw("[answer]143.0") == ("answer", "143.0")
    assert raw("[search]  test ") == ("search", "test")
    assert raw("action 1 2 3 4") == (INVALID, "action 1 2 3 4")
    assert raw("[Answer] 1") == (INVALID, "[Answer] 1")
    assert raw("[finish] now")[0] == "finish"
    assert raw("[FINISH]") == (INVALID, "[FINISH]")
    assert raw("[FINISH] now", any_case)[0] == "finish"
