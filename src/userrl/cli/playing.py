"""The commands gyms, play and eval."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from rich.status import Status

from userrl.agents.human import HumanAgent
from userrl.cli.show import new_table, out, print_episode, safe, say, sentence, tell
from userrl.core import Action, Agent, Episode, Query
from userrl.errors import ConfigError, EndpointRefused, GymError, RunStopped, SeatError, UserRLError
from userrl.evaluate.talk import answerer, counterpart, readable
from userrl.gyms.base import Gym, find, gym_of, known
from userrl.pipeline import seats
from userrl.rollout import play as play_episode
from userrl.store import Store
from userrl.users.human import HumanSeat

Seat = Literal["agent", "user"]
R = TypeVar("R")


def gyms() -> None:
    """A gym that cannot be loaded is named and does not hide the others."""
    table = new_table()
    for column in ("gym", "split"):
        table.add_column(column)
    table.add_column("tasks", justify="right")
    table.add_column("license")
    broken: dict[str, str] = {}
    for name in sorted(known()):
        try:
            gym = find(name)
            sets = dict(gym.built_in_sets())
        except GymError as error:
            broken[name] = str(error)
            continue
        except UserRLError as error:
            broken[name] = f"Gym {name!r} cannot be loaded: {error}"
            continue
        try:
            sets |= gym.sets()
        except UserRLError as error:
            broken[name] = f"The imported tasks of gym {name!r} cannot be read: {error}"
        say(name, safe(sentence(gym.summary)), "bold", width=max(map(len, known())) + 2)
        for i, (split, tasks) in enumerate(sets.items()):
            table.add_row(safe("" if i else name), safe(split), str(tasks.count), safe(tasks.license))
    out.print()
    out.print(table)
    out.print(safe("\nPlay one:  userrl play intention\nEvaluate:  userrl eval intention --agent expert:0.8 --tasks 20", "dim"))
    for problem in broken.values():
        tell(problem, "yellow")


# --- play ----------------------------------------------------------------------------------------------------


class Left(Exception):
    """The person left the game."""


def play(
    gym_name: str,
    seat: Seat,
    task_id: str | None,
    agent: str,
    user: str,
    judge: str,
    max_turns: int,
    seed: int | None,
    save: Path | None,
) -> None:
    """An episode that is left is kept as far as it was played; one that fails is kept and ends the command with an error."""
    gym = find(gym_name)
    if max_turns < 1:
        raise ConfigError(f"max_turns is {max_turns}; expected at least 1.")
    if seat == "user":
        check_user_seat(gym_name)
    task = gym.task(task_id) if task_id else random.Random(seed).choice(gym.tasks("test"))
    with Store(save) if save else nullcontext() as store:
        episode = asyncio.run(_play(Episode(task, seed=seed or 0, max_turns=max_turns), seat, agent, user, judge))
        if store and episode.turns:
            store.append(episode)
    out.print()
    if episode.turns:
        print_episode(episode, "The game, with the reward of each turn")
    elif episode.stop == "running":
        out.print(safe("You left before the first turn was over: there is nothing to keep.", "dim"))
    if save and episode.turns:
        out.print(safe(f"Kept in {save}", "dim"), soft_wrap=True)
    if episode.stop == "error":
        raise SeatError(episode.error)


def check_user_seat(gym: str) -> None:
    """Raises ConfigError for a gym in which nobody can be the user."""
    if counterpart(gym) == "gym":
        others = ", ".join(name for name in sorted(known()) if _has_user(name))
        raise ConfigError(
            f"Gym {gym!r} asks its user nothing: the rules alone answer the agent, so there is no seat for a user. "
            f"Be the agent (userrl play {gym}), or the user of another gym ({others or 'none is installed'})."
        )


def _has_user(gym: str) -> bool:
    """Never in a gym that cannot be loaded."""
    try:
        return counterpart(gym) == "user"
    except UserRLError:
        return False


async def _play(start: Episode, seat: Seat, agent: str, user: str, judge: str) -> Episode:
    gym, other = find(start.task.gym), counterpart(start.task.gym)
    async with AsyncExitStack() as stack:
        cast = (await seats.cast(user, judge, stack))(gym.name)
        remote = any("@" in spec for spec in (agent if seat == "user" else user, judge))
        ask = asker(stack.enter_context(out.status("waiting for an answer")) if remote else None)
        player: Agent
        if seat == "agent":
            introduce_agent(gym, start, scripted=other == "user" and "@" not in user)
            player = HumanAgent(ask, lambda text: say(who_spoke(watched.episode), safe(readable(text))), hint)
        else:
            player = await seats.agent(agent, stack, gyms=[gym.name])
            introduce_user(start.task.prompt, judged=bool(getattr(gym.cast().judge, "answers", True)))
            cast = replace(cast, user=HumanSeat(ask, show_fact, hint, known=[start.task.prompt]))
        watched = Watched(player, start)
        try:
            return await play_episode(start, watched, cast)
        except (Left, asyncio.CancelledError):
            return watched.episode
        except EndpointRefused as error:
            return watched.episode.fail(str(error))


def who_spoke(episode: Episode) -> str:
    """Whose words came last: those of the user who opened the game, or of who answered the last action."""
    gym = episode.task.gym
    return answerer(gym, episode.turns[-1].action) if episode.turns else counterpart(gym)


class Watched:
    """An agent that remembers how far its episode has come, for when the game is left in the middle of a turn."""

    def __init__(self, agent: Agent, episode: Episode) -> None:
        self.agent, self.episode = agent, episode

    async def act(self, episode: Episode) -> Action:
        self.episode = episode
        return await self.agent.act(episode)


HUMAN = "human"
"""Name of the agent or the user that is a person in this terminal."""
LEFT = "You left the game. The episode that you were in begins anew."


class Person:
    """A person who plays one episode after the other in the terminal. Raises RunStopped when they leave.

    Args:
        scripted: whether the users are scripts.
    """

    def __init__(self, *, scripted: bool) -> None:
        self.scripted = scripted
        self._ask = asker(None)
        self._known: set[str] = set()

    async def act(self, episode: Episode) -> Action:
        gym = find(episode.task.gym)
        if not episode.turns and gym.name not in self._known:
            self._known.add(gym.name)
            introduce_agent(gym, episode, scripted=self.scripted and counterpart(gym.name) == "user")
        human = HumanAgent(self._ask, lambda text: say(who_spoke(episode), safe(readable(text))), hint)
        try:
            return await human.act(episode)
        except Left:
            raise RunStopped(LEFT) from None


class PersonUser:
    """A person who is the user in one episode after the other. Raises RunStopped when they leave."""

    def __init__(self) -> None:
        self._ask = asker(None)
        self._known: set[str] = set()
        self._seat = HumanSeat(self._ask, show_fact, hint)

    def begin(self, episode: Episode) -> None:
        """Show a new episode's opening, with what the person is to do where the gym is new to them."""
        gym = find(episode.task.gym)
        if gym.name not in self._known:
            self._known.add(gym.name)
            introduce_user(episode.task.prompt, judged=bool(getattr(gym.cast().judge, "answers", True)))
        else:
            say("you", safe(episode.task.prompt))
        self._seat = HumanSeat(self._ask, show_fact, hint, known=[episode.task.prompt])

    async def answer(self, query: Query[R]) -> R:
        try:
            return await self._seat.answer(query)
        except Left:
            raise RunStopped(LEFT) from None


