"""Training tasks that equal, or nearly equal, a task that evaluations use.

Held out are the tasks of the splits whose names end with test, validation or dev, built in or imported. A task must not be
trained on when

- its id is that of a held-out task; or
- its hidden part is that of a held-out task; or
- its prompt, or what its hidden part says in words, equals a held-out task's or nearly does: of the held-out text's own
  5-grams (words and signs) at least 80% stand in it, and of all 5-grams of the two together at least 80% stand in both.

What more than two held-out tasks, or more than half of them, have in common is a template and proves nothing: a text's own
5-grams are those that no more have, a text with fewer than four of its own (a greeting, a fixed prompt) is like no other,
and an equal hidden part counts where no more have it. So gyms whose prompts are all alike (telepathy, function) lose nothing
by them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
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


@dataclass(frozen=True)
class Found:
    why: Literal["held-out id", "held-out prompt", "held-out hidden"]
    task: str
    """Id of the held-out task."""


class HeldOut:
    """Tasks that must not be trained on."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.ids: set[str] = set()
        seen: set[tuple[str, str]] = set()
        prompts: list[tuple[str, frozenset[str]]] = []
        hiddens: list[tuple[str, frozenset[str]]] = []
        self._equal: dict[str, list[str]] = defaultdict(list)
        for task in tasks:
            self.ids.add(task.id)
            hidden = _hidden(task)
            if (task.prompt, hidden) not in seen:  # a task of several splits is one
                seen.add((task.prompt, hidden))
                self._equal[hidden].append(task.id)
                prompts.append((task.id, _of_text(task.prompt)))
                hiddens.append((task.id, _of_hidden(task)))
        self._prompts, self._hidden = _Texts(prompts), _Texts(hiddens)
        self._most = max(1, min(TEMPLATE, len(hiddens) // 2))

    def match(self, task: Task) -> Found | None:
        """The held-out task that a task is like."""
        if task.id in self.ids:
            return Found("held-out id", task.id)
        if found := self._prompts.like(_of_text(task.prompt)):
            return Found("held-out prompt", found)
        equal = self._equal.get(_hidden(task), [])
        if found := equal[0] if 1 <= len(equal) <= self._most else self._hidden.like(_of_hidden(task)):
            return Found("held-out hidden", found)
        return None


class _Texts:
    """One part (prompt or hidden) of the held-out tasks: (task, n-grams)."""

    def __init__(self, texts: list[tuple[str, frozenset[str]]]) -> None:
        self.texts = texts
        counts = Counter(gram for _, grams in texts for gram in grams)
        self.own: list[int] = []
        self.by_gram: dict[str, list[int]] = defaultdict(list)
        for i, (_, grams) in enumerate(texts):
            own = [gram for gram in grams if counts[gram] <= min(TEMPLATE, len(texts) // 2)]
            self.own.append(len(own))
            for gram in own:
                self.by_gram[gram].append(i)

    def like(self, grams: frozenset[str]) -> str | None:
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


def _hidden(task: Task) -> str:
    return json.dumps(task.hidden, sort_keys=True)


def _of_hidden(task: Task) -> frozenset[str]:
    return frozenset().union(*map(_of_text, _texts(task.hidden)))


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
