"""What people can want of a trip: the bank of preferences in `words/preferences.json`.

A preference belongs to a category of an aspect (flight, layover). Its `check` is data: a property of the option
(`options.read`), one of the `FORMS`, and a value. Categories of one aspect own different properties, so that preferences
of different categories never bear on each other; those of one category contradict or replace each other, and never
occur in one task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from userrl.errors import DataError, UnknownName
from userrl.gyms.travel.options import FIELDS, read

FORMS: Mapping[str, Callable[[Any, Any], bool]] = {
    "is": lambda found, value: bool(found == value),
    "offered": lambda price, wanted: (price is not None) is wanted,
    "at_least": lambda found, least: found is not None and found >= least,
    "at_most": lambda found, most: found is not None and found <= most,
    "all_end_with": lambda texts, end: all(text.endswith(end) for text in texts),
    "number_at_most": lambda items, most: len(items) <= most,
    "each_at_least": lambda numbers, least: all(number >= least for number in numbers),
    "each_at_most": lambda numbers, most: all(number <= most for number in numbers),
    "one_at_least": lambda numbers, least: any(number >= least for number in numbers),
    "sum_at_least": lambda counts, least: sum(counts.values()) >= least,
    "one_star_share_at_most": lambda counts, most: counts["1_star"] <= most * sum(counts.values()),
    "category_is": lambda car, name: bool(car["categories"] == name),
    "seats_at_least": lambda car, least: bool(car["seats"] >= least),
}
"""Form of a check -> (what the option has, the check's value) -> whether it holds."""


@dataclass(frozen=True)
class Category:
    """A sort of thing that people want of an aspect."""

    name: str
    aspect: str
    label: str
    """As a question would put it: "stops and layovers"."""
    words: tuple[str, ...]
    """Words by which a question names it. No word of one category is part of a word of another of the same aspect."""
    values: Mapping[str, Sequence[Any]] = field(hash=False)
    """Property of an option that it owns -> values that options have, more frequent ones repeated."""


@dataclass(frozen=True)
class Preference:
    """Something that a user wants of an aspect, and what it says so that others can guess."""

    key: str
    """`<aspect>.<category>.<name>`."""
    aspect: str
    category: str
    text: str
    """Plainly: "wants a nonstop flight"."""
    hints: tuple[str, ...]
    """Implicitly: each lets one infer the preference, and is understood alone."""
    check: Mapping[str, Any] = field(hash=False)
    """Field and form, e.g. {"field": "service/checked bag", "at_most": 0}."""
    traits: Mapping[str, str] = field(hash=False, default_factory=dict)
    """What its hints give away of the speaker: {"animal": "no"}. Those of a task must `agree`, with each other and with
    what the trip says: party (alone, more), with (friends, partner ...), drives (yes, no), age (young, older) and so on."""

    def holds(self, option: Mapping[str, Any]) -> bool:
        """Whether an option of the aspect fulfills it."""
        form = next(name for name in self.check if name != "field")
        return FORMS[form](read(option, self.check["field"]), self.check[form])


def bank() -> Mapping[str, Preference]:
    """Key -> preference, in the order of the file."""
    return _built_in()[0]


def categories(aspect: str) -> Mapping[str, Category]:
    """Name -> category of an aspect."""
    if aspect not in FIELDS:
        raise UnknownName("aspect", aspect, FIELDS)
    return _built_in()[1][aspect]


def hints_of(preference: Mapping[str, Any]) -> Sequence[str]:
    """The implicit phrasings of a task's preference: its own, or those of the bank."""
    own: Sequence[str] | None = preference.get("hints")
    if own:
        return own
    key = str(preference.get("key", ""))
    if key not in bank():
        raise UnknownName("travel preference", key, bank(), "A preference has hints, or a key of the bank.")
    return bank()[key].hints


def agree(*traits: Mapping[str, str]) -> bool:
    """Whether one person can have all these traits: none is given two values."""
    seen: dict[str, str] = {}
    return all(seen.setdefault(name, value) == value for some in traits for name, value in some.items())


# --- hearing ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16_384)
def recognize(text: str, aspect: str | None = None) -> Preference | None:
    """The preference of which a text holds a hint of the bank, whatever else it says; the first one, if it holds several.

    aspect: look only at preferences of this one.
    """
    words = _words(text)
    found = [
        (at, -len(hint), preference)
        for preference in bank().values()
        if aspect in (None, preference.aspect)
        for hint in _heard()[preference.key]
        if (at := words.find(hint)) >= 0
    ]
    return min(found, key=lambda entry: entry[:2])[2] if found else None


@cache
def _heard() -> Mapping[str, Sequence[str]]:
    return {key: [_words(hint) for hint in preference.hints] for key, preference in bank().items()}


def _words(text: str) -> str:
    """Lower-case words and nothing else, with a blank before and after."""
    words = re.findall(r"[^\W_]+", re.sub(r"['’]", "", text.lower()))
    return f" {' '.join(words)} "


# --- the file --------------------------------------------------------------------------------------------------------

_Text = Annotated[str, Field(min_length=1)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _PreferenceRow(_Row):
    text: _Text
    check: dict[str, Any]
    traits: dict[str, str] = {}
    hints: Annotated[list[_Text], Field(min_length=1)]


class _CategoryRow(_Row):
    label: _Text
    words: Annotated[list[_Text], Field(min_length=1)]
    values: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]
    preferences: Annotated[dict[str, _PreferenceRow], Field(min_length=1)]


_FILE = TypeAdapter(dict[str, dict[str, _CategoryRow]])
_Bank = tuple[Mapping[str, Preference], Mapping[str, Mapping[str, Category]]]


@cache
def _built_in() -> _Bank:
    path = resources.files(__package__).joinpath("words", "preferences.json")
    return load(path.read_text("utf-8"), "words/preferences.json")


def load(text: str, where: str) -> _Bank:
    """(key -> preference, aspect -> name -> category) of a file of the bank's form.

    Raises DataError, naming `where` and the place in the file, for what does not fit.
    """
    try:
        rows = _FILE.validate_python(json.loads(text))
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON: {error}.") from error
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(f"{where}, {'.'.join(map(str, fault['loc']))} is {fault['input']!r:.80}: {fault['msg']}.") from error
    if set(rows) != set(FIELDS):
        raise DataError(f"{where} has the aspects {sorted(rows)}; expected {sorted(FIELDS)}.")
    found: dict[str, Preference] = {}
    for aspect, group in rows.items():
        owned = [name for row in group.values() for name in row.values]
        if twice := {name for name in owned if owned.count(name) > 1}:
            raise DataError(
                f"{where}, {aspect}: two categories own {sorted(twice)[0]!r}; preferences of both would bear on each other."
            )
        for name, row in group.items():
            for own, entry in row.preferences.items():
                key = f"{aspect}.{name}.{own}"
                _check_check(f"{where}, {key}", entry.check, row.values)
                found[key] = Preference(key, aspect, name, entry.text, tuple(entry.hints), entry.check, entry.traits)
    shelves = {
        aspect: {name: Category(name, aspect, row.label, tuple(row.words), row.values) for name, row in group.items()}
        for aspect, group in rows.items()
    }
    return found, shelves


def _check_check(where: str, check: Mapping[str, Any], owned: Iterable[str]) -> None:
    forms = set(check) - {"field"}
    if len(check) != 2 or len(forms) != 1 or not forms <= set(FORMS):
        raise DataError(f"{where}: check is {dict(check)!r}; expected a field and one of {', '.join(FORMS)}.")
    if check["field"] not in set(owned):
        raise DataError(f"{where}: check is about {check['field']!r}, which its category does not own ({', '.join(owned)}).")
