"""Function tasks without end: seeded rules of a stated difficulty, each with a fair test case.

The id is a hash of the rule as a function, and the test case is drawn from the id. So the same function has the
same id, test case and split whatever the seed, and can never be in two splits.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from userrl.core import Task
from userrl.data import split_of
from userrl.errors import UnknownName
from userrl.gyms.function import DECIMALS, TOLERANCE
from userrl.gyms.function.library import EXTRAS, GENERIC, LETTERS_ONLY, Floats, library
from userrl.gyms.function.rule import Inputs, Letter, Node, Operation, Rule, Symbol, depth, exact, size, spell, square

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Difficulty:
    """What rules of a difficulty are made of."""

    operators: int
    """Uses of + - * /; 3 join the four letters, one more brings in a constant (2 to 9) or a letter a second time."""
    squares: tuple[int, ...]
    """How many squares; one of these numbers."""
    depth: int
    """Most operators and squares inside each other."""


DIFFICULTIES = {
    "easy": Difficulty(3, (0,), 3),
    "medium": Difficulty(3, (1, 2), 4),
    "hard": Difficulty(4, (0, 1), 5),
}
"""Easy and medium rules are shaped like the official ones; hard ones go beyond."""

FIRST_PROBES: tuple[Inputs, ...] = ((1, 2, 3, 4), (2, 3, 5, 7))
"""Probes that an agent may well try first: see `_test_case`."""
LARGEST_INPUT = 10
"""Test cases are drawn from 1 to this, as the official ones are."""
LARGEST_VALUE = 10_000
GUESSABLE = 15
"""No value is a whole number up to this size, or answering 0, 1, 2, ... turn by turn would often earn the reward."""
_TEST_CASES_TRIED = 300
_SYMBOLS: tuple[Symbol, ...] = ("+", "-", "*", "/")
_MARKS: tuple[Inputs, ...] = ((1009, 2003, 3001, 4001), (5003, 977, 2503, 1499))
"""Points at which different rules have different exact values."""


def tasks(n: int, seed: int, split: Split | None = None, difficulty: str | None = None) -> list[Task]:
    """The first `n` tasks of a seed, of one split or of all, of one difficulty or of all in turn.

    Raises UnknownName for a difficulty that is not in DIFFICULTIES.
    """
    if difficulty is not None and difficulty not in DIFFICULTIES:
        raise UnknownName("difficulty of function tasks", difficulty, DIFFICULTIES)
    levels = [difficulty] if difficulty else list(DIFFICULTIES)
    rng = random.Random(f"function|{seed}|{difficulty}")
    found: dict[str, Task] = {}
    while len(found) < n:
        level = levels[len(found) % len(levels)]
        tree = sample(DIFFICULTIES[level], rng)
        task_id = _identity(tree)
        if task_id is None or task_id in found or split not in (None, split_of(task_id)) or _is_longer_than_needed(tree):
            continue
        if test := _test_case(tree, task_id):
            case, value = test
            expected = int(value) if value.denominator == 1 else float(value)
            hidden = {"rule": spell(tree), "test_case": list(case), "expected": expected, "difficulty": level}
            found[task_id] = Task(task_id, "function", prompt(), hidden)
    return list(found.values())


@cache
def prompt() -> str:
    """What every task tells the agent."""
    return (resources.files("userrl.gyms.function") / "prompts" / "task.md").read_text("utf-8").strip()


def sample(level: Difficulty, rng: random.Random) -> Node:
    """A random tree of that difficulty over all four letters. It may still be a shorter rule in disguise."""
    while True:
        squared = set(rng.sample(range(4 + level.operators), rng.choice(level.squares)))
        parts: list[Node] = [square(Letter(i)) if i in squared else Letter(i) for i in range(4)]
        if level.operators > 3:
            parts.append(rng.choice(EXTRAS))
        for made in range(4, 4 + level.operators):
            left, right = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
            joined = Operation(rng.choice(_SYMBOLS), left, right)
            parts.append(square(joined) if made in squared else joined)
        if depth(parts[0]) <= level.depth:
            return parts[0]


def _identity(tree: Node) -> str | None:
    """The id of a rule as a function; None when it ignores a letter or divides by zero."""
    values = [exact(tree, mark) for mark in _MARKS]
    for letter in range(4):
        changed = exact(tree, tuple(x + (i == letter) for i, x in enumerate(_MARKS[0])))
        if changed is None or changed == values[0]:
            return None
    return f"function-{hashlib.sha256(repr(values).encode()).hexdigest()[:12]}" if None not in values else None


def _test_case(tree: Node, task_id: str) -> tuple[Inputs, Fraction] | None:
    """Numbers from 1 to 10, and the value there: a fair one that no shorter rule comes to by luck. None if not found.

    Fair: it has at most 4 decimals, so that no rounding is in question, and is not too easily guessed. By luck: the
    value of a rule of the library over the letters alone, with fewer operators, that also shows the same values at
    both FIRST_PROBES. So two lazy probes and the shortest rule that fits them do not earn the reward.
    """
    rng = random.Random(task_id)
    lucky = _lucky(tree)
    for _ in range(_TEST_CASES_TRIED):
        case = (_draw(rng), _draw(rng), _draw(rng), _draw(rng))
        value = exact(tree, case)
        if value is None or not _fair(value) or case in FIRST_PROBES:
            continue
        if not any(_comes_to(value, other, case) for other in lucky):
            return case, value
    return None


def _fair(value: Fraction) -> bool:
    if value.denominator == 1 and abs(value) <= GUESSABLE:
        return False
    return (value * 10**DECIMALS).denominator == 1 and abs(value) <= LARGEST_VALUE


def _comes_to(value: Fraction, other: Rule, case: Inputs) -> bool:
    its = other.value(case)
    return its is not None and abs(its - float(value)) <= TOLERANCE


def _draw(rng: random.Random) -> int:
    return rng.randint(1, LARGEST_INPUT)


def _lucky(tree: Node) -> list[Rule]:
    values = [Rule(tree).value(point) for point in FIRST_PROBES]
    if None in values:
        return []
    same = (_shown_at_first_probes() == np.round(np.array(values, dtype=float), DECIMALS)).all(1)
    return [Rule(library().node(int(row))) for row in np.flatnonzero(same & _shorter_than(size(tree)))]


def _is_longer_than_needed(tree: Node) -> bool:
    """Whether a shorter rule of the library over the letters alone is the same function."""
    known = _at_generic_points()[_shorter_than(size(tree))]
    values = np.array([Rule(tree).value(point[:4]) for point in GENERIC.tolist()])
    return bool((np.abs(known - values) < 1e-9 * np.abs(values)).all(1).any())


@cache
def _shown_at_first_probes() -> Floats:
    """(N, 2) values of the library at FIRST_PROBES, as the gym shows them."""
    return np.round(library().values(np.array([(*point, 0) for point in FIRST_PROBES], dtype=float)), DECIMALS)


@cache
def _at_generic_points() -> Floats:
    """(N, 2)"""
    return library().values(GENERIC)


@cache
def _shorter_than(operators: int) -> NDArray[np.bool_]:
    """(N,) which rules of the library are over the letters alone and have fewer operators."""
    shorter = library().rows.size < operators
    for leaves, (start, stop) in library().span.items():
        if leaves > LETTERS_ONLY:
            shorter[start:stop] = False
    return shorter
