"""What the options of each aspect hold, and how one property of an option is read and written.

A property is what a preference is about: "rating", "cuisine"; an item of a list, "amenities/Wi-Fi"; the price of a
service, "service/checked bag"; or something that several fields say together, "layovers". All amounts are US dollars,
all times hours.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from userrl.errors import DataError, UnknownName

LETTERS: Mapping[str, str] = {"flight": "F", "hotel": "H", "apartment": "A", "restaurant": "R", "rental_car": "C"}
"""Aspect -> first letter of the ids of its options, as in F3."""

NUMBER = (int, float)
FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "flight": {
        "path": list,  # cities in order, at least 2
        "time": list,  # hours of each leg, with those of the layovers in between
        "company": list,  # one a leg
        "flight_number": list,  # one a leg
        "cost": NUMBER,  # economy
        "amenities": list,
        "service": list,
    },
    "hotel": {
        "name": str,
        "room": list,  # what rooms there are
        "cost": list,  # of each of these, for the whole stay
        "rating": NUMBER,  # 0 to 10
        "amenities": list,
        "service": list,
    },
    "apartment": {
        "name": str,
        "room": str,  # 2B1B: two bedrooms, one bathroom
        "capacity": int,
        "cost": NUMBER,  # for the whole stay
        "rating": NUMBER,
        "amenities": list,
        "service": list,
    },
    "restaurant": {
        "name": str,
        "cuisine": str,
        "expectation": str,  # price class and what a meal costs: "$$ (about $34 a person)"
        "rating": NUMBER,
        "reviews": dict,  # 5_star ... 1_star -> how many
        "tags": list,
    },
    "rental_car": {
        "brand": str,
        "model": str,
        "categories": str,  # SUV, compact ...
        "seats": int,
        "cost": NUMBER,  # for the whole rental
        "insurance": list,
        "service": list,
    },
}
"""Aspect -> field of its options, beside the `id` -> type. A service is "checked bag: $35" or "checked bag: free"."""
PLACE_AND_DATE: Mapping[str, tuple[str, ...]] = {
    "flight": ("date",),  # the path says the places
    "hotel": ("city", "check_in", "check_out"),
    "apartment": ("city", "check_in", "check_out"),
    "restaurant": ("city", "date"),
    "rental_car": ("city", "pick_up", "drop_off"),
}
"""Aspect -> texts by which one can tell whether an option is for this trip. Ours have them, the official ones do not."""

HUBS = ("Atlanta", "Charlotte", "Chicago", "Dallas", "Denver", "Detroit", "Houston", "Minneapolis", "Philadelphia", "Phoenix")
"""Cities for stopovers that are written; no preference goes by their names."""
GRADES = ("Standard", "Superior", "Deluxe")
"""Grades of a hotel's rooms, from the cheapest."""
STARS = ("5_star", "4_star", "3_star", "2_star", "1_star")
PRICE_CLASSES = ((20, "$"), (40, "$$"), (70, "$$$"))
"""(dollars a person below which, price class); above, it is $$$$."""


def check_option(aspect: str, option: Mapping[str, Any]) -> None:
    """Raises DataError when an option lacks a field of its aspect, has one too many, or one that does not fit."""
    if aspect not in FIELDS:
        raise UnknownName("aspect", aspect, FIELDS)
    named = f"Option {option.get('id')!r} of aspect {aspect!r}"
    if not re.fullmatch(rf"{LETTERS[aspect]}[0-9]+", str(option.get("id"))):
        raise DataError(f"{named}: expected an id such as {LETTERS[aspect]}3.")
    fields = set(option) - {"id", *PLACE_AND_DATE[aspect]}
    if fields != set(FIELDS[aspect]):
        raise DataError(f"{named} has the fields {sorted(fields)}; expected {sorted(FIELDS[aspect])}.")
    for field, kind in FIELDS[aspect].items():
        if not isinstance(option[field], kind) or isinstance(option[field], bool):
            raise DataError(f"{named}: field {field!r} is {option[field]!r}; expected {_kinds(kind)}.")
    if aspect == "flight":
        legs = len(option["path"]) - 1
        if legs < 1 or [len(option[field]) for field in ("time", "company", "flight_number")] != [2 * legs - 1, legs, legs]:
            raise DataError(f"{named}: path, time, company and flight_number do not go together: {dict(option)!r}.")
    if aspect == "hotel" and (not option["room"] or len(option["room"]) != len(option["cost"])):
        raise DataError(f"{named}: rooms {option['room']!r} and costs {option['cost']!r} do not go in pairs.")
    cost(option)


def _kinds(kind: type | tuple[type, ...]) -> str:
    return " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))


# --- cost ------------------------------------------------------------------------------------------------------------


def cost(option: Mapping[str, Any]) -> float:
    """Dollars: of a hotel's cheapest room, of a restaurant's usual meal, else the option's cost."""
    if "expectation" in option:
        found = re.search(r"\$([0-9]+)", option["expectation"])
        if not found:
            raise DataError(f"expectation is {option['expectation']!r}; expected such as '$$ (about $34 a person)'.")
        return float(found[1])
    return float(min(option["cost"]) if isinstance(option["cost"], list) else option["cost"])


