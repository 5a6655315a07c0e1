"""Every short rule, as arrays: what the generator checks its tasks against and the expert searches.

A rule here uses each of its letters once, joined by + - * / and powers of letters (a ** b), with up to two squares.
Besides the four letters there is a fifth leaf, the *extra*: a constant, or one of the letters a second time. Rules
that are the same function are kept once, in a shortest spelling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from userrl.gyms.function.rule import Constant, Letter, Node, Operation, Symbol, square

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

EXTRA = 4
"""The fifth leaf's index; letters have 0 to 3."""
LETTERS_ONLY, WITH_EXTRA = 0b01111, 0b11111
"""Sets of leaves, as bits."""
EXTRAS: tuple[Constant | Letter, ...] = (*map(Constant, range(2, 10)), *map(Letter, range(4)))
"""What the extra leaf may stand for."""
MAX_LEAVES = 4
"""Leaves of a rule in the library. Rules over all five are met in the middle (`infer`)."""

SYMBOLS: tuple[Symbol, ...] = ("+", "-", "*", "/", "**")
_POWER, _SQUARE, _LEAF = 4, 5, 6
_TWO = np.full((1, 1), 2.0)
GENERIC = np.random.default_rng(4).uniform(1.3, 2.9, (2, 5))
"""Two points at which different rules have different values: they tell functions apart."""


@dataclass(frozen=True)
class Rows:
    """Rules as columns, each (N,)."""

    symbol: Ints
    """Index into SYMBOLS, or _SQUARE, or _LEAF."""
    left: Ints
    """Number of the left part in the library; of a square, of what is squared; of a leaf, the leaf's index."""
    right: Ints
    """Number of the right part; unused in squares and leaves."""
    size: Ints
    """Operators, a square counting as one."""
    squares: Ints

    def take(self, rows: Ints | NDArray[np.bool_]) -> Rows:
        return Rows(*(column[rows] for column in self.columns()))

    def columns(self) -> tuple[Ints, ...]:
        return self.symbol, self.left, self.right, self.size, self.squares

    def __len__(self) -> int:
        return len(self.symbol)

    @staticmethod
    def concatenate(parts: list[Rows]) -> Rows:
        return Rows(*(np.concatenate(columns) for columns in zip(*(part.columns() for part in parts), strict=True)))


@dataclass(frozen=True)
class Library:
    """Rules numbered from 0, parts before wholes."""

    rows: Rows
    blocks: tuple[tuple[int, int], ...]
    """(start, stop) of runs of rules that need only the runs before."""
    span: dict[int, tuple[int, int]]
    """Set of leaves (bits) -> (start, stop) of the rules over exactly these."""

    def values(self, points: Floats) -> Floats:
        """(N, P) values of all rules at `points` (P, 5): the four letters and the extra leaf. Not finite where undefined."""
        values = np.empty((len(self.rows), len(points)))
        for start, stop in self.blocks:
            values[start:stop] = _evaluate(self.rows.take(np.arange(start, stop)), values, points)
        return values

    def node(self, row: int, extra: Node | None = None) -> Node:
        """The tree of a rule, with `extra` in the fifth leaf's place."""
        symbol, left = int(self.rows.symbol[row]), int(self.rows.left[row])
        if symbol == _LEAF:
            return extra if extra is not None and left == EXTRA else Letter(left)
        if symbol == _SQUARE:
            return square(self.node(left, extra))
        return Operation(SYMBOLS[symbol], self.node(left, extra), self.node(int(self.rows.right[row]), extra))


@cache
def library() -> Library:
    """The one library; about half a second to make."""
    parts: list[Rows] = []
    blocks: list[tuple[int, int]] = []
    span: dict[int, tuple[int, int]] = {}
    values = np.empty((0, len(GENERIC)))
    leaf_sets = [leaves for leaves in range(1, WITH_EXTRA) if leaves.bit_count() <= MAX_LEAVES]
    for leaves in sorted(leaf_sets, key=lambda leaves: (leaves.bit_count(), leaves)):
        start = len(values)
        known = Rows.concatenate(parts) if parts else None
        plain = _unique(_joined(leaves, known, span), values)
        plain_values = _evaluate(plain, values, GENERIC)
        squared = _squared(plain, start, leaves)
        both = Rows.concatenate([plain, squared])
        both_values = np.concatenate([plain_values, join(_POWER, plain_values[squared.left - start], _TWO)])
        keep = _first_of_each(both_values, both)
        # A plain rule that is dropped here, being the longer spelling of a square, has no square of its own.
        place = start + np.cumsum(keep[: len(plain)]) - 1
        both.left[len(plain) :] = place[squared.left - start]
        middle = start + int(keep[: len(plain)].sum())
        stop = start + int(keep.sum())
        parts.append(both.take(keep))
        values = np.concatenate([values, both_values[keep]])
        blocks += [(start, middle), (middle, stop)]
        span[leaves] = start, stop
    return Library(Rows.concatenate(parts), tuple(blocks), span)


