"""What there is to book: plausible options of a place and a date, before any preference is looked at."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

from userrl.gyms.travel.options import write
from userrl.gyms.travel.preferences import Preference, bank, categories
from userrl.gyms.travel.stories import content, spoken_day

Option = dict[str, Any]

EARTH_KM = 6371
CRUISE_KM_H = 830
GROUND_H = 0.6
"""Hours of a flight that do not depend on its length."""
REACH_KM = (350, 15_500)
HIGH_SEASON = (6, 7, 8, 12)
HIGH_SEASON_RATE = 1.15
SHIFTS = (-6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6)
"""Days by which noise is off."""


@dataclass(frozen=True)
class Where:
    """Place and date of an aspect: what a search asks for, or what an option is for."""

    aspect: str
    city: str
    home: str
    days: tuple[date, ...]
    """The day, or the first and the last one."""
    people: int

    def arguments(self) -> dict[str, Any]:
        """What a search must say."""
        people = {"flight": {"passengers": self.people}, "rental_car": {}}.get(self.aspect, {"guests": self.people})
        route = {"origin": self.home, "destination": self.city} if self.aspect == "flight" else {}
        return {**route, **self.fields(), **people}

    def fields(self) -> dict[str, str]:
        """What an option says of its place and date. A flight's path says the rest."""
        days = [spoken_day(day) for day in self.days]
        if self.aspect == "flight":
            return {"date": days[0]}
        names = {"restaurant": ["date"], "rental_car": ["pick_up", "drop_off"]}.get(self.aspect, ["check_in", "check_out"])
        return {"city": self.city, **dict(zip(names, days, strict=True))}

    def elsewhere(self, rng: random.Random) -> Where:
        """Another place, or the same one at another date."""
        if rng.random() < 0.5:
            return replace(self, days=tuple(day + shift for shift in [timedelta(rng.choice(SHIFTS))] for day in self.days))
        if self.aspect == "flight" and rng.random() < 0.3:
            return replace(self, home=rng.choice([city for city in in_reach(self.city) if city != self.home]))
        return replace(self, city=rng.choice([city for city in in_reach(self.home) if city != self.city]))

    def differs(self, other: Where) -> str:
        return "other date" if self.days != other.days else "other place"


def price_range(where: Where) -> tuple[int, int]:
    """Dollars: the cheapest, and above the dearest, for which such options are to be had."""
    level = content("places")[where.city]["level"]
    nights = max(1, (where.days[-1] - where.days[0]).days)
    season = HIGH_SEASON_RATE if where.days[0].month in HIGH_SEASON else 1.0
    usual, low, high = {
        "flight": (45 + 0.075 * kilometers(where.home, where.city), 0.65, 1.7),
        "hotel": (90 * level * nights * math.ceil(where.people / 2), 0.6, 1.9),
        "apartment": (75 * level * nights * (0.8 + 0.2 * where.people), 0.6, 1.9),
        "restaurant": (34 * level**0.7, 0.4, 2.2),
        "rental_car": (42 * level**0.5 * nights, 0.6, 1.9),
    }[where.aspect]
    return round(usual * season * low), round(usual * season * high)


@cache
def in_reach(home: str) -> Sequence[str]:
    """Cities to which one flies from there, without a stop if need be."""
    return [city for city in content("places") if REACH_KM[0] <= kilometers(home, city) <= REACH_KM[1]]


@lru_cache(maxsize=8192)
def kilometers(one: str, other: str) -> float:
    """Distance of two cities as the crow flies."""
    (lat1, lon1), (lat2, lon2) = (map(math.radians, content("places")[city]["at"]) for city in (one, other))
    haversine = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(haversine))


# --- options ---------------------------------------------------------------------------------------------------------


def stock(where: Where, name: str, wishes: Mapping[str, tuple[Preference, bool]], rng: random.Random) -> Option:
    """An option there and then. Its cost is still 0.

    wishes: category -> a preference of it, and whether it holds for the option. All other properties are drawn.
    """
    option = {**where.fields(), **({"name": name} if name else {}), **_BARE[where.aspect](where, rng)}
    items: dict[str, list[str]] = {"amenities": [], "service": [], "tags": [], "insurance": []}
    for category in categories(where.aspect):
        wish, holds = wishes.get(category, (None, True))
        for property_name, field, values in _shelf(where.aspect, category, wish.key if wish else "", holds, where.people):
            value = values[int(rng.random() * len(values))]
            if not field:
                write(option, property_name, value, rng)
            elif value:
                items[field].append(value)
    for field, texts in items.items():
        if field in option:
            rng.shuffle(texts)
            option[field] = texts
    return option


