"""An invented world by seed: people, towns, rivers, companies and the facts that tie them together.

Every name is made of syllables; none is taken from anywhere.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from userrl.gyms.search.language import KINDS, RELATIONS
from userrl.gyms.search.results import Result

COUNTS = {
    "school": 34,
    "company": 40,
    "person": 110,
    "town": 60,
    "river": 44,
    "mountain": 44,
    "invention": 40,
    "award": 22,
    "book": 40,
    "bridge": 34,
}
"""Things of each kind. Schools and companies come first: what happens in them happens after they were founded."""
TAUGHT_SHARE = 0.8
"""Share of people, other than the oldest, whose teacher is known."""


@dataclass(frozen=True)
class Thing:
    """Something with a name, and the facts of its passage."""

    kind: str
    name: str
    facts: Mapping[str, str]
    """Relation -> value, and what fills the blanks that no question is about."""


def world(seed: int) -> list[Thing]:
    """The world of a seed: COUNTS things of each kind, no two of one name."""
    rng = random.Random(f"search world|{seed}")
    names = _names(rng)
    people, towns = names["person"], names["town"]
    born = {person: rng.randint(1690, 1900) for person in people}
    oldest = sorted(people, key=lambda person: born[person])[: len(people) // 4]
    founded: dict[str, int] = {}
    numbers = {
        "population": iter(rng.sample(range(1_100, 96_000), COUNTS["town"])),
        "length": iter(rng.sample(range(24, 980), COUNTS["river"])),
        "height": iter(rng.sample(range(610, 4_900), COUNTS["mountain"])),
        "span": iter(rng.sample(range(28, 790), COUNTS["bridge"])),
    }

    def later(person: str, low: int, high: int) -> str:
        return str(born[person] + rng.randint(low, high))

    def found(name: str, founder: str) -> dict[str, str]:
        founded[name] = born[founder] + rng.randint(24, 55)
        return {"founder": founder, "founded": str(founded[name])}

    def of_person(name: str) -> dict[str, str]:
        facts = {"birthplace": rng.choice(towns), "birth_year": str(born[name])}
        if open_by_then := [school for school in names["school"] if founded[school] <= born[name] + 10]:
            facts["school"] = rng.choice(open_by_then)
        older = [other for other in people if 12 <= born[name] - born[other] <= 45]
        if older and rng.random() < TAUGHT_SHARE:
            facts["teacher"] = rng.choice(older)
        return facts

    def of_town(name: str) -> dict[str, str]:
        return {
            "river": rng.choice(names["river"]),
            "population": f"{next(numbers['population']):,}",
            "chartered": str(rng.randint(1120, 1640)),
            "architect": rng.choice(people),
        }

    def of_river(name: str) -> dict[str, str]:
        return {"headwater": rng.choice(names["mountain"]), "length": str(next(numbers["length"]))}

    def of_mountain(name: str) -> dict[str, str]:
        climber = rng.choice(people)
        return {"height": f"{next(numbers['height']):,}", "climber": climber, "climb_year": later(climber, 19, 50)}

    def of_company(name: str) -> dict[str, str]:
        goods = _words()["goods"][name.split()[-1]]
        return {**found(name, rng.choice(people)), "seat": rng.choice(towns), "goods": goods}

    def of_invention(name: str) -> dict[str, str]:
        inventor = rng.choice(people)
        facts = {"inventor": inventor, "invented": later(inventor, 20, 60)}
        if open_by_then := [company for company in names["company"] if founded[company] <= int(facts["invented"])]:
            facts["maker"] = rng.choice(open_by_then)
        return facts

    def of_award(name: str) -> dict[str, str]:
        winner, namesake = rng.sample(people, 2)
        return {"winner": winner, "first_given": later(winner, 24, 65), "namesake": namesake}

    def of_book(name: str) -> dict[str, str]:
        author = rng.choice(people)
        return {"author": author, "published": later(author, 20, 65), "setting": rng.choice(towns)}

    def of_bridge(name: str) -> dict[str, str]:
        engineer = rng.choice(people)
        facts = {"crossed": rng.choice(names["river"]), "engineer": engineer, "opened": later(engineer, 26, 60)}
        return {**facts, "span": str(next(numbers["span"]))}

    def of_school(name: str) -> dict[str, str]:
        return {**found(name, rng.choice(oldest)), "place": rng.choice(towns)}

    made: dict[str, Callable[[str], dict[str, str]]] = {
        "person": of_person,
        "town": of_town,
        "river": of_river,
        "mountain": of_mountain,
        "company": of_company,
        "invention": of_invention,
        "award": of_award,
        "book": of_book,
        "bridge": of_bridge,
        "school": of_school,
    }
    things = []
    for kind in COUNTS:
        for name in names[kind]:
            fillers = {blank: rng.choice(texts) for blank, texts in _words()["fillers"].items()}
            things.append(Thing(kind, name, {**fillers, **made[kind](name)}))
    return things


@cache
def _words() -> Mapping[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("content", "words.toml").read_text("utf-8"))


def passages(things: Sequence[Thing], seed: int) -> list[Result]:
    """One passage for each thing, worded by the seed, in an order that tells nothing."""
    rng = random.Random(f"search passages|{seed}")
    written = []
    for thing in things:
        kind, fill = KINDS[thing.kind], {"x": thing.name, **thing.facts}
        sentences = []
        for group in kind.sentences:
            sentence = rng.choice(group)
            if all(f"{{{name}}}" not in sentence or name in fill for name in RELATIONS):
                sentences.append(sentence.format_map(fill))
        sentences.append(rng.choice(kind.asides).format_map(fill))
        written.append(Result(title_of(thing.name), " ".join(sentences), kind.source))
    rng.shuffle(written)
    return written


def title_of(name: str) -> str:
    """The title of the passage about a thing.

    >>> title_of("quorbiscope")
    'Quorbiscope'
    """
    return name[0].upper() + name[1:]


def _names(rng: random.Random) -> dict[str, list[str]]:
    stems, words = _Stems(rng), {name: text.split() for name, text in _words()["words"].items()}
    companies = list(_words()["goods"])
    givens = [stems.name("given") for _ in range(70)]
    families = [stems.name("family") for _ in range(80)]
    people: dict[str, None] = {}
    while len(people) < COUNTS["person"]:
        people[f"{rng.choice(givens)} {rng.choice(families)}"] = None
    one: dict[str, Callable[[], str]] = {
        "town": lambda: stems.name("town"),
        "river": lambda: stems.name("river"),
        "mountain": lambda: f"Mount {stems.name('mountain')}",
        "company": lambda: f"{stems.name('other')} {rng.choice(companies)}",
        "invention": lambda: stems.name("invention").lower(),
        "award": lambda: f"{stems.name('other')} {rng.choice(words['awards'])}",
        "book": lambda: f"The {rng.choice(words['adjectives'])} {rng.choice(words['nouns'])} of {stems.name('other')}",
        "bridge": lambda: f"{stems.name('other')} Bridge",
        "school": lambda: f"{stems.name('other')} {rng.choice(words['schools'])}",
    }
    return {"person": list(people), **{kind: [make() for _ in range(COUNTS[kind])] for kind, make in one.items()}}


class _Stems:
    """Names that all differ in their first syllable."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.used: set[str] = set()
        self.syllables = [text.split() for text in _words()["syllables"].values()]
        self.endings = {kind: text.split() for kind, text in _words()["endings"].items()}

    def name(self, kind: str) -> str:
        while (stem := "".join(map(self.rng.choice, self.syllables))) in self.used:
            pass
        self.used.add(stem)
        ending: str = self.rng.choice(self.endings[kind])
        return (stem + ending).capitalize()
