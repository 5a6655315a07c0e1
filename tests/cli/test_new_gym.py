"""`userrl new gym` writes a package that works at once, and the guide to new gyms shows exactly that package."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from userrl.cli.scaffold import FILES, QUERIES, Template, new_gym
from userrl.errors import ConfigError, StoreError
from userrl.evaluate.conformance import assert_conforms
from userrl.evaluate.metrics import summarize
from userrl.gyms.base import find, known
from userrl.rollout import run as play_all
from userrl.rollout import starts

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "new-gym.md").read_text("utf-8")
WAY = (ROOT / "docs" / "first-gym.md").read_text("utf-8")


def shown() -> dict[str, str]:
    """Path -> text of the files that the guide shows."""
    return dict(re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))


def commands(page: str) -> list[str]:
    return [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]


def install(folder: Path) -> Path:
    """What an editable installation does: the package's metadata beside its source, by its own pyproject.toml."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    source = folder / "src"
    metadata = source / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(about, "utf-8")
    points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["userrl.gyms"].items())
    (metadata / "entry_points.txt").write_text(f"[userrl.gyms]\n{points}", "utf-8")
    return source


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes the gym of a folder known here, and unknown again after the test."""
    before = set(sys.modules)

    def add(folder: Path) -> None:
        monkeypatch.syspath_prepend(install(folder))
        known.cache_clear()
        find.cache_clear()

    yield add
    for name in set(sys.modules) - before:
        if name.startswith("userrl_"):
            del sys.modules[name]
    monkeypatch.undo()
    known.cache_clear()
    find.cache_clear()


RECORD = "from userrl.cli import main; main(['data', 'record', 'hot_cold'])"


def run(folder: Path, *args: str, fails: bool = False) -> str:
    """What another Python prints that knows the gym in this folder, on one line if it is to fail."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, *args], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return " ".join(done.stderr.split()) if fails else done.stdout


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["riddle", "two_words", "gym", "class", "json", "x2_y3"])
def test_a_new_gym_conforms_at_once_whatever_its_name(name: str, tmp_path: Path, installed: Callable[[Path], None]) -> None:
    installed(new_gym(name, tmp_path / "mine"))
    report = assert_conforms(name)
    assert report.gym == name
    assert report.turns > report.episodes > report.tasks > 0


def test_a_new_gym_that_asks_conforms_at_once_and_every_label_is_seen(tmp_path: Path, installed: Callable[[Path], None]) -> None:
    installed(new_gym("help_desk", tmp_path / "mine", "ask"))
    assert assert_conforms("help_desk").unseen == ()


def test_the_questions_of_a_gym_with_its_own_names_for_choices_are_counted(
    tmp_path: Path, installed: Callable[[Path], None]
) -> None:
    installed(new_gym("help_desk", tmp_path / "mine", "ask"))
    gym = find("help_desk")
    [summary] = summarize(play_all(starts(gym.tasks("test")), gym.expert(), gym.cast()))
    assert summary.effort is not None
    assert (summary.effort.questions, summary.effort.rate) == (3.0, 1.0)
    assert (summary.effort.within[2], summary.effort.within[4]) == (0.0, 1.0)


@pytest.mark.parametrize(("template", "passed"), [("number", "3 passed"), ("ask", "4 passed")])
def test_the_own_test_of_a_new_gym_passes(template: Template, passed: str, tmp_path: Path) -> None:
    folder = new_gym("two_words", tmp_path / "mine", template)
    install(folder)
    assert passed in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.parametrize("template", ["number", "ask"])
def test_a_new_gym_is_clean_by_ruff_and_strict_mypy(template: Template, tmp_path: Path) -> None:
    folder = new_gym("two_words", tmp_path / "mine", template)
    assert "All checks passed" in run(folder, "-m", "ruff", "check", "--no-cache", ".")
    assert "Success" in run(folder, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "src", "tests")


