"""The command new gym: a package with a small game that works, to be changed into one's own.

Its files are made from a folder of `gym_template/`; docs/new-gym.md shows and explains those of `number`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

from userrl.cli.show import out, safe
from userrl.data import digest, read_tasks
from userrl.errors import ConfigError, StoreError
from userrl.gyms.base import known

Template = Literal["number", "ask"]
"""A user that thinks of a number; a customer to be asked for details before something is decided."""
FILES: Mapping[str, str] = {
    "pyproject.toml": "pyproject.toml",
    "src/userrl_{{name}}/__init__.py": "rules.py",
    "src/userrl_{{name}}/scripted.py": "scripted.py",
    "src/userrl_{{name}}/prompts/system.md": "system.md",
    "src/userrl_{{name}}/tasks/train.jsonl": "train.jsonl",
    "src/userrl_{{name}}/tasks/validation.jsonl": "validation.jsonl",
    "src/userrl_{{name}}/tasks/test.jsonl": "test.jsonl",
    "src/userrl_{{name}}/README.md": "sheet.md",
    "tests/test_{{name}}.py": "test.py",
}
"""Path in the new package -> file in the template's folder, where it ends in .txt. In both, {{name}}, {{Name}} and {{dashed}}
stand for hot_cold, HotCold and hot-cold. The manifest of the tasks is added, as it holds their hashes."""
QUERIES: Mapping[Template, tuple[str, ...]] = {"number": ("warmth",), "ask": ("reply", "about")}
"""The prompts of the queries of each template, which are files, too."""

SPLITS = ("train", "validation", "test")
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def new_gym(name: str, folder: Path | None = None, template: Template = "number") -> Path:
    """Write a new gym's package.

    Args:
        name: the gym's name, in lower case with single underscores.
        folder: default: userrl-NAME in the working directory. Must not exist.
        template: which game it holds.

    Returns:
        The folder.

    Raises:
        ConfigError: the name cannot be one or is taken, or the folder exists; nothing is written.
        StoreError: the files cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a gym; expected lower-case letters, digits and single underscores, "
            f"with a letter first, like hot_cold."
        )
    if name in known():
        raise ConfigError(f"There is a gym named {name!r} already ({known()[name]}); choose another name.")
    folder = folder or Path(f"userrl-{name.replace('_', '-')}")
    if folder.exists():
        raise ConfigError(f"{folder} exists already; nothing was changed. Remove it, or choose another folder with --out.")
    try:
        for path, text in package(name, template).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
        tasks = folder / "src" / f"userrl_{name}" / "tasks"
        (tasks / "manifest.json").write_text(_manifest(name, tasks), "utf-8")
    except OSError as error:
        problem = f"Cannot write {error.filename or folder}: {error.strerror}"
        raise StoreError(f"{problem}. Choose a writable folder with --out.") from error
    return folder


def package(name: str, template: Template = "number") -> dict[str, str]:
    """Path -> text of the files of a new gym, without the manifest of its tasks."""
    words = {"name": name, "Name": "".join(part.capitalize() for part in name.split("_")), "dashed": name.replace("_", "-")}

    def fill(text: str) -> str:
        return _SLOT.sub(lambda slot: words[slot[1]], text)

    room = resources.files("userrl.cli") / "gym_template" / template
    files = {**FILES, **{f"src/userrl_{{{{name}}}}/prompts/{query}.md": f"{query}.md" for query in QUERIES[template]}}
    return {fill(path): fill((room / f"{file}.txt").read_text("utf-8")) for path, file in files.items()}


def _manifest(name: str, folder: Path) -> str:
    sets = {}
    for split in SPLITS:
        tasks = read_tasks(folder / f"{split}.jsonl", name)
        sets[split] = {"count": len(tasks), "sha256": digest(tasks), "license": "not chosen yet", "source": "written by hand"}
    return json.dumps({"sets": sets}, indent=2) + "\n"


def new(name: str, folder: Path | None, template: Template) -> None:
    made = new_gym(name, folder, template)
    rules = made / "src" / f"userrl_{name}" / "__init__.py"
    out.print(safe(f"Wrote a gym that works to {made}. Make it yours, beginning with {rules}"), soft_wrap=True)
    out.print(safe("Install it, check it, play it:"))
    for command in (f"pip install -e {made}", f"userrl check gyms {name}", f"userrl play {name}"):
        out.print(safe(f"  {command}", "bold"), soft_wrap=True)
