"""Every reply of a model, kept as it comes, and given again on resume or replay.

A reply is written before it is used, so a run that is killed never pays for the same reply twice. It is found by its
place (task, attempt, seed, turn), its role and a hash of what was asked, so a changed prompt never gets an old reply.
A turn that failed leaves a line that says so: when it is played anew, its replies are asked for anew.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from userrl.core import Place
from userrl.errors import DataError, DeadlinePassed, EndpointError, EndpointRefused
from userrl.llm.client import Around, Client
from userrl.llm.endpoint import Role
from userrl.llm.wire import Completion, Usage

SCHEMA = 1
"""Version of the record format."""

Line = dict[str, Any]
EpisodeId = tuple[str, str, int, int]
"""(gym, task, attempt, seed)"""
GAVE_UP = "gave_up"
"""Field of a line that says why a turn failed."""


def asked(messages: Sequence[Mapping[str, Any]], seed: int | None, temperature: float | None, *, whole: bool = False) -> str:
    """A short hash of what is asked: the settings and, if not `whole`, only the last two of the messages.

    Those before them follow from earlier turns of the same place, whose hashes are compared, too.
    """
    parts = [f"{len(messages)}|{seed}|{temperature}"]
    for message in messages if whole else messages[-2:]:
        parts += (message["role"], message["content"] or "")
        for call in message.get("tool_calls", ()):
            parts += call["function"].values()
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()


def episode_of(place: Place) -> EpisodeId:
    return (place.gym, place.task, place.attempt, place.seed)


class Replies:
    """The replies of a run: those of earlier sittings, to be taken once each, and where new ones go.

    Until `open` is called it holds and keeps none.
    """

    def __init__(self) -> None:
        self._write: Callable[[Line], object] | None = None
        self._past: Callable[[EpisodeId], Iterable[Line]] = lambda _: ()
        self._sitting = 0
        self._open: dict[EpisodeId, _Kept] = {}
        self.closed = False
        """Whether nothing new may be asked (replay)."""

    def open(self, write: Callable[[Line], object] | None, past: Callable[[EpisodeId], Iterable[Line]], sitting: int = 0) -> None:
        """Begin a sitting.

        Args:
            write: takes a new line; None when nothing new may be asked.
            past: gives the lines of an episode from earlier sittings, in the order of writing.
            sitting: number of the sitting, from 0.
        """
        self._write, self._past, self._sitting, self.closed = write, past, sitting, write is None
        self._open.clear()

    def take(self, place: Place, role: Role, asked: str) -> Line | None:
        """The recorded reply to that question, if there is one that was not taken yet."""
        waiting = self._kept(place).replies.get((place.turn, role, asked))
        return waiting.pop(0) if waiting else None

    def gave_up(self, place: Place) -> str | None:
        """Why the recorded run gave that turn up, if it did."""
        turn, cause = self._kept(place).gave_up or (None, None)
        return cause if turn == place.turn else None

    def _kept(self, place: Place) -> _Kept:
        episode = episode_of(place)
        if episode not in self._open:
            self._open[episode] = _kept(self._past(episode), replayed=self.closed)
        return self._open[episode]

    def put(self, place: Place, role: Role, asked: str, line: Line) -> None:
        """Write a new reply. Raises StoreError."""
        if self._write is not None:
            self._write({**self._head(place), "role": role, "asked": asked, **line})

    def give_up(self, place: Place, cause: str) -> None:
        """Write that a turn failed, so that nothing of it is taken when it is played anew. Raises StoreError."""
        if self._write is not None:
            self._write({**self._head(place), GAVE_UP: cause})

    def _head(self, place: Place) -> Line:
        return {"schema": SCHEMA, "sitting": self._sitting, "place": [*episode_of(place), place.turn]}

    def ended(self, episode: EpisodeId) -> None:
        """Forget what was read for an episode."""
        self._open.pop(episode, None)


class _Kept(NamedTuple):
    """What is recorded of an episode."""

    replies: dict[tuple[int, str, str], list[Line]]
    """Question (turn, role, hash) -> its replies, in the order in which they came."""
    gave_up: tuple[int, str] | None
    """Turn that failed last, and why, if it was not played anew since."""


def _kept(lines: Iterable[Line], *, replayed: bool) -> _Kept:
    """Without the replies of turns that failed; a replay meets the failure that an episode ended with."""
    kept: list[Line] = []
    gave_up: tuple[int, str] | None = None
    for line in lines:
        if gave_up is not None:
            kept = [earlier for earlier in kept if earlier["place"][4] < gave_up[0]]
        gave_up = (line["place"][4], line[GAVE_UP]) if GAVE_UP in line else None
        if gave_up is None:
            kept.append(line)
    found: dict[tuple[int, str, str], list[Line]] = defaultdict(list)
    for line in kept:
        turn = line["place"][4]
        if replayed or gave_up is None or turn < gave_up[0]:
            found[turn, line["role"], line["asked"]].append(line)
    return _Kept(dict(found), gave_up)


class Recorded(Around):
    """A `Client` whose replies are kept, and taken from the record where it has them."""

    def __init__(self, client: Client, role: Role, replies: Replies) -> None:
        super().__init__(client)
        self.role, self.replies = role, replies

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        schema: Mapping[str, Any] | None = None,
        seed: int | None = None,
        temperature: float | None = None,
        place: Place | None = None,
    ) -> Completion:
        """As `Client.chat`. Raises StoreError, too; in a replay DeadlinePassed as recorded, or DataError without a reply."""
        place = place or Place()
        question = asked(messages, seed, temperature)
        if (line := self.replies.take(place, self.role, question)) is not None:
            return read_line(line)
        if self.replies.closed:
            if cause := self.replies.gave_up(place):
                raise DeadlinePassed(cause)
            raise DataError(
                f"The recorded run has no reply of the {self.role} to what is asked in turn {place.turn + 1} of {place.gym} "
                f"task {place.task!r}, attempt {place.attempt}. Its prompts, rules or settings have changed since, or its "
                f"file of replies is not whole. Replay it with the version of userrl that played it."
            )
        began = time.perf_counter()
        try:
            done = await self.client.chat(messages, tools=tools, schema=schema, seed=seed, temperature=temperature, place=place)
        except EndpointRefused:
            raise  # it stops the run, and says nothing about what a run that goes on will meet
        except EndpointError as error:
            failed = {"model": self.endpoint.model, "error": str(error), "usage": _numbers(error.usage or Usage())}
            more = {"shared": True} if error.shared else {"lost": error.lost} if error.lost else {}
            self.replies.put(place, self.role, question, {**failed, **more})
            raise
        self.replies.put(place, self.role, question, _line(self.endpoint.model, done, time.perf_counter() - began))
        return done


def _line(model: str, done: Completion, took_s: float) -> Line:
    line: Line = {"model": model, "content": done.content, "usage": _numbers(done.usage), "s": round(took_s, 3)}
    if done.tool_calls:
        line["tool_calls"] = done.tool_calls
    if done.shared:
        line["shared"] = True
    if done.lost:
        line["lost"] = done.lost
    if done.finish_reason:
        line["finish_reason"] = done.finish_reason
    if done.reasoning:
        line["reasoning"] = done.reasoning
    return line


def usage_of(line: Line) -> Usage:
    """What a recorded call took; nothing where its reply was shared."""
    return Usage(*line["usage"])


def _numbers(usage: Usage) -> list[int]:
    return [usage.read, usage.written, usage.thought]


def read_line(line: Line) -> Completion:
    """The completion of a recorded line. Raises EndpointError for a recorded failure."""
    if "error" in line:
        raise EndpointError(line["error"])
    calls = tuple(line.get("tool_calls", ()))
    return Completion(line["content"], calls, usage_of(line), line.get("finish_reason", ""), line.get("reasoning", ""))
