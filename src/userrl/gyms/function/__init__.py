"""Function: find a hidden arithmetic rule over four numbers by probing it.

Reward of an answer: 1 when it is within 1e-6 of the rule's value at the test case, else 0; one may try again.
A probe or a look at the test case earns 0. Source: UserRL, arXiv 2509.19736, section 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from userrl.core import Action, Cast, Episode, Turn
from userrl.data.hidden import HiddenModel, Text
from userrl.errors import DataError
from userrl.gyms.base import FINISH, Gym
from userrl.gyms.function.rule import rule

TOLERANCE = 1e-6
"""Absolute distance from the test case's value within which an answer is correct."""
DECIMALS = 4
"""Decimals of the values that the agent is shown."""
MAX_INPUT = 1_000_000
"""Largest size of a probed number (default rules)."""

_INTEGER = r"([-+]?\d{1,9})"
_FOUR = re.compile(r"(?:[\[(]\s*)?" + r"(?:\s*,\s*|\s+)".join([_INTEGER] * 4) + r"(?:\s*[\])])?", re.ASCII)
"""In a text without blanks around it: two neighboring runs of blanks would take time quadratic in their length."""
_DECIMAL = re.compile(r"[-+]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})", re.ASCII)
_FRACTION = re.compile(r"([-+]?\d{1,20})\s*/\s*(\d{1,20})", re.ASCII)
_LENIENT_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
"""What the original takes for a number: ".5" is 5, "1e2" and "1/2" are two numbers each."""


class Hidden(HiddenModel):
    """The rule and its value at the test case."""

    rule: Text
    """Text, see `rule.parse`."""
    test_case: Annotated[list[int], Field(min_length=4, max_length=4)]
    expected: int | float
    """The rule's value at the test case."""
    difficulty: Text = "unknown"
    """For reports."""

    @model_validator(mode="after")
    def _expected_is_the_rules_value(self) -> Self:
        try:
            value = rule(self.rule).value(self.test_case)
        except DataError as error:
            raise ValueError(str(error)) from error
        if value is None or abs(value - self.expected) > TOLERANCE:
            raise ValueError(
                f"expected is {self.expected}; expected {value}, which the rule {self.rule!r} gives at the test case"
            )
        return self


class Function(Gym):
    """Probe a hidden rule f(a, b, c, d), then say its value at the test case. Needs no user and no judge.

    `task.hidden`: see `Hidden`. `compat="userrl"` reads numbers by the original's lenient rules, compares a probe with
    the test case as floats (so a hair's breadth beside it is answered), takes whatever `float()` reads as an answer,
    and shows the answer when the agent finishes.
    """

    name: ClassVar[str] = "function"
    summary: ClassVar[str] = "Find a hidden arithmetic rule over four numbers by probing it."
    actions: ClassVar[Mapping[str, str]] = {
        "action": "see the rule's value at four whole numbers of your choice, written like 3 -1 0 7",
        "answer": "give the rule's value at the test case, as a plain decimal number or a fraction; you may try again",
        "search": "see the test case; the content is the word test",
    }
    labels: ClassVar[tuple[str, ...]] = (
        "probe",
        "repeated",
        "undefined",
        "refused",
        "test_case",
        "correct",
        "wrong_answer",
        "unreadable",
        "finish",
    )
    hidden_model: ClassVar[type[HiddenModel]] = Hidden

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        """Answer one action; the cast is never asked. Raises DataError for a task whose rule cannot be read."""
        hidden = episode.task.hidden
        if action.kind == "action":
            return self._probe(episode, action)
        if action.kind == "answer":
            return self._answer(action, hidden["expected"])
        if action.kind == FINISH:
            shown = number_text(hidden["expected"])
            feedback = f"You finished. The value at the test case is {shown}."
            return Turn(action, feedback, done=True, label="finish", reveals=(shown,))
        if action.text.strip().lower() != "test":
            return Turn(action, "Only the test case can be searched for: the content must be the word test.", label="unreadable")
        shown = " ".join(map(str, hidden["test_case"]))
        feedback = f"Test case (a b c d): {shown}. Answer with the rule's value there."
        return Turn(action, feedback, label="test_case", reveals=(shown,))

    def solved(self, episode: Episode) -> bool:
        """Whether a correct answer was given; finishing (compat) ends an episode without it."""
        return episode.stop == "done" and episode.turns[-1].label == "correct"

    def _probe(self, episode: Episode, action: Action) -> Turn:
        hidden = episode.task.hidden
        inputs, problem = _lenient_inputs(action.text) if self.compat else _inputs(action.text)
        if problem:
            return Turn(action, problem, label="unreadable")
        if inputs == list(hidden["test_case"]):
            return Turn(action, "These are the numbers of the test case: its value is yours to find.", label="refused")
        called = f"f({', '.join(repr(x).removesuffix('.0') for x in inputs)})"
        label = "repeated" if any(turn.facts.get("inputs") == inputs for turn in episode.turns) else "probe"
        value = rule(hidden["rule"]).value(inputs)
        if value is None:
            label = "undefined" if label == "probe" else label
            return Turn(action, f"{called} has no finite value.", label=label, facts={"inputs": inputs})
        shown = number_text(value)
        return Turn(action, f"{called} = {shown}", label=label, reveals=(shown,), facts={"inputs": inputs})

    def _answer(self, action: Action, expected: float) -> Turn:
        value, problem = _lenient_answer(action.text) if self.compat else _plain_answer(action.text)
        if value is None:
            return Turn(action, problem, label="unreadable")
        if abs(value - expected) <= TOLERANCE:
            return Turn(action, "Correct.", reward=1.0, done=True, label="correct")
        return Turn(action, "That is not the rule's value at the test case.", label="wrong_answer")


def number_text(value: float) -> str:
    """A value as the agent sees it: rounded to 4 decimals, without trailing zeros."""
    return repr(round(float(value), DECIMALS) + 0.0).removesuffix(".0")


def _inputs(text: str) -> tuple[list[int], str]:
    """Four integers, or what is wrong with the text."""
    match = _FOUR.fullmatch(text.strip(" \t\n\r\f\v"))
    if match is None:
        return [], "Nothing was computed. The content must be four whole numbers for a, b, c and d, like 3 -1 0 7."
    inputs = [int(number) for number in match.groups()]
    if max(inputs) > MAX_INPUT or min(inputs) < -MAX_INPUT:
        return [], f"Nothing was computed. Each number must lie between -{MAX_INPUT} and {MAX_INPUT}."
    return inputs, ""


def _lenient_inputs(text: str) -> tuple[list[float], str]:
    """Four numbers as the original finds them anywhere in a text, or what is wrong with it."""
    inputs = [float(number) for number in _LENIENT_NUMBER.findall(text)]
    if len(inputs) != 4 or not all(map(math.isfinite, inputs)):
        return [], f"Nothing was computed. Four finite numbers are needed; your text has {len(inputs)} numbers."
    return inputs, ""


def _plain_answer(text: str) -> tuple[float | None, str]:
    text = text.strip()
    if _DECIMAL.fullmatch(text):
        return float(text), ""
    fraction = _FRACTION.fullmatch(text)
    if fraction and int(fraction[2]):
        return int(fraction[1]) / int(fraction[2]), ""
    return None, "Your answer was not read. The content must be one plain number, like -3.5, or a fraction, like 7/2."


def _lenient_answer(text: str) -> tuple[float | None, str]:
    try:
        return float(text), ""
    except ValueError:
        return None, "Your answer was not read. The content must be one number."
