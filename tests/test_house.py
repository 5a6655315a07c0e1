"""The house keeps its own rules: who may import whom, what needs torch, what a committed text may hold."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from userrl.gyms.base import find, known

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "userrl"

STEPS = (
    {"core", "errors"},
    {"store", "config", "llm", "rewards", "render"},
    {"data", "users", "scripted", "calls"},
    {"gyms"},
    {"agents"},
    {"rollout"},
    {"evaluate"},
    {"collect"},
    {"report"},
    {"train"},
    {"pipeline"},
    {"integrations"},
    {"cli", "web"},
)
"""A room may import the rooms of the steps before its own, and itself."""

IMPORT_TORCH = ("userrl.agents.policy", "userrl.agents.tiny", "userrl.agents.gguf", "userrl.train", "userrl.integrations")
"""Modules and rooms that may import torch and transformers."""
NEED_TORCH = (*IMPORT_TORCH, "userrl.pipeline", "userrl.cli.training", "userrl.cli.experimenting")
"""Modules and rooms that may need them to load; all else works without."""

SKIPPED = {
    ".git",
    ".venv",
    ".venv-verl",
    "__pycache__",
    "runs",
    "dist",
    "build",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
}
FOREIGN = re.compile(
    r"(?<![\w.~])/(?:work|root|home|tmp|farm|Users|mnt|opt)/"  # a path of somebody's machine
    r"|--(?:extra-)?index-url|pypi\.org|pythonhosted\.org",  # where somebody's packages come from
)


def step_of(room: str) -> int:
    [step] = [number for number, rooms in enumerate(STEPS) if room in rooms]
    return step


def modules() -> dict[str, Path]:
    """Module name -> file, without the package's own `__init__` and `__main__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    for own in ("userrl", "userrl.__main__"):
        found.pop(own, None)
    return found


def imports(source: str) -> Iterator[tuple[str, int, bool]]:
    """(module of ours, line, whether inside a function) of each import in a file."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, int, bool]]:
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "userrl":
            yield from ((f"userrl.{alias.name}", node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno, inside
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    for name, line, inside in walk(ast.parse(source), False):
        if name.startswith((".", "userrl.")):
            yield name, line, inside


def violations(module: str, source: str) -> list[str]:
    room, found = module.split(".")[1], []
    for name, line, _inside in imports(source):
        if name.startswith("."):
            found.append(f"{module}, line {line}: relative import {name!r}; write it in full")
            continue
        other = name.split(".")[1]
        if other == room or other.startswith("__") or step_of(other) < step_of(room):
            continue
        found.append(f"{module}, line {line}: {room!r} imports {name!r}, which does not stand before it")
    return found


def test_a_room_imports_only_rooms_that_stand_before_it() -> None:
    assert [line for module, path in modules().items() for line in violations(module, path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("userrl.core", "from userrl.errors import ReplyError"),
        ("userrl.users.llm", "import userrl.agents.llm"),
        ("userrl.evaluate.run", "from userrl import train"),
        ("userrl.gyms.function", "from userrl.agents.llm import LLMAgent"),
        ("userrl.agents.llm", "def f():\n    from userrl.rollout import play"),
        ("userrl.gyms.function", "from .rule import parse"),
    ],
)
def test_an_import_against_the_direction_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("userrl.gyms.function", "from userrl.gyms.function.rule import parse\nimport numpy\nfrom userrl import errors"),
        ("userrl.agents.llm", "def f():\n    from userrl.gyms.base import make"),
        ("userrl.cli.main", "from userrl import __version__"),
    ],
)
def test_an_import_in_the_direction_is_fine(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {module.split(".")[1] for module in modules()}
    assert rooms <= set().union(*STEPS), "a new room needs a place in STEPS"


def fresh(code: str) -> list[str]:
    """What a new interpreter prints as a JSON list."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed: list[str] = json.loads(done.stdout)
    return printed


def test_importing_userrl_is_light() -> None:
    before = "import sys, json; before = set(sys.modules); import userrl; "
    loaded = fresh(f"{before}print(json.dumps(sorted(set(sys.modules) - before)))")
    assert "userrl" in loaded
    foreign = [name for name in loaded if name.split(".")[0] not in {"userrl", *sys.stdlib_module_names}]
    assert foreign == []
    assert len(loaded) < 60


def test_everything_but_training_works_without_torch() -> None:
    names = [name for name in modules() if not name.startswith(NEED_TORCH)]
    assert len(names) > 20
    blocked = "import sys, json, importlib; sys.modules.update(torch=None, transformers=None); "
    assert fresh(f"{blocked}print(json.dumps([importlib.import_module(n).__name__ for n in {names!r}]))") == names


def test_torch_is_imported_only_where_models_are_trained_or_played() -> None:
    found = []
    for module, path in modules().items():
        text = path.read_text("utf-8")
        if not module.startswith(IMPORT_TORCH) and re.search(r"^\s*(?:import|from) (?:torch|transformers)\b", text, re.MULTILINE):
            found.append(module)
    assert found == []


def committed() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not SKIPPED & set(parts) and not any(part.endswith(".egg-info") for part in parts):
            yield path


def test_no_committed_text_names_a_path_of_a_machine_or_a_package_registry() -> None:
    found = []
    for path in committed():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in FOREIGN.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see " + "/work" + "/main", True),
        ("pip install --index" + "-url x", True),
        ("https://example.com/home/page", False),
        ("src/work/file", False),
        ("../shared/golden", False),
    ],
)
def test_paths_and_registries_are_recognized(text: str, found: bool) -> None:
    assert bool(FOREIGN.search(text)) is found


@pytest.mark.parametrize("name", sorted(known()))
def test_the_task_files_of_a_gym_match_their_recorded_hash(name: str) -> None:
    sets = find(name).sets()
    assert sets
    for task_set in sets.values():
        assert len(task_set.check()) == task_set.count > 0
