"""How the invented world is told and asked about: sentences of its passages, and phrases of its questions.

One table each, read in both directions: the generator fills the blanks, the scripted expert and the checks find
what was filled in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache


@dataclass(frozen=True)
class Kind:
    """A sort of thing that has passages. In sentences `{x}` is its name; other blanks are facts or fillers."""

    called: str
    """How a question names it."""
    source: str
    """The invented reference work that its passages come from."""
    sentences: tuple[tuple[str, ...], ...]
    """A passage holds one sentence of each group. A sentence whose blanks cannot all be filled is left out."""
    asides: tuple[str, ...]
    """Sentences without facts, one of which ends a passage."""


@dataclass(frozen=True)
class Relation:
    """A step from one thing to another thing, or to a number."""

    kinds: tuple[str, ...]
    """What `{x}` may be."""
    value: str
    """What is found there: a kind, or "year", "inhabitants", "kilometers", "meters"."""
    asks: tuple[str, ...]
    """As a whole question."""
    phrases: tuple[str, ...] = ()
    """As a part of a longer one; empty for numbers."""
    backward: str = ""
    """The relation that this one is the inverse of: it is written in the passage of its value, not of `{x}`."""


KINDS: Mapping[str, Kind] = {
    "person": Kind(
        "{x}",
        "Dictionary of Lives",
        (
            (
                "{x}, {trade} by training, was born in {birthplace} in {birth_year}.",
                "Born in {birthplace} in {birth_year}, {x} became {trade}.",
                "{x} was {trade} who was born in {birth_year} in {birthplace}.",
            ),
            (
                "As an apprentice {x} was taught by {teacher}.",
                "The teacher of {x} was {teacher}.",
                "{teacher} was the teacher of {x} for six years.",
            ),
            ("{x} studied at {school}.", "The school years were spent at {school}.", "{x} attended {school}."),
        ),
        (
            "Little is known of the later years.",
            "The letters of {x} fill nine boxes.",
            "A love of chess never faded.",
            "Friends praised a dry sense of humor.",
            "A statue was planned but never paid for.",
        ),
    ),
    "town": Kind(
        "{x}",
        "Gazetteer of Towns",
        (
            (
                "{x} is a town on the river {river}.",
                "{x} lies on the river {river}.",
                "The river {river} flows through the town of {x}.",
            ),
            (
                "It has {population} inhabitants.",
                "{population} people live there.",
                "The last count found {population} inhabitants.",
            ),
            ("It received its charter in {chartered}.", "The town charter dates from {chartered}."),
            ("The town hall was designed by {architect}.", "{architect} was the architect of its town hall."),
        ),
        (
            "The market is held on Thursdays.",
            "Its plum cake is well known in the region.",
            "Two old gates of the town wall still stand.",
            "The streets of the upper quarter are steep.",
        ),
    ),
    "river": Kind(
        "the river {x}",
        "Gazetteer of Waters",
        (
            ("The {x} is a river that rises at {headwater}.", "The river {x} rises at {headwater}."),
            ("It is {length} kilometers long.", "Its course measures {length} kilometers."),
        ),
        (
            "Its water is brown with peat.",
            "Barges carry timber and slate on its lower course.",
            "It often freezes in winter.",
            "Herons nest in its reeds.",
        ),
    ),
    "mountain": Kind(
        "{x}",
        "Gazetteer of Heights",
        (
            (
                "{x} is a mountain of {height} meters.",
                "{x} rises to {height} meters.",
                "The summit of {x} is {height} meters high.",
            ),
            (
                "It was first climbed in {climb_year} by {climber}.",
                "The first to climb it was {climber}, in {climb_year}.",
                "{climber} first climbed it in {climb_year}.",
            ),
        ),
        (
            "Snow lies on its northern side until June.",
            "A hut below the summit offers twelve beds.",
            "Its rock is a gray schist.",
            "Goats graze on its slopes.",
        ),
    ),
    "company": Kind(
        "{x}",
        "Register of Companies",
        (
            ("{x} makes {goods}.", "{x} is a maker of {goods}."),
            (
                "It was founded in {founded} by {founder}.",
                "{founder} founded it in {founded}.",
                "Its founder was {founder}, who opened the first workshop in {founded}.",
            ),
            ("It is based in {seat}.", "Its head office stands in {seat}.", "The company has its seat in {seat}."),
        ),
        (
            "Its trade mark is a white hare.",
            "A fire destroyed the old ledgers.",
            "It employs some three hundred people.",
            "Its goods are sold in forty shops.",
        ),
    ),
    "invention": Kind(
        "the {x}",
        "Cabinet of Devices",
        (
            ("The {x} is a device that {use}.", "The {x} {use}."),
            (
                "It was invented in {invented} by {inventor}.",
                "{inventor} invented it in {invented}.",
                "Its inventor was {inventor}, who drew the first plans in {invented}.",
            ),
            ("It was first built by {maker}.", "The first ones were built by {maker}.", "{maker} built the first hundred."),
        ),
        (
            "Few are still in working order.",
            "Later models had a brass case.",
            "It needs oil once a week.",
            "Schools still show it in lessons.",
        ),
    ),
    "award": Kind(
        "the {x}",
        "Almanac of Honors",
        (
            ("The {x} is given for {merit}.", "The {x} rewards {merit}."),
            (
                "Its first winner was {winner}, in {first_given}.",
                "It was first given in {first_given}, to {winner}.",
                "{winner} was its first winner, in {first_given}.",
            ),
            ("It is named after {namesake}.", "Its name honors {namesake}."),
        ),
        ("It is given every third year.", "The winner also receives a barrel of cider.", "The jury has seven members."),
    ),
    "book": Kind(
        "the book {x}",
        "Catalog of Books",
        (
            ("{x} is {genre}.",),
            (
                "It was written by {author} and came out in {published}.",
                "{author} wrote it; it came out in {published}.",
                "Its author was {author}, and the first edition came out in {published}.",
            ),
            ("The story is set in {setting}.", "Most of it is set in {setting}."),
        ),
        ("The first edition had a green binding.", "It has been put on the stage twice.", "Critics found its ending too sudden."),
    ),
    "bridge": Kind(
        "the {x}",
        "Survey of Bridges",
        (
            ("The {x} crosses the river {crossed}.", "The {x} spans the river {crossed}."),
            (
                "It was designed by {engineer} and opened in {opened}.",
                "{engineer} designed it, and it opened in {opened}.",
                "Opened in {opened}, it is a work of {engineer}.",
            ),
            ("It is {span} meters long.", "Its length is {span} meters."),
        ),
        (
            "Its lamps are lit at dusk.",
            "Carts had to pay a toll on it.",
            "It stands on five piers.",
            "Swallows nest under its arches.",
        ),
    ),
    "school": Kind(
        "{x}",
        "Register of Schools",
        (
            ("{x} is a school in {place}.", "{x} stands in {place}."),
            (
                "It was founded in {founded} by {founder}.",
                "{founder} founded it in {founded}.",
                "Its founder was {founder}, who opened the doors in {founded}.",
            ),
        ),
        (
            "Its library holds nine thousand volumes.",
            "Lessons begin at seven.",
            "Its choir sings in the town square on holidays.",
        ),
    ),
}

RELATIONS: Mapping[str, Relation] = {
    "birthplace": Relation(
        ("person",),
        "town",
        ("In which town was {x} born?", "Where was {x} born?"),
        ("the birthplace of {x}", "the town where {x} was born"),
    ),
    "birth_year": Relation(("person",), "year", ("In which year was {x} born?", "When was {x} born?")),
    "teacher": Relation(
        ("person",),
        "person",
        ("Who taught {x}?", "Who was the teacher of {x}?"),
        ("the teacher of {x}", "the person who taught {x}"),
    ),
    "school": Relation(
        ("person",),
        "school",
        ("Which school did {x} attend?", "At which school did {x} study?"),
        ("the school of {x}", "the school that {x} attended"),
    ),
    "river": Relation(
        ("town",),
        "river",
        ("Which river flows through {x}?", "On which river does {x} lie?"),
        ("the river that flows through {x}", "the river of {x}"),
    ),
    "population": Relation(("town",), "inhabitants", ("How many people live in {x}?", "How many inhabitants does {x} have?")),
    "chartered": Relation(("town",), "year", ("In which year did {x} receive its charter?", "When did {x} receive its charter?")),
    "architect": Relation(
        ("town",),
        "person",
        ("Who designed the town hall of {x}?", "Who was the architect of the town hall of {x}?"),
        ("the architect of the town hall of {x}", "the person who designed the town hall of {x}"),
    ),
    "headwater": Relation(
        ("river",),
        "mountain",
        ("At which mountain does {x} rise?", "Which mountain is the source of {x}?"),
        ("the mountain where {x} rises", "the mountain at the source of {x}"),
    ),
    "length": Relation(("river",), "kilometers", ("How long is {x}, in kilometers?", "How many kilometers long is {x}?")),
    "height": Relation(("mountain",), "meters", ("How high is {x}, in meters?", "How many meters high is {x}?")),
    "climber": Relation(
        ("mountain",),
        "person",
        ("Who first climbed {x}?", "Who was the first to climb {x}?"),
        ("the first person to climb {x}", "the first climber of {x}"),
    ),
    "climb_year": Relation(("mountain",), "year", ("In which year was {x} first climbed?", "When was {x} first climbed?")),
    "founder": Relation(
        ("company", "school"),
        "person",
        ("Who founded {x}?", "Who was the founder of {x}?"),
        ("the founder of {x}", "the person who founded {x}"),
    ),
    "founded": Relation(("company", "school"), "year", ("In which year was {x} founded?", "When was {x} founded?")),
    "seat": Relation(
        ("company",),
        "town",
        ("In which town is {x} based?", "Where is {x} based?"),
        ("the town where {x} is based", "the seat of {x}"),
    ),
    "inventor": Relation(
        ("invention",),
        "person",
        ("Who invented {x}?", "Who was the inventor of {x}?"),
        ("the inventor of {x}", "the person who invented {x}"),
    ),
    "maker": Relation(
        ("invention",),
        "company",
        ("Which company first built {x}?", "Which company was the first maker of {x}?"),
        ("the company that first built {x}", "the first maker of {x}"),
    ),
    "winner": Relation(
        ("award",),
        "person",
        ("Who was the first winner of {x}?", "Who first won {x}?"),
        ("the first winner of {x}", "the person who first won {x}"),
    ),
    "namesake": Relation(("award",), "person", ("After whom is {x} named?",), ("the namesake of {x}",)),
    "author": Relation(
        ("book",),
        "person",
        ("Who wrote {x}?", "Who was the author of {x}?"),
        ("the author of {x}", "the person who wrote {x}"),
    ),
    "setting": Relation(("book",), "town", ("In which town is {x} set?", "Where is {x} set?"), ("the town where {x} is set",)),
    "engineer": Relation(
        ("bridge",),
        "person",
        ("Who designed {x}?", "Who was the engineer of {x}?"),
        ("the engineer of {x}", "the person who designed {x}"),
    ),
    "crossed": Relation(
        ("bridge",),
        "river",
        ("Which river does {x} cross?",),
        ("the river that {x} crosses", "the river under {x}"),
    ),
    "place": Relation(
        ("school",),
        "town",
        ("In which town does {x} stand?", "Where does {x} stand?"),
        ("the town where {x} stands",),
    ),
    "company_of": Relation(("person",), "company", ("Which company did {x} found?",), backward="founder"),
    "invention_of": Relation(("person",), "invention", ("Which device did {x} invent?",), backward="inventor"),
    "book_of": Relation(("person",), "book", ("Which book did {x} write?",), backward="author"),
    "bridge_of": Relation(("person",), "bridge", ("Which bridge did {x} design?",), backward="engineer"),
    "climb_of": Relation(("person",), "mountain", ("Which mountain was first climbed by {x}?",), backward="climber"),
}

UNITS = ("inhabitants", "kilometers", "meters")


def facts_in(text: str) -> dict[str, str]:
    """Relation -> value, as the sentences of a passage's text tell them.

    >>> facts_in("Ombrel Mills makes flour. It was founded in 1820 by Zhovika Thrunn. A fire destroyed the old ledgers.")
    {'founded': '1820', 'founder': 'Zhovika Thrunn'}
    """
    return {name: value for sentence in _SENTENCE.findall(text) for name, value in _told_by(sentence)}


@lru_cache(maxsize=8192)
def _told_by(sentence: str) -> Sequence[tuple[str, str]]:
    match = next((match for _, pattern in _telling() if (match := pattern.fullmatch(sentence))), None)
    return [(name, value) for name, value in match.groupdict().items() if name in RELATIONS] if match else []


def read_question(text: str) -> tuple[str, list[str]] | None:
    """What a question starts from, and the relations that lead from there to the answer; None if not understood.

    >>> read_question("In which town was the founder of Ombrel Mills born?")
    ('Ombrel Mills', ['founder', 'birthplace'])
    """
    for name, pattern in _asking():
        if match := pattern.fullmatch(text.strip()):
            start, steps = _unfold(match["x"])
            return start, [*steps, name]
    return None


def _unfold(text: str) -> tuple[str, list[str]]:
    for name, pattern in _within():
        if match := pattern.fullmatch(text):
            start, steps = _unfold(match["x"])
            return start, [*steps, name]
    return next((match["x"] for _, pattern in _calling() if (match := pattern.fullmatch(text))), text), []


_SENTENCE = re.compile(r"[^.\s][^.]*\.")


@cache
def _telling() -> Sequence[tuple[str, re.Pattern[str]]]:
    sentences = {text for kind in KINDS.values() for group in kind.sentences for text in group}
    return _patterns(("", text) for text in sorted(sentences) if any(f"{{{name}}}" in text for name in RELATIONS))


@cache
def _asking() -> Sequence[tuple[str, re.Pattern[str]]]:
    return _patterns((name, ask) for name, relation in RELATIONS.items() for ask in relation.asks)


@cache
def _within() -> Sequence[tuple[str, re.Pattern[str]]]:
    return _patterns((name, phrase) for name, relation in RELATIONS.items() for phrase in relation.phrases)


@cache
def _calling() -> Sequence[tuple[str, re.Pattern[str]]]:
    return _patterns((name, kind.called) for name, kind in KINDS.items())


def _patterns(templates: Iterable[tuple[str, str]]) -> Sequence[tuple[str, re.Pattern[str]]]:
    """Longest first, as a short template fits what a longer one says: "the {x}" and "the river {x}"."""
    return [(name, _pattern(text)) for name, text in sorted(templates, key=lambda t: -len(re.sub(r"{\w+}", "", t[1])))]


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(template)))