@dataclass(frozen=True)
class Announced:
    """An agent whose user, a person, is told of each episode that begins."""

    agent: Agent
    user: PersonUser

    async def act(self, episode: Episode) -> Action:
        if not episode.turns:
            self.user.begin(episode)
        return await self.agent.act(episode)


def introduce_agent(gym: type[Gym], start: Episode, *, scripted: bool) -> None:
    """Where the system message differs between tasks, the person is shown what this task adds to it (tau: the policy)."""
    out.print(safe(f"You are the agent. {sentence(gym.summary)}", "bold"))
    if len(gym.actions) == 1:
        [what] = gym.actions.values()
        out.print(safe(f"Each line that you type is one turn: {what}.", "dim"))
    else:
        out.print(safe("Each line that you type is one turn. It begins with a choice:", "dim"))
        for kind, what in gym.actions.items():
            say(f"  {kind}", safe(what, "dim"), "bold", width=12)
    if scripted:
        out.print(safe("The user is a script, which understands plain, short sentences about one thing.", "dim"))
    rules = gym_of(start)
    if more := rules.system(start.task).removeprefix(rules.template("system").rstrip()).strip():
        out.print(safe(f"\n{more}\n"))
    out.print(safe(f"You have {start.max_turns} turns and see your rewards at the end.", "dim"))
    out.print(safe("? shows the rules that a model is told; Ctrl-D or Ctrl-C leaves.\n", "dim"))


def introduce_user(prompt: str, *, judged: bool) -> None:
    marks = "a judge, who is not you, marks it" if judged else "the rules, not you, mark it"
    out.print(safe(f"You are the user. An agent tries to help you; {marks}.", "bold"))
    out.print(safe("Answer what it asks, and only that. Ctrl-D or Ctrl-C leaves.\n", "dim"))
    say("you", safe(prompt))


def asker(waiting: Status | None) -> Callable[[str], str]:
    """A function that asks for a line. Raises Left at the end of the input and at Ctrl-C."""
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  # arrow keys and history in `input`

    def ask(prompt: str) -> str:
        if waiting:
            waiting.stop()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's would wait for the line to end
        try:
            plain = safe(prompt).plain
            typed = input(f"{plain:<7} " if len(plain) < 8 else f"{plain}: ")
        except (EOFError, KeyboardInterrupt):
            out.print()
            raise Left from None
        finally:
            signal.signal(signal.SIGINT, before)
        if not sys.stdin.isatty():
            out.print(safe(typed), soft_wrap=True)
        if waiting:
            waiting.start()
        return typed.encode("utf-8", "replace").decode("utf-8")

    return ask


def hint(text: str) -> None:
    say("", safe(text, "yellow"))


def show_fact(name: str, fact: Any, agents: bool) -> None:
    """A fact of a query, for the person who is the user."""
    who = "agent" if agents else name
    if not agents and (rows := _as_rows(fact)):
        table = new_table(f"Your {name}, which the agent does not see")
        for column in rows[0]:
            table.add_column(safe(column))
        for row in rows:
            table.add_row(*(safe(value) for value in row.values()))
        out.print("", table, "", sep="\n")
    else:
        for item in fact if isinstance(fact, list | tuple) else [fact]:
            say(who, safe(_as_text(item)), width=max(8, len(who) + 2))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return ", ".join(f"{name}: {item}" for name, item in value.items())
    return json.dumps(value, ensure_ascii=False)


def _as_rows(fact: Any) -> list[dict[str, str]]:
    """A list of objects that all have the same fields, of texts; else nothing."""
    if not isinstance(fact, list | tuple) or not all(isinstance(row, dict) for row in fact):
        return []
    rows = [{str(name): value for name, value in row.items()} for row in fact]
    texts = all(isinstance(value, str) for row in rows for value in row.values())
    return rows if texts and all(row.keys() == rows[0].keys() for row in rows) else []
