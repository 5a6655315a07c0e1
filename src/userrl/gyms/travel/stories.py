"""Trips in words: the request that opens a task, and the scenario that user and judge know. From `words/openings.json`."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
PARTY_SIZES = (1, 2, 2, 3, 4)
SPELLED_OUT = 0.7
"""Share of the requests that write the number of people as a word."""
SAID_AGAIN = 0.6
"""Share of the mentions of the city, once the request has named it, that name it again."""
DATE_STYLES = ("{month} {nth}", "{month} {nth}", "{month} {day}", "{day} {month}", "the {nth} of {month}")

Words = Mapping[str, str]
FIRST_ALONE: Words = {"i": "I", "me": "me", "my": "my", "our": "my", "are": "am", "am": "am", "have": "have", "was": "was"}
FIRST_MORE: Words = {"i": "we", "me": "us", "my": "my", "our": "our", "are": "are", "am": "are", "have": "have", "was": "were"}
THIRD_MORE: Words = {"i": "they", "our": "their", "am": "are", "have": "have", "was": "were"}
PRONOUNS: Mapping[str, Words] = {
    "women": {"i": "she", "my": "her", "our": "her", "am": "is", "have": "has", "was": "was"},
    "men": {"i": "he", "my": "his", "our": "his", "am": "is", "have": "has", "was": "was"},
}


@dataclass(frozen=True)
class Trip:
    """Who goes where, and what for."""

    city: str
    home: str
    party: Mapping[str, Any]
    """people, kind, with; traits, with which those of the preferences must agree."""
    occasion: str
    """With slots for pronouns."""
    name: str
    gender: str
    job: str

    @property
    def people(self) -> int:
        number: int = self.party["people"]
        return number


@cache
def content(name: str) -> Any:
    """A file of `words/`."""
    return json.loads(resources.files(__package__).joinpath("words", f"{name}.json").read_text("utf-8"))


@cache
def spoken_day(day: date) -> str:
    """The form of dates in searches and options.

    >>> spoken_day(date(2025, 5, 3))
    'May 3rd'
    """
    return f"{MONTHS[day.month - 1]} {nth(day.day)}"


def nth(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th ..."""
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def draw_trip(rng: random.Random, city: str, home: str) -> Trip:
    texts, people = content("openings"), content("people")
    number = rng.choice(PARTY_SIZES)
    party = rng.choice([p for p in texts["parties"] if p["people"] == number])
    gender = rng.choice(("women", "men"))
    occasion = rng.choice(texts["occasions"][party["kind"]])
    return Trip(city, home, party, occasion, rng.choice(people[gender]), gender, rng.choice(people["jobs"]))


# --- the request -----------------------------------------------------------------------------------------------------


def opening(trip: Trip, parts: Mapping[str, Mapping[str, Any]], rng: random.Random) -> str:
    """The request: every value that a search for a part of the trip must say, and that it should be cheap.

    parts: aspect -> its dates by the slots of the texts (`date`, or `start` and `end`), and `origin` for a flight.
    """
    texts = content("openings")
    alone = trip.people == 1
    person = FIRST_ALONE if alone else FIRST_MORE
    style = rng.choice(DATE_STYLES)
    company = trip.party["with"]
    slots = {
        **person,
        "I": person["i"],
        "city": trip.city,
        "City": trip.city,
        "who": "I" if alone else listed([*company.split(" and "), "I"]),
        "with": "" if alone else f" with {company}",
        "n": NUMBERS[trip.people] if rng.random() < SPELLED_OUT else str(trip.people),
    }
    slots["occasion"] = trip.occasion.format(**slots)
    slots["Who"] = slots["who"]
    slots["Reason"] = rng.choice(texts["reasons"]).format(**slots)
    shape = rng.choice(texts["shapes"])
    known = "{lead}" in shape[: min(shape.find(slot) for slot in ("{ask}", "{sentences}", "{bullets}") if slot in shape)]
    phrases = "sentences" if "{sentences}" in shape else "noun_phrases"

    def told() -> Iterator[str]:
        # With a flight, "there" might be where it leaves.
        theres = ("there", "in the city") if known and "flight" not in parts else ()
        for aspect, values in parts.items():
            there = rng.choice(theres) if theres and rng.random() > SAID_AGAIN else f"in {trip.city}"
            written = {slot: value if isinstance(value, str) else written_day(value, style) for slot, value in values.items()}
            yield rng.choice(texts[phrases][aspect]).format(**slots, **written, there=there)

    said = list(told())
    slots |= {
        "list": listed(said),
        "sentences": " ".join(map(started, said)),
        "bullets": "\n".join(f"- {text}" for text in said),
        "greeting": rng.choice(texts["greetings"]),
        "thanks": rng.choice(texts["thanks"]),
    }
    chosen = {
        "ask": texts["asks"],
        "lead": texts["leads"],
        "people": texts["people"]["one" if alone else "more"],
        "heading": texts["headings"],
        "budget": texts["budget"],
    }
    slots |= {slot: started(rng.choice(choices).format(**slots)) for slot, choices in chosen.items()}
    text = shape.format(**slots)
    return "\n".join(" ".join(row.split()) for row in text.split("\n")).strip()


def written_day(day: date, style: str) -> str:
    return style.format(month=MONTHS[day.month - 1], day=day.day, nth=nth(day.day))


def started(text: str) -> str:
    """With capital letters where sentences begin."""
    return re.sub(r"(?:^|(?<=[.!?] ))[a-z]", lambda found: found[0].upper(), text)


def listed(texts: Sequence[str]) -> str:
    """a, b, and c"""
    if len(texts) < 3:
        return " and ".join(texts)
    return f"{', '.join(texts[:-1])}, and {texts[-1]}"


# --- the scenario ----------------------------------------------------------------------------------------------------


def scenario(trip: Trip, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """What user and judge know: who travels, and what is to be found, in plain words."""
    alone = trip.people == 1
    pronouns = PRONOUNS[trip.gender]
    words = pronouns if alone else {**pronouns, **THIRD_MORE}
    article = "an" if trip.job[0] in "aeiou" else "a"
    their = {"my": pronouns["my"], "our": "their"}
    company = re.sub(r"\b(my|our)\b", lambda found: their[found[1]], trip.party["with"])
    group = "alone" if alone else f"with {company} ({NUMBERS[trip.people]} people in all)"
    facts = listed([_fact(trip, aspect, values) for aspect, values in parts.items()])
    return (
        f"{trip.name}, {article} {trip.job} from {trip.home}, travels {group} to {trip.city} {trip.occasion.format(**words)}. "
        f"To be found: {facts}."
    )


def _fact(trip: Trip, aspect: str, values: Mapping[str, Any]) -> str:
    days = {slot: spoken_day(value) for slot, value in values.items() if isinstance(value, date)}
    if aspect == "flight":
        return f"a flight from {values['origin']} to {trip.city} on {days['date']}"
    if aspect == "restaurant":
        return f"a restaurant in {trip.city} for {days['date']}"
    article = "an" if aspect == "apartment" else "a"
    return f"{article} {aspect.replace('_', ' ')} in {trip.city} from {days['start']} to {days['end']}"
