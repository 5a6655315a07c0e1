"""Official data: tasks from UserRL's files; databases, texts and tasks from tau-bench, extracted or as a checkout."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny_bench import FOLDER
from userrl.core import Action, Cast
from userrl.errors import DataError
from userrl.gyms.base import find
from userrl.gyms.tau import Hidden, Tau, database, official, source, texts
from userrl.gyms.tau.official import OPENING, Entry, bench_folder, convert, import_bench
from userrl.gyms.tau.tools import TOOLS, Result
from userrl.rollout import run, starts
from userrl.scripted import Listed, Scripted

SHARED = Path(os.environ.get("USERRL_SHARED") or Path(__file__).parents[4] / "shared") / "data" / "tau_bench"

TASK = {"user_id": "ada_voss_1111", "instruction": "You are Ada.", "actions": [{"name": "think", "kwargs": {"thought": "x"}}]}


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("USERRL_DATA", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the small data, to be spoiled."""
    return shutil.copytree(FOLDER, tmp_path / "bench")


def test_an_imported_task_is_found_by_its_id(folder: Path) -> None:
    import_bench(folder, Hidden)
    [first, *_] = Tau.tasks("official-retail-test")
    assert Tau.task(first.id) == first


def checkout(root: Path) -> Path:
    """The small data in the layout of tau-bench's repository, its tasks and tools as Python text."""
    for domain, names in source.TABLES.items():
        envs = root / "tau_bench" / "envs" / domain
        (envs / "data").mkdir(parents=True)
        (envs / "tools").mkdir()
        for table in names:
            shutil.copy(FOLDER / domain / f"{table}.json", envs / "data")
        shutil.copy(FOLDER / domain / "policy.md", envs / "wiki.md")
        calls = [task_source(row) for row in json.loads((FOLDER / domain / "tasks_test.json").read_text("utf-8"))]
        head = f"from tau_bench.types import Task, Action\n\nraise SystemExit('{domain} was run')\n"
        (envs / "tasks_test.py").write_text(f"{head}TASKS = [\n{''.join(calls)}]\n", "utf-8")
        tools = json.loads((FOLDER / domain / "tools.json").read_text("utf-8"))
        for tool in tools:
            (envs / "tools" / f"{tool['function']['name']}.py").write_text(tool_source(tool), "utf-8")
        listed = ", ".join(class_of(tool) for tool in tools)
        (envs / "tools" / "__init__.py").write_text(f"ALL_TOOLS = [{listed}]\n", "utf-8")
    return root


def task_source(row: dict[str, Any]) -> str:
    actions = ", ".join(f"Action(name={a['name']!r}, kwargs={a['kwargs']!r})" for a in row["actions"])
    told = f"user_id={row['user_id']!r}, instruction={row['instruction']!r}, outputs={row['outputs']!r}"
    return f"    Task(annotator='0', {told}, actions=[{actions}]),\n"


def class_of(tool: dict[str, Any]) -> str:
    return str(tool["function"]["name"].title().replace("_", ""))


def tool_source(tool: dict[str, Any]) -> str:
    return f"class {class_of(tool)}(Tool):\n    @staticmethod\n    def get_info():\n        return {tool!r}\n"


# --- UserRL's tasks ----------------------------------------------------------------------------------------------


def test_an_official_task_becomes_one_with_its_first_message() -> None:
    task = convert(Entry.model_validate({"id": "retail-train-007", "obs": "Hi!", "info": {"task": {**TASK, "outputs": ["10"]}}}))
    assert (task.id, task.prompt) == ("retail-train-007", "Hi!")
    assert (task.hidden["domain"], task.hidden["database"]) == ("retail", "official/retail")
    assert task.hidden["actions"] == [{"name": "think", "arguments": {"thought": "x"}}]
    assert Hidden.model_validate(task.hidden).outputs == ["10"]


# --- tau-bench ---------------------------------------------------------------------------------------------------