def test_the_command_says_where_the_gym_is_and_what_to_do_next(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli("new", "gym", "two_words")
    assert done.code == 0
    assert "userrl-two-words" in done.out
    assert "pip install -e userrl-two-words" in done.out
    assert "userrl check gyms two_words" in done.out
    files = {str(path.relative_to(tmp_path / "userrl-two-words")) for path in tmp_path.rglob("*") if path.is_file()}
    manifest = "src/userrl_two_words/tasks/manifest.json"
    assert files == {
        *(path.replace("{{name}}", "two_words") for path in FILES),
        manifest,
        "src/userrl_two_words/prompts/warmth.md",
    }


@pytest.mark.parametrize("template", ["number", "ask"])
def test_no_slot_of_the_template_is_left(template: Template, tmp_path: Path) -> None:
    folder = new_gym("two_words", tmp_path / "mine", template)
    texts = {path: path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}
    assert len(texts) == len(FILES) + len(QUERIES[template]) + 1
    assert [str(path) for path, text in texts.items() if "{{" in f"{path}{text}" or "hot_cold" in text] == []


def test_a_gym_can_be_written_to_a_folder_of_ones_choice(cli: Callable[..., Any], tmp_path: Path) -> None:
    assert cli("new", "gym", "riddle", "--out", tmp_path / "deep" / "er").code == 0
    assert (tmp_path / "deep" / "er" / "pyproject.toml").is_file()


BAD = ("", "Riddle", "two words", "two-words", "2words", "_words", "two__words", "words_", "a/b", "../up", "größe", "a\n", "a.b")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_and_nothing_is_written(name: str, refused: Callable[..., str], tmp_path: Path) -> None:
    assert "cannot be the name of a gym; expected lower-case letters" in " ".join(refused("new", "gym", "--", name).split())
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_known_gym_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    said = " ".join(refused("new", "gym", "intention").split())
    assert said == "Error: There is a gym named 'intention' already (userrl.gyms.intention); choose another name."
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match=r"mine exists already; nothing was changed\. Remove it, or choose another"):
        new_gym("riddle", tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(StoreError, match=r"Cannot write .*file.*Choose a writable folder with --out"):
        new_gym("riddle", tmp_path / "file" / "mine")


# --- the guide -----------------------------------------------------------------------------------------------------


def test_the_gym_of_the_guide_is_built_from_its_blocks_and_conforms(tmp_path: Path, installed: Callable[[Path], None]) -> None:
    for path, text in shown().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    installed(tmp_path)
    report = assert_conforms("hot_cold")
    assert report.tasks == 6


def test_the_guide_shows_every_file_that_the_command_writes(tmp_path: Path) -> None:
    folder = new_gym("hot_cold", tmp_path / "mine")
    written = {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}
    assert shown() == written


def test_the_rules_of_the_guide_are_about_forty_lines() -> None:
    rules = shown()["src/userrl_hot_cold/__init__.py"]
    assert len(rules.splitlines()) <= 45


def test_the_commands_of_the_guide_exist_and_those_without_a_model_run(
    cli: Callable[..., Any], tmp_path: Path, installed: Callable[[Path], None]
) -> None:
    lines = commands(GUIDE)
    assert [line.split()[0] for line in lines] == ["userrl", "pip", "userrl", "userrl", "userrl", "userrl"]
    for line in lines:
        program, *args = line.split()
        if program == "pip":
            installed(tmp_path / args[-1])
        elif "http" not in line:
            assert cli(*args, stdin="action 1\n").code in (0, 130), line


def test_recording_the_tasks_of_the_guide_anew_changes_nothing(tmp_path: Path) -> None:
    folder = new_gym("hot_cold", tmp_path / "mine")
    install(folder)
    manifest = folder / "src" / "userrl_hot_cold" / "tasks" / "manifest.json"
    before = manifest.read_bytes()
    run(folder, "-c", RECORD)
    assert manifest.read_bytes() == before
    tasks = manifest.with_name("train.jsonl")
    broken = tasks.read_text("utf-8").replace('"number":24', '"number":240')
    tasks.write_text(broken, "utf-8")
    said = run(folder, "-c", RECORD, fails=True)
    assert "train.jsonl, line 2, task 'hot_cold-24': field 'hidden.number' is 240; expected less than or equal to 100." in said
    assert manifest.read_bytes() == before
    tasks.write_text(broken.splitlines()[0] + "\n", "utf-8")
    run(folder, "-c", RECORD)
    assert json.loads(manifest.read_text("utf-8"))["sets"]["train"]["count"] == 1


# --- the way from tickets to a trained agent -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_way_to_a_trained_agent_can_be_gone_with_all_of_its_commands(
    cli: Callable[..., Any], tmp_path: Path, installed: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    for path, text in re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$", WAY, re.MULTILINE | re.DOTALL):
        (tmp_path / path).write_text(text, "utf-8")
    said = {}
    for line in commands(WAY):
        program, *args = line.split()
        if program == "pip":
            installed(tmp_path / args[-1])
        elif "http" not in line:
            done = cli(*args, stdin="ask which light?\nresolve restart\n")
            assert done.code == 0, line + done.err
            said[line] = done.out
    assert len(said) == 12
    assert "too-early" in said["userrl eval help_desk --agent too_early --out runs/too-early"]
    assert (tmp_path / "runs" / "rl" / "model").is_dir()
