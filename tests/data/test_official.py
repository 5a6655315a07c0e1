"""The official data becomes task sets of ours: all of what is there or nothing, in the official splits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import official_folder as fixture
from userrl.core import Action, Episode, Task
from userrl.data import digest, imported_sets, split_of
from userrl.data.home import cache_home, folder_of, home
from userrl.data.official import read
from userrl.data.official_sources import SOURCES
from userrl.data.official_splits import derived_splits
from userrl.errors import ConfigError, DataError, StoreError, UnknownName
from userrl.gyms.base import find, make
from userrl.gyms.intention.lexicon import own_words
from userrl.gyms.intention.official import Entry, convert
from userrl.llm.fake import FakeClient
from userrl.pipeline.official import Imported, import_userrl
from userrl.rollout import run
from userrl.scripted import Listed
from userrl.users.llm import llm_cast

SHARED = Path(os.environ.get("USERRL_SHARED") or Path(__file__).parents[3] / "shared") / "data" / "userrl"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the official data is not at {SHARED}")

OFFICIAL_COUNTS = {
    "travel": (2107, 471, 925, 232),
    "turtle": (423, 48, 423, 48),
    "function": (460, 78, 200, 50),
    "tau": (500, 165, 500, 82),
    "persuade": (378, 42, 378, 42),
    "intention": (380, 40, 0, 40),
    "telepathy": (360, 41, 0, 41),
    "search": (0, 125, 0, 62),
}
"""Gym -> tasks in train, test, merged train, merged test."""
SPLITS = ("official-train", "official-test", "official-alltrain", "official-alltest")


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("USERRL_DATA", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fixture.write(tmp_path / "official")


def by_gym(results: list[Imported]) -> dict[str, Imported]:
    return {result.gym: result for result in results}


def ids(gym: str, split: str) -> list[str]:
    return [task.id for task in find(gym).tasks(split)]


# --- what an import makes ------------------------------------------------------------------------------------------


def test_imported_tasks_are_in_the_official_splits_in_the_official_order(folder: Path) -> None:
    import_userrl(folder)
    assert ids("function", "official-test") == [f"func-{n}" for n in range(40, 30, -1)]
    assert ids("function", "official-alltrain") == ["func-7", "func-2"]
    assert ids("function", "official-alltest") == ["func-33"]
    assert ids("intention", "official-train") == ["bob", "ann"]
    assert find("function").task("func-33").hidden["rule"] == "a + b * c - d"


def test_a_gym_has_no_split_of_a_file_that_it_is_not_in(folder: Path) -> None:
    import_userrl(folder)
    assert [split for split in SPLITS if split in find("intention").sets()] == [
        "official-train",
        "official-test",
        "official-alltest",
    ]
    with pytest.raises(UnknownName, match="No split of gym 'intention' named 'official-alltrain'"):
        find("intention").tasks("official-alltrain")


def test_built_in_splits_stay_as_they_are_beside_imported_ones(folder: Path) -> None:
    before = find("function").sets()
    import_userrl(folder)
    after = find("function").sets()
    assert {split: after[split] for split in before} == before == find("function").built_in_sets()
    assert all(split.startswith("official-") for split in set(after) - set(before))


def test_train_stays_whole_and_validation_is_held_out_from_it_by_the_hash_of_the_id(folder: Path) -> None:
    import_userrl(folder)
    train = ids("function", "official-train")
    validation, rest = ids("function", "official-validation"), ids("function", "official-train-rest")
    assert len(train) == 30
    assert validation == [key for key in train if split_of(key) == "validation"] != []
    assert rest == [key for key in train if key not in validation]
    assert not set(validation) & set(ids("function", "official-test"))


def test_the_manifest_names_count_hash_license_and_source_with_the_commit(folder: Path, data_home: Path) -> None:
    import_userrl(folder)
    entry = json.loads((data_home / "official" / "function" / "manifest.json").read_text("utf-8"))["sets"]["official-test"]
    tasks = find("function").tasks("official-test")
    assert (entry["count"], entry["sha256"], entry["license"]) == (10, digest(tasks), "Apache-2.0 (UserRL)")
    assert fixture.COMMIT in entry["source"]
    assert entry["source"].endswith("data/functions.json")


def test_gyms_that_cannot_be_played_are_counted_and_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("userrl.pipeline.official.known", lambda: {"function": "userrl.gyms.function", "turtle": "userrl.gyms"})
    result = by_gym(import_userrl(folder))
    assert result["function"].written["official-train"] == 30
    assert result["tau"].counts == {"official-train": 1, "official-test": 1, "official-alltrain": 1}
    assert (result["tau"].written, result["tau"].reason) == ({}, "not playable yet: this version of userrl does not have the gym")
    assert result["turtle"].reason == "not playable yet: the gym of this version does not take official tasks"
    assert result["travel"].counts == {"official-test": 2, "official-alltest": 1}
    assert "data missing: data/travelgym_data_22.json and 7 more" in result["travel"].reason


def test_a_file_that_is_a_git_lfs_pointer_counts_as_missing(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    folder = fixture.write(tmp_path / "official", {**fixture.files(), "data/functions.json": pointer})
    result = by_gym(import_userrl(folder))
    assert "data missing: data/functions.json (absent, or not fetched by Git LFS)" in result["function"].reason
    assert result["function"].counts["official-train"] == 30
    assert "official-train" not in find("function").sets()


def test_importing_again_replaces_what_was_imported(folder: Path, tmp_path: Path) -> None:
    import_userrl(folder)
    assert find("function").tasks("official-test")[0].hidden["expected"] == 77
    changed = fixture.files()
    changed["data/functions.json"][39] |= {"rule": "a - b - c - d", "expected_result": -45}
    import_userrl(fixture.write(tmp_path / "changed", changed))
    assert find("function").tasks("official-test")[0].hidden["expected"] == -45


def test_a_changed_imported_file_is_refused_and_to_be_imported_again(folder: Path) -> None:
    import_userrl(folder)
    path = folder_of("function") / "official-test.jsonl"
    path.write_text(path.read_text("utf-8").replace("func-33", "func-99"), "utf-8")
    with pytest.raises(DataError, match=r"Tasks function/official-test: .* Import the official data again"):
        find("function").tasks("official-test")


# --- broken data ---------------------------------------------------------------------------------------------------


def cut(text: str) -> str:
    return text[: len(text) // 2]


def change(field: str, value: Any, at: int = 1) -> Callable[[str], str]:
    def changed(text: str) -> str:
        entries = json.loads(text)
        entry = entries[at] if isinstance(entries, list) else entries["8"]
        if value is None:
            del entry[field]
        else:
            entry[field] = value
        return json.dumps(entries)

    return changed


def rows(name: str, **value: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), "files": {**json.loads(text)["files"], name: value}})


@pytest.mark.parametrize(
    ("name", "broken", "problem"),
    [
        ("data/functions.json", cut, "cannot be read as JSON"),
        ("data/functions.json", lambda text: '"text"', "holds a JSON str; expected a list or an object of tasks"),
        ("data/functions.json", lambda text: "[1]", "entry 1: is 1; expected a JSON object"),
        ("data/functions.json", change("id", None), "entry 2: field 'id' is missing"),
        ("data/functions.json", change("id", "func-1"), "entry 2: its key 'func-1' is that of"),
        ("data/functions.json", change("rule", None), "entry 2 ('func-2'): field 'rule': Field required"),
        ("data/functions.json", change("rule", "__import__('os')"), "entry 2 ('func-2'): Rule"),
        ("data/functions.json", change("test_case", [1, 2, 3]), "entry 2 ('func-2'): field 'test_case.3': Field required"),
        ("data/functions.json", change("expected_result", 5.5), "field 'expected_result' is 5.5, but the rule"),
        ("data/functions.json", change("expected_result", float("nan")), "entry 2 ('func-2'): field 'expected_result'"),
        ("data/intentions_train.json", change("missing_details", [], 2), "entry 3 ('cid'): field 'missing_details'"),
        (
            "data/intentions_train.json",
            change("missing_details", [{**fixture.intention("x")["missing_details"][0], "importance": "4"}]),
            "entry 2 ('bob'): field 'missing_details.0.importance'",
        ),
        ("data/intentions_test.json", change("id", "ann", 0), "intentions_test.json, entry 1: its key 'ann' is that of"),
        (
            "data/turtle_stories.json",
            change("evaluation", [{"statement": "s", "score": 0.5}]),
            "entry '8' ('The Wet Man 2'): field",
        ),
        ("data/turtle_stories.json", change("new_bottom", ""), "entry '8' ('The Wet Man 2'): field 'new_bottom'"),
        ("data/persuasion_statements.json", change("argument", None), "entry 2 ('P2'): field 'argument': Field required"),
        ("data/bamboogle_questions.json", change("answer", 7, 0), "entry 1 ('Bamboogle-1'): field 'answer'"),
        ("data/tau_test.json", cut, "tau_test.json: cannot be read as JSON"),
        ("splits.json", cut, "splits.json: cannot be read as JSON"),
        ("splits.json", lambda text: "[]", "splits.json, files: "),
        ("splits.json", rows("function_multiturn/train", keys=[3]), "splits.json, function_multiturn/train: TypeError: 3 is not"),
        ("splits.json", rows("function_multiturn/train"), "splits.json, function_multiturn/train: KeyError: 'keys'"),
        (
            "splits.json",
            rows("function_multiturn/train", keys=["func-41"]),
            "names 'func-41', which is not in",
        ),
        ("splits.json", rows("function_multiturn/train", keys=["func-1"] * 2), "of function names a task twice"),
        (
            "splits.json",
            rows("alltest_multiturn/test", rows_gym_key=[["ChessGym", "x"]]),
            "alltest_multiturn/test: KeyError: 'ChessGym'",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_place_and_nothing_at_all_is_written(
    folder: Path, data_home: Path, name: str, broken: Callable[[str], str], problem: str
) -> None:
    path = folder / name
    path.write_text(broken(path.read_text("utf-8")), "utf-8")
    with pytest.raises(DataError) as caught:
        import_userrl(folder)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)
    assert not data_home.exists()


def test_a_broken_import_leaves_the_one_before_as_it_is(folder: Path, data_home: Path) -> None:
    import_userrl(folder)
    before = {path: path.read_bytes() for path in data_home.rglob("*") if path.is_file()}
    (folder / "data" / "bamboogle_questions.json").write_text("{", "utf-8")
    (folder / "data" / "functions.json").write_text(
        json.dumps([fixture.function(n, "a + c * b - d") for n in range(1, 41)]), "utf-8"
    )
    with pytest.raises(DataError):
        import_userrl(folder)
    assert {path: path.read_bytes() for path in data_home.rglob("*") if path.is_file()} == before


def test_a_folder_without_any_official_data_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds none of the official data: expected a checkout of"):
        import_userrl(tmp_path)


def test_a_data_home_that_cannot_be_written_is_named_with_how_to_choose_another(folder: Path, data_home: Path) -> None:
    data_home.write_text("a file", "utf-8")
    with pytest.raises(StoreError, match=r"Cannot write the data home .*home: .*name another folder with USERRL_DATA"):
        import_userrl(folder)


# --- a checkout ----------------------------------------------------------------------------------------------------


def checkout(root: Path, functions: int = 538) -> Path:
    path = root / "gyms" / "FunctionGym" / "functiongym" / "data" / "functions.json"
    fixture.write(root, {str(path.relative_to(root)): [fixture.function(n) for n in range(1, functions + 1)]})
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n", "utf-8")
    (root / ".git" / "packed-refs").write_text(
        f"# pack-refs\n{'f' * 40} refs/heads/other\n{fixture.COMMIT} refs/heads/main\n", "utf-8"
    )
    return root


def test_a_checkout_without_a_list_of_splits_gets_them_drawn_as_the_repository_drew_them(tmp_path: Path) -> None:
    result = by_gym(import_userrl(checkout(tmp_path / "UserRL")))
    assert tuple(result["function"].written[split] for split in SPLITS) == OFFICIAL_COUNTS["function"]
    assert fixture.COMMIT in find("function").sets()["official-test"].source
    assert not set(ids("function", "official-train")) & set(ids("function", "official-test"))
    assert set(ids("function", "official-alltrain")) < set(ids("function", "official-train"))
    assert {gym: tuple(r.counts.get(split, 0) for split in SPLITS) for gym, r in result.items()} == OFFICIAL_COUNTS


def test_a_file_of_another_size_than_the_official_one_is_refused_where_splits_must_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"functions\.json: holds 537 tasks; expected 538, since the official splits follow"):
        import_userrl(checkout(tmp_path / "UserRL", functions=537))


def test_questions_of_other_origin_in_the_checkouts_search_file_are_left_out(tmp_path: Path) -> None:
    bamboogle = [{"id": f"Bamboogle-{n}", "question": f"Which is number {n}?", "answer": str(n)} for n in range(125)]
    other = [{"id": "Other-1", "question": "Which?", "answer": "This."}]
    root = fixture.write(tmp_path / "UserRL", {"gyms/SearchGym/searchgym/data/questions.json": other + bamboogle})
    assert set(read(root).entries["search"]) == {question["id"] for question in bamboogle}


# --- the data home -------------------------------------------------------------------------------------------------


def test_the_data_home_is_the_named_folder_else_the_xdg_one_else_under_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("USERRL_DATA", "~/named")
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert home() == Path("/h/named")
    monkeypatch.setenv("USERRL_DATA", "")
    assert home() == Path("/xdg/userrl")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert home() == Path("/h/.local/share/userrl")


def test_the_cache_is_another_folder_found_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("USERRL_DATA", "/data")
    monkeypatch.setenv("USERRL_CACHE", "~/named")
    assert cache_home() == Path("/h/named")
    monkeypatch.setenv("USERRL_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_home() == Path("/xdg/userrl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == Path("/h/.cache/userrl")


def test_without_any_home_folder_nothing_is_imported_and_an_import_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("USERRL_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setattr(Path, "home", homeless)
    assert imported_sets("function", "userrl.gyms.function") == {}
    with pytest.raises(ConfigError, match="Name one with the variable USERRL_DATA"):
        import_userrl(folder)


def test_playing_does_not_load_the_importer() -> None:
    code = "import sys, userrl.gyms.base; print([m for m in sys.modules if 'official' in m or m == 'pydantic'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- each gym's tasks ----------------------------------------------------------------------------------------------


def test_an_intention_wish_is_one_of_the_options_and_depends_on_the_id_alone() -> None:
    tasks = {key: convert(Entry.model_validate(fixture.intention(key))) for key in map(str, range(20))}
    assert tasks["7"] == convert(Entry.model_validate(fixture.intention("7")))
    details = [task.hidden["details"] for task in tasks.values()]
    assert all(detail["preference"] in detail["options"] for of_task in details for detail in of_task)
    assert len({of_task[0]["preference"] for of_task in details}) > 1
    assert tasks["7"].prompt == "Plan the party of 7.\n(Category: Events)"
    assert [detail["importance"] for detail in details[0]] == [3, 2, 1]


def test_the_words_of_a_text_are_those_that_no_other_text_and_not_the_task_has() -> None:
    assert own_words(["Number of guests", "Seats for the guest", "When?"], "Many seats") == [("number", "numbers"), (), ()]


def test_the_scripted_cast_plays_official_intention_tasks(folder: Path) -> None:
    import_userrl(folder)
    gym, task = make("intention"), find("intention").task("ann")
    questions = ["How many guests do you expect?", "Any dishes?", "And the weather?", "Some music?"]
    [episode] = run([Episode(task)], Listed([Action("action", question) for question in questions]), gym.cast())
    assert [turn.reward for turn in episode.turns] == [1.0, 0.7, 0.0, 0.4]
    wishes = [detail["preference"] for detail in task.hidden["details"]]
    assert next(turn.feedback for turn in episode.turns if turn.reward) == f"{wishes[0]}."
    assert episode.stop == "done"


def test_official_function_tasks_are_solved_by_the_expert(folder: Path) -> None:
    import_userrl(folder)
    episodes = run(
        [Episode(task) for task in find("function").tasks("official-test")[:2]],
        make("function").expert(),
        make("function").cast(),
    )
    assert [episode.rewards[-1] for episode in episodes] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("gym", "key", "action"),
    [
        ("turtle", "story-3", Action("action", "Is the man a diver?")),
        ("turtle", "story-3", Action("answer", "The man is a diver.")),
        ("persuade", "P1", Action("action", "Hats fall off.")),
        ("telepathy", "entity_001", Action("action", "Is it alive?")),
    ],
)
def test_what_the_scripted_cast_cannot_answer_is_an_error_that_names_the_remedy(
    folder: Path, gym: str, key: str, action: Action
) -> None:
    import_userrl(folder)
    [episode] = run([Episode(find(gym).task(key))], Listed([action]), make(gym).cast())
    assert (episode.stop, episode.turns) == ("error", ())
    assert re.search("let (a model|models) be the", str(episode.error))


MODELS = [
    ("intention", "ann", Action("action", "How many?"), ['{"words": "Ten."}'], ['{"addressed": [0], "on_task": true}'], 1.0),
    ("turtle", "story-3", Action("answer", "A diver."), [], ['{"grades": [1, 0]}'], 0.7),
    (
        "persuade",
        "P1",
        Action("action", "Hats fall off."),
        ['{"words": "Hm."}'],
        ['{"stance": "Neutral", "sort": "argument"}'],
        0.5,
    ),
    ("telepathy", "entity_001", Action("answer", "a newt"), [], ['{"same": true}'], 1.0),
    ("telepathy", "entity_001", Action("action", "Is it wet?"), ['{"word": "Yes"}'], [], 0.0),
    ("search", "Bamboogle-1", Action("answer", "no one"), [], ['{"same": true}'], 1.0),
    ("function", "func-33", Action("answer", "63"), [], [], 1.0),
]


@pytest.mark.parametrize(("gym", "key", "action", "user", "judge", "reward"), MODELS)
def test_official_tasks_are_played_with_models_as_the_cast(
    folder: Path, gym: str, key: str, action: Action, user: list[str], judge: list[str], reward: float
) -> None:
    import_userrl(folder)
    users, judges = FakeClient(user), FakeClient(judge)
    [episode] = run([Episode(find(gym).task(key), max_turns=1)], Listed([action]), llm_cast(users, judges))
    assert (episode.error, episode.rewards) == (None, [reward])
    assert (len(users.calls), len(judges.calls)) == (len(user), len(judge))
    assert [message for call in users.calls + judges.calls for message in call["messages"] if "$" in message["content"]] == []


def test_every_converter_makes_tasks_of_its_gym_that_survive_json(folder: Path) -> None:
    results = import_userrl(folder)
    for result in results:
        for split in result.written:
            tasks = find(result.gym).tasks(split)
            assert all(task.gym == result.gym and isinstance(task, Task) for task in tasks)
            assert [json.loads(json.dumps(task.hidden)) for task in tasks] == [task.hidden for task in tasks]


# --- the whole of it ----------------------------------------------------------------------------------------------


@needs_shared
def test_the_whole_official_data_has_the_official_counts() -> None:
    result = by_gym(import_userrl(SHARED))
    assert {gym: tuple(r.counts.get(split, 0) for split in SPLITS) for gym, r in result.items()} == OFFICIAL_COUNTS
    assert [sum(r.counts.get(split, 0) for r in result.values()) for split in SPLITS[1:]] == [1010, 2426, 597]
    assert {"function", "intention", "turtle", "persuade", "telepathy", "search"} <= {
        gym for gym, r in result.items() if r.written
    }
    assert (result["travel"].written, result["travel"].indexed) == ({"official-example": 2}, 3122)
    for gym, r in result.items():
        if r.written and not r.reason:
            assert {split: r.written.get(split, 0) for split in SPLITS} == {split: r.counts.get(split, 0) for split in SPLITS}
            assert all(len(find(gym).tasks(split)) == count for split, count in r.written.items())
            assert "cf55a30" in find(gym).sets()["official-test"].source


@needs_shared
def test_drawn_splits_are_the_released_ones_row_by_row() -> None:
    released = read(SHARED).splits
    pools: dict[str, list[list[str]]] = {}
    for gym, source in SOURCES.items():
        pools[gym] = [[""] * (size or source.train + source.test) for size in source.sizes]
        if gym not in ("travel", "persuade"):  # whose files are not there in their original order
            values = [json.loads((SHARED / name).read_text("utf-8")) for name, _ in source.files]
            entries = [list(value.values()) if isinstance(value, dict) else value for value in values]
            pools[gym] = [[entry[source.key] for entry in of_file] for of_file in entries]
    drawn = derived_splits(pools)
    for gym in ("turtle", "function", "tau", "intention", "telepathy", "search"):
        assert drawn[gym] == released[gym], gym
    for gym in ("travel", "persuade"):
        assert {split: len(keys) for split, keys in drawn[gym].items()} == {split: len(k) for split, k in released[gym].items()}