@cache
def _shelf(aspect: str, category: str, key: str, holds: bool, people: int) -> Sequence[tuple[str, str, Sequence[Any]]]:
    """The properties that a category owns, each with the list that it is an item of, if any, and the values to draw from.

    An item's values are what the list then holds, "" where it lacks it. Of the property that the preference `key` is about,
    only the values for which it holds, or does not; it comes last, so that no other one changes it any more. All who travel
    have a seat.
    """
    owned, asked = categories(aspect)[category].values, bank()[key].check["field"] if key else ""
    found: list[tuple[str, str, Sequence[Any]]] = []
    for name in sorted(owned, key=lambda name: name == asked):
        values = [value for value in owned[name] if name != "car" or value["seats"] >= people]
        if name == asked:
            values = [value for value in values if _holds(key, name, value) is holds]
        field, _, item = name.partition("/")
        found.append((name, field, [_item(name, value) for value in values]) if item else (name, "", values))
    return found


def _holds(key: str, name: str, value: Any) -> bool:
    somewhere, rng = Where(bank()[key].aspect, "Porto", "Oslo", (date(2025, 5, 3),), 1), random.Random(0)
    option = _BARE[somewhere.aspect](somewhere, rng)
    write(option, name, value, rng)
    return bank()[key].holds(option)


def _item(name: str, value: Any) -> str:
    """What a list of an option holds for a property such as "service/parking"; nothing where it lacks it."""
    field = name.partition("/")[0]
    option: Option = {field: []}
    write(option, name, value, random.Random(0))
    texts: list[str] = option[field]
    return texts[0] if texts else ""


def names(aspect: str, number: int, rng: random.Random) -> list[str]:
    """So many different names; empty ones where an aspect's options have no name of their own."""
    known = _names(aspect)
    return rng.sample(known, number) if known else [""] * number


@cache
def _names(aspect: str) -> list[str]:
    words: Mapping[str, Sequence[str]] = content("names")["places"].get(aspect, {"first": [], "second": []})
    return [f"{first} {second}" for first in words["first"] for second in words["second"]]


def dress(option: Option, where: Where, rng: random.Random) -> None:
    """Make the rest of an option fit its properties: a flight's stopovers and hours, who can sleep in an apartment."""
    if where.aspect == "apartment":
        option["capacity"] = max(where.people, 2 * int(option["room"][0]) + rng.randint(0, 2))
    if where.aspect != "flight":
        return
    stops = stopovers(where.home, where.city, len(option["path"]) - 2, rng)
    option["path"] = path = [where.home, *stops, where.city]
    legs = [hours(one, other, rng) for one, other in pairwise(path)]
    waits = [*option["time"][1::2], 0]
    option["time"] = [value for pair in zip(legs, waits, strict=True) for value in pair][:-1]


def hours(one: str, other: str, rng: random.Random) -> float:
    return round(GROUND_H + kilometers(one, other) / CRUISE_KM_H + rng.uniform(0, 0.4), 1)


def stopovers(home: str, city: str, number: int, rng: random.Random) -> Sequence[str]:
    """Hubs that are not far off the way, the nearest to home first."""
    if not number:
        return []
    near = _on_the_way(home, city)
    return sorted(rng.sample(near[: max(4, number + 1)], number), key=lambda hub: kilometers(home, hub))


@lru_cache(maxsize=8192)
def _on_the_way(home: str, city: str) -> Sequence[str]:
    """Hubs, from the smallest detour."""
    hubs = [name for name, place in content("places").items() if place["hub"] and name not in (home, city)]
    return sorted(hubs, key=lambda hub: kilometers(home, hub) + kilometers(hub, city))


def _flight(where: Where, rng: random.Random) -> Option:
    airline = rng.choice(content("names")["airlines"])
    return {
        "path": [where.home, where.city],
        "time": [1.0],
        "company": [airline],
        "flight_number": [f"{airline_codes()[airline]}{rng.randint(100, 999)}"],
        "cost": 0,
        "amenities": [],
        "service": [],
    }


@cache
def airline_codes() -> Mapping[str, str]:
    """Airline -> two letters."""
    return {name: (name[0] + name.replace(" ", "")[3]).upper() for name in content("names")["airlines"]}


def _hotel(where: Where, rng: random.Random) -> Option:
    return {"room": ["Standard"], "cost": [0], "rating": 7.0, "amenities": [], "service": []}


def _apartment(where: Where, rng: random.Random) -> Option:
    return {
        "room": "1B1B",
        "capacity": 0,
        "cost": 0,
        "rating": 7.0,
        "amenities": [],
        "service": [],
    }


def _restaurant(where: Where, rng: random.Random) -> Option:
    return {
        "cuisine": "",
        "expectation": "$ (about $1 a person)",
        "rating": 7.0,
        "reviews": {},
        "tags": [],
    }


def _rental_car(where: Where, rng: random.Random) -> Option:
    return {"brand": "", "model": "", "categories": "", "seats": 4, "cost": 0, "insurance": [], "service": []}


_BARE: Mapping[str, Callable[[Where, random.Random], Option]] = {
    "flight": _flight,
    "hotel": _hotel,
    "apartment": _apartment,
    "restaurant": _restaurant,
    "rental_car": _rental_car,
}