def _joined(leaves: int, known: Rows | None, span: dict[int, tuple[int, int]]) -> Rows:
    """All rules over a set of leaves that are not squares, repeated functions included."""
    if known is None or leaves.bit_count() == 1:
        leaf = np.array([leaves.bit_length() - 1])
        return Rows(np.full(1, _LEAF), leaf, leaf * 0, leaf * 0, leaf * 0)
    return Rows.concatenate(list(_pairs(leaves, known, span)))


def _pairs(leaves: int, known: Rows, span: dict[int, tuple[int, int]]) -> Iterator[Rows]:
    for part in range(1, leaves):
        if part & leaves != part:
            continue
        lefts, rights = np.arange(*span[part]), np.arange(*span[leaves ^ part])
        left, right = np.repeat(lefts, len(rights)), np.tile(rights, len(lefts))
        squares = known.squares[left] + known.squares[right]
        fits = squares <= _most_squares(leaves)
        left, right, squares = left[fits], right[fits], squares[fits]
        size = known.size[left] + known.size[right] + 1
        for symbol, name in enumerate(SYMBOLS):
            if name in ("+", "*") and part > leaves ^ part:
                continue
            row = Rows(np.full(len(left), symbol), left, right, size, squares)
            if symbol == _POWER:
                letters = np.isin(known.symbol[right], (_LEAF, _POWER)) & (known.symbol[left] == _LEAF)
                row = row.take(letters & (leaves <= LETTERS_ONLY))
            yield row


def _squared(plain: Rows, start: int, leaves: int) -> Rows:
    rows = np.flatnonzero(plain.squares < _most_squares(leaves))
    base = plain.take(rows)
    return Rows(np.full(len(rows), _SQUARE), start + rows, rows * 0, base.size + 1, base.squares + 1)


def _most_squares(leaves: int) -> int:
    """One with the extra leaf, two without: keeps the library small."""
    return 1 if leaves > LETTERS_ONLY else 2


def _evaluate(rows: Rows, values: Floats, points: Floats) -> Floats:
    """(n, P) values of rules whose parts' values are in `values`."""
    out = np.empty((len(rows), len(points)))
    for symbol in np.unique(rows.symbol):
        here = rows.symbol == symbol
        if symbol == _LEAF:
            out[here] = points[:, rows.left[here]].T
        elif symbol == _SQUARE:
            out[here] = join(_POWER, values[rows.left[here]], _TWO)
        else:
            out[here] = join(int(symbol), values[rows.left[here]], values[rows.right[here]])
    return out


def join(symbol: int, left: Floats, right: Floats) -> Floats:
    """Elementwise left SYMBOLS[symbol] right; not finite where undefined."""
    with np.errstate(all="ignore"):
        match SYMBOLS[symbol]:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
            case "**":
                return np.power(left, right)


def _unique(rows: Rows, values: Floats) -> Rows:
    return rows.take(_first_of_each(_evaluate(rows, values, GENERIC), rows))


def _first_of_each(values: Floats, rows: Rows) -> NDArray[np.bool_]:
    """(n,) which rules are the shortest of their function; those without a finite value are left out."""
    keep = np.zeros(len(rows), bool)
    order = np.lexsort((rows.squares, rows.size))
    order = order[np.isfinite(values[order]).all(1)]
    mantissa, exponent = np.frexp(values[order])
    keys = np.concatenate([np.rint(mantissa * 2**30).astype(np.int64), exponent], axis=1)
    _, first = np.unique(keys, axis=0, return_index=True)
    keep[order[first]] = True
    return keep
