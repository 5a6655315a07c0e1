"""What everybody may know: the things that can be thought of, and which attributes they have."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from userrl.errors import DataError


@dataclass(frozen=True)
class Thing:
    """One thing of the table."""

    title: str
    category: str
    aliases: tuple[str, ...]
    values: Mapping[str, bool | None]
    """Attribute -> has it, lacks it, or (None) cannot be said. One that is not named is lacked."""

    def has(self, attribute: str) -> bool | None:
        return self.values.get(attribute, False)


@cache
def statements() -> Mapping[str, Sequence[str]]:
    """Attribute -> what it says about a thing ("has four legs"), in several wordings, the plainest first."""
    found: dict[str, list[str]] = content("attributes.toml")["attributes"]
    return found


@cache
def opposites() -> Mapping[str, Sequence[str]]:
    """Attribute -> statements that hold exactly when it does not."""
    found: dict[str, list[str]] = content("attributes.toml")["opposites"]
    return found


@cache
def paraphrases() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Sense (same, opposite, narrower, wider) -> attribute -> looser wordings, which only the user goes by."""
    return content("paraphrases.toml")


@cache
def kinds() -> Mapping[str, str]:
    """Category -> what the agent is told ("an animal")."""
    return {category: entry["kind"] for category, entry in content("entities.toml").items()}


@cache
def things() -> Mapping[str, Thing]:
    """Title -> thing, of all categories. Raises DataError for an attribute or a title that does not exist."""
    found: dict[str, Thing] = {}
    for category, entry in content("entities.toml").items():
        common = {**dict.fromkeys(entry["always"].split(), True), **dict.fromkeys(entry["unsure"].split(), None)}
        aliases = entry["aliases"]
        for title, own in entry["things"].items():
            if title in found:
                raise DataError(f"entities.toml: {title!r} is in {found[title].category} and in {category}; titles must differ.")
            values = {**common, **dict(map(_value, own.split()))}
            if unknown := values.keys() - statements().keys():
                raise DataError(f"entities.toml, {category}, {title!r}: no attribute {min(unknown)!r} in attributes.toml.")
            found[title] = Thing(title, category, tuple(aliases.get(title, ())), values)
        if extra := aliases.keys() - entry["things"].keys():
            raise DataError(f"entities.toml, {category}: aliases of {min(extra)!r}, which is no thing of it.")
    return found


@cache
def of_category(category: str) -> Sequence[Thing]:
    return tuple(thing for thing in things().values() if thing.category == category)


@cache
def had(category: str) -> frozenset[str]:
    """The attributes that something of a category has, or may have; of the others it may make no sense to ask."""
    return frozenset(key for thing in of_category(category) for key, value in thing.values.items() if value is not False)


def describe(thing: Thing) -> str:
    """What it has, in the words of the table, most particular first, for a user that is a model or a person."""
    common = set(content("entities.toml")[thing.category]["always"].split())
    told = [key for key, value in thing.values.items() if value]
    return "; ".join(f"it {statements()[key][0]}" for key in sorted(told, key=lambda key: key in common))


def _value(token: str) -> tuple[str, bool | None]:
    return (token[1:], None if token[0] == "?" else False) if token[0] in "?!" else (token, True)


@cache
def content(name: str) -> Mapping[str, Any]:
    """A file of the folder `content`."""
    return tomllib.loads(resources.files(__package__).joinpath("content", name).read_text("utf-8"))
