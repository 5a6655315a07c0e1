"""Rules that explain what was seen: the expert's reasoning.

Rules over the four letters are looked up in the library. Longer ones, with a constant or a repeated letter, are met
in the middle: where v is the value seen and L a part, the other part R of v = L * R must be v / L, and that is
looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice, product
from typing import TypeAlias

import numpy as np

from userrl.gyms.function.library import EXTRA, EXTRAS, LETTERS_ONLY, WITH_EXTRA, Floats, Ints, library
from userrl.gyms.function.rule import Node, Operation, Rule, Symbol, size, square

Seen: TypeAlias = tuple[float | None, ...]
"""Values shown at the first probes, None where the rule has none."""

PROBES = ((3, 5, 11, 29), (23, -3, 5, 2), (4, 31, -7, 3), (-5, 2, 37, 13), (7, 2, 19, 4), (13, 6, 2, 17), (2, 9, 14, 1))
"""Points at which rules differ: each letter is the largest once, signs vary, and few sums or differences vanish."""
TABLED = 4
"""Probes at which every rule of the library is evaluated beforehand; the others only check what was found."""
ROUNDING = 0.51e-4
"""Largest distance of a shown value from the true one, with a little to spare."""
MOST_FOUND = 3000
"""Explanations looked at before giving up."""
ENOUGH_TO_MEET = 3
"""Values needed to look for longer rules: with fewer, thousands explain them by chance."""


@lru_cache(maxsize=4096)
def explain(seen: Seen) -> tuple[Rule, ...]:
    """Known rules that show these values at PROBES, shortest first.

    Longer rules are only looked for when none over the letters alone fits.
    """
    defined = [i for i, value in enumerate(seen[:TABLED]) if value is not None]
    if not defined:
        return ()
    columns = np.array(defined)
    target = np.array([[seen[i] for i in defined]], dtype=float)
    slack = ROUNDING + 1e-12 * np.abs(target)
    searches = (_looked_up, _met, _met_squared) if len(defined) >= ENOUGH_TO_MEET else (_looked_up,)
    for search in searches:
        found = [rule for rule in map(Rule, islice(search(target, slack, columns), MOST_FOUND)) if _fits(rule, seen)]
        if found:
            return tuple(sorted(found, key=lambda rule: size(rule.tree)))
    return ()


def _fits(rule: Rule, seen: Seen) -> bool:
    return all(map(_shows, [rule] * len(seen), PROBES, seen))


def _shows(rule: Rule, point: tuple[int, ...], shown: float | None) -> bool:
    value = rule.value(point)
    if value is None or shown is None:
        return value is shown
    return abs(value - shown) <= ROUNDING + 1e-12 * abs(shown)


@dataclass(frozen=True)
class _Table:
    """The rules over one set of leaves, with every extra leaf where the set has it."""

    row: Ints
    """(n,) number in the library."""
    extra: Ints
    """(n,) index into EXTRAS; -1 without."""
    values: Floats
    """(n, TABLED)"""
    order: tuple[Ints, ...]
    """Per column, the (n,) order of the rules by value."""
    ladder: tuple[Floats, ...]
    """Per column, the (n,) values in that order."""

    def near(self, wanted: Floats, slack: Floats, columns: Ints) -> Iterator[tuple[int, int]]:
        """Pairs (i, j) such that rule j has the values wanted[i] (m, C) up to slack[i] (m, C) at the given columns."""
        usable = np.isfinite(wanted).all(1) & np.isfinite(slack).all(1)
        sharpest = slack.argmin(1)
        for at, column in enumerate(columns):
            rows = np.flatnonzero(usable & (sharpest == at))
            order, ladder = self.order[column], self.ladder[column]
            low = np.searchsorted(ladder, wanted[rows, at] - slack[rows, at], "left")
            counts = np.searchsorted(ladder, wanted[rows, at] + slack[rows, at], "right") - low
            i = np.repeat(rows, counts)
            j = order[np.arange(len(i)) + np.repeat(low - np.cumsum(counts) + counts, counts)]
            with np.errstate(invalid="ignore"):
                close = (np.abs(self.values[np.ix_(j, columns)] - wanted[i]) <= slack[i]).all(1)
            yield from zip(i[close].tolist(), j[close].tolist(), strict=True)

    def tree(self, index: int) -> Node:
        extra = int(self.extra[index])
        return library().node(int(self.row[index]), EXTRAS[extra] if extra >= 0 else None)


@cache
def _tables() -> dict[int, _Table]:
    """Set of leaves -> its table; a few tenths of a second to make."""
    points = np.array(PROBES[:TABLED], dtype=float)
    extras = [[Rule(extra).value(point) for point in PROBES[:TABLED]] for extra in EXTRAS]
    values = [library().values(np.column_stack([points, column])) for column in np.array(extras, dtype=float)]
    return {leaves: _table(leaves, [of_all[start:stop] for of_all in values]) for leaves, (start, stop) in library().span.items()}


def _table(leaves: int, by_extra: list[Floats]) -> _Table:
    has_extra = bool(leaves >> EXTRA)
    values = np.concatenate(by_extra if has_extra else by_extra[:1])
    start, stop = library().span[leaves]
    row, extra = np.arange(len(values)) % (stop - start) + start, np.arange(len(values)) // (stop - start)
    order = tuple(np.argsort(column) for column in values.T)
    ladder = tuple(column[o] for column, o in zip(values.T, order, strict=True))
    return _Table(row, extra if has_extra else extra - 1, values, order, ladder)


def _looked_up(target: Floats, slack: Floats, columns: Ints) -> Iterator[Node]:
    """Rules over the four letters with the values `target` (1, C), up to `slack` (1, C)."""
    table = _tables()[LETTERS_ONLY]
    for _, index in table.near(target, slack, columns):
        yield table.tree(index)


def _met_squared(target: Floats, slack: Floats, columns: Ints) -> Iterator[Node]:
    """Squares of rules over all five leaves. What is squared may have either sign at each point."""
    if (target > ROUNDING).all():
        root = np.sqrt(target)
        for signs in product((1, -1), repeat=len(columns)):
            yield from map(square, _met(root * signs, slack / root, columns))


def _met(target: Floats, slack: Floats, columns: Ints) -> Iterator[Node]:
    """Rules over all five leaves: L op R or R op L, with L over one or two leaves and R over the others."""
    tables = _tables()
    for leaves in range(1, WITH_EXTRA):
        if leaves.bit_count() > 2:
            continue
        small, large = tables[leaves], tables[WITH_EXTRA ^ leaves]
        part = small.values[:, columns]
        for symbol, swapped, wanted, error in _other_parts(target, slack, part):
            for i, j in large.near(wanted, error, columns):
                left, right = small.tree(i), large.tree(j)
                yield Operation(symbol, right, left) if swapped else Operation(symbol, left, right)


def _other_parts(v: Floats, slack: Floats, part: Floats) -> Iterator[tuple[Symbol, bool, Floats, Floats]]:
    """For each way to join L = `part` and R to v: the operator, whether R stands left, R, and its slack."""
    with np.errstate(all="ignore"):
        scale, flat = np.abs(part), np.broadcast_to(slack, part.shape)
        yield "+", False, v - part, flat
        yield "-", False, part - v, flat
        yield "-", True, v + part, flat
        yield "*", False, v / part, slack / scale
        yield "/", False, part / v, slack * scale / v**2
        yield "/", True, v * part, slack * scale
