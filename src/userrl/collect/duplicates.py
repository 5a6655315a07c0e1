"""Episodes that say the same.

Two episodes of a gym are *duplicates* when prompt and turns are the same text, whatever case and spacing. They are
*near-duplicates* when their prompts are alike and their turns are alike: the Jaccard index of their sets of 3-grams (of
words and signs) is at least a threshold, for each of the two. Of a turn counts what the agent wrote and the beginning of
the answer (400 characters, so that long search results do not drown the talk). Rewards and what is hidden play no part.

The comparison is exact, not a sketch. With n-grams in order of rarity, two sets of which the larger one has n can only have
a Jaccard index of t if they share one of their first n - ceil(t n) + 1 (prefix filter: Bayardo, Ma and Srikant 2007,
"Scaling Up All Pairs Similarity Search"), so that only a few pairs are compared.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from userrl.core import Episode

SIZE = 3
"""Words and signs of an n-gram."""
T = TypeVar("T")
ANSWER = 400
"""Characters of an answer that count."""
_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and signs in lower case."""
    return _WORD.findall(text.casefold())


def ngrams(tokens: Sequence[str], size: int = SIZE) -> Iterator[str]:
    """Every run of `size` words; the whole of a shorter text."""
    if tokens:
        for i in range(max(1, len(tokens) - size + 1)):
            yield " ".join(tokens[i : i + size])


@dataclass(frozen=True)
class Match:
    why: Literal["duplicate", "near-duplicate"]
    task: str
    """Id of the task of the earlier episode."""


@dataclass(frozen=True)
class _Text:
    task: str
    prompt: frozenset[str]
    turns: frozenset[int]


@dataclass
class _Gym:
    """What was seen of a gym."""

    rarity: dict[str, int]
    """n-gram of the turns -> its place, the rarest first."""
    equal: dict[bytes, str] = field(default_factory=dict)
    """Digest of the whole text -> task."""
    by_gram: dict[int, list[_Text]] = field(default_factory=lambda: defaultdict(list))
    """n-gram -> the texts among whose rarest it is."""


class Alike:
    """Of a stream of episodes, those that are like an earlier one.

    Args:
        episodes: all that will come, in any order: they tell how rare an n-gram is.
        near: the least Jaccard index of near-duplicates, above 0; at 1 little more than duplicates is found.
    """

    def __init__(self, episodes: Iterable[Episode], near: float) -> None:
        self.near = near
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for episode in episodes:
            counts[episode.task.gym].update(set(ngrams(_turns(episode))))
        self._gyms = {gym: _Gym(_by_rarity(count)) for gym, count in counts.items()}

    def match(self, episode: Episode) -> Match | None:
        """What the episode is like among those that this was asked of before; where there is nothing, it is remembered."""
        gym, whole = self._gyms[episode.task.gym], _whole(episode)
        if whole in gym.equal:
            return Match("duplicate", gym.equal[whole])
        prompt, turns = words(episode.task.prompt), _turns(episode)
        text = _Text(episode.task.id, frozenset(ngrams(prompt)), frozenset(gym.rarity[g] for g in ngrams(turns)))
        first = sorted(text.turns)[: len(text.turns) - math.ceil(self.near * len(text.turns) - 1e-9) + 1]
        for other in {id(other): other for gram in first for other in gym.by_gram.get(gram, ())}.values():
            if self._alike(text.turns, other.turns) and self._alike(text.prompt, other.prompt):
                return Match("near-duplicate", other.task)
        gym.equal[whole] = episode.task.id
        for gram in first:
            gym.by_gram[gram].append(text)
        return None

    def _alike(self, a: Set[T], b: Set[T]) -> bool:
        few, many = sorted((len(a), len(b)))
        if few < self.near * many:
            return False
        both = len(a & b)
        return both >= self.near * (few + many - both) - 1e-9


def _by_rarity(counts: Mapping[str, int]) -> dict[str, int]:
    return {gram: place for place, gram in enumerate(sorted(counts, key=lambda gram: (counts[gram], gram)))}


def _whole(episode: Episode) -> bytes:
    """A digest of all that is said, in lower case and evenly spaced."""
    said = [episode.task.prompt, *(x for t in episode.turns for x in (t.action.kind, t.action.text, t.feedback))]
    return hashlib.sha256("\0".join(" ".join(text.casefold().split()) for text in said).encode("utf-8", "surrogatepass")).digest()


def _turns(episode: Episode) -> list[str]:
    """Words of what the agent chose and wrote, and of what it was told."""
    return [w for t in episode.turns for w in (t.action.kind, *words(t.action.text), *words(t.feedback[:ANSWER]))]
