"""Travel tasks without end. A task is drawn from its id alone, so single tasks can be made without the others.

Each aspect of a trip gets 19 options:

    4 correct   fulfill every preference; the cheapest of them is the best one, alone at its price
    10 wrong    miss one preference or more. For each preference, one that misses this one alone is cheaper than the
                best, so that the best cannot be found without knowing all of them
    5 noise     of another place or date, as their own fields show. At least one fulfills every preference and is cheaper
                than the best

The place of the best in the order of prices is drawn so that no place is worth more than another (`_ranks`).
`proof` checks all this from the finished tasks.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import combinations, count
from math import comb
from typing import Any, Literal

from userrl.core import Task
from userrl.data import split_of
from userrl.errors import ConfigError, UnknownName
from userrl.gyms.travel.options import LETTERS, cost, put_cost
from userrl.gyms.travel.preferences import Preference, agree, bank, categories
from userrl.gyms.travel.stock import Where, dress, in_reach, names, price_range, stock
from userrl.gyms.travel.stories import Trip, content, draw_trip, opening, scenario

Split = Literal["train", "validation", "test"]

FAMILIES: Mapping[str, int] = {"22": 671, "33": 576, "44": 446, "233": 402, "333": 353, "334": 313, "444": 248, "2222": 113}
"""Family -> how many of the 3,122 official tasks are of it. A family is the numbers of preferences of its aspects, sorted."""
CORRECT, WRONG, NOISE = 4, 10, 5
FULFILLING_NOISE = (1, 3)
"""Fewest and most options of the noise that fulfill all preferences."""
NIGHTS = (2, 9)
IN_ORDER = 0.7
"""Share of the requests that name the parts in the order of `LETTERS`."""

Aspect = dict[str, Any]


# --- which tasks -----------------------------------------------------------------------------------------------------


def shares(total: int) -> dict[str, int]:
    """Family -> how many of so many tasks, in the official proportions (largest remainders)."""
    exact = {family: total * weight / sum(FAMILIES.values()) for family, weight in FAMILIES.items()}
    found = {family: int(share) for family, share in exact.items()}
    rest = sorted(FAMILIES, key=lambda family: found[family] - exact[family])
    return found | {family: found[family] + 1 for family in rest[: total - sum(found.values())]}


def ids(seed: int, families: Mapping[str, int], split: Split | None = None) -> list[str]:
    """Ids of the first so many tasks of each family, of one split or of all, well mixed. See `shares`.

    Raises UnknownName for a family that there is not.
    """
    found: list[str] = []
    for family, number in families.items():
        if family not in FAMILIES:
            raise UnknownName("family of travel tasks", family, FAMILIES)
        names = (f"travel-{family}-{seed}-{n}" for n in count())
        fitting = (name for name in names if split in (None, split_of(name)))
        found += [next(fitting) for _ in range(number)]
    random.Random(f"travel|{seed}|{split}").shuffle(found)
    return found


def tasks(seed: int, families: Mapping[str, int], split: Split | None = None) -> list[Task]:
    """The tasks of `ids`, all at once."""
    return [task(task_id) for task_id in ids(seed, families, split)]


def task(task_id: str) -> Task:
    """The task of an id `travel-<family>-<seed>-<number>`. Raises ConfigError for another id."""
    named = re.fullmatch(r"travel-([0-9]+)-[0-9]+-[0-9]+", task_id)
    if not named or named[1] not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ConfigError(f"Travel task {task_id!r}: expected travel-<family>-<seed>-<number>, with a family of {known}.")
    rng = random.Random(task_id)
    sizes = rng.sample([*map(int, named[1])], len(named[1]))
    aspects = dict(zip(rng.choice(_trips(len(sizes))), sizes, strict=True))
    home = rng.choice(list(content("places")))
    city = rng.choice(in_reach(home))
    trip = draw_trip(rng, city, home)
    days = _days(rng, aspects)
    wanted = _wanted({aspect: aspects[aspect] for aspect in days}, trip, rng)
    parts: dict[str, Aspect] = {}
    number = count(1)
    for aspect, preferences in wanted.items():
        where = Where(aspect, city, home, days[aspect], trip.people)
        entries: list[Aspect] = [
            {"id": f"P{next(number)}", "key": p.key, "category": p.category, "text": p.text, "check": dict(p.check)}
            for p in preferences
        ]
        parts[aspect] = {"arguments": where.arguments(), "preferences": entries}
        parts[aspect] |= _options(where, preferences, [entry["id"] for entry in entries], rng)
    slots = {aspect: _slots(aspect, days[aspect], home) for aspect in parts}
    hidden = {"scenario": scenario(trip, slots), "family": named[1], "aspects": parts}
    return Task(task_id, "travel", opening(trip, slots, rng), hidden)


# --- the trip --------------------------------------------------------------------------------------------------------


@cache
def _trips(length: int) -> list[tuple[str, ...]]:
    """Sets of so many aspects; nobody needs both a hotel and an apartment."""
    return [chosen for chosen in combinations(LETTERS, length) if not {"hotel", "apartment"} <= set(chosen)]


def _days(rng: random.Random, aspects: Mapping[str, int]) -> dict[str, tuple[date, ...]]:
    """Aspect -> its day, or its first and last one. The year is only there to count with."""
    start = date(2025, 1, 1) + timedelta(rng.randrange(365))
    nights = rng.randint(*NIGHTS)
    end = start + timedelta(nights)
    days: dict[str, tuple[date, ...]] = {"flight": (start,), "hotel": (start, end), "apartment": (start, end)}
    days["restaurant"] = (start + timedelta(rng.randrange(nights)),)
    later = timedelta(rng.choice((0, 0, 1)) if nights > 2 else 0)
    days["rental_car"] = (start + later, end)
    order = list(LETTERS) if rng.random() < IN_ORDER else rng.sample(list(LETTERS), len(LETTERS))
    return {aspect: days[aspect] for aspect in order if aspect in aspects}


def _slots(aspect: str, days: Sequence[date], home: str) -> dict[str, Any]:
    if len(days) == 2:
        return {"start": days[0], "end": days[1]}
    return {"date": days[0], **({"origin": home} if aspect == "flight" else {})}


def _wanted(aspects: Mapping[str, int], trip: Trip, rng: random.Random) -> dict[str, list[Preference]]:
    """Aspect -> as many preferences of different categories, such that one person can have them all, there and then."""
    excluded = content("places")[trip.city].get("excludes", ())
    arrives = {"drives": "yes" if "rental_car" in aspects else "no"} if {"flight", "rental_car"} & set(aspects) else {}
    while True:
        chosen = {aspect: _some(aspect, size, rng) for aspect, size in aspects.items()}
        preferences = [preference for some in chosen.values() for preference in some]
        possible = not any(preference.key in excluded for preference in preferences)
        if possible and agree(trip.party["traits"], arrives, *(preference.traits for preference in preferences)):
            return chosen


def _some(aspect: str, size: int, rng: random.Random) -> list[Preference]:
    names = rng.sample(list(categories(aspect)), size)
    return [rng.choice(_of(aspect, name)) for name in names]


@cache
def _of(aspect: str, category: str) -> list[Preference]:
    return [p for p in bank().values() if (p.aspect, p.category) == (aspect, category)]


# --- the options -----------------------------------------------------------------------------------------------------


def _options(where: Where, wanted: Sequence[Preference], ids: Sequence[str], rng: random.Random) -> Aspect:
    """Options, best, correct and why, for one aspect.

    Not only the categories of the user's preferences have one that many options fulfill: each other category has one that
    nobody asked for (a decoy), and options miss the wanted ones and the decoys alike. So a list does not betray what is
    wanted.
    """
    own = {preference.category for preference in wanted}
    decoys = [rng.choice(_of(where.aspect, name)) for name in categories(where.aspect) if name not in own]
    ladder = _ladder(len(wanted), len(decoys), rng)
    prices = sorted(rng.sample(range(*price_range(where)), len(ladder)))
    made = []
    for (kind, missed), dollars, name in zip(ladder, prices, names(where.aspect, len(ladder), rng), strict=True):
        where_else = where.elsewhere(rng) if kind == "noise" else where
        wishes = {p.category: (p, number not in missed) for number, p in enumerate((*wanted, *decoys))}
        option = stock(where_else, name, wishes, rng)
        put_cost(option, dollars, rng)
        dress(option, where_else, rng)
        why = [f"noise: {where_else.differs(where)}"] if kind == "noise" else [ids[n] for n in sorted(missed) if n < len(ids)]
        made.append((kind, why, option))
    rng.shuffle(made)
    letter = LETTERS[where.aspect]
    rows = [(f"{letter}{number}", *entry) for number, entry in enumerate(made, start=1)]
    correct = [option_id for option_id, kind, _, _ in rows if kind == "correct"]
    costs = {option_id: cost(option) for option_id, _, _, option in rows}
    return {
        "options": [{"id": option_id, **option} for option_id, _, _, option in rows],
        "best": min(correct, key=lambda option_id: costs[option_id]),
        "correct": correct,
        "why": {option_id: why for option_id, kind, why, _ in rows if kind != "correct"},
    }


def _ladder(size: int, decoys: int, rng: random.Random) -> list[tuple[str, frozenset[int]]]:
    """(kind, what it misses) of the options of an aspect, from the cheapest. Wanted are 0 to size - 1; then come the decoys."""

    def miss(wanted: frozenset[int] | None) -> frozenset[int]:
        """Of the wanted ones it misses these, or some; of the decoys as many as it takes."""
        return rng.choice(_misses(size, decoys, size + decoys - _fulfilled(size, decoys, rng), wanted))

    none: frozenset[int] = frozenset()
    near = [("wrong", miss(frozenset([number]))) for number in range(size)]
    far = [("wrong", miss(None)) for _ in range(WRONG - size)]
    right = [("correct", miss(none)) for _ in range(CORRECT)]
    [cheaper] = rng.choices(range(size, WRONG + 1), _ranks(size))
    below = [*near, *far[: cheaper - size]]
    above = [*far[cheaper - size :], *right[1:]]
    rng.shuffle(below)
    rng.shuffle(above)
    ladder = [*below, right[0], *above]
    fulfilling = rng.randint(*FULFILLING_NOISE)
    ladder.insert(rng.randint(0, cheaper), ("noise", miss(none)))
    for number in range(1, NOISE):
        missed = miss(none if number < fulfilling else None)
        ladder.insert(rng.randint(0, len(ladder)), ("noise", missed))
    return ladder


@cache
def _misses(size: int, decoys: int, number: int, wanted: frozenset[int] | None) -> list[frozenset[int]]:
    """All ways to miss so many, of the wanted ones exactly those given, or any but none."""
    ways = map(frozenset, combinations(range(size + decoys), number))
    asked = frozenset(range(size))
    return [way for way in ways if (way & asked if wanted is None else way & asked == wanted)]


def _fulfilled(size: int, decoys: int, rng: random.Random) -> int:
    """How many of wanted and decoys together an option fulfills: one of two numbers next to each other.

    Drawn so that on average any `size` of them are all fulfilled by as many options as there are correct ones.
    """
    fewer, share_of_more = _numbers(size, size + decoys)
    return fewer + (rng.random() < share_of_more)


@cache
def _numbers(size: int, total: int) -> tuple[int, float]:
    def correct(fulfilled: int) -> float:
        return (CORRECT + WRONG) * comb(fulfilled, size) / comb(total, size)

    fewer = max(number for number in range(size, total) if correct(number) <= CORRECT)
    return fewer, (CORRECT - correct(fewer)) / (correct(fewer + 1) - correct(fewer))


@cache
def _ranks(size: int) -> list[float]:
    """Weights of the numbers of wrong options that are cheaper than the best, from `size` to WRONG.

    Chosen so that, of the options that fit place and date, the n-th cheapest is worth the same for every n > `size`:
    0.8 for each of the other correct ones, which are spread evenly above the best.
    """
    weights = [1.0]
    for cheaper in range(size, WRONG):
        above = CORRECT - 1 + WRONG - cheaper
        weights.append(weights[-1] * (1 - 0.8 * (CORRECT - 1) / above))
    return weights
