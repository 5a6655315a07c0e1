"""What tasks hide fits their gym's schema, and one that does not is named with file, line, task and field."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from userrl.core import Task
from userrl.data import TaskSet, digest, read_tasks, write_tasks
from userrl.data.hidden import HiddenModel, Text, check_hidden
from userrl.errors import DataError
from userrl.gyms.base import find, known

WITH_SCHEMA = ("function", "intention", "persuade", "search", "telepathy", "turtle")


class Part(HiddenModel):
    weight: Annotated[float, Field(ge=0, le=1)]


class Toy(HiddenModel):
    word: Text
    parts: list[Part] = Field(default_factory=list)


def problem(hidden: dict[str, Any]) -> str:
    with pytest.raises(DataError) as caught:
        check_hidden(Task("t", "toy", "", hidden), Toy, "here")
    return str(caught.value)


def saved(folder: Path, split: str, *hidden: dict[str, Any]) -> TaskSet:
    """A recorded set of tasks that hide this."""
    tasks = [Task(f"t{n}", "toy", "p", part) for n, part in enumerate(hidden)]
    write_tasks(folder / f"{split}.jsonl", tasks)
    entry = {"count": len(tasks), "sha256": digest(tasks), "license": "none", "source": "ours"}
    (folder / "manifest.json").write_text(json.dumps({"sets": {split: entry}}), "utf-8")
    return TaskSet.read_manifest("toy", folder, "toy_gym", Toy)[split]


# --- what is said of a fault -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        ({}, "here, task 't': field 'hidden.word' is missing."),
        ({"word": 7}, "here, task 't': field 'hidden.word' is 7; expected a valid string."),
        ({"word": ""}, "here, task 't': field 'hidden.word' is ''; string should have at least 1 character."),
        ({"word": "a", "parts": [{"weight": 0.5}, {"weight": 2}]}, "field 'hidden.parts.1.weight' is 2; expected less than or"),
        ({"word": "a", "parts": [{"weight": "1"}]}, "field 'hidden.parts.0.weight' is '1'; expected a valid number."),
        ({"word": "a", "parts": [{"weight": True}]}, "field 'hidden.parts.0.weight' is True; expected a valid number."),
        ({"word": "a", "wrod": 1}, "field 'hidden.wrod' is not known; expected only fields of the gym's data sheet."),
        ({"parts": 3}, "field 'hidden.word' is missing. Faults in all: 2."),
        ({"word": ["x" * 99]}, f"field 'hidden.word' is ['{'x' * 58}…; expected a valid string."),
    ],
)
def test_a_fault_is_named_with_task_field_value_and_what_was_expected(hidden: dict[str, Any], expected: str) -> None:
    assert expected in problem(hidden)


def test_a_number_that_json_cannot_hold_does_not_fit() -> None:
    assert "finite number" in problem({"word": "a", "parts": [{"weight": float("nan")}]})


def test_without_a_schema_everything_fits() -> None:
    check_hidden(Task("t", "toy", "", {"any": "thing"}), None, "here")


# --- where it is checked ---------------------------------------------------------------------------------------


def test_a_file_is_read_with_a_schema_and_the_line_is_named(tmp_path: Path) -> None:
    saved(tmp_path, "test", {"word": "a"}, {"word": 1})
    assert len(read_tasks(tmp_path / "test.jsonl", "toy")) == 2
    with pytest.raises(DataError, match=r"test\.jsonl, line 2, task 't1': field 'hidden\.word' is 1"):
        read_tasks(tmp_path / "test.jsonl", "toy", Toy)


def test_a_built_in_set_is_vouched_for_by_its_hash_and_checked_on_demand(tmp_path: Path) -> None:
    tasks = saved(tmp_path, "test", {"word": "a"}, {"word": 1})
    assert len(tasks.load()) == 2
    with pytest.raises(DataError, match=r"line 2, task 't1': field 'hidden\.word' is 1; expected a valid string\.$"):
        tasks.check()


def test_an_imported_set_is_checked_whenever_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1, task 't0': .*'hidden\.word' is missing.* Import the official data again"):
        saved(tmp_path, "official-test", {}).load()
    assert len(saved(tmp_path, "official-test", {"word": "a"}).load()) == 1


def test_a_generated_set_is_checked_too(tmp_path: Path) -> None:
    [made] = [s for name, s in find("telepathy").built_in_sets().items() if name == "test"]
    assert len(made.check()) == made.count
    with pytest.raises(DataError, match=r"telepathy/test, task 'telepathy-.*': field 'hidden\.word' is missing"):
        replace(made, model=Toy).check()


# --- the gyms' schemas -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in sorted(known()) if name in WITH_SCHEMA])
def test_a_gym_has_a_schema_and_all_its_tasks_fit_it(name: str) -> None:
    gym = find(name)
    assert gym.hidden_model is not None and issubclass(gym.hidden_model, HiddenModel)
    for task_set in gym.built_in_sets().values():
        task_set.read()


def half(hidden: dict[str, Any]) -> None:
    hidden["rubric"][0]["weight"] /= 2


def twice(hidden: dict[str, Any]) -> None:
    hidden["details"].append(hidden["details"][0])


SPOILED: list[tuple[str, Callable[[Any], Any], str]] = [
    ("function", lambda h: h.update(expected=h["expected"] + 1), "'hidden': expected is .*; expected .*, which the rule"),
    ("function", lambda h: h.update(rule="a + (b"), r"'hidden': .*a \+ \(b"),
    ("function", lambda h: h["test_case"].pop(), r"'hidden\.test_case' is \[.*; list should have at least 4 items"),
    ("function", lambda h: h.update(test_case=[1, 2, 3, 4.5]), r"'hidden\.test_case\.3' is 4\.5; expected"),
    ("intention", lambda h: h["details"][0].update(importance=4), r"'hidden\.details\.0\.importance' is 4; expected less"),
    ("intention", lambda h: h["details"][0].update(importance="3"), r"importance' is '3'; expected a val"),
    ("intention", lambda h: h["details"][0].update(importance=True), r"importance' is True; expected a val"),
    ("intention", lambda h: h["details"][0].update(preference="x"), r"'hidden\.details\.0': preference is 'x'; expected one of"),
    ("intention", lambda h: h["details"].clear(), r"'hidden\.details' is \[\]; list should have at least 1"),
    ("intention", twice, "'hidden': type '.*' is that of more than one detail; expected each once"),
    ("persuade", lambda h: h.update(stubbornness="hard"), r"'hidden\.stubbornness' is 'hard'; expected 'open', 'firm' or"),
    ("persuade", lambda h: h["reasons"].clear(), r"'hidden\.reasons' is \[\]; list should have at least 1"),
    ("search", lambda h: h["hops"][0].pop("passage"), r"'hidden\.hops\.0\.passage' is missing"),
    ("search", lambda h: h.update(answer=412), r"'hidden\.answer' is 412; expected a valid string"),
    ("telepathy", lambda h: h.update(aliases="cat"), r"'hidden\.aliases' is 'cat'; expected a valid list"),
    ("telepathy", lambda h: h.pop("title"), r"'hidden\.title' is missing"),
    ("turtle", half, "'hidden': the weights of the rubric sum to .*; expected 1"),
    ("turtle", lambda h: h["facts"][0].update(reply="Perhaps"), r"'hidden\.facts\.0\.reply' is 'Perhaps'; expected 'Yes', 'No'"),
    ("turtle", lambda h: h["rubric"][0].update(weight=-1), r"'hidden\.rubric\.0\.weight' is -1; expected greater than or"),
]


@pytest.mark.parametrize(("gym", "spoil", "expected"), SPOILED)
def test_a_task_that_the_rules_cannot_go_by_is_refused(gym: str, spoil: Callable[[Any], Any], expected: str) -> None:
    task = find(gym).tasks("test")[0]
    hidden = json.loads(json.dumps(dict(task.hidden)))
    spoil(hidden)
    with pytest.raises(DataError, match=expected):
        check_hidden(replace(task, hidden=hidden), find(gym).hidden_model, "here")
