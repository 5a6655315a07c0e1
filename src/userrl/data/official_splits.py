"""Which official task is in which split.

The repository keeps its splits in Parquet files. They are the outcome of its scripts (examples/data_preprocess), which
draw from NumPy's legacy generator with seed 42. `derived_splits` draws the same from the same files, so no Parquet
reader is needed; that it gives the released splits, row by row, is a test. `listed_splits` reads a list of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from userrl.data.official_sources import SOURCES
from userrl.errors import DataError

_MERGED = ("travel", "turtle", "telepathy", "persuade", "intention", "search", "function", "tau")
"""The order in which the gyms were merged."""
_HELD_OUT = ("telepathy", "intention", "search")

Halves = tuple[list[str], list[str]]
"""(train, test) keys."""


def listed_splits(value: Any, where: str) -> tuple[str, dict[str, dict[str, list[str]]]]:
    """(commit, gym -> split -> keys) from the value of a `splits.json`, which lists the rows of each Parquet file.

    Raises DataError, naming `where` and the Parquet file, for a value of another form.
    """
    names = {source.name: gym for gym, source in SOURCES.items()}
    own = {f"{s.parquet}/{half}": (gym, f"official-{half}") for gym, s in SOURCES.items() for half in ("train", "test")}
    merged = {f"all{half}_multiturn/{half}": f"official-all{half}" for half in ("train", "test")}
    splits: dict[str, dict[str, list[str]]] = {}
    at = "files"
    try:
        for at, rows in value["files"].items():
            if at in own:
                gym, split = own[at]
                splits.setdefault(gym, {})[split] = [_text(key) for key in rows["keys"]]
            elif at in merged:
                for name, key in rows["rows_gym_key"]:
                    splits.setdefault(names[name], {}).setdefault(merged[at], []).append(_text(key))
        commit = _text(value.get("source_commit", ""))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{where}, {at}: {type(error).__name__}: {error}. Expected {{files: {{NAME: {{keys: [...]}} or "
            f"{{rows_gym_key: [[GYM, KEY], ...]}}}}}}, as extracted from the repository."
        ) from error
    for gym, of_gym in splits.items():
        for split, keys in of_gym.items():
            if len(set(keys)) < len(keys):
                raise DataError(f"{where}: {split} of {gym} names a task twice; expected each once.")
    return commit, splits


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is not a string")
    return value


def derived_splits(pools: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, dict[str, list[str]]]:
    """The official splits, drawn again from the official files.

    pools: gym -> for each of its files (`Source.files`) the keys in the file's order; "" for a task that is not there.
    """
    own: dict[str, Halves] = {}
    own["turtle"] = _cut(_shuffled(pools["turtle"][0]), int(0.9 * len(pools["turtle"][0])))
    own["telepathy"] = _cut(_shuffled(pools["telepathy"][0]), int(0.9 * len(pools["telepathy"][0])))
    own["function"] = _cut(_shuffled(pools["function"][0]), SOURCES["function"].train)
    drawn = SOURCES["persuade"].train + SOURCES["persuade"].test
    own["persuade"] = _cut(_shuffled(pools["persuade"][0])[:drawn], int(0.9 * drawn))
    rng = np.random.RandomState(42)
    train, test = _shuffled(pools["intention"][0], rng), _shuffled(pools["intention"][1], rng)
    own["intention"] = train[: SOURCES["intention"].train], test[: SOURCES["intention"].test]
    own["search"] = [], _shuffled(pools["search"][0])
    own["tau"] = list(pools["tau"][0]), list(pools["tau"][1])
    families = [_cut(_shuffled(pool), int(0.85 * len(pool))) for pool in pools["travel"]]

    splits = {gym: {"official-train": train, "official-test": test} for gym, (train, test) in own.items()}
    # Travel's own training file was thinned out by a rule that is not published; only its size is known.
    splits["travel"] = {
        "official-train": [""] * SOURCES["travel"].train,
        "official-test": [key for _, test in families for key in test],
    }
    for half in ("train", "test"):
        for gym, key in _merged(half == "train", families, own):
            splits[gym].setdefault(f"official-all{half}", []).append(key)
    return {gym: {split: keys for split, keys in of_gym.items() if keys} for gym, of_gym in splits.items()}


def _merged(train: bool, families: Sequence[Halves], own: Mapping[str, Halves]) -> list[tuple[str, str]]:
    """(gym, key) of the rows of the merged training or test file."""
    rng, rows = np.random.RandomState(42), list[tuple[str, str]]()
    for gym in _MERGED:
        for halves in families if gym == "travel" else [own[gym]]:
            keys = halves[0 if train else 1]
            rows += [(gym, key) for key in (_for_training(gym, keys, rng) if train else _for_testing(gym, keys, rng))]
    rng.shuffle(rows)
    return rows


def _for_training(gym: str, keys: list[str], rng: np.random.RandomState) -> list[str]:
    """35% of each travel file, 200 functions, all of the other held-in gyms."""
    if gym in _HELD_OUT:
        return []
    if gym == "travel":
        return _shuffled(keys, rng)[: int(0.35 * len(keys))]
    return _shuffled(keys, rng)[:200] if gym == "function" else keys


def _for_testing(gym: str, keys: list[str], rng: np.random.RandomState) -> list[str]:
    """Half of each file, but at least 50 of a gym other than travel."""
    half = int(0.5 * len(keys))
    return _shuffled(keys, rng)[: half if gym == "travel" else max(50, half)]


def _shuffled(keys: Sequence[str], rng: np.random.RandomState | None = None) -> list[str]:
    """A copy, shuffled by `rng` or by a new generator of seed 42."""
    copy = list(keys)
    (rng or np.random.RandomState(42)).shuffle(copy)
    return copy


def _cut(keys: list[str], first: int) -> Halves:
    return keys[:first], keys[first:]
