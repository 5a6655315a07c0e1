"""The one loop: evaluation, SFT data, RL, human play and every integration pass through here."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from userrl.calls import FILE as REPLIES
from userrl.calls import Calls
from userrl.core import DEFAULT_MAX_TURNS, INVALID, Action, Agent, Cast, Episode, Judge, Place, Query, Task, User
from userrl.errors import (
    ConfigError,
    DeadlinePassed,
    EndpointRefused,
    EpisodeOver,
    RunStopped,
    SeatError,
    UserRLError,
    WindowFull,
    boundary,
)
from userrl.gyms.base import Gym, gym_of, rules_for
from userrl.store import Entry, Records, RunFolder

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
        place = episode.place
        turn = await gym.step(episode, action, Cast(_Seat("user", cast.user, place), _Seat("judge", cast.judge, place)))
    else:
        turn = gym.refuse(action)
    if action.note:
        turn = replace(turn, feedback=f"{turn.feedback}\n({action.note})")
    return episode.play(turn)


@dataclass(frozen=True, slots=True)
class _Seat:
    """A user or judge who is told where it is asked, and whose failures name the role."""

    role: str
    who: User | Judge
    place: Place

    async def answer(self, query: Query[R]) -> R:
        with boundary(self.role):
            return await self.who.answer(query if query.place == self.place else replace(query, place=self.place))


async def play(
    episode: Episode,
    agent: Agent,
    cast: Cast,
    gym: Gym | None = None,
    *,
    turn_timeout_s: float | None = None,
    episode_timeout_s: float | None = None,
    on_turn: Callable[[Episode], None] | None = None,
) -> Episode:
    """Play an episode from where it stands to its end.

    A failing agent, user or judge ends it with `stop="error"` and the cause: data, never a reward; so does a turn or
    an episode that takes longer than it may. An agent whose own window is full (`WindowFull`) has reached its limit: the
    episode ends with `stop="window"` and keeps what it has earned. Any other exception is a bug and passes.
    `EndpointRefused` passes too, as retrying the next task cannot help.

    Args:
        on_turn: called with the episode after each turn; what it raises ends play.
    """
    gym = gym or gym_of(episode)
    began = asyncio.get_running_loop().time()
    try:
        while episode.stop == "running":
            if turn_timeout_s or episode_timeout_s:
                with _deadline(began, turn_timeout_s, episode_timeout_s) as clock:
                    async with clock:
                        episode = await _turn(episode, agent, cast, gym)
            else:
                episode = await _turn(episode, agent, cast, gym)
            if on_turn is not None:
                on_turn(episode)
    except EndpointRefused:
        raise
    except SeatError as error:
        return episode.fail(str(error))
    except WindowFull:
        return replace(episode, stop="window")
    return episode


async def _turn(episode: Episode, agent: Agent, cast: Cast, gym: Gym) -> Episode:
    with boundary("agent"):
        action = await agent.act(episode)
    return await advance(episode, action, cast, gym)


@contextmanager
def _deadline(began: float, turn_s: float | None, episode_s: float | None) -> Iterator[asyncio.Timeout]:
    """The clock of a turn. Raises DeadlinePassed when it has run out."""
    now = asyncio.get_running_loop().time()
    ends = [end for end in (turn_s and now + turn_s, episode_s and began + episode_s) if end]
    clock = asyncio.timeout_at(min(ends, default=None))
    try:
        yield clock
    except TimeoutError:
        if not clock.expired():
            raise
        which = (
            f"The turn took longer than turn_timeout_s={turn_s:g}"
            if turn_s and clock.when() == now + turn_s
            else (f"The episode took longer than episode_timeout_s={episode_s:g}")
        )
        raise DeadlinePassed(f"{which}; it was given up. Allow more time, or see why the model is slow.") from None


def starts(
    tasks: Iterable[Task],
    *,
    attempts: int = 1,
    seed: int = 0,
    max_turns: int = DEFAULT_MAX_TURNS,
    rules: Mapping[str, Any] | None = None,
) -> Iterator[Episode]:
    """Fresh episodes: `attempts` of each task, in task order.

    Args:
        rules: settings of the gyms; a table of a gym's name holds those of this gym alone (`gyms.base.rules_for`).
    """
    for task in tasks:
        of_gym = rules_for(rules or {}, task.gym)
        for attempt in range(attempts):
            yield Episode(task, seed=seed, attempt=attempt, max_turns=max_turns, rules=of_gym)


async def play_many(
    episodes: Iterable[Episode],
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    *,
    on_end: Callable[[Episode], None] | None = None,
    **options: Any,
) -> list[Episode]:
    """Play many episodes at once and return them, ended, in the order of `episodes`. Options as `play_each` has."""
    ended: dict[int, Episode] = {}

    def note(index: int, episode: Episode) -> None:
        ended[index] = episode
        if on_end is not None:
            on_end(episode)

    await play_each(episodes, agent, cast, note, **options)
    return [ended[i] for i in sorted(ended)]


async def play_each(
    episodes: Iterable[Episode],
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    on_end: Callable[[int, Episode], None],
    *,
    at_once: int = 64,
    max_errors: int | None = None,
    max_invalid: int | None = None,
    invalid: int = 0,
    turn_timeout_s: float | None = None,
    episode_timeout_s: float | None = None,
) -> None:
    """Play many episodes, `at_once` of them in flight, and keep none: each goes to `on_end` when it has ended.

    When a run stops, the turns in flight are played to their end first (for up to `GRACE_S`), so that what was paid
    for is recorded; not so when it is cancelled (Ctrl-C) or meets a bug.

    Args:
        cast: one cast, or a function from gym name to cast.
        on_end: called with the place in `episodes` and the ended episode, in order of ending.
        max_errors: more episodes than this ended by a failure stop the run.
        max_invalid: more actions than this that are no valid calls stop the run, `invalid` earlier ones included.
        turn_timeout_s, episode_timeout_s: a turn or an episode that takes longer ends as an error.

    Raises:
        ConfigError: `at_once` is below 1, or a time is not above 0.
        RunStopped: see `max_errors` and `max_invalid`; or a budget is spent.
        EndpointRefused: an endpoint gave an answer that no retry will change.
    """
    if at_once < 1:
        raise ConfigError(f"at_once is {at_once}; expected at least 1 episode in flight.")
    for name, seconds in (("turn_timeout_s", turn_timeout_s), ("episode_timeout_s", episode_timeout_s)):
        if seconds is not None and not seconds > 0:
            raise ConfigError(f"{name} is {seconds:g}; expected a number of seconds above 0.")
    pending = iter(enumerate(episodes))
    ended, errors, stopping, closing = 0, 0, False, False
    causes: list[UserRLError] = []  # in order; the others follow from the first

    def note(episode: Episode) -> None:
        nonlocal invalid
        invalid += episode.turns[-1].label == INVALID
        if max_invalid is not None and invalid > max_invalid:
            raise RunStopped(
                f"Stopped: {invalid} actions were no valid calls (at most {max_invalid} are allowed). The last one: "
                f"{episode.turns[-1].feedback[:200]} Choose a model that can call tools, or allow more with --max-invalid."
            )
        if stopping and episode.stop == "running":
            raise _Halted

    async def worker() -> None:
        try:
            await work()
        except UserRLError as error:
            causes.append(error)
            raise
        except asyncio.CancelledError:
            if closing:
                raise
            raise RuntimeError(
                "An agent, a user or a judge was cancelled from within, so its episode has no end. "
                "What it awaits must not let a CancelledError of its own out."
            ) from None

    async def work() -> None:
        nonlocal ended, errors
        for index, episode in pending:
            episode = await play(
                episode,
                agent,
                cast if isinstance(cast, Cast) else cast(episode.task.gym),
                turn_timeout_s=turn_timeout_s,
                episode_timeout_s=episode_timeout_s,
                on_turn=note,
            )
            on_end(index, episode)
            ended += 1
            if ended % COLLECT_EVERY == 0:
                gc.collect()
            errors += episode.stop == "error"
            if max_errors is not None and errors > max_errors:
                raise RunStopped(
                    f"Stopped: {errors} episodes ended by a failure (at most {max_errors} are allowed). "
                    f"The last one: {episode.error}"
                )
            if stopping:
                return

    collecting = gc.isenabled()
    gc.disable()  # see COLLECT_EVERY
    tasks = [asyncio.create_task(worker()) for _ in range(at_once)]
    try:
        finished, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if running and all(isinstance(task.exception(), UserRLError | None) for task in finished):
            stopping = True
            await asyncio.wait(running, timeout=GRACE_S)
    finally:
        if collecting:
            gc.enable()
        closing = True
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    bugs = [
        e for e in outcomes if isinstance(e, BaseException) and not isinstance(e, UserRLError | asyncio.CancelledError | _Halted)
    ]
    for error in [*bugs, *causes]:
        raise error


COLLECT_EVERY = 1000
"""Ended episodes between two passes of the garbage collector. Python's own passes are off meanwhile: an episode and the
calls in it hold no cycles, and going through thousands of live ones takes a quarter of the time and holds up all."""
GRACE_S = 30.0
"""How long the turns in flight may take to end when a run stops."""


class _Halted(Exception):
    """The run stops; the episode is left where it stands."""


async def play_recorded(
    episodes: Iterable[Episode],
    agent: Agent,
    cast: Cast | Callable[[str], Cast],
    folder: RunFolder,
    *,
    name: str = "episodes.jsonl",
    on_end: Callable[[Episode], None] | None = None,
    calls: Calls | None = None,
    **options: Any,
) -> Records:
    """`play_each` that writes each episode as it ends and never plays a recorded one again.

    An episode that ended as an error is played anew; its new record stands for the old one. Episodes that were in
    flight when a run ended go on from the model replies that it recorded.

    Args:
        calls: what stands around the models of `agent` and `cast`, if any; its record is kept in the folder, too.

    Returns:
        The ended episodes in the order of `episodes`, read from the file when they are looked at.
    """
    entries = folder.index(name)
    order: list[tuple[str, str, int]] = []
    with ExitStack() as stack:
        store = stack.enter_context(folder.store(name))
        if calls is not None and calls.any and not calls.replaying:
            ended = {key for key, entry in entries.items() if entry.stop != "error"}
            calls.keep(stack.enter_context(folder.store(REPLIES)), ended)
        invalid = sum(entry.invalid for entry in entries.values() if entry.stop != "error")

        def open_ones() -> Iterator[Episode]:
            for episode in episodes:
                order.append(episode.key)
                entry = entries.get(episode.key)
                if entry is None or entry.stop == "error":
                    yield episode
                elif on_end is not None:
                    on_end(next(iter(Records(store.path, [entry.offset]))))

        def keep(_: int, episode: Episode) -> None:
            if calls is not None:
                calls.ended(episode)
            entries[episode.key] = Entry(store.append(episode), episode.stop, len(episode.turns), 0)
            if on_end is not None:
                on_end(episode)

        await play_each(open_ones(), agent, cast, keep, invalid=invalid, **options)
    return Records(folder.path / name, [entries[key].offset for key in order])


def run(episodes: Iterable[Episode], agent: Agent, cast: Cast | Callable[[str], Cast], **options: Any) -> list[Episode]:
    """`play_many` for callers outside an event loop: scripts and the command line."""
    return asyncio.run(play_many(episodes, agent, cast, **options))
