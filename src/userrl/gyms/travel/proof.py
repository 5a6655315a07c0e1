"""Proof that a travel task is what it claims to be: everything is worked out again from what the finished task says.

Shares nothing with the generator but the bank of preferences. An option is sorted by its own fields (does it fit the
place and date of the search? which preferences does it fulfill?), and never by what the task says of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from userrl.core import Task
from userrl.errors import DataError
from userrl.gyms.travel.options import check_option, cost
from userrl.gyms.travel.preferences import agree, bank

COUNTS = {"correct": 4, "wrong": 10, "noise": 5}
SIZES = (2, 3, 4)
"""Numbers of aspects, and of preferences of an aspect."""
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "flight": ("origin", "destination", "date", "passengers"),
    "hotel": ("city", "check_in", "check_out", "guests"),
    "apartment": ("city", "check_in", "check_out", "guests"),
    "restaurant": ("city", "date", "guests"),
    "rental_car": ("city", "pick_up", "drop_off"),
}
"""What a search of an aspect must say."""
DAYS = ("date", "check_in", "check_out", "pick_up", "drop_off")
NAMES: Mapping[str, str] = {
    "flight": r"fl(?:y|ight)", "hotel": "hotel", "apartment": "apartment", "restaurant": "restaurant", "rental_car": "car",
}  # fmt: skip
"""How a request names an aspect."""
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_COUNTED = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_DATE = re.compile(
    rf"\b(?:(?P<day>\d+)(?:st|nd|rd|th)?(?: of)? )?(?P<month>{'|'.join(_MONTHS)})\b(?: (?P<after>\d+)(?:st|nd|rd|th)?)?"
)


def prove(task: Task) -> None:
    """Raises DataError with the first thing that is wrong with a task."""
    for fault in faults(task):
        raise DataError(f"Travel task {task.id!r}: {fault}.")


def faults(task: Task) -> Iterator[str]:
    """What is wrong with a task, most basic things first."""
    aspects = task.hidden["aspects"]
    sizes = sorted(len(part["preferences"]) for part in aspects.values())
    if len(aspects) not in SIZES or not set(aspects) <= set(ARGUMENTS) or {"hotel", "apartment"} <= set(aspects):
        yield f"its aspects are {', '.join(aspects)}; expected 2 to 4, and not both a hotel and an apartment"
        return
    if not set(sizes) <= set(SIZES) or task.hidden["family"] != "".join(map(str, sizes)):
        yield f"family {task.hidden['family']!r} is not that of {sizes} preferences"
    if not task.hidden["scenario"]:
        yield "there is no scenario"
    unsound = list(_preferences(aspects))
    yield from unsound
    if unsound:
        return
    for aspect, part in aspects.items():
        for fault in _part(aspect, part):
            yield f"{aspect}: {fault}"
    yield from _together(aspects)
    yield from _told(task.prompt, aspects)


# --- preferences -----------------------------------------------------------------------------------------------------


def _preferences(aspects: Mapping[str, Any]) -> Iterator[str]:
    rows = [(aspect, row) for aspect, part in aspects.items() for row in part["preferences"]]
    if [row["id"] for _, row in rows] != [f"P{number}" for number in range(1, len(rows) + 1)]:
        yield "the ids of its preferences are not P1, P2, ... in order"
    for aspect, row in rows:
        known = bank().get(row["key"])
        said = (aspect, row["category"], row["text"], row["check"])
        if known is None or (known.aspect, known.category, known.text, known.check) != said:
            yield f"preference {row['id']} is not the bank's {row['key']!r}"
            return
    topics = [(aspect, row["category"]) for aspect, row in rows]
    if len(set(topics)) < len(topics):
        yield "two preferences are of the same category"
    if not agree(*(bank()[row["key"]].traits for _, row in rows)):
        yield "no one person has all these preferences"


# --- options ---------------------------------------------------------------------------------------------------------


def _part(aspect: str, part: Mapping[str, Any]) -> Iterator[str]:
    options: Sequence[Mapping[str, Any]] = part["options"]
    wants = part["arguments"]
    if tuple(wants) != ARGUMENTS[aspect]:
        yield f"a search must say {', '.join(wants)}; expected {', '.join(ARGUMENTS[aspect])}"
        return
    ids = [option["id"] for option in options]
    if len(set(ids)) < len(ids):
        yield "two options have the same id"
    named = [option.get("name", option["id"]) for option in options]
    if len(set(named)) < len(named):
        yield "two options have the same name"
    strange = [fault for option in options for fault in _plausible(aspect, option, wants)]
    yield from strange
    if strange:
        return
    misses = {
        option["id"]: [row["id"] for row in part["preferences"] if not bank()[row["key"]].holds(option)] for option in options
    }
    noise = [option["id"] for option in options if not _fits(aspect, option, wants)]
    sorts = {
        "noise": noise,
        "wrong": [key for key, missed in misses.items() if missed and key not in noise],
        "correct": [key for key, missed in misses.items() if not missed and key not in noise],
    }
    found = {sort: len(keys) for sort, keys in sorts.items()}
    if found != {sort: COUNTS[sort] for sort in found}:
        yield f"its options are {found}; expected {COUNTS}"
        return
    if sorted(part["correct"]) != sorted(sorts["correct"]):
        yield f"correct are {sorts['correct']}, not {part['correct']}"
    costs = {option["id"]: cost(option) for option in options}
    best = min(sorts["correct"], key=lambda key: costs[key])
    if part["best"] != best:
        yield f"the best is {best}, not {part['best']}"
    if sum(costs[key] <= costs[best] for key in sorts["correct"]) > 1:
        yield f"{best} costs ${costs[best]:g}, and so does another correct one"
    yield from _why(part["why"], sorts, misses)
    if not any(not misses[key] and costs[key] < costs[best] for key in noise):
        yield "no noise that fulfills all preferences is cheaper than the best"
    for row in part["preferences"]:
        if not any(misses[key] == [row["id"]] and costs[key] < costs[best] for key in sorts["wrong"]):
            yield f"one need not know {row['id']}: no cheaper option misses it alone"


def _fits(aspect: str, option: Mapping[str, Any], wants: Mapping[str, Any]) -> bool:
    """Whether an option is for the place and date of the search, by its own fields."""
    if aspect == "flight":
        return bool(
            (option["path"][0], option["path"][-1], option["date"]) == (wants["origin"], wants["destination"], wants["date"])
        )
    return all(option[name] == wants[name] for name in wants if name != "guests")


def _why(
    why: Mapping[str, Sequence[str]], sorts: Mapping[str, Sequence[str]], misses: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    if set(why) != {*sorts["wrong"], *sorts["noise"]}:
        yield "`why` is not about the wrong options and the noise"
        return
    for key in sorts["wrong"]:
        if list(why[key]) != list(misses[key]):
            yield f"{key} misses {misses[key]}, not {why[key]}"
    for key in sorts["noise"]:
        if not all(reason.startswith("noise: ") for reason in why[key]):
            yield f"{key} is noise, not {why[key]}"


def _plausible(aspect: str, option: Mapping[str, Any], wants: Mapping[str, Any]) -> Iterator[str]:
    try:
        check_option(aspect, option)
    except DataError as error:
        yield str(error)
        return
    people = wants.get("guests", wants.get("passengers", 1))
    if not 5 <= cost(option) <= 20_000:
        yield f"{option['id']} costs ${cost(option):g}"
    if aspect == "flight":
        if len(set(option["path"])) < len(option["path"]) or not all(0 < hours <= 24 for hours in option["time"]):
            yield f"{option['id']} flies {option['path']} in {option['time']} hours"
    elif aspect == "apartment" and option["capacity"] < people:
        yield f"{option['id']} has no room for {people}"


# --- the whole trip --------------------------------------------------------------------------------------------------


def _together(aspects: Mapping[str, Any]) -> Iterator[str]:
    """One trip: one city, one number of people, and days in one order."""
    wants = {aspect: part["arguments"] for aspect, part in aspects.items()}
    if len({said.get("city", said.get("destination")) for said in wants.values()}) > 1:
        yield "its aspects are about several cities"
    if len({said[name] for said in wants.values() for name in ("guests", "passengers") if name in said}) > 1:
        yield "its aspects are for several numbers of people"
    if "flight" in wants and wants["flight"]["origin"] == wants["flight"]["destination"]:
        yield "its flight ends where it begins"
    for aspect, said in wants.items():
        days = [_days(str(said[name])) for name in DAYS if name in said]
        if any(len(found) != 1 for found in days) or len(days) != len({*map(frozenset, days)}):
            yield f"{aspect}: its days are {said}"


def _told(prompt: str, aspects: Mapping[str, Any]) -> Iterator[str]:
    """All that a search must say is in the request, and it names no other aspect and no other number."""
    text = " ".join(prompt.split())
    named = {aspect for aspect, name in NAMES.items() if re.search(rf"\b{name}s?\b", text, re.IGNORECASE)}
    if named != set(aspects):
        yield f"the request names {sorted(named)}, not {sorted(aspects)}"
    days, numbers = _days(text), _numbers(text)
    said = [(name, value) for part in aspects.values() for name, value in part["arguments"].items()]
    for name, value in said:
        if isinstance(value, int):
            known = value in numbers
        elif name in ("origin", "destination", "city"):
            known = re.search(rf"\b{re.escape(value)}\b", text) is not None
        else:
            known = _days(value) <= days
        if not known:
            yield f"the request does not say that {name} is {value}"
    if more := days - {day for _, value in said for day in _days(str(value))}:
        yield f"the request names other days: {sorted(more)}"
    if len(numbers) > 1:
        yield f"the request names several numbers of people: {sorted(numbers)}"
    if doubled := re.search(r"\b(\w+) \1\b|[{}$]| [.,;:]|\ba (?!uni)[aeiou]|\ban [^aeiou\W]", text):
        yield f"the request is not good English: {doubled[0]!r}"


def _days(text: str) -> set[tuple[int, int]]:
    found = ((match["month"], match["day"] or match["after"]) for match in _DATE.finditer(text))
    return {(_MONTHS.index(month) + 1, int(day)) for month, day in found if day}


def _numbers(text: str) -> set[int]:
    """Numbers in digits or words, without those of dates."""
    rest = _DATE.sub(" ", text).lower()
    found = re.findall(rf"\b(?:\d+|{'|'.join(_COUNTED)})\b", rest)
    return {int(number) if number.isdigit() else _COUNTED.index(number) for number in found}
