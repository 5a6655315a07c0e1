"""What README and docs/ tell people to type works: their Python runs, their commands exist, their settings files are read.

A block of Python that is shown as a file (a line "`path`:" before it) or is marked as ```python no-run need only compile.
"""

import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from userrl.cli import app, main
from userrl.evaluate.run import EvalJob
from userrl.pipeline import seats

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"(^`[^`\n]+`:\n\n)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = ("console", "bash", "sh", "shell")
OFFLINE = ("gyms", "--version", "check golden")
"""Commands that are quick and can be run as they stand."""


def blocks(page: Path, *languages: str) -> Iterator[tuple[str, bool]]:
    """(text, whether it stands for itself) of a page's blocks in some language."""
    for file, mark, text in BLOCK.findall(page.read_text("utf-8")):
        if mark.split()[:1] and mark.split()[0] in languages:
            yield text, not file and "no-run" not in mark


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each `userrl ...` of a page, in a block of a shell or inside of a sentence."""
    text = page.read_text("utf-8")
    lines = [line for block, _ in blocks(page, *SHELLS) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(userrl [^`\n]+)`", BLOCK.sub("", text))
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "userrl" in words[:1]:
            yield words[1:]


def parse(words: list[str]) -> None:
    """Have the command line read a command without running it. Raises its own errors for what it does not know.

    "..." stands for what a sentence leaves out; a command that a sentence names without its arguments need only exist.
    """
    command: Any = typer.main.get_command(app)
    rest = [word for word in words if word != "..."]
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("-"):
            break
        assert rest[0] in command.commands, f"no command {' '.join(words)!r}"
        command = command.commands[rest.pop(0)]
    if rest:
        command.make_context("userrl", rest, resilient_parsing="..." in words)


def named(pages: list[Path]) -> list[Any]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


@pytest.mark.parametrize("page", named(PAGES))
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for text, runs in blocks(page, "python"):
        code = compile(text, page.name, "exec")
        if runs:
            exec(code, names)


@pytest.mark.parametrize("page", named(PAGES))
def test_the_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        parse(words)


def test_the_commands_of_all_pages_that_run_offline_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = {shlex.join(words) for page in PAGES for words in commands(page)}
    chosen = sorted(line for line in lines if line.startswith(OFFLINE) and "..." not in line)
    assert "gyms" in chosen
    for line in chosen:
        with pytest.raises(SystemExit) as left:
            main(shlex.split(line))
        assert left.value.code in (0, None), line


@pytest.mark.parametrize("page", named(PAGES))
def test_the_tables_of_endpoints_of_a_page_are_read(page: Path) -> None:
    for text, _ in blocks(page, "toml"):
        seats.check_endpoints(tomllib.loads(text).get("endpoints", {}))


def test_the_settings_file_of_the_guide_to_models_is_one_of_an_evaluation(tmp_path: Path) -> None:
    from userrl.config import resolve

    [(text, _)] = blocks(ROOT / "docs" / "models.md", "toml")
    (tmp_path / "job.toml").write_text(text, "utf-8")
    job = resolve(EvalJob, tmp_path / "job.toml")
    assert set(job.endpoints) == {"agent", "user"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```console\n$ userrl eval intention --tasks 2   # two\n```", [["eval", "intention", "--tasks", "2"]]),
        ("```bash\nuserrl eval \\\n  --seed 1\nls\n```", [["eval", "--seed", "1"]]),
        ("Try `userrl gyms`, or `make demo`.", [["gyms"]]),
        ("```python\n'`userrl nothing`'\n```", []),
    ],
)
def test_commands_are_found_in_a_page(tmp_path: Path, text: str, found: list[list[str]]) -> None:
    (tmp_path / "page.md").write_text(text, "utf-8")
    assert list(commands(tmp_path / "page.md")) == found


def test_a_block_that_is_a_file_or_marked_is_not_run(tmp_path: Path) -> None:
    text = "`a.py`:\n\n```python\n1\n```\nand\n\n```python no-run\n2\n```\n```python\n3\n```\n"
    (tmp_path / "page.md").write_text(text, "utf-8")
    assert list(blocks(tmp_path / "page.md", "python")) == [("1\n", False), ("2\n", False), ("3\n", True)]


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("eval intention --tasks 2", True),
        ("sft train ...", True),
        ("eval --task 2", False),
        ("frob", False),
        ("sft frob", False),
        ("eval --tasks many", False),
        ("play", True),
        ("play --as user", False),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, right: bool) -> None:
    expected = contextlib.nullcontext() if right else pytest.raises((AssertionError, typer.TyperException))
    with expected:
        parse(line.split())


def test_no_page_has_a_gap_left_to_fill() -> None:
    for page in (Path(__file__).parents[1]).glob("*.md"):
        assert "@@" not in page.read_text("utf-8"), page.name
