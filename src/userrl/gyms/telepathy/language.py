"""How questions and guesses are read: by the words of the table, without a model.

A question is understood when every word of it belongs to the statement of some attribute, is a joining word, a
negation, or a filler such as "usually". So a question that says more than the table knows ("bigger than a horse") is
not taken for one that says less ("a horse"): it is not understood. Looser wordings (`content/paraphrases.toml`) must
make up the whole question.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from userrl.gyms.telepathy.table import Thing, content, had, kinds, opposites, paraphrases, statements, things

JOINS = {"or": "or", "either": "or", "and": "and", "but": "and"}
HAS, NOT = "has", "not"
MOST_WORDS, LONGEST_TEXT = 60, 600
"""Longer questions are not understood."""
MOST_REMEMBERED = 4096
"""Questions whose meaning is kept; they are the agent's words, so there is no end of them."""

_WORDS = content("words.toml")
FILLERS, HAVING, NEGATIONS, CONTRACTED, PARTICIPLES, ONE_WAY = (
    frozenset(_WORDS[name].split()) for name in ("fillers", "having", "negations", "contracted", "participles", "one_way")
)
BASE = {form: base for base, forms in _WORDS["forms"].items() for form in forms.split()}
_REWRITES = (
    *((re.compile(rule["pattern"]), rule["instead"]) for rule in _WORDS["rewrites"]),
    (re.compile(rf"^(?:{'|'.join(CONTRACTED)})\b|\b(?:{'|'.join(CONTRACTED)}) (?=(?:it|he|she|they|you|there)\b)"), ""),
    (re.compile(rf"\b(?:has|have|had) ((?:it|this|that|he|she) )?(?=(?:ever )?(?:{'|'.join(PARTICIPLES)})\b)"), r"\1"),
)
"""Applied in this order to a plain text. The first of the last two leaves "isn't it red?" asking whether it is red."""
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
    for word in text.split():
        if word in NEGATIONS or word in CONTRACTED:
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
    loose: bool = False
    """Read from a looser wording, or from statements side by side: it may be about something else than it seems."""
    only: bool | None = None
    """The one answer (before a negation) that its single part decides: a harbor town is on the coast, but not the reverse."""
    others: tuple[Meaning, ...] = ()
    """What the same words ask of things of other categories ("is it inside": a sport, a part of the body)."""

    @property
    def topic(self) -> frozenset[str]:
        """What it is about, whatever is said of it."""
        return frozenset(self.titles or (attribute for sense in (self, *self.others) for attribute, _ in sense.parts))


def holds(meaning: Meaning, thing: Thing) -> bool | None:
    """Whether it is so for the thing; None when that cannot be said."""
    if meaning.titles:
        return (thing.title in meaning.titles) is not meaning.negated
    sense = next((sense for sense in (meaning, *meaning.others) if not (sense.loose and _off_the_point(sense, thing))), None)
    if sense is None:
        return None
    values = [None if (v := thing.has(attribute)) is None else v is must for attribute, must in sense.parts]
    decisive = sense.any_of
    value = decisive if decisive in values else None if None in values else not decisive
    return None if value is None or sense.only not in (None, value) else value is not meaning.negated


def _off_the_point(meaning: Meaning, thing: Thing) -> bool:
    """Whether nothing of the thing's category has what a loose reading found ("does it kill for food": killed people).

    What sort of thing it is may be asked of anything.
    """
    sorts = kinds() if len(meaning.parts) == 1 else ()
    return any(attribute not in sorts and attribute not in had(thing.category) for attribute, _ in meaning.parts)


def understand(question: str) -> Meaning | None:
    """What a question asks, or None when it is not understood."""
    return _understand(question) if len(question) <= LONGEST_TEXT else None


@lru_cache(maxsize=MOST_REMEMBERED)
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
    """What the words ask; a negation that is not part of a wording ("no longer alive") may stand anywhere in it."""
    if found := _read(kept, 0):
        return found
    bare = [word for word in kept if word != NOT]
    found = _read(bare, kept.count(NOT)) if NOT in kept else None
    return found or (replace(loose, negated=kept.count(NOT) % 2 == 1) if (loose := _in_any_order().get(_bag(bare))) else None)


def _read(kept: Sequence[str], nots: int) -> Meaning | None:
    if loose := _paraphrases().get(tuple(kept)):
        return replace(loose, negated=nots % 2 == 1)
    parts: list[tuple[str, bool]] = []
    joins: list[str] = []
    at = 0
    having: tuple[str, ...] = ()
    loose_parts = False
    while at < len(kept):
        found, length = _longest_phrase(kept[at:], having)
        if not found and (not at or kept[at - 1] in JOINS):
            found, length = _loose_phrase(kept[at:])
            loose_parts |= bool(found)
        if found:
            parts += [found] if found not in parts else []
            having = (HAS,) if kept[at] == HAS else having
            at += length
        elif kept[at] in JOINS:
            joins.append(kept[at])
            at += 1
        elif kept[at] == NOT:
            nots += 1
            at += 1
        else:
            return None
    if not parts or len(set(joins)) > 1 or (nots and len(parts) > 1):
        return None
    return Meaning(tuple(parts), any_of="or" in joins, negated=nots % 2 == 1, loose=loose_parts or len(parts) > len(joins) + 1)


def _longest_phrase(kept: Sequence[str], having: tuple[str, ...]) -> tuple[tuple[str, bool] | None, int]:
    """The phrase that the words begin with, and its length. One "has" serves all that follow ("has stripes or spots")."""
    for length in range(min(_longest(), len(kept)), 0, -1):
        start = tuple(kept[:length])
        if found := phrases().get(start) or phrases().get((*having, *start)):
            return found, length
    return None, 0


def _loose_phrase(kept: Sequence[str]) -> tuple[tuple[str, bool] | None, int]:
    """The looser wording that makes up all words as far as the next join, and its length."""
    length = next((at for at, word in enumerate(kept) if word in JOINS), len(kept))
    loose = _paraphrases().get(tuple(kept[:length]))
    return (loose.parts[0], length) if loose and loose.only is None and not loose.others else (None, 0)


@cache
def _paraphrases() -> Mapping[tuple[str, ...], Meaning]:
    """The words of a looser wording -> what it asks."""
    senses: dict[str, tuple[bool, bool | None]] = {
        "same": (True, None), "opposite": (False, None), "narrower": (True, False), "wider": (True, True)
    }  # fmt: skip
    found: dict[tuple[str, ...], Meaning] = {}
    for sense, (affirms, only) in senses.items():
        for attribute, said in paraphrases()[sense].items():
            for phrase in map(phrase_of, said):
                meaning = Meaning(((attribute, affirms),), loose=True, only=only)
                first = found.get(phrase)
                found[phrase] = replace(first, others=(*first.others, meaning)) if first else meaning
    return found


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


@cache
def _in_any_order() -> Mapping[frozenset[str], Meaning]:
    """The words of a statement or looser wording, at least two, whatever their order -> what it asks, if that is one thing."""
    every = {phrase: Meaning((part,), loose=True) for phrase, part in phrases().items()} | dict(_paraphrases())
    found: dict[frozenset[str], set[Meaning]] = {}
    for phrase, meaning in every.items():
        found.setdefault(_bag(phrase), set()).add(meaning)
    return {bag: meanings.pop() for bag, meanings in found.items() if len(meanings) == 1 and len(bag) > 1 and not bag & ONE_WAY}


def _bag(phrase: Iterable[str]) -> frozenset[str]:
    return frozenset(phrase) - {HAS, *JOINS.values()}


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