def test_an_import_brings_databases_texts_and_tasks(folder: Path) -> None:
    done = import_bench(folder, Hidden)
    assert done.records == {"official/retail": 9, "official/airline": 9}
    assert done.tasks == {"official-retail-test": 3, "official-airline-test": 2}
    base = database.load("official/retail")
    assert database.digest(database.Overlay(base)) == database.digest(
        database.Overlay(database.load("official/retail", str(folder)))
    )
    assert list(base.tables["orders"]) == ["#W1", "#W2", "#W3", "#W4", "#W5"]
    assert texts.load("official/retail").messages == texts.load("official/retail", str(folder)).messages
    tasks = find("tau").tasks("official-airline-test")
    assert [task.prompt for task in tasks] == [OPENING] * 2


def test_an_imported_task_is_played_and_judged(folder: Path) -> None:
    import_bench(folder, Hidden)
    task = Tau.tasks("official-retail-test")[0]
    calls = [{"name": a["name"], "arguments": a["arguments"]} for a in task.hidden["actions"]]
    transfer = {"name": "transfer_to_human_agents", "arguments": {"summary": "x"}}
    agent = Listed([Action("answer", json.dumps(call)) for call in (*calls, transfer)])
    [episode] = run(starts([task]), agent, Cast(Scripted({}), Scripted({})))
    assert (episode.stop, sum(episode.rewards)) == ("done", 1.0)


def test_a_checkout_is_imported_without_running_it(tmp_path: Path) -> None:
    done = import_bench(checkout(tmp_path / "repository"), Hidden)
    assert done.tasks == {"official-retail-test": 3, "official-airline-test": 2}
    for name in ("official/retail", "official/airline"):
        given = database.load(name, str(FOLDER))
        assert database.digest(database.Overlay(database.load(name))) == database.digest(database.Overlay(given))
        assert texts.load(name).tools == texts.load(name, str(FOLDER)).tools
        assert texts.load(name).policy == texts.load(name, str(FOLDER)).policy
    assert [task.hidden for task in Tau.tasks("official-retail-test")] == [
        official.bench_task(row, "", Hidden).hidden for row in source.tasks(FOLDER, "retail")["test"]
    ]


def test_a_checkout_has_no_messages_to_read_so_ours_are_said(tmp_path: Path, folder: Path) -> None:
    import_bench(folder, Hidden)
    assert texts.render(Result("order_not_found"), texts.load("official/retail").messages) == "Error (order not found)"
    import_bench(checkout(tmp_path / "repository"), Hidden)
    ours = texts.load("retail").messages["order_not_found"]
    assert texts.render(Result("order_not_found"), texts.load("official/retail").messages) == ours
    assert not (bench_folder() / "messages.json").exists()


def spoil(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoiled(root: Path) -> None:
        path = root / name
        path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")

    return spoiled


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda root: (root / "airline" / "users.json").unlink(), "users.json: cannot be read"),
        (lambda root: (root / "retail" / "orders.json").write_text("{", "utf-8"), "orders.json: cannot be read as JSON"),
        (lambda root: (root / "retail" / "policy.md").unlink(), "policy.md: cannot be read"),
        (lambda root: (root / "retail" / "policy.md").write_bytes(b"\xff"), "policy.md: is not UTF-8"),
        (spoil("airline/flights.json", lambda rows: {"HAT1": {"origin": "SFO"}}), "flights.json, record 'HAT1': lacks"),
        (spoil("retail/tools.json", lambda rows: rows[1:]), "the list of tools of retail differs from ours in 'calculate'"),
        (spoil("retail/tasks_test.json", lambda rows: [{**rows[0], "actions": "x"}]), "is not a task as tau-bench has it"),
        (spoil("retail/tasks_test.json", lambda rows: [{"id": "retail-000"}]), "is not a task as tau-bench has it"),
    ],
)
def test_a_broken_file_is_named_and_nothing_is_written(
    folder: Path, data_home: Path, break_it: Callable[[Path], None], problem: str
) -> None:
    break_it(folder)
    with pytest.raises(DataError) as error:
        import_bench(folder, Hidden)
    assert problem in str(error.value)
    assert not data_home.exists()


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("retail/tasks_test.py", "TASKS = [", "cannot be read as Python"),
        ("retail/tasks_test.py", "Task(user_id='u', instruction='i', actions=[])", "field 'outputs' is missing"),
        ("retail/tasks_test.py", "Task(user_id=f(), instruction='i', actions=[], outputs=[])", "expected a literal"),
        ("retail/tools/__init__.py", "", "holds no list of tools"),
    ],
)
def test_a_checkout_of_another_form_is_named(tmp_path: Path, name: str, text: str, problem: str) -> None:
    root = checkout(tmp_path / "repository")
    (root / "tau_bench" / "envs" / name).write_text(text, "utf-8")
    with pytest.raises(DataError, match=problem):
        import_bench(root, Hidden)


