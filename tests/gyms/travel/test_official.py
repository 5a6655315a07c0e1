"""Official travel tasks: their conversion, their import in parts, and how the scripted cast copes with them."""

from __future__ import annotations

import gzip
import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from userrl.core import Action, Episode, Task
from userrl.errors import DataError
from userrl.evaluate.conformance import assert_conforms
from userrl.gyms.base import find, make
from userrl.gyms.travel import ANSWER, NOTHING_LEFT, SEARCH, TALK, TOO_VAGUE
from userrl.gyms.travel.official import CHEAPEST, Entry, convert
from userrl.pipeline.official import Imported, import_userrl
from userrl.rollout import run
from userrl.scripted import Listed

SHARED = Path(os.environ.get("USERRL_SHARED") or Path(__file__).parents[4] / "shared") / "data" / "userrl"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the official data is not at {SHARED}")


def car(number: int, kind: str, cost: int) -> dict[str, Any]:
    fields = {"brand": "Toll", "model": f"T{number}", "categories": "compact", "seats": 4, "cost": cost}
    return {
        "id": f"C{number}",
        **fields,
        "insurance": ["theft cover: 9"],
        "service": [],
        "type": kind,
        "reason": "a secret reason",
    }


def table(number: int, kind: str) -> dict[str, Any]:
    counts = {f"{stars}_star": 5 for stars in range(1, 6)}
    fields = {
        "name": f"Table {number}",
        "cuisine": "stews",
        "expectation": "$$",
        "rating": 8.0,
        "reviews": counts,
        "tags": ["quiet"],
    }
    return {"id": f"R{number}", **fields, "type": kind, "reason": "another reason"}


def entry(key: str = "rental_car:2-7|restaurant:2-9") -> dict[str, Any]:
    """A task in the official form, with content of our own."""
    return {
        "id": key,
        "scenario": "Two friends drive through Ireland and eat out once.",
        "dimensions": ["restaurant", "rental_car"],
        "wanted_num": "22",
        "initial_description": "We want a rental car in Cork from June 2nd to June 5th and a restaurant in Cork on June 3rd.",
        "rental_car": {
            "arguments": {"city": "Cork", "pick_up": "June 2nd", "drop_off": "June 5th"},
            "preferences": [
                ["rental_car", "insurance", "The car must come with theft cover.", "My last car vanished over night.", "more"],
                ["rental_car", "seats"],
                ["rental_car", "model", "The car must be a compact one.", "Irish lanes are narrow."],
            ],
            "options": {"correct": [car(4, "correct", 90), car(2, "correct", 80)], "wrong": [car(1, "wrong", 50)], "noise": []},
            "correct_ids": ["C2", "C4"],
            "best_id": "C2",
        },
        "restaurant": {
            "arguments": {"city": "Cork", "date": "June 3rd"},
            "preferences": [["restaurant", "atmosphere", "The place must be quiet.", "I like to hear what my friends say."]],
            "options": {"correct": [table(1, "correct")], "wrong": [table(2, "wrong")], "noise": [table(3, "noise")]},
            "correct_ids": ["R1"],
            "best_id": "R1",
        },
    }


def converted(value: dict[str, Any] | None = None) -> Task:
    return convert(Entry.model_validate(value or entry()))


def play(*moves: tuple[str, str], task: Task | None = None, trait: str = "plain") -> Episode:
    actions = [Action(kind, text) for kind, text in moves]
    [episode] = run([Episode(task or converted(), max_turns=len(actions))], Listed(actions), make("travel").cast(trait))
    assert episode.stop != "error", episode.error
    return episode


# --- conversion ------------------------------------------------------------------------------------------------------


def test_a_task_keeps_order_and_numbering_of_the_original_and_drops_what_is_secret() -> None:
    task = converted()
    assert (task.id, task.prompt) == (entry()["id"], f"{entry()['initial_description']}\n{CHEAPEST}")
    assert list(task.hidden["aspects"]) == ["restaurant", "rental_car"]
    numbered = [p["id"] for part in task.hidden["aspects"].values() for p in part["preferences"]]
    assert numbered == ["P1", "P2", "P3"]
    assert task.hidden["family"] == "22"
    assert "reason" not in json.dumps(task.hidden)
    assert {option["id"] for option in task.hidden["aspects"]["rental_car"]["options"]} == {"C1", "C2", "C4"}


def test_the_order_of_options_depends_on_the_task_and_not_on_the_order_in_the_file() -> None:
    other = deepcopy(entry())
    other["rental_car"]["options"]["correct"].reverse()
    assert converted(other) == converted()
    assert len({_order(number) for number in range(12)}) > 1


