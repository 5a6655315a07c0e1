"""The one loop: evaluation, SFT data, RL, human play and every integration pass through here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from userrl.core import DEFAULT_MAX_TURNS, Action, Agent, Cast, Episode, Judge, Query, Task, User
from userrl.errors import ConfigError, EndpointRefused, EpisodeOver, RunStopped, SeatError, UserRLError, boundary
from userrl.gyms.base import Gym, gym_of
from userrl.store import RunFolder

R = TypeVar("R")


async def advance(episode: Episode, action: Action, cast: Cast, gym: Gym | None = None) -> Episode:
    """Play one action: the only way a turn is made. A host that owns its own loop calls this.

    An action that is no valid call, or a choice that the gym does not offer, costs a turn, earns 0 and is told
    what was expected; it never reaches the rules.

    Raises:
        EpisodeOver: the episode has ended.
        SeatError: the user or the judge failed. The caller ends the episode with `Episode.fail`.
    """
    if episode.stop != "running":
        raise EpisodeOver(f"Episode {episode.key} has ended ({episode.stop}); start a new one or branch an earlier turn.")
    gym = gym or gym_of(episode)
    action = gym.read(action)
    if gym.offers(action.kind):
        turn = await gym.step(episode, action, replace(cast, user=_Seat("user", cast.user), judge=_Seat("judge", cast.judge)))
    else:
        turn = gym.refuse(action)
    if action.note:
        turn = replace(turn, feedback=f"{turn.feedback}\n({action.note})")
    return episode.play(turn)


@dataclass(frozen=True, slots=True)
class _Seat:
    """A user or judge whose failures name the role."""

    role: str
    who: User | Judge

    async def answer(self, query: Query[R]) -> R:
        with boundary(self.role):
            return await self.who.answer(query)


async def play(episode: Episode, agent: Agent, cast: Cast, gym: Gym | None = None) -> Episode:
    """Play an episode from where it stands to its end.

    A failing agent, user or judge ends it with `stop="error"` and the cause: data, never a reward. Any other
    exception is a bug and passes. `EndpointRefused` passes too, as retrying the next task cannot help.
    """
    gym = gym or gym_of(episode)
    try:
        while episode.stop == "running":
            with boundary("agent"):
                action = await agent.act(episode)
            episode = await advance(episode, action, cast, gym)
    except EndpointRefused:
        raise
    except SeatError as error:
        return episode.fail(str(error))
    return episode


def starts(
    tasks: Iterable[Task],
    *,
    attempts: int = 1,
    seed: int = 0,
    max_turns: int = DEFAULT_MAX_TURNS,
    rules: Mapping[str, Any] | None = None,
) -> Iterator[Episode]:
    """Fresh episodes: `attempts` of each task, in task order."""
    for task in tasks:
        for attempt in range(attempts):
            yield Episode(task, seed=seed, attempt=attempt, max_turns=max_turns, rules=rules or {})


async def play_many(
    episodes: Iterable[Episode],
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    *,
    at_once: int = 64,
    on_end: Callable[[Episode], None] | None = None,
    max_errors: int | None = None,
) -> list[Episode]:
    """Play many episodes, `at_once` of them in flight.

    Args:
        cast: one cast, or a function from gym name to cast.
        on_end: called with each episode as it ends, in order of ending (a store's `append`, a progress bar).
        max_errors: more episodes than this ended by a failure stop the run with `RunStopped`.

    Returns:
        The ended episodes in the order of `episodes`.

    Raises:
        ConfigError: `at_once` is below 1.
        RunStopped: see `max_errors`.
        EndpointRefused: an endpoint gave an answer that no retry will change.
    """
    if at_once < 1:
        raise ConfigError(f"at_once is {at_once}; expected at least 1 episode in flight.")
    pending = iter(enumerate(episodes))
    ended: dict[int, Episode] = {}
    errors = 0

    async def worker() -> None:
        nonlocal errors
        for index, episode in pending:
            episode = await play(episode, agent, cast if isinstance(cast, Cast) else cast(episode.task.gym))
            ended[index] = episode
            if on_end is not None:
                on_end(episode)
            errors += episode.stop == "error"
            if max_errors is not None and errors > max_errors:
                raise RunStopped(
                    f"Stopped: {errors} episodes ended by a failure (at most {max_errors} are allowed). "
                    f"The last one: {episode.error}"
                )

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except* UserRLError as failures:
        raise _first(failures) from None
    return [ended[i] for i in sorted(ended)]


async def play_recorded(
    episodes: Iterable[Episode],
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    folder: RunFolder,
    *,
    name: str = "episodes.jsonl",
    on_end: Callable[[Episode], None] | None = None,
    **options: Any,
) -> list[Episode]:
    """`play_many` that writes each episode as it ends and never plays a recorded one again.

    An episode that ended as an error is played anew; its new record stands for the old one.
    """
    episodes = list(episodes)
    ended = {e.key: e for e in folder.episodes(name)}
    open_ones = [e for e in episodes if e.key not in ended or ended[e.key].stop == "error"]
    for episode in episodes:
        if on_end is not None and episode.key in ended and ended[episode.key].stop != "error":
            on_end(ended[episode.key])
    with folder.store(name) as store:

        def keep(episode: Episode) -> None:
            store.append(episode)
            ended[episode.key] = episode
            if on_end is not None:
                on_end(episode)

        await play_many(open_ones, agent, cast, on_end=keep, **options)
    return [ended[e.key] for e in episodes]


def run(episodes: Iterable[Episode], agent: Agent, cast: Cast | Callable[[str], Cast], **options: Any) -> list[Episode]:
    """`play_many` for callers outside an event loop: scripts and the command line."""
    return asyncio.run(play_many(episodes, agent, cast, **options))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
