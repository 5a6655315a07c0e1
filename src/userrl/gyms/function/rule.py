"""The rule language: + - * / and powers over the letters a, b, c, d, whole numbers and parentheses.

Own parser, own tree; nothing is evaluated as Python. Arithmetic is on floats, so no input can make a step slow.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from userrl.errors import DataError

LETTERS = "abcd"
MAX_LENGTH = 200
"""Characters of a rule's text."""
MAX_NODES = 64
"""Letters, numbers and operators of a rule."""
MAX_DEPTH = 20
"""Parentheses, signs and powers inside each other."""

Inputs: TypeAlias = tuple[int, int, int, int]
Symbol = Literal["+", "-", "*", "/", "**"]
_APPLY: dict[Symbol, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}
_BINDS: dict[Symbol, int] = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 3}
_TOKEN = re.compile(r"\s*(?:(\*\*|[-+*/^()])|([abcd])|(\d{1,9})(?!\d))", re.ASCII)


@dataclass(frozen=True, slots=True)
class Letter:
    """One of the four inputs."""

    index: int
    """0 to 3, for a to d."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A whole number that the rule names."""

    value: int


@dataclass(frozen=True, slots=True)
class Operation:
    """Two rules joined by an operator. A square is a power with the constant 2."""

    symbol: Symbol
    left: Node
    right: Node


Node: TypeAlias = Letter | Constant | Operation
Compiled: TypeAlias = Callable[[Sequence[Any]], Any]


class Rule:
    """A parsed rule, ready to be evaluated many times."""

    __slots__ = ("_value", "tree")

    def __init__(self, tree: Node) -> None:
        self.tree = tree
        self._value = compiled(tree)

    def value(self, inputs: Sequence[float]) -> float | None:
        """The value at four numbers, or None where there is no finite real one (division by zero, overflow)."""
        try:
            value = self._value([float(x) for x in inputs])
        except (ZeroDivisionError, OverflowError):
            return None
        # A negative number to a broken power is complex in Python.
        return value if isinstance(value, float) and math.isfinite(value) else None


@lru_cache(maxsize=8192)
def rule(text: str) -> Rule:
    """The rule of that text; cached, as a gym meets the same few rules again and again. Raises as `parse`."""
    return Rule(parse(text))


def compiled(node: Node, number: Callable[[int], Any] = float) -> Compiled:
    """A function from four numbers to the rule's value, made of closures.

    number: makes the constants; `Fraction` together with Fraction inputs gives exact values.
    """
    match node:
        case Letter(index):
            return operator.itemgetter(index)
        case Constant(value):
            constant = number(value)
            return lambda inputs: constant
        case Operation(symbol, left, right):
            apply, f, g = _APPLY[symbol], compiled(left, number), compiled(right, number)
            return lambda inputs: apply(f(inputs), g(inputs))


def exact(node: Node, inputs: Sequence[int]) -> Fraction | None:
    """The exact value of a rule without powers other than squares; None when it divides by zero."""
    try:
        value: Fraction = compiled(node, Fraction)([Fraction(x) for x in inputs])
    except ZeroDivisionError:
        return None
    return value


def square(node: Node) -> Operation:
    return Operation("**", node, Constant(2))


def size(node: Node) -> int:
    """The number of operators, a square counting as one: how long a rule is."""
    return 1 + size(node.left) + size(node.right) if isinstance(node, Operation) else 0


def depth(node: Node) -> int:
    """The largest number of operators inside each other."""
    return 1 + max(depth(node.left), depth(node.right)) if isinstance(node, Operation) else 0


def spell(node: Node) -> str:
    """The rule's text, with no more parentheses than it needs; `parse` gives the same tree back."""
    match node:
        case Letter(index):
            return LETTERS[index]
        case Constant(value):
            return str(value)
        case Operation(symbol, left, right):
            # Powers group to the right, all others to the left: the other side needs parentheses at equal rank.
            on_left = _spell_inside(left, _BINDS[symbol] + (symbol == "**"))
            return f"{on_left} {symbol} {_spell_inside(right, _BINDS[symbol] + (symbol != '**'))}"


def _spell_inside(node: Node, needed: int) -> str:
    text = spell(node)
    return f"({text})" if isinstance(node, Operation) and _BINDS[node.symbol] < needed else text


def parse(text: str) -> Node:
    """The tree of a rule's text. `^` means `**`; powers bind tightest and group to the right, as in Python.

    Raises DataError, naming the place, for anything else, and for a text longer or deeper than the limits above.
    """
    if len(text) > MAX_LENGTH:
        raise DataError(f"A rule of {len(text)} characters; at most {MAX_LENGTH} are allowed. Shorten {text[:30]!r}….")
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text.rstrip()
        self.at = self.after = 0
        self.token = ""
        self.depth = self.nodes = 0
        self.advance()

    def advance(self) -> str:
        """Step over the current token and return it. The text's end is the empty token."""
        passed, self.at = self.token, self.after
        if self.at == len(self.text):
            self.token = ""
            return passed
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            raise self.error("this is none of the letters a to d, a whole number, an operator or a parenthesis")
        self.token, self.after = match[0].strip().replace("^", "**"), match.end()
        return passed

    def error(self, problem: str) -> DataError:
        return DataError(
            f"Rule {self.text[:80]!r}, at {self.text[self.at : self.at + 12].strip()!r} (character {self.at}): {problem}. "
            f"Expected + - * / ** over a, b, c, d, whole numbers and parentheses."
        )

    def counted(self, node: Node) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.error(f"the rule has more than {MAX_NODES} letters, numbers and operators")
        return node

    def whole(self) -> Node:
        node = self.sum()
        if self.token:
            raise self.error("the rule should end here or go on with an operator")
        return node

    def sum(self) -> Node:
        node = self.product()
        while self.token in ("+", "-"):
            symbol: Symbol = "+" if self.advance() == "+" else "-"
            node = self.counted(Operation(symbol, node, self.product()))
        return node

    def product(self) -> Node:
        node = self.signed()
        while self.token in ("*", "/"):
            symbol: Symbol = "*" if self.advance() == "*" else "/"
            node = self.counted(Operation(symbol, node, self.signed()))
        return node

    def signed(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} parentheses, signs or powers inside each other")
        if self.token == "-":
            self.advance()
            node = self.counted(Operation("-", Constant(0), self.signed()))
        else:
            node = self.power()
        self.depth -= 1
        return node

    def power(self) -> Node:
        node = self.atom()
        if self.token == "**":
            self.advance()
            node = self.counted(Operation("**", node, self.signed()))
        return node

    def atom(self) -> Node:
        if self.token and self.token in LETTERS:
            return self.counted(Letter(LETTERS.index(self.advance())))
        if self.token.isdigit():
            return self.counted(Constant(int(self.advance())))
        if self.token == "(":
            self.advance()
            node = self.sum()
            if self.token != ")":
                raise self.error("a closing parenthesis is missing")
            self.advance()
            return node
        raise self.error("a letter, a number or an opening parenthesis is missing")
