"""Where data lives outside the package: imported task sets in the data home, made tasks in the cache.

    <home>/official/<gym>/manifest.json     as the built-in ones (see `sets`)
    <home>/official/<gym>/official-test.jsonl, ...
    <cache>/tasks/                          what can be made again (see `cache`)

The home is the folder that USERRL_DATA names, else `userrl` in the XDG data folder (~/.local/share); the cache the one that
USERRL_CACHE names, else `userrl` in the XDG cache folder (~/.cache).
"""

from __future__ import annotations

import os
from pathlib import Path

from userrl.errors import ConfigError

VARIABLE = "USERRL_DATA"
CACHE_VARIABLE = "USERRL_CACHE"


def home() -> Path:
    """The data home, whether it exists or not. Raises ConfigError where this user has no home folder."""
    return _folder(VARIABLE, "XDG_DATA_HOME", ".local/share", "imported data")


def cache_home() -> Path:
    """The folder of the cache, whether it exists or not. Raises ConfigError where this user has no home folder."""
    return _folder(CACHE_VARIABLE, "XDG_CACHE_HOME", ".cache", "the cache")


def _folder(variable: str, xdg_variable: str, usual: str, what: str) -> Path:
    try:
        if named := os.environ.get(variable):
            return Path(named).expanduser()
        shared = os.environ.get(xdg_variable, "")
        # The XDG specification: a relative path is to be ignored.
        return (Path(shared) if Path(shared).is_absolute() else Path.home() / usual) / "userrl"
    except RuntimeError as error:
        raise ConfigError(f"There is no folder for {what}: {error} Name one with the variable {variable}.") from error


def folder_of(gym: str) -> Path:
    """Where the imported sets of a gym live."""
    return home() / "official" / gym