def put_cost(option: MutableMapping[str, Any], dollars: int, rng: random.Random) -> None:
    """Make it the option's `cost`; a hotel's better rooms cost more. Write the rooms first."""
    if "expectation" in option:
        price_class = next((name for below, name in PRICE_CLASSES if dollars < below), "$$$$")
        option["expectation"] = f"{price_class} (about ${dollars} a person)"
    elif isinstance(option["cost"], list):
        option["cost"] = [dollars]
        for _ in option["room"][1:]:
            option["cost"].append(option["cost"][-1] + max(10, round(dollars * rng.uniform(0.1, 0.3))))
    else:
        option["cost"] = dollars


# --- properties ------------------------------------------------------------------------------------------------------


def read(option: Mapping[str, Any], name: str) -> Any:
    """A property of an option: whether a list holds an item, the price of a service (None: not offered), or a value."""
    field, _, item = name.partition("/")
    if field == "service":
        return _prices(option["service"]).get(item)
    if item:
        return item in option[field]
    return _READERS[name](option) if name in _READERS else option[name]


def write(option: MutableMapping[str, Any], name: str, value: Any, rng: random.Random) -> None:
    """Give an option that property and leave its other properties as they are."""
    field, _, item = name.partition("/")
    if item:
        kept = [text for text in option[field] if text != item and not (field == "service" and text.startswith(f"{item}: "))]
        if value is not None and value is not False:
            text = item if field != "service" else f"{item}: ${value}" if value else f"{item}: free"
            kept.insert(rng.randint(0, len(kept)), text)
        option[field] = kept
    elif name in _WRITERS:
        _WRITERS[name](option, value, rng)
    else:
        option[name] = value


def _prices(services: Sequence[str]) -> dict[str, float]:
    split = [text.rpartition(": ") for text in services]
    return {item: 0.0 if price == "free" else float(price.removeprefix("$")) for item, _, price in split}


def _read_layovers(option: Mapping[str, Any]) -> list[float]:
    return list(option["time"][1::2])


def _write_layovers(option: MutableMapping[str, Any], layovers: Sequence[float], rng: random.Random) -> None:
    """As many stops, with these hours; the hours in the air stay the same in sum."""
    air, path, legs = sum(option["time"][::2]), list(option["path"]), len(layovers) + 1
    free = [city for city in HUBS if city not in path]
    stops = (path[1:-1] + rng.sample(free, len(layovers)))[: len(layovers)]
    shares = [rng.uniform(1, 1.8) for _ in range(legs)]
    whole = sum(shares)
    flown = [round(air * share / whole, 1) for share in shares]
    flown[-1] = round(air - sum(flown[:-1]), 1)
    option["path"] = [path[0], *stops, path[-1]]
    option["time"] = [hours for pair in zip(flown, (*layovers, 0), strict=True) for hours in pair][:-1]
    option["company"] = (option["company"] + option["company"][:1] * legs)[:legs]
    letters = re.sub(r"[0-9]+$", "", option["flight_number"][0])
    option["flight_number"] = (option["flight_number"] + [f"{letters}{n}" for n in rng.sample(range(100, 1000), legs)])[:legs]


def _write_rooms(option: MutableMapping[str, Any], kind: str, rng: random.Random) -> None:
    option["room"] = [f"{grade} {kind}" for grade in GRADES[: rng.choice((1, 2, 2, 3))]]
    put_cost(option, round(cost(option)), rng)


def _read_room(option: Mapping[str, Any]) -> list[int]:
    return [int(number) for number in re.findall(r"([0-9]+)B", option["room"])]


def _write_bedrooms(option: MutableMapping[str, Any], number: int, _: random.Random) -> None:
    option["room"] = f"{number}B{min(number, _read_room(option)[1])}B"


def _write_bathrooms(option: MutableMapping[str, Any], number: int, _: random.Random) -> None:
    option["room"] = f"{max(number, _read_room(option)[0])}B{number}B"


def _write_reviews(option: MutableMapping[str, Any], size: Sequence[float], rng: random.Random) -> None:
    """size: number of reviews, and the share of those with one star."""
    total, ones = round(size[0]), round(size[0] * size[1])
    shares = [rng.uniform(5, 6), rng.uniform(2, 4), rng.uniform(0.5, 1), rng.uniform(0.2, 0.4)]
    counts = [round((total - ones) * share / sum(shares)) for share in shares]
    counts[0] += total - ones - sum(counts)
    option["reviews"] = dict(zip(STARS, (*counts, ones), strict=True))


def _read_car(option: Mapping[str, Any]) -> dict[str, Any]:
    return {field: option[field] for field in ("brand", "model", "categories", "seats")}


def _write_car(option: MutableMapping[str, Any], car: Mapping[str, Any], _: random.Random) -> None:
    option.update(car)


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "layovers": _read_layovers,
    "rooms": lambda option: option["room"],
    "bedrooms": lambda option: _read_room(option)[0],
    "bathrooms": lambda option: _read_room(option)[1],
    "car": _read_car,
}
_WRITERS: Mapping[str, Callable[[MutableMapping[str, Any], Any, random.Random], None]] = {
    "layovers": _write_layovers,
    "rooms": _write_rooms,
    "bedrooms": _write_bedrooms,
    "bathrooms": _write_bathrooms,
    "reviews": _write_reviews,
    "car": _write_car,
}
