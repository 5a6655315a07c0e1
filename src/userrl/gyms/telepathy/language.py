"""How questions and guesses are read: by the words of the table, without a model.

A question is understood when every word of it belongs to the statement of some attribute, is a joining word, a
negation, or a filler such as "usually". So a question that says more than the table knows ("bigger than a horse") is
not taken for one that says less ("a horse"): it is not understood.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from userrl.gyms.telepathy.table import Thing, content, opposites, statements, things

JOINS = {"or": "or", "either": "or", "and": "and", "but": "and"}
HAS, NOT = "has", "not"
MOST_WORDS, LONGEST_TEXT = 60, 600
"""Longer questions are not understood."""

_WORDS = content("words.toml")
FILLERS, HAVING, NEGATIONS, CONTRACTED, PARTICIPLES = (
    frozenset(_WORDS[name].split()) for name in ("fillers", "having", "negations", "contracted", "participles")
)
BASE = {form: base for base, forms in _WORDS["forms"].items() for form in forms.split()}
_REWRITES = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"\b(?:have|has|having) (?:(?:mainly|mostly) )?to do with\b", "concerns"),
        (r"\b(?:live|lives|lived|found|swim|swims) in (?:the )?(?:sea|seas|ocean|oceans)\b", "aquatic"),
        (r"\bborn in (?!(?:the )?(?:\d|nineteen|twent|eighteen|ancient|middle ages))", "in "),
        (r"\bwithout\b", "not with"),
        (r"\bother than\b", "not"),
        (r"\b(?:more|greater|higher) than\b|\bover\b|\babove\b", "more"),
        (r"\b(?:less|fewer|lower) than\b|\bunder\b|\bbelow\b", "less"),
        (rf"\b(?:has|have|had) ((?:it|this|that|he|she) )?(?=(?:ever )?(?:{'|'.join(sorted(PARTICIPLES))})\b)", r"\1"),
    )
)
_NAMED = re.compile(
    r"(?:(?:so|well|ok|okay|then) )*"
    r"(?:(?:am i right|would you say|is it true|do you mean|is it the case|could it be)(?: that)? )?"
    r"(?:(?:is|was|isnt|wasnt) (?:it|this|that|he|she|the \w+|your \w+)|it is|its|are you thinking of|you are thinking of)?"
    r"(?P<not> ?not)? ?(?:(?:called|named|just|perhaps|maybe) )*(?P<name>.+)"
)
_BEFORE_GUESS = re.compile(
    r"(?:(?:so|well|ok|okay|then|perhaps|maybe) )*(?:i (?:think|guess|believe|say) (?:that )?)?"
    r"(?:(?:my|the|final|your) )*(?:(?:guess|answer|thing|word) is )?"
    r"(?:(?:is it|it is|its|it must be|this is|that is) )?(?P<name>.+)"
)


# --- words -----------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Lower case, without accents and apostrophes; letters, digits and single spaces only."""
    text = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in re.sub("['’`]", "", text)).split())


