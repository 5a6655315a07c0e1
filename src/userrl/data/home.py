"""The data home: where imported task sets live, outside the package.

    <home>/official/<gym>/manifest.json     as the built-in ones (see `sets`)
    <home>/official/<gym>/official-test.jsonl, ...

The home is the folder that USERRL_DATA names, else `userrl` in the XDG data folder (~/.local/share).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from userrl.data.sets import TaskSet
from userrl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from userrl.data.hidden import HiddenModel

VARIABLE = "USERRL_DATA"


def home() -> Path:
    """The data home, whether it exists or not. Raises ConfigError where this user has no home folder."""
    try:
        if named := os.environ.get(VARIABLE):
            return Path(named).expanduser()
        shared = os.environ.get("XDG_DATA_HOME", "")
        # The XDG specification: a relative path is to be ignored.
        return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".local" / "share") / "userrl"
    except RuntimeError as error:
        raise ConfigError(f"There is no folder for imported data: {error} Name one with the variable {VARIABLE}.") from error


def folder_of(gym: str) -> Path:
    """Where the imported sets of a gym live."""
    return home() / "official" / gym


def imported_sets(gym: str, module: str, model: type[HiddenModel] | None = None) -> Mapping[str, TaskSet]:
    """Split name -> imported task set of a gym; none where nothing was imported. Raises DataError for a broken manifest."""
    try:
        folder = folder_of(gym)
    except ConfigError:
        return {}
    if not (folder / "manifest.json").exists():
        return {}
    try:
        return TaskSet.read_manifest(gym, folder, module, model)
    except DataError as error:
        mend = f"Import the official data again (`userrl data import userrl PATH`), or delete the folder {folder}."
        raise DataError(f"{error} {mend}") from error
