"""The commands for task sets: import official ones, check all, show one with its hidden part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import official_folder
from userrl.gyms.base import find, known, sets_in_room


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("USERRL_DATA", str(folder))
    return folder


@pytest.fixture
def official(tmp_path: Path) -> Path:
    return official_folder.write(tmp_path / "official")


def test_an_import_prints_counts_what_is_not_imported_and_why_and_where_the_rest_went(
    cli: Any, official: Path, data_home: Path
) -> None:
    done = cli("data", "import", "userrl", official)
    lines = {line.split()[0]: line.split() for line in done.out.splitlines() if line.strip()}
    assert done.code == 0
    assert lines["function"] == ["function", "30", "10", "2", "1", "imported"]
    assert lines["all"][1:] == ["36", "18", "4", "3"]
    assert "travel: " in done.out
    assert "data missing: data/travelgym_data_22.json and 7 more" in done.out
    assert f"into {data_home}." in done.out


def test_imported_splits_are_listed_and_can_be_evaluated(cli: Any, official: Path) -> None:
    cli("data", "import", "userrl", official)
    assert "official-train-rest" in cli("gyms").out
    done = cli("eval", "function", "--split", "official-test", "--tasks", "2", "--out", "run")
    assert done.code == 0
    assert len(Path("run/episodes.jsonl").read_text("utf-8").splitlines()) == 2


def test_a_broken_file_ends_the_import_with_one_message_and_nothing_written(
    refused: Callable[..., str], official: Path, data_home: Path
) -> None:
    (official / "data" / "tau_train.json").write_text("[{]", "utf-8")
    assert f"{official / 'data' / 'tau_train.json'}: cannot be read as JSON" in refused("data", "import", "userrl", official)
    assert not data_home.exists()


def test_a_folder_that_is_not_there_is_refused(refused: Callable[..., str]) -> None:
    assert "nowhere holds none of the official data" in refused("data", "import", "userrl", "nowhere")


def test_data_of_another_source_is_wrong_usage(cli: Any) -> None:
    assert cli("data", "import", "chess", ".").code == 2


def test_a_check_prints_a_line_for_each_set_built_in_and_imported(cli: Any, official: Path) -> None:
    cli("data", "import", "userrl", official)
    done = cli("data", "check", "function")
    assert done.code == 0
    sets = find("function").sets()
    assert [line.split(":")[0] for line in done.out.splitlines()[:-1]] == [f"function/{split}" for split in sets]
    assert "function/official-test: ok, 10 tasks, imported" in done.out
    total = len(sets)
    assert done.out.splitlines()[-1] == f"{total} of {total} task sets are whole"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda text: text.replace("func-33", "func-34"), "field 'id' repeats 'func-34'"),
        (lambda text: text.replace('"expected":', '"expects":'), "Import the official data again"),
        (lambda text: text.replace('"expected":', '"expects":'), "line 1, task 'func-40': field 'hidden.expected' is missing"),
        (
            lambda text: text.replace('"test_case":[', '"test_case":[0,'),
            "line 1, task 'func-40': field 'hidden.test_case' is [0, ",
        ),
        (lambda text: text.replace('"prompt":', '"said":'), "line 1: field 'prompt' is missing"),
    ],
)
def test_a_check_names_a_broken_set_goes_on_and_exits_with_1(
    cli: Any, official: Path, data_home: Path, spoil: Callable[[str], str], problem: str
) -> None:
    cli("data", "import", "userrl", official)
    path = data_home / "official" / "function" / "official-test.jsonl"
    path.write_text(spoil(path.read_text("utf-8")), "utf-8")
    done = cli("data", "check", "function")
    assert done.code == 1
    assert problem in next(line for line in done.out.splitlines() if line.startswith("function/official-test: "))
    total = len(find("function").sets())
    assert done.out.splitlines()[-1] == f"{total - 1} of {total} task sets are whole"


def test_a_broken_manifest_does_not_hide_the_other_gyms(cli: Any, official: Path, data_home: Path) -> None:
    cli("data", "import", "userrl", official)
    (data_home / "official" / "function" / "manifest.json").write_text("{", "utf-8")
    done = cli("data", "check")
    assert done.code == 1
    assert "function: " in done.out
    assert all(f"{gym}/test: ok" in done.out for gym in known())
    built_in = find("function").tasks("test")[0].id
    assert "(in test)" in cli("data", "show", "function", built_in).out


def test_a_task_is_shown_with_what_the_agent_is_told_apart_from_what_is_hidden(cli: Any, official: Path) -> None:
    cli("data", "import", "userrl", official)
    done = cli("data", "show", "function", "func-33")
    told, _, hidden = done.out.partition("Hidden from the agent:")
    assert "function, task func-33 (in official-test, official-alltest)" in told
    assert "a + b * c - d" not in told
    assert json.loads(hidden) == find("function").task("func-33").hidden


def test_a_task_is_shown_without_control_characters_and_markup(cli: Any, tmp_path: Path) -> None:
    contents = official_folder.files()
    contents["data/bamboogle_questions.json"][0]["question"] = "\x1b[31mWho [bold]wrote[/bold] it?\x07"
    cli("data", "import", "userrl", official_folder.write(tmp_path / "spiked", contents))
    shown = cli("data", "show", "search", "Bamboogle-1").out
    assert "\ufffd[31mWho [bold]wrote[/bold] it?\ufffd" in shown
    assert "\x1b" not in shown and "\x07" not in shown


def test_a_task_that_is_not_there_is_answered_with_its_near_miss(refused: Callable[..., str], cli: Any, official: Path) -> None:
    cli("data", "import", "userrl", official)
    assert "No task of gym 'function' named 'func-333'. Did you mean 'func-33'" in refused("data", "show", "function", "func-333")


def test_tau_bench_is_imported_and_its_tasks_are_listed(cli: Any, data_home: Path) -> None:
    done = cli("data", "import", "tau-bench", Path(__file__).parents[1] / "data" / "tau_bench")
    assert done.code == 0
    assert "official/retail: a database of 9 records" in done.out
    assert "official-airline-test: 2 tasks" in done.out
    assert f"Imported tau-bench into {data_home}." in done.out
    assert "tau/official-retail-test: ok, 3 tasks, imported" in cli("data", "check", "tau").out


def test_a_folder_without_tau_bench_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "cannot be read" in refused("data", "import", "tau-bench", tmp_path)


ROW = '{{"id": "{}", "prompt": "{}", "hidden": {{}}}}\n'
TWICE = [
    (ROW.format("a", "p"), "task 'a' is in the split 'test', too."),
    (ROW.format("a", "another"), "task 'a' is in the split 'test', too."),
    (ROW.format("c", "p"), "task 'c' has another id, but else is 'a', which is in the split 'test', too."),
]


@pytest.mark.parametrize(("row", "problem"), TWICE)
def test_a_task_in_two_splits_is_named_and_not_recorded(
    cli: Any, refused: Callable[..., str], own_gym: Callable[..., Path], row: str, problem: str
) -> None:
    tasks = own_gym(ROW.format("a", "p"), ROW.format("b", "q"))
    assert cli("data", "record", "own").code == 0
    before = (tasks / "manifest.json").read_bytes()
    (tasks / "train.jsonl").write_text(row + ROW.format("z", "z"), "utf-8")
    said = refused("data", "record", "own")
    assert f"own/train: {problem}" in said
    assert "Nothing was recorded." in said
    assert (tasks / "manifest.json").read_bytes() == before


def test_a_task_that_came_into_two_recorded_splits_fails_the_check_unless_the_manifest_allows_it(
    cli: Any, own_gym: Callable[..., Path]
) -> None:
    tasks = own_gym(ROW.format("a", "p"))
    (tasks / "small.jsonl").write_text(ROW.format("b", "q"), "utf-8")
    assert cli("data", "record", "own").code == 0
    manifest = json.loads((tasks / "manifest.json").read_text("utf-8"))
    same = {name: manifest["sets"]["test"][name] for name in ("count", "sha256")}
    manifest["sets"]["small"] |= same
    (tasks / "small.jsonl").write_bytes((tasks / "test.jsonl").read_bytes())

    def check() -> Any:
        (tasks / "manifest.json").write_text(json.dumps(manifest), "utf-8")
        sets_in_room.cache_clear()
        return cli("data", "check", "own")

    done = check()
    assert done.code == 1
    assert "own/small: task 'a' is in the split 'test', too." in done.out
    assert 'give the entry of \'small\' in the manifest "overlaps": ["test"]' in done.out
    assert done.out.splitlines()[-1] == "1 of 2 task sets are whole"
    manifest["sets"]["small"]["overlaps"] = ["test"]
    assert check().code == 0
    assert cli("data", "record", "own").code == 0
    assert json.loads((tasks / "manifest.json").read_text("utf-8")) == manifest


def test_a_file_of_tasks_that_the_manifest_does_not_name_fails_the_check_and_is_recorded(
    cli: Any, own_gym: Callable[..., Path]
) -> None:
    tasks = own_gym(ROW.format("a", "p"))
    cli("data", "record", "own")
    (tasks / "validation.jsonl").write_text(ROW.format("v", "p v"), "utf-8")
    done = cli("data", "check", "own")
    assert done.code == 1
    assert "validation.jsonl is not in the manifest, so no command sees it. Add it with `userrl data record own`." in done.out
    assert done.out.splitlines()[-1] == "1 of 2 task sets are whole"
    done = cli("data", "record", "own")
    assert "own/validation: new; say its license and source in " in done.out
    entry = json.loads((tasks / "manifest.json").read_text("utf-8"))["sets"]["validation"]
    assert (entry["count"], entry["license"], entry["source"]) == (1, "not chosen yet", "not said yet")
    assert [task.id for task in find("own").tasks("validation")] == ["v"]
    assert cli("data", "check", "own").code == 0


def test_a_new_split_may_not_take_the_name_of_an_imported_one(refused: Callable[..., str], own_gym: Callable[..., Path]) -> None:
    tasks = own_gym(ROW.format("a", "p"))
    (tasks / "official-test.jsonl").write_text(ROW.format("v", "v"), "utf-8")
    assert "names with official- are for imported splits; rename it" in refused("data", "record", "own")