def _order(number: int) -> tuple[str, ...]:
    task = converted(entry(f"rental_car:2-{number}|restaurant:2-9"))
    return tuple(option["id"] for option in task.hidden["aspects"]["rental_car"]["options"])


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("rental_car", "best_id"), "C1", "best_id 'C1' is not in correct_ids"),
        (("rental_car", "correct_ids"), ["C2", "C9"], "correct_ids names 'C9', which is not an option"),
        (("rental_car", "options", "noise"), [car(1, "noise", 1)], "two options have the same id"),
        (("rental_car", "options", "noise"), [table(7, "noise")], "option 'R7' is listed as a rental car"),
        (("rental_car", "preferences"), [["rental_car", "seats"]], "there is at least one"),
        (("rental_car", "preferences"), [["rental_car", "seats", 5, "x"]], "each preference is the 4 texts"),
        (("dimensions",), ["restaurant", "hotel"], "dimensions names 'hotel', which the task lacks"),
        (("dimensions",), ["restaurant", "restaurant"], "dimensions names 'restaurant' twice"),
        (("scenario",), "", "at least 1 character"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(path: tuple[str, ...], value: Any, says: str) -> None:
    broken = entry()
    place = broken
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(ValidationError, match=says):
        converted(broken)


# --- play ------------------------------------------------------------------------------------------------------------


def test_the_scripted_cast_goes_by_the_official_category_and_tells_the_official_phrasing() -> None:
    episode = play(
        (SEARCH, "rental car in Cork, June 2 to June 5"),
        (TALK, "Do you need any insurance for the car?"),
        (TALK, "Which model should the rental car be?"),
        (TALK, "What about the atmosphere of the restaurant?"),
        (TALK, "What would you like?"),
        (TALK, "Should the restaurant have a parking lot, or what about the atmosphere?"),
        (ANSWER, "C2"),
        (ANSWER, "R1"),
    )
    assert episode.rewards == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.0, 0.0, 1.0, 1.0])
    told = [turn.feedback for turn in episode.turns]
    assert told[1].endswith("My last car vanished over night.")
    assert told[3].endswith("I like to hear what my friends say.")
    assert told[4:6] == [TOO_VAGUE, NOTHING_LEFT]
    assert make("travel").solved(episode)


def test_official_tasks_conform_and_the_expert_does_not_choke_on_them() -> None:
    assert_conforms("travel", tasks=[converted()])
    [episode] = run([Episode(converted())], make("travel").expert(), make("travel").cast())
    assert episode.stop == "done"
    assert sum(turn.facts.get("listed") is not None for turn in episode.turns) == 2


# --- import ----------------------------------------------------------------------------------------------------------

IDS = {"22": "rental_car:2-7|restaurant:2-9", "33": "hotel:3-1|restaurant:3-2"}
INDEX = "data/travel_tasks_index.json.gz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the official files only the one of family 22, with one task, and an example."""
    monkeypatch.setenv("USERRL_DATA", str(tmp_path / "home"))
    root = tmp_path / "official"
    write(root / "data" / "travelgym_data_22.json", {IDS["22"]: without_id(entry())})
    write(root / "travel_example" / "travelgym_data_22.json", {"rental_car:2-1|restaurant:2-1": without_id(entry())})
    rows = {"travel_multiturn_onechoice/test": [IDS["22"], IDS["33"]], "travel_multiturn_onechoice/train": [IDS["22"]]}
    write(root / "splits.json", {"source_commit": "0123", "files": {name: {"keys": keys} for name, keys in rows.items()}})
    index(root, {IDS["22"]: entry()["initial_description"], IDS["33"]: "I need a hotel."})
    return root


def without_id(value: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != "id"}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def index(root: Path, openings: dict[str, str]) -> None:
    tasks = [{"id": key, "initial_description": opening} for key, opening in openings.items()]
    (root / INDEX).write_bytes(gzip.compress(json.dumps({"tasks": tasks}).encode()))


def imported(root: Path) -> Imported:
    return next(result for result in import_userrl(root) if result.gym == "travel")


def test_tasks_of_the_files_that_are_there_are_imported_and_what_is_missing_is_counted(folder: Path) -> None:
    result = imported(folder)
    assert result.counts == {"official-train": 1, "official-test": 2}
    assert {split: n for split, n in result.written.items() if "validation" not in split and "rest" not in split} == {
        "official-train": 1,
        "official-test-part": 1,
        "official-example": 1,
    }
    assert "data missing: data/travelgym_data_33.json and 6 more" in result.reason
    assert result.indexed == 2
    assert [task.id for task in find("travel").tasks("official-test-part")] == [IDS["22"]]
    assert find("travel").sets()["official-train"].source.endswith("data/travelgym_data_22.json")


def test_an_index_that_lacks_a_task_of_the_splits_stops_the_import(folder: Path) -> None:
    index(folder, {IDS["22"]: entry()["initial_description"]})
    with pytest.raises(DataError, match=r"does not list 'hotel:3-1\|restaurant:3-2' of official-test"):
        imported(folder)


def test_an_index_with_another_opening_stops_the_import(folder: Path) -> None:
    index(folder, {IDS["22"]: "I need something else.", IDS["33"]: "I need a hotel."})
    with pytest.raises(DataError, match=r"travelgym_data_22.json, entry .*lists another opening of it"):
        imported(folder)


def test_a_broken_index_is_named(folder: Path) -> None:
    (folder / INDEX).write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"travel_tasks_index.json.gz: cannot be read"):
        imported(folder)


@needs_shared
def test_the_examples_of_the_shared_data_are_imported_and_can_be_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERRL_DATA", str(tmp_path))
    result = imported(SHARED)
    assert result.counts == {"official-train": 2107, "official-test": 471, "official-alltrain": 925, "official-alltest": 232}
    assert (result.written, result.indexed) == ({"official-example": 2}, 3122)
    tasks = find("travel").tasks("official-example")
    assert_conforms("travel", tasks=tasks)
    for episode in run([Episode(task) for task in tasks], make("travel").expert(), make("travel").cast()):
        assert episode.stop == "done"
