"""How reproducible and how faithful a simulated user is: recorded queries asked again, several times and of several models.

Fidelity is agreement with the replies of the run, reproducibility is agreement of a model with itself. A model can have
one without the other. What is compared are verdicts, the fields of a reply with a choice of values (yes or no, a grade,
a stance); free text is not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
from pydantic import BaseModel

from userrl.config import Count
from userrl.core import Cast, Episode, Judge, Query, User
from userrl.errors import DataError, EndpointRefused, SeatError
from userrl.evaluate.statistics import ALIKE, NOTHING, RATE, RESAMPLES, Interval, drawn_interval, mean_interval
from userrl.rollout import advance

R = TypeVar("R")
Role = Literal["user", "judge"]
Verdicts = Mapping[str, Hashable]
"""Field of a reply (with a number, for an item of a list) -> its value."""


@dataclass(frozen=True)
class AgreeJob:
    """What to ask again, and of whom. Saved with the results; a resumed run must match it."""

    run: str
    """Folder of the run whose queries are asked again."""
    models: tuple[str, ...]
    """MODEL@URL, or scripted[:trait]."""
    repeats: Count = 3
    queries: Count = 200
    """How many are asked again at most, drawn at random from all that hold a verdict."""
    role: Literal["user", "judge", "both"] = "both"
    seed: int = 0
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Role (user or judge) -> settings of the endpoints behind it."""


@dataclass(frozen=True)
class Asked:
    """A query of a run, and what was answered."""

    role: Role
    query: Query[Any]
    reply: BaseModel


# --- asking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Overheard:
    """A seat whose queries and replies are noted down."""

    who: User | Judge
    role: Role
    heard: list[Asked]

    async def answer(self, query: Query[R]) -> R:
        reply = await self.who.answer(query)
        if isinstance(reply, BaseModel):
            self.heard.append(Asked(self.role, query, reply))
        return reply


async def recorded_queries(episodes: Iterable[Episode], cast: Callable[[str], Cast]) -> list[Asked]:
    """The queries of a run's episodes, in their order, with the replies that they got. Failed episodes are passed over.

    The episodes' actions are played again, and `cast` must answer as it did: scripts do so, models from the run's record
    of replies (`Calls(replay=...)`).

    Raises DataError where an episode comes out otherwise than it is recorded.
    """
    heard: list[Asked] = []
    for episode in episodes:
        if episode.stop == "error":
            continue
        seats = cast(episode.task.gym)
        listening = Cast(_Overheard(seats.user, "user", heard), _Overheard(seats.judge, "judge", heard))
        again = replace(episode, turns=(), stop="running")
        for turn in episode.turns:
            again = await advance(again, replace(turn.action, note=""), listening)
            if again.turns[-1].reward != turn.reward or not turn.feedback.startswith(again.turns[-1].feedback):
                raise DataError(
                    f"Turn {len(again.turns)} of {episode.task.gym} task {episode.task.id!r} comes out otherwise than it is "
                    f"recorded: the gym or its scripts have changed since. Ask a run of this version again."
                )
    return heard


def chosen(heard: Iterable[Asked], job: AgreeJob) -> list[Asked]:
    """Those to ask again: of the role, with a verdict, no more than wanted, in their order."""
    fitting = [asked for asked in heard if job.role in ("both", asked.role) and verdicts(asked.reply)]
    picks = random.Random(f"agree|{job.seed}").sample(range(len(fitting)), min(job.queries, len(fitting)))
    return [fitting[i] for i in sorted(picks)]


