"""What users want: a goal of one user, with what the user says and what has to be done. By kind in `retail_goals` and
`airline_goals`, whose makers draw them.

A goal is either within the policy and has calls, or it is forbidden and has none. Its instruction determines the calls:
a change of options leads to one variant, "the cheapest flight" to one flight, and so on; where it would not, the maker
draws something else or gives up (None).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from userrl.gyms.tau.world import Record, Tables, content

Fact = dict[str, str]
Call = dict[str, Any]

FORGOTTEN, NAMED = 0.2, 0.35
"""Shares of goals whose order or reservation the user cannot name, and names at once."""
NUMBER_WORDS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True)
class Goal:
    """One thing that a user wants."""

    act: str
    """What kind of plan the user expects: a key of the lexicon's `acts`."""
    asks: str
    """How the user brings it up."""
    wants: str
    """The same in the instruction, with all that it takes."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Topic -> what the user says about it."""
    checks: Sequence[Mapping[str, Any]] = ()
    """By which a user knows a wrong plan."""
    calls: Sequence[Call] = ()
    """What has to be done; nothing where the policy forbids it or only an answer is wanted."""
    outputs: Sequence[str] = ()
    touches: frozenset[str] = frozenset()
    """Orders and reservations that it is about."""


@dataclass(frozen=True)
class Draw:
    """What a maker draws from."""

    rng: random.Random
    tables: Tables
    user_id: str
    before: tuple[Goal, ...] = ()
    """The goals drawn for this user so far."""
    alone: bool = True
    """Whether the task has one goal; only then does the user forget numbers, which take turns to find."""
    same: bool = False
    """Draw a goal about the very order or reservation that the goal before is about."""

    @property
    def user(self) -> Record:
        return self.tables["users"][self.user_id]

    def may(self, key: str) -> bool:
        """Whether a goal can be about that order or reservation."""
        touched = {key for goal in self.before for key in goal.touches}
        return key in self.before[-1].touches if self.same else key not in touched

    def words(self, kind: str, part: str, /, **slots: str) -> str:
        text: str = self.rng.choice(content("phrases")[kind][part])
        return text.format(**slots)

    def fact(self, topic: str, value: str, **slots: str) -> Fact:
        return {"value": value, "says": upper(self.words("says", topic, value=value, **slots))}

    def pick(self, options: Iterable[Any]) -> Any:
        """One of some, or None where there are none."""
        listed = list(options)
        return self.rng.choice(listed) if listed else None


Maker = Callable[[Draw], Goal | None]


def upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    """As the continuation of a sentence."""
    return text if text.startswith(("I ", "I'", "#")) else text[:1].lower() + text[1:]


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def call(name: str, **arguments: Any) -> Call:
    return {"name": name, "arguments": arguments}


# --- both domains ------------------------------------------------------------------------------------------------


def method_name(method: Record) -> str:
    """A payment method as its owner calls it."""
    if method["source"] == "credit_card":
        return f"credit card ending in {method['last_four']}"
    return {"paypal": "PayPal account", "gift_card": "gift card", "certificate": "certificate"}[method["source"]]


def method_check(user: Record, right: str, says: str, also: Sequence[str] = ()) -> Record:
    """A plan is wrong when it names another method instead, be it the user's or not."""
    methods = user["payment_methods"]
    kinds = [method["source"] for method in methods.values()]
    words = {"credit_card": "credit card", "gift_card": "gift card", "paypal": "paypal"}

    def phrases(key: str) -> list[str]:
        method = methods[key]
        kind = [words.get(method["source"], method["source"])] if kinds.count(method["source"]) == 1 else []
        return [key, *([method["last_four"]] if "last_four" in method else []), *kind]

    wrong = [phrase for key in methods if key != right for phrase in phrases(key)]
    wrong += [word for kind, word in words.items() if kind not in kinds]
    return {"right": [*phrases(right), *also], "wrong": wrong, "says": says}


def id_check(right: str, others: Iterable[str], says: str) -> Record:
    return {"right": [right], "wrong": [key for key in others if key != right], "says": says}


def amount_of(method: Record) -> float:
    """What is left on a method; without end for cards and accounts."""
    left: float = method["balance"] if "balance" in method else method.get("amount", math.inf)  # of the store, the airline
    return left


@dataclass(frozen=True)
class Named:
    """An order or a reservation, as the user speaks of it."""

    whole: str
    fact: Fact
    asks: str
    checks: tuple[Record, ...]

    @property
    def slots(self) -> dict[str, str]:
        return {"whole": self.whole, "Whole": upper(self.whole)}


def named_again(d: Draw, topic: str, kind: str) -> Named:
    """That of the goal before."""
    asks = f"{d.words(kind, 'asks')} It is about the same {topic}."
    return Named(f"the same {topic}", d.before[-1].facts[topic], asks, ())


def full_name(person: Record) -> str:
    return f"{person['first_name']} {person['last_name']}"


def amount(d: Draw, kind: str, number: float) -> Goal:
    """A number that the user wants to hear, in a form that stands in all others: 5 in 5.00, 42.2 in 42.20."""
    return Goal("amount", d.words(kind, "asks"), d.words(kind, "wants"), outputs=[str(number).removesuffix(".0")])