def test_an_imported_file_that_was_changed_is_noticed(folder: Path) -> None:
    import_bench(folder, Hidden)
    spoil("retail/users.json", lambda rows: dict(list(rows.items())[:1]))(bench_folder())
    with pytest.raises(DataError, match="is not the file that was imported"):
        database.load("official/retail")


def test_official_tasks_need_a_model_as_the_user(folder: Path) -> None:
    import_bench(folder, Hidden)
    [episode] = run(starts(Tau.tasks("official-retail-test")[:1]), Listed([Action("action", "Hello.")]), Tau.cast())
    assert episode.stop == "error"
    assert "model" in str(episode.error)


def test_words_for_a_code_that_has_none_are_not_made_up() -> None:
    with pytest.raises(DataError, match="no words for the code 'odd'"):
        texts.render(Result("odd"), {"a": "b"})


def test_slots_are_filled_once_and_with_what_they_hold() -> None:
    said = texts.render(Result("x", None, {"name": "{other}", "other": "no"}), {"x": "{name}, {missing}"})
    assert said == "{other}, {missing}"


@pytest.mark.parametrize("domain", ["retail", "airline"])
def test_the_built_in_words_cover_every_code_and_tool(domain: str) -> None:
    ours = texts.load(domain)
    codes = set(json.loads((FOLDER / "messages.json").read_text("utf-8"))[domain])
    assert codes | {"transfer_ok", "unknown_action"} <= ours.messages.keys()
    for tool in ours.tools:
        function = tool["function"]
        assert list(function["parameters"]["properties"]) == list(TOOLS[domain][function["name"]].kinds)
    assert {tool["function"]["name"] for tool in ours.tools} == set(TOOLS[domain])


@pytest.mark.skipif(not SHARED.is_dir(), reason="tau-bench's data is not beside this checkout; the small data has been imported")
def test_all_of_tau_bench_is_imported_and_doing_nothing_earns_what_it_did() -> None:
    done = import_bench(SHARED, Hidden)
    assert done.records == {"official/retail": 1550, "official/airline": 2800}
    assert done.tasks == {
        "official-retail-test": 115,
        "official-retail-train": 500,
        "official-retail-dev": 20,
        "official-airline-test": 50,
    }
    gym, idle = Tau(), {split: sum(map(Tau().idle, Tau.tasks(split))) for split in done.tasks}
    assert (idle["official-retail-test"], idle["official-airline-test"], idle["official-retail-train"]) == (7, 19, 5)
    starts_at = {name: database.digest(database.Overlay(database.load(name))) for name in done.records}
    assert {name: digest[:8] for name, digest in starts_at.items()} == {
        "official/retail": "5a4b2cb5",
        "official/airline": "4587e6b4",
    }
    assert len(Tau.tasks("official-airline-test")) - sum(bool(gym.subsets(t)) for t in Tau.tasks("official-airline-test")) == 20