def stem(word: str) -> str:
    """A word without its plural or third-person s."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def words(text: str) -> list[str]:
    """The words of a plain text that carry meaning: stems, joins, "has" for all kinds of having, "not" for negations."""
    for pattern, instead in _REWRITES:
        text = pattern.sub(instead, text)
    kept: list[str] = []
    for number, word in enumerate(text.split()):
        if word in CONTRACTED:
            if number:  # "isn't it red?" asks whether it is red
                kept.append(NOT)
        elif word in NEGATIONS:
            kept.append(NOT)
        elif word in HAVING:
            kept.append(HAS)
        elif word in JOINS:
            kept.append(JOINS[word])
        elif word not in FILLERS and (base := BASE.get(word, stem(word))) not in FILLERS:
            kept.append(base)
    return kept


def name_words(name: str) -> str:
    """A name for comparison: plain stems without articles."""
    return " ".join(stem(word) for word in plain(name).split() if word not in ("a", "an", "the"))


# --- questions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meaning:
    """What a question asks of a thing."""

    parts: tuple[tuple[str, bool], ...] = ()
    """(attribute, whether it must hold) of each statement in it."""
    titles: tuple[str, ...] = ()
    """Instead of parts: the things one of which it asks for by name."""
    any_of: bool = False
    """One part is enough ("or")."""
    negated: bool = False

    @property
    def topic(self) -> frozenset[str]:
        """What it is about, whatever is said of it."""
        return frozenset(self.titles or (attribute for attribute, _ in self.parts))


def holds(meaning: Meaning, thing: Thing) -> bool | None:
    """Whether it is so for the thing; None when that cannot be said."""
    if meaning.titles:
        value: bool | None = thing.title in meaning.titles
    else:
        values = [None if (v := thing.has(attribute)) is None else v is must for attribute, must in meaning.parts]
        decisive = meaning.any_of
        value = decisive if decisive in values else None if None in values else not decisive
    return None if value is None else value is not meaning.negated


def understand(question: str) -> Meaning | None:
    """What a question asks, or None when it is not understood."""
    return _understand(question) if len(question) <= LONGEST_TEXT else None


@lru_cache(maxsize=65_536)
def _understand(question: str) -> Meaning | None:
    text = plain(question)
    if len(text.split()) > MOST_WORDS:
        return None
    return _by_name(text) or _by_attributes(words(text))


def _by_name(text: str) -> Meaning | None:
    match = _NAMED.fullmatch(text)
    titles = named(match["name"]) if match and name_words(match["name"]) not in _sorts() else ()
    return Meaning(titles=titles, negated=bool(match and match["not"])) if titles else None


def _by_attributes(kept: Sequence[str]) -> Meaning | None:
    parts: list[tuple[str, bool]] = []
    joins: set[str] = set()
    nots = at = 0
    having: tuple[str, ...] = ()
    while at < len(kept):
        found, length = _longest_phrase(kept[at:], having)
        if found:
            parts += [found] if found not in parts else []
            having = (HAS,) if kept[at] == HAS else having
            at += length
        else:
            if kept[at] == NOT:
                nots += 1
            elif kept[at] in JOINS:
                joins.add(kept[at])
            else:
                return None
            at += 1
    if not parts or len(joins) > 1 or (nots and len(parts) > 1):
        return None
    return Meaning(tuple(parts), any_of="or" in joins, negated=nots % 2 == 1)


def _longest_phrase(kept: Sequence[str], having: tuple[str, ...]) -> tuple[tuple[str, bool] | None, int]:
    """The phrase that the words begin with, and its length. One "has" serves all that follow ("has stripes or spots")."""
    for length in range(min(_longest(), len(kept)), 0, -1):
        start = tuple(kept[:length])
        if found := phrases().get(start) or phrases().get((*having, *start)):
            return found, length
    return None, 0


@cache
def phrases() -> Mapping[tuple[str, ...], tuple[str, bool]]:
    """The words of a statement -> (attribute, whether the statement affirms it)."""
    found: dict[tuple[str, ...], tuple[str, bool]] = {}
    for table, affirms in ((statements(), True), (opposites(), False)):
        for attribute, said in table.items():
            for phrase in map(phrase_of, said):
                found.setdefault(phrase, (attribute, affirms))
    for phrase, meaning in list(found.items()):
        if phrase[0] == HAS and len(phrase) > 2:  # "four legs" is clear; "ball" might be the thing itself
            found.setdefault(phrase[1:], meaning)
    return found


def phrase_of(statement: str) -> tuple[str, ...]:
    """The words by which a statement is recognized. Joins at either end carry nothing ("is in or from Africa")."""
    kept = words(plain(f"it {statement}"))
    while kept and kept[0] in JOINS:
        kept.pop(0)
    return tuple(kept)


@cache
def _sorts() -> frozenset[str]:
    """Names of sorts of things, such as organ, which mean the attribute also where a thing bears the same name."""
    said = (statement for table in (statements(), opposites()) for many in table.values() for statement in many)
    return frozenset(name_words(statement.removeprefix("is ")) for statement in said if statement.startswith("is "))


@cache
def _longest() -> int:
    return max(map(len, phrases()))


# --- names -----------------------------------------------------------------------------------------------------


@cache
def _titles() -> Mapping[str, tuple[str, ...]]:
    """Name for comparison -> titles of the things that bear it."""
    found: dict[str, tuple[str, ...]] = {}
    for thing in things().values():
        for name in dict.fromkeys(map(name_words, (thing.title, *thing.aliases))):
            found[name] = (*found.get(name, ()), thing.title)
    return found


def named(name: str) -> tuple[str, ...]:
    """Titles of the things in the table that bear a name; a name may be shared."""
    return _titles().get(name_words(name), ())


def names_it(guess: str, names: Iterable[str]) -> bool:
    """Whether a guess is one of the names, whatever its case, articles, accents, punctuation and plural s.

    >>> names_it("I think it's the LIONS!", ["lion"]), names_it("lion or tiger", ["lion"])
    (True, False)
    """
    if len(guess) > LONGEST_TEXT:
        return False
    text = plain(guess)
    match = _BEFORE_GUESS.fullmatch(text)
    wanted = set(map(name_words, names)) - {""}
    return name_words(text) in wanted or bool(match and name_words(match["name"]) in wanted)
