"""Vague tasks by seed, from the domains and details under `content/`."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

from userrl.core import Task
from userrl.data import split_of
from userrl.errors import ConfigError, UnknownName
from userrl.gyms.intention import detail

OPENINGS = (
    "I need help with {subject}.",
    "Can you help me with {subject}?",
    "Please help me with {subject}.",
    "I want to get {subject}.",
    "I am thinking about {subject}.",
    "It is about {subject}.",
    "We need {subject}.",
    "My friend asked me about {subject}.",
    "I have to take care of {subject}.",
    "Could you assist me with {subject}?",
    "I would like your help with {subject}.",
    "Soon I will need {subject}.",
    "I have never dealt with {subject} before.",
    "I do not know how to start with {subject}.",
    "Let us talk about {subject}.",
    "I could use some advice on {subject}.",
)
"""Openings that fit every domain; each domain adds its own."""

MIN_MISSING, MAX_MISSING = 3, 7
STATED_SHARE = 0.25
"""Share of the details known up front that the user mentions in the opening."""

Split = Literal["train", "validation", "test"]


@cache
def details() -> Mapping[str, Mapping[str, Any]]:
    """Detail type -> name, lexicon, questions."""
    found: dict[str, Mapping[str, Any]] = tomllib.loads(_content("details.toml"))
    return found


@cache
def domains() -> Mapping[str, Mapping[str, Any]]:
    """Domain key -> title, subjects, openings, details."""
    return {domain["key"]: domain for domain in tomllib.loads(_content("domains.toml"))["domain"]}


@cache
def lexicons() -> Mapping[str, Sequence[str]]:
    """Detail type -> the phrases that name it."""
    return {kind: d["lexicon"] for kind, d in details().items()}


def _content(name: str) -> str:
    return resources.files(__package__).joinpath("content", name).read_text("utf-8")


def tasks(
    count: int, seed: int, split: Split | None = None, only: Sequence[str] | None = None, prefix: str = "intention"
) -> list[Task]:
    """The first `count` distinct tasks of a seed.

    The id names domain, seed and place in the seed's stream; the split is fixed by the hash of the text, so no
    opening text of a test task is ever seen in training, whatever the seeds.

    Args:
        split: keep only tasks of this split.
        only: keys of the domains to draw from, evenly; all by default.
    """
    names = list(only or domains())
    for name in names:
        if name not in domains():
            raise UnknownName("intention domain", name, domains())
    if count < 1:
        raise ConfigError(f"count is {count}; expected at least 1 task.")
    made: dict[str, Task] = {}
    for task in _stream(seed, names, prefix):
        if split is None or split_of(task.prompt) == split:
            made.setdefault(task.prompt, task)
        if len(made) == count:
            return list(made.values())
    raise ConfigError(
        f"Domains {', '.join(names)} give only {len(made)} distinct tasks of split {split}; {count} were asked for."
    )


def _stream(seed: int, names: Sequence[str], prefix: str) -> Iterator[Task]:
    rng = random.Random(f"intention|{seed}")
    for n in range(1_000_000):
        yield draw(names[n % len(names)], rng, f"{prefix}-{names[n % len(names)]}-{seed}-{n}")


def draw(domain_key: str, rng: random.Random, task_id: str) -> Task:
    """One task of a domain: each detail is missing with its own probability; some of the others are stated."""
    domain, kinds = domains()[domain_key], details()
    while True:
        missing = [spec for spec in domain["detail"] if rng.random() < spec["likely"]]
        if MIN_MISSING <= len(missing) <= MAX_MISSING:
            break
    given = [spec for spec in domain["detail"] if spec not in missing and rng.random() < STATED_SHARE]
    opening = rng.choice((*OPENINGS, *domain["openings"])).format(subject=rng.choice(domain["subjects"]))
    entries: dict[str, dict[str, Any]] = {}
    for spec in domain["detail"]:
        option, kind = rng.choice(spec["options"]), spec["type"]
        entries[kind] = detail(
            kind,
            kinds[kind]["name"],
            spec["importance"],
            option,
            options=spec["options"],
            answer=spec["answer"].format(option=option),
            lexicon=kinds[kind]["lexicon"],
        )
    if given:
        clauses = [spec["stated"].format(option=entries[spec["type"]]["preference"]) for spec in given]
        opening = f"{opening[:-1]}, {' and '.join(clauses)}{opening[-1]}"
    order = sorted(missing, key=lambda spec: (-spec["importance"], rng.random()))
    hidden = {
        "domain": domain_key,
        "details": [entries[spec["type"]] for spec in order],
        "stated": [entries[spec["type"]] for spec in given],
    }
    return Task(task_id, "intention", opening, hidden)
