"""What an evaluation would take, before anything is paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from userrl.core import Action, Agent, Cast, Episode, Judge, Query, User
from userrl.evaluate.run import EvalJob, planned
from userrl.gyms.base import find, gym_of
from userrl.llm.endpoint import Endpoint, Role, parse_endpoints
from userrl.llm.ledger import Spent
from userrl.llm.prices import Price, price_of
from userrl.llm.replies import render_query
from userrl.render import messages, written
from userrl.rollout import play_each, starts

R = TypeVar("R")

PILOT = 8
"""Tasks of each gym that stand-ins play."""
CHARACTERS = 4
"""Of a token, roughly, in English."""
STAND_INS = ("expert of skill 0.5", "random")
"""Who plays the pilot: one that ends its episodes, and one that uses up most turns."""


@dataclass(frozen=True)
class Estimate:
    """What one chair's model would take: from an agent that soon comes to an end, to one that uses up its turns."""

    role: Role
    model: str
    calls: tuple[float, float]
    read: tuple[float, float]
    """Tokens."""
    written: tuple[float, float]
    """Tokens, thinking not included."""
    usd: tuple[float, float] | None
    """None: the price is not known."""


def estimate(job: EvalJob, watch: Callable[[str, int, int, str], None] = lambda *_: None) -> list[Estimate]:
    """Calls, tokens and dollars of a job's models, by playing a few of its tasks with stand-ins and weighing the prompts.

    Nothing is asked of any model. Tokens are counted as a quarter of the characters; thinking comes on top. A pool is
    priced by its endpoints' weights.
    """
    seats: dict[Role, list[tuple[Endpoint, float]]] = {}
    chairs: tuple[tuple[Role, str], ...] = (("agent", job.agent), ("user", job.user), ("judge", job.judge))
    for role, spec in chairs:
        if "@" in spec:
            seats[role] = parse_endpoints(spec, role, **job.endpoints.get(role, {}))
    pilots = [_pilot(job, which, watch) for which in STAND_INS]
    found = []
    for role, endpoints in seats.items():
        spent = [pilot[role] for pilot in pilots]
        price = pool_price(endpoints)
        usd = [(s.read * price.read + s.written * price.written) / 1e6 for s in spent] if price else None
        found.append(
            Estimate(
                role,
                endpoints[0][0].model,
                _span([s.calls for s in spent]),
                _span([s.read for s in spent]),
                _span([s.written for s in spent]),
                _span(usd) if usd else None,
            )
        )
    return found


def added(rows: Iterable[Estimate]) -> list[Estimate]:
    """The rows of several jobs as one for each chair and model."""
    found: dict[tuple[Role, str], Estimate] = {}
    for row in rows:
        before = found.get((row.role, row.model))
        if before is not None:
            usd = _sum(before.usd, row.usd) if before.usd and row.usd else None
            calls, read, written = (_sum(getattr(before, name), getattr(row, name)) for name in ("calls", "read", "written"))
            row = Estimate(row.role, row.model, calls, read, written, usd)
        found[row.role, row.model] = row
    return list(found.values())


def _sum(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return first[0] + second[0], first[1] + second[1]


def pool_price(endpoints: Sequence[tuple[Endpoint, float]]) -> Price | None:
    """Of a token that any of a pool's endpoints may take, by their weights; None where one of the prices is not known."""
    prices = [(price_of(endpoint), weight) for endpoint, weight in endpoints]
    known = [(price, weight) for price, weight in prices if price is not None]
    if len(known) < len(prices):
        return None
    whole = sum(weight for _, weight in known)
    return Price(*(sum(price[i] * weight for price, weight in known) / whole for i in range(2)))


def _span(values: list[float] | list[int]) -> tuple[float, float]:
    return (min(values), max(values))


def _pilot(job: EvalJob, stand_in: str, watch: Callable[[str, int, int, str], None]) -> dict[str, Spent]:
    """Role -> what the whole job would take, were all its episodes like those of the first few tasks."""
    out: dict[str, Spent] = {}
    for number, gym in enumerate(job.gyms, start=1):
        tasks = list(islice(find(gym).tasks(job.split_of(gym)), min(PILOT, job.tasks or PILOT)))
        if not tasks:
            continue
        taken: dict[str, Spent] = {role: Spent() for role in ("agent", "user", "judge")}
        player = find(gym).expert(0.5) if stand_in == STAND_INS[0] else find(gym).baselines()["random"]
        scripted = find(gym).cast()
        cast = Cast(_Weighed(scripted.user, taken["user"]), _Weighed(scripted.judge, taken["judge"]))
        plan = starts(tasks, seed=job.seed, max_turns=job.max_turns, rules=job.rules)
        asyncio.run(play_each(plan, _WeighedAgent(player, taken["agent"]), cast, lambda *_: None))
        times = planned(replace(job, gyms=(gym,))) / len(tasks)
        for role, spent in taken.items():
            whole = {name: round(getattr(spent, name) * times) for name in ("calls", "read", "written")}
            out.setdefault(role, Spent()).__iadd__(Spent(**whole))
        watch(f"pilot, {stand_in}", number, len(job.gyms), "")
    return out


@dataclass(frozen=True)
class _Weighed:
    """A seat that answers, and notes what a model would have read and written in its place."""

    who: User | Judge
    taken: Spent

    async def answer(self, query: Query[R]) -> R:
        reply = await self.who.answer(query)
        self.taken.calls += 1
        self.taken.read += _tokens(sum(len(m["content"]) for m in render_query(query)))
        self.taken.written += _tokens(len(_json(reply)))
        return reply


@dataclass(frozen=True)
class _WeighedAgent:
    who: Agent
    taken: Spent

    async def act(self, episode: Episode) -> Action:
        action = await self.who.act(episode)
        talk = messages(episode, gym_of(episode).system(episode.task))
        self.taken.calls += 1
        self.taken.read += _tokens(sum(len(m["content"]) for m in talk))
        self.taken.written += _tokens(len(written(action)))
        return action


def _json(reply: Any) -> str:
    text: str = reply.model_dump_json()
    return text


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS)