async def ask_again(
    asked: Sequence[Asked],
    cast: Callable[[str], Cast],
    repeats: int,
    *,
    at_once: int = 64,
    on_reply: Callable[[], None] = lambda: None,
) -> list[list[Verdicts | None]]:
    """(queries, repeats) the verdicts of a user or judge who is asked each query several times; None for a failure.

    Raises EndpointRefused.
    """
    found: list[list[Verdicts | None]] = [[None] * repeats for _ in asked]
    gate = asyncio.Semaphore(at_once)

    async def ask(i: int, r: int) -> None:
        query = asked[i].query
        # A place of its own for each repeat: what is kept by place, or drawn by it, is then not the same reply.
        place = replace(query.place, attempt=query.place.attempt * repeats + r)
        seat: User | Judge = getattr(cast(place.gym), asked[i].role)
        async with gate:
            try:
                found[i][r] = verdicts(await seat.answer(replace(query, place=place)))
            except EndpointRefused:
                raise
            except SeatError:
                pass  # stays None, and is counted
            on_reply()

    tasks = [asyncio.create_task(ask(i, r)) for i in range(len(asked)) for r in range(repeats)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


def verdicts(reply: BaseModel) -> Verdicts:
    """The fields of a reply that choose among values. A list of whole numbers is a set; of another list, each item counts."""
    found: dict[str, Hashable] = {}
    for name, about in type(reply).model_fields.items():
        value, kind = getattr(reply, name), about.annotation
        if _chooses(kind):
            found[name] = value
        elif get_origin(kind) is list and (item := _plain(get_args(kind)[0])) is int:
            found[name] = tuple(sorted(set(value)))
        elif get_origin(kind) is list and _chooses(item):
            found |= {f"{name} {i}": value for i, value in enumerate(value, start=1)}
    return found


def _chooses(kind: Any) -> bool:
    """Whether a field's type is one of a few values, or a number."""
    kind = _plain(kind)
    if get_origin(kind) in (Union, UnionType):
        return all(map(_chooses, get_args(kind)))
    return get_origin(kind) is Literal or kind in (bool, int, float, NoneType)


def _plain(kind: Any) -> Any:
    """A type without its annotations."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


# --- agreement ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How often two say the same, and how far beyond chance."""

    share: Interval
    """Of the comparisons, clustered by task."""
    kappa: Interval
    """1: always the same; 0: as often as chance has it. NaN where all replies are the same one."""


@dataclass(frozen=True)
class Verdict:
    """One sort of verdict: a field of the replies to a query."""

    query: str
    field: str


@dataclass(frozen=True)
class ModelAgreement:
    """One model and one sort of verdict."""

    model: str
    verdict: Verdict
    queries: int
    failed: int
    """Replies that did not come, or lack the field."""
    fidelity: Agreement
    """With the replies of the run (Cohen's kappa)."""
    reproducibility: Agreement | None
    """With itself, over the queries with all repeats (Fleiss' kappa). None for a single repeat."""


@dataclass(frozen=True)
class PairAgreement:
    """Two models and one sort of verdict."""

    first: str
    second: str
    verdict: Verdict
    agreement: Agreement
    """Repeat by repeat (Cohen's kappa)."""


@dataclass(frozen=True)
class Agreements:
    """What asking again shows."""

    queries: int
    repeats: int
    models: tuple[ModelAgreement, ...]
    pairs: tuple[PairAgreement, ...]


def agreements(asked: Sequence[Asked], replies: Mapping[str, Sequence[Sequence[Verdicts | None]]], seed: int = 0) -> Agreements:
    """The agreement of models with the run, with themselves and with each other.

    Args:
        replies: model -> (queries, repeats) verdicts, as `ask_again` gives them.
    """
    repeats = max((len(row) for rows in replies.values() for row in rows), default=0)
    models: list[ModelAgreement] = []
    pairs: list[PairAgreement] = []
    for verdict, places in _sorts(asked).items():
        tasks = [(asked[i].query.place.gym, asked[i].query.place.task) for i, _ in places]
        recorded = [verdicts(asked[i].reply)[name] for i, name in places]
        given = {model: [[_of(reply, name) for reply in rows[i]] for i, name in places] for model, rows in replies.items()}
        for model, labels in given.items():
            said = zip(recorded, labels, tasks, strict=True)
            models.append(
                ModelAgreement(
                    model,
                    verdict,
                    len({i for i, _ in places}),
                    sum(label is MISSING for row in labels for label in row),
                    cohen([(then, label, task) for then, row, task in said for label in row], seed),
                    fleiss(labels, tasks, seed) if repeats > 1 else None,
                )
            )
        for first, second in combinations(given, 2):
            rows = zip(given[first], given[second], tasks, strict=True)
            both = [(a, b, task) for one, other, task in rows for a, b in zip(one, other, strict=True)]
            pairs.append(PairAgreement(first, second, verdict, cohen(both, seed)))
    return Agreements(len(asked), repeats, tuple(models), tuple(pairs))


class _Missing:
    """No such verdict."""


MISSING = _Missing()


def _of(reply: Verdicts | None, name: str) -> Hashable:
    return MISSING if reply is None else reply.get(name, MISSING)


def _sorts(asked: Sequence[Asked]) -> dict[Verdict, list[tuple[int, str]]]:
    """Sort of verdict -> where it is: number of the query, and the field with its number in a list."""
    found: dict[Verdict, list[tuple[int, str]]] = {}
    for i, one in enumerate(asked):
        for name in verdicts(one.reply):
            found.setdefault(Verdict(one.query.name, name.partition(" ")[0]), []).append((i, name))
    return found


def cohen(pairs: Sequence[tuple[Hashable, Hashable, Hashable]], seed: int = 0) -> Agreement:
    """Cohen's kappa of two raters.

    Args:
        pairs: what the one said, what the other said, and the task, by which the interval is clustered. Those with a
            `MISSING` are left out.
    """
    pairs = [pair for pair in pairs if pair[0] is not MISSING and pair[1] is not MISSING]
    if not pairs:
        return Agreement(NOTHING, NOTHING)
    labels, rows = _numbered([x for a, b, _ in pairs for x in (a, b)]), _numbered([task for *_, task in pairs])
    said = np.zeros((2, len(rows), len(labels)))
    for a, b, task in pairs:
        said[0, rows[task], labels[a]] += 1
        said[1, rows[task], labels[b]] += 1
    same, tasks = [float(a == b) for a, b, _ in pairs], [task for *_, task in pairs]
    agreed = np.zeros(len(rows))
    np.add.at(agreed, [rows[task] for task in tasks], same)

    def rates(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = times @ said[0].sum(1)
        return times @ agreed / n, ((times @ said[0]) * (times @ said[1])).sum(1) / n**2

    return _drawn(rates, len(rows), mean_interval(same, tasks, seed, RATE), seed)


def fleiss(ratings: Sequence[Sequence[Hashable]], tasks: Sequence[Hashable], seed: int = 0) -> Agreement:
    """Fleiss' kappa of several ratings of each subject, and the share of agreeing pairs of ratings.

    Args:
        ratings: (N, R) R at least 2; subjects with a `MISSING` are left out.
        tasks: (N,) by which the interval is clustered.
    """
    whole = [(row, task) for row, task in zip(ratings, tasks, strict=True) if MISSING not in row]
    if not whole:
        return Agreement(NOTHING, NOTHING)
    labels, rows = _numbered([x for row, _ in whole for x in row]), _numbered([task for _, task in whole])
    counts, r = np.zeros((len(whole), len(labels))), len(whole[0][0])
    for i, (row, _) in enumerate(whole):
        for label in row:
            counts[i, labels[label]] += 1
    same = (counts * (counts - 1)).sum(1) / (r * (r - 1))
    place = [rows[task] for _, task in whole]
    agreed, said, size = np.zeros(len(rows)), np.zeros((len(rows), len(labels))), np.zeros(len(rows))
    np.add.at(agreed, place, same)
    np.add.at(said, place, counts)
    np.add.at(size, place, 1.0)

    def rates(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = times @ size
        return times @ agreed / n, ((times @ said / (r * n[:, None])) ** 2).sum(1)

    return _drawn(rates, len(rows), mean_interval(same.tolist(), place, seed, RATE), seed)


def _numbered(values: Iterable[Hashable]) -> dict[Hashable, int]:
    return {value: i for i, value in enumerate(dict.fromkeys(values))}


def _beyond_chance(agreed: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """NaN where chance alone always agrees."""
    return np.where(chance < 1 - 1e-12, (agreed - chance) / np.maximum(1 - chance, 1e-12), np.nan)


def _drawn(rates: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], tasks: int, share: Interval, seed: int) -> Agreement:
    """An agreement with its kappa, whose interval is over tasks drawn anew.

    Where all draws give the same kappa (there is no disagreement), it is what the bounds of the share come to, with the
    agreement by chance that was found.

    Args:
        rates: (draws, tasks) how often each task is drawn -> (draws,) agreement, and agreement by chance.
    """
    agreed, chance = rates(np.ones((1, tasks)))
    mean = float(_beyond_chance(agreed, chance)[0])
    picks = np.random.default_rng(seed).integers(tasks, size=(RESAMPLES, tasks))
    draws = _beyond_chance(*rates(np.stack([np.bincount(pick, minlength=tasks) for pick in picks]).astype(float)))
    known = draws[~np.isnan(draws)]
    kappa = drawn_interval(mean, known, share.n) if known.size else Interval(mean, mean, mean, share.n)
    if kappa.high - kappa.low <= ALIKE:
        low, high = _beyond_chance(np.array([share.low, share.high]), chance)
        kappa = Interval(mean, float(low), float(high), share.n)
    return Agreement(share, kappa)
