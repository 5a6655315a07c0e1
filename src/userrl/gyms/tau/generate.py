"""Tasks by seed: a user of the built-in store or airline, one or two goals, and what has to be done about them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Literal

from userrl.core import Task
from userrl.data import split_of
from userrl.errors import ConfigError
from userrl.gyms.tau import airline_goals, retail_goals
from userrl.gyms.tau.goals import Draw, Fact, Goal, full_name, lower, upper
from userrl.gyms.tau.world import Record, Tables, content, database

__all__ = ["KINDS", "database", "tasks"]

Split = Literal["train", "validation", "test"]

KINDS: Mapping[str, Mapping[str, int]] = {
    "retail": {
        "cancel": 3,
        "return": 4,
        "exchange": 5,
        "modify": 4,
        "order_address": 2,
        "order_payment": 2,
        "user_address": 1,
        "return + user_address": 1,
        "return + amount_return": 2,
        "exchange + amount_exchange": 1,
        "cancel + return": 2,
        "cancel + cancel": 1,
        "order_address + cancel": 1,
        "order_address + same modify": 1,
        "exchange + cancel": 1,
        "count + return": 1,
        "count + modify": 1,
        "cancel_shipped": 1,
        "cancel_reason": 1,
        "foreign_order": 1,
        "return_method": 1,
        "exchange_other": 1,
        "address_shipped": 1,
        "payment_short": 1,
        "cancel_shipped | user_address": 1,
        "exchange_other | same return": 1,
        "exchange_sold_out | same return": 1,
        "exchange_sold_out | order_payment": 1,
        "payment_short | same cancel": 1,
        "address_shipped | user_address": 1,
    },
    "airline": {
        "cancel_trip": 4,
        "flights": 4,
        "cabin": 3,
        "bags": 3,
        "passenger": 3,
        "book": 5,
        "book + amount_book": 2,
        "compensation": 2,
        "flights + same bags": 1,
        "passenger + same bags": 1,
        "bags + cancel_trip": 1,
        "cabin + passenger": 1,
        "cancel_denied": 2,
        "cancel_flown": 1,
        "flights_basic": 1,
        "destination": 1,
        "fewer_bags": 1,
        "insurance": 1,
        "fewer_people": 1,
        "no_compensation": 1,
        "cancel_denied | same passenger": 1,
        "flights_basic | same cabin": 1,
        "insurance | same bags": 1,
        "fewer_people | same bags": 1,
    },
}
"""Domain -> kind of task -> weight. `+`: one goal after another; `|`: the second only if the first is refused; `same`:
about the order or reservation of the goal before."""

MAKERS = {**retail_goals.MAKERS, **airline_goals.MAKERS}

TRIES = 2_000
"""Users that are tried for a kind of task before it counts as used up."""


def tasks(retail: int, airline: int, seed: int, split: Split | None = None) -> list[Task]:
    """The first tasks of each domain's stream that belong to a split.

    The id names domain, kind, seed and place in the stream; the split is fixed by its hash. No two tasks of a stream are
    about the same orders or reservations in the same way.

    Raises ConfigError when the databases do not give so many.
    """
    found: list[Task] = []
    for domain, wanted in (("retail", retail), ("airline", airline)):
        if wanted < 0:
            raise ConfigError(f"{domain} is {wanted}; expected 0 or more tasks.")
        mine: list[Task] = []
        stream = _stream(domain, seed)
        while len(mine) < wanted:
            task = next(stream, None)
            if task is None:
                raise ConfigError(
                    f"The domain {domain!r} gives only {len(mine)} distinct tasks of split {split}; {wanted} were asked for."
                )
            mine += [task] if split in (None, split_of(task.id)) else []
        found += mine
    return found


@cache
def _tables(domain: str) -> Tables:
    return database(domain)


def _stream(domain: str, seed: int) -> Iterator[Task]:
    rng, seen = random.Random(f"tau tasks {domain}|{seed}"), set[str]()
    kinds = dict(KINDS[domain])
    number = 0
    while kinds:
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        for _ in range(TRIES):
            user_id = rng.choice(list(_tables(domain)["users"]))
            goals = _goals(rng, domain, user_id, kind)
            about = json.dumps([kind, *(sorted(goal.touches) for goal in goals or ())])
            if goals and about not in seen:
                seen.add(about)
                slug = re.sub(r"\W+", "-", kind)
                yield _task(rng, domain, user_id, kind, goals, f"{domain}-{slug}-{seed}-{number}")
                number += 1
                break
        else:
            del kinds[kind]


def _goals(rng: random.Random, domain: str, user_id: str, kind: str) -> list[Goal] | None:
    goals: list[Goal] = []
    parts = re.split(r" [+|] ", kind)
    for part in parts:
        name = part.removeprefix("same ")
        goal = MAKERS[name](Draw(rng, _tables(domain), user_id, tuple(goals), alone=len(parts) == 1, same=name != part))
        if goal is None:
            return None
        goals.append(goal)
    return goals


def _task(rng: random.Random, domain: str, user_id: str, kind: str, goals: Sequence[Goal], task_id: str) -> Task:
    d = Draw(rng, _tables(domain), user_id)
    me, who = _identity(d, domain)
    script_goals = []
    for number, goal in enumerate(goals):
        asks = (
            goal.asks
            if number == 0
            else upper(d.words("fallback" if "|" in kind else "further", "phrases", asks=goal.asks, lower=lower(goal.asks)))
        )
        script_goals.append(
            {
                "act": goal.act,
                "asks": asks,
                "facts": dict(goal.facts),
                "checks": list(goal.checks),
                "insists": rng.randint(0, 1),
                "otherwise": number > 0 and "|" in kind,
            }
        )
    hidden = {
        "domain": domain,
        "database": domain,
        "user_id": user_id,
        "instruction": _instruction(d, who, kind, goals, script_goals),
        "actions": [call for goal in goals for call in goal.calls],
        "outputs": [output for goal in goals for output in goal.outputs],
        "unchanged": not any(goal.calls for goal in goals),
        "script": {"kind": kind, "me": me, "goals": script_goals},
    }
    greeting = d.words("greetings", "phrases")
    opening = f"{greeting} {lower(goals[0].asks) if greeting.endswith(',') else goals[0].asks}".strip()
    return Task(task_id, "tau", opening, hidden)


def _identity(d: Draw, domain: str) -> tuple[dict[str, Fact], str]:
    """What the user knows about itself, as facts and as a sentence of the instruction."""

    def fact(topic: str, value: str) -> Fact:
        return {"value": value, "says": d.words("identity", topic, value=value)}

    name = full_name(d.user["name"])
    if domain == "airline":
        return {
            "user_id": fact("user_id", d.user_id),
            "name": fact("name", name),
        }, f"You are {name}, and your user id is {d.user_id}."
    zip_code, email = d.user["address"]["zip"], d.user["email"]
    me = {"name": fact("name", name), "zip": fact("zip", zip_code)}
    if d.rng.random() < 0.3:
        me["email"] = {"value": "Forgot the email.", "says": d.words("identity", "forgotten")}
        return me, f"You are {name} and live in {zip_code}. You do not remember with which email you signed up."
    return {"email": fact("email", email), **me}, f"You are {name}, your zip code is {zip_code} and your email {email}."


def _instruction(d: Draw, who: str, kind: str, goals: Sequence[Goal], script: Sequence[Record]) -> str:
    parts = [who]
    for number, goal in enumerate(goals):
        if number == 0 or goal.act == "amount":
            parts.append(goal.wants)
        else:
            parts.append(
                ("Only if this is refused, you want something else: " if "|" in kind else "After that: ") + lower(goal.wants)
            )
        if script[number]["insists"] and not goal.calls and not goal.outputs:
            parts.append("Told that this cannot be done, you ask once whether there is really no way.")
    return " ".join([*parts, d.rng.choice(content("phrases")["manner"]["phrases"])])
