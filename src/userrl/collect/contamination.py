"""Training tasks that equal, or nearly equal, a task that evaluations use.

Held out are the tasks of the splits whose names end with test, validation or dev, built in or imported. A task must not be
trained on when

- its id is that of a held-out task; or
- its hidden part is that of a held-out task; or
- its prompt, or what its hidden part says in words, equals a held-out task's or nearly does: of the held-out text's own
  5-grams (words and signs) at least 80% stand in it, and of all 5-grams of the two together at least 80% stand in both.

A gym may say otherwise what makes two of its tasks the same (`Gym.matter`): in tau not the prompt, which only opens a talk, but
the errand, the calls of the ground truth.

What more than two held-out tasks, or more than half of them, have in common is a template and proves nothing: a text's own
5-grams are those that no more have, a text with fewer than four of its own (a greeting, a fixed prompt) is like no other,
and an equal hidden part counts where no more have it. So gyms whose prompts are all alike (telepathy, function) lose nothing
by them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from userrl.collect.duplicates import ngrams, words
from userrl.core import Task
from userrl.gyms.base import find

ENDINGS = ("test", "validation", "dev")
"""How the names of held-out splits end."""
SIZE = 5
"""Words and signs of an n-gram."""
TEMPLATE = 2
"""Held-out tasks that may share a text before it counts as a template; half of them, where there are fewer than four."""
OWN = 4
"""n-grams of its own that a text must have for likeness to mean something."""
NEAR = 0.8


Why = Literal["held-out id", "held-out prompt", "held-out errand", "held-out hidden"]
_WHY: Mapping[str, Why] = {"prompt": "held-out prompt", "errand": "held-out errand", "hidden": "held-out hidden"}


@dataclass(frozen=True)
class Found:
    why: Why
    task: str
    """Id of the held-out task."""


class HeldOut:
    """Tasks that must not be trained on."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.ids: set[str] = set()
        seen: set[str] = set()
        parts: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        for task in tasks:
            self.ids.add(task.id)
            matter = find(task.gym).matter(task)
            if (whole := _whole(matter)) not in seen:  # a task of several splits is one
                seen.add(whole)
                for name, value in matter.items():
                    parts[name].append((task.id, value))
        self._parts = {name: _Part(values) for name, values in parts.items()}

    def match(self, task: Task) -> Found | None:
        """The held-out task that a task is like."""
        if task.id in self.ids:
            return Found("held-out id", task.id)
        for name, value in find(task.gym).matter(task).items():
            if name in self._parts and (found := self._parts[name].like(value)):
                return Found(_WHY[name], found)
        return None


class _Part:
    """One part (such as the prompt) of the held-out tasks: (task, text or JSON value)."""

    def __init__(self, values: Sequence[tuple[str, Any]]) -> None:
        self.texts = [(task, _of_value(value)) for task, value in values]
        self.common = min(TEMPLATE, len(values) // 2)
        self.equal: dict[str, list[str]] = defaultdict(list)
        for task, value in values:
            self.equal[_whole(value)].append(task)
        counts = Counter(gram for _, grams in self.texts for gram in grams)
        self.own: list[int] = []
        self.by_gram: dict[str, list[int]] = defaultdict(list)
        for i, (_, grams) in enumerate(self.texts):
            own = [gram for gram in grams if counts[gram] <= self.common]
            self.own.append(len(own))
            for gram in own:
                self.by_gram[gram].append(i)

    def like(self, value: Any) -> str | None:
        """The task with an equal value, or with nearly the same words in it."""
        equal = () if isinstance(value, str) else self.equal.get(_whole(value), ())  # of texts, short ones would be, too
        if 1 <= len(equal) <= max(1, self.common):
            return equal[0]
        grams = _of_value(value)
        hits = Counter(i for gram in grams if gram in self.by_gram for i in self.by_gram[gram])
        for i, hit in hits.most_common():
            task, other = self.texts[i]
            if self.own[i] >= OWN and hit >= NEAR * self.own[i]:
                both = len(grams & other)
                if both >= NEAR * (len(grams) + len(other) - both):
                    return task
        return None


def held_out(gym: str) -> HeldOut:
    """All held-out tasks of a gym, built in and imported. Raises UnknownName, and DataError for a set that is not whole."""
    sets = find(gym).sets()
    return HeldOut(task for split, tasks in sets.items() if split.endswith(ENDINGS) for task in tasks.load())


def _whole(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _of_value(value: Any) -> frozenset[str]:
    return frozenset().union(*map(_of_text, _texts(value)))


@lru_cache(maxsize=50_000)  # hidden parts repeat most of their texts
def _of_text(text: str) -> frozenset[str]:
    return frozenset(ngrams(words(text), SIZE))


def _texts(value: Any) -> list[str]:
    """All texts in a JSON value, at any depth."""
    found: list[str] = []
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                found.append(text)
            case dict() as fields:
                rest += fields.values()
            case list() | tuple() as items:
                rest += items
    return found
