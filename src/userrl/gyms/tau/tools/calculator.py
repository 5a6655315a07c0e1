"""A calculator for what the tools' `calculate` accepts: numbers, + - * / // ** and parentheses, as Python reads them.

It computes what Python would, within bounds on the size of an expression and of its numbers, so that nothing that a
model writes is run as code or takes long.
"""

from __future__ import annotations

import re
from collections.abc import Callable

ALLOWED = "0123456789+-*/(). "
"""Characters that an expression may hold."""
MAX_LENGTH = 2_000
MAX_DEPTH = 60
"""Parentheses, signs and powers within each other."""
MAX_BITS = 20_000
"""Size of a whole number on the way; one above 1,024 bits cannot be the result."""

_TOKEN = re.compile(r"\d+\.\d*|\.\d+|\d+|\*\*|//|[-+*/()]")

Number = int | float


class Incalculable(ValueError):
    """An expression without a value; the message says why."""


def value_of(expression: str) -> str:
    """The value as a decimal number, rounded to two places.

    >>> value_of("2 + 2"), value_of("7 // 2 * (1 - .5)")
    ('4.0', '1.5')

    Raises Incalculable.
    """
    if len(expression) > MAX_LENGTH:
        raise Incalculable(f"the expression is {len(expression)} characters long; at most {MAX_LENGTH} are read")
    reader = _Reader(expression)
    try:
        return str(round(float(reader.whole()), 2))
    except ZeroDivisionError:
        raise Incalculable("division by zero") from None
    except OverflowError:
        raise Incalculable("a number is too large") from None


class _Reader:
    """Reads an expression from left to right, by Python's grammar: sums of products of signed powers."""

    def __init__(self, expression: str) -> None:
        self.tokens: list[str] = []
        at = 0
        for match in _TOKEN.finditer(expression):
            self._only_blanks(expression[at : match.start()])
            self.tokens.append(match[0])
            at = match.end()
        self._only_blanks(expression[at:])
        self.at = self.depth = 0

    def _only_blanks(self, skipped: str) -> None:
        if skipped.strip():
            raise Incalculable(f"{skipped.strip()!r:.20} cannot be read")

    @property
    def next(self) -> str:
        """The next token; "" at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def whole(self) -> Number:
        value = self.sum()
        if self.next:
            raise Incalculable(f"{self.next!r:.20} was not expected")
        return value

    def sum(self) -> Number:
        value = self.product()
        while self.next in ("+", "-"):
            value = _bounded(value + self.product() if self.take() == "+" else value - self.product())
        return value

    def product(self) -> Number:
        value = self.signed()
        while self.next in ("*", "/", "//"):
            operator, right = self.take(), self.signed()
            value = _bounded(value * right if operator == "*" else value / right if operator == "/" else value // right)
        return value

    def signed(self) -> Number:
        if self.next not in ("+", "-"):
            return self.power()
        sign = self.take()
        value = self.within(self.signed)
        return -value if sign == "-" else +value

    def power(self) -> Number:
        base = self.atom()
        if self.next != "**":
            return base
        self.take()
        return _power(base, self.within(self.signed))

    def atom(self) -> Number:
        if not self.next:
            raise Incalculable("the expression ends too early")
        token = self.take()
        if token == "(":
            value = self.within(self.sum)
            if self.next != ")":
                raise Incalculable("a parenthesis is not closed")
            self.take()
            return value
        if "." in token:
            return float(token)
        if not token.isdecimal():
            raise Incalculable(f"{token!r} was not expected")
        if token.startswith("0") and token.strip("0"):
            raise Incalculable(f"{token!r:.20} begins with 0")
        return int(token)

    def within(self, rule: Callable[[], Number]) -> Number:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Incalculable(f"more than {MAX_DEPTH} parentheses, signs or powers are nested")
        value = rule()
        self.depth -= 1
        return value


def _power(base: Number, exponent: Number) -> Number:
    whole = isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1
    if whole and int(base).bit_length() * exponent > MAX_BITS:
        raise OverflowError
    value = base**exponent
    if isinstance(value, complex):
        raise Incalculable("the root of a negative number is not a real number")
    return value


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise OverflowError
    return value
