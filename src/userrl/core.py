"""The nouns of the project and the three roles that meet in a game.

Everything else reads or writes these. Standard library only; nothing of ours is imported here.

Glossary: a *task* is one problem of a gym; an *action* is one move of the agent; a *turn* is an action and
what came of it; an *episode* (trajectory) is a task and its turns; the *cast* is the user, who answers, and
the judge, who marks; a *reward* belongs to a turn, a *score* to an episode.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

Stop = Literal["running", "done", "turn_limit", "window", "error"]
"""How an episode ended. window: the agent's own context window is full, which is its limit and no failure."""
DEFAULT_MAX_TURNS = 16
"""Turns of an episode in training and evaluation (UserRL, arXiv 2509.19736, section 4)."""

INVALID = "invalid"
"""Kind of an action that could not be read as a call; its `problem` says why."""


@dataclass(frozen=True, slots=True)
class Task:
    """One problem of a gym: what the agent is told, and what only the user and the judge know."""

    id: str
    gym: str
    prompt: str
    """Shown to the agent as the user's first message."""
    hidden: Mapping[str, Any] = field(default_factory=dict)
    """JSON values for user, judge and rules; never rendered to the agent."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a local policy really read and wrote in one turn, so that training never re-tokenizes text.

    The whole sequence of an episode is the concatenation of `context + ids` over its turns.
    """

    context: tuple[int, ...]
    """Ids fed since the previous action's last id: the prompt, later the feedback and the scaffold around it."""
    ids: tuple[int, ...]
    """(n,) ids sampled by the policy."""
    logprobs: tuple[float, ...]
    """(n,) log-probabilities of `ids` under the policy that sampled them, at the sampling temperature."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run something happens: a turn of an episode. What a recorded reply is found by."""

    gym: str = ""
    task: str = ""
    attempt: int = 0
    seed: int = 0
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """One move of the agent: a choice that the gym declares, and its text."""

    kind: str
    """A key of the gym's `actions`, "finish", or "invalid"."""
    text: str = ""
    raw: str = ""
    """The reply as the agent wrote it; empty when the agent does not write text (scripts, people)."""
    problem: str = ""
    """For an invalid action: what was wrong with the reply."""
    note: str = ""
    """Appended to the feedback, e.g. that only the first of several calls was played."""
    tokens: Tokens | None = None
    """Set by local policies only."""


@dataclass(frozen=True, slots=True)
class Turn:
    """An action and what came of it."""

    action: Action
    feedback: str
    """What the agent reads next. Never contains the reward."""
    reward: float = 0.0
    done: bool = False
    """The rules ended the episode (`terminated`)."""
    label: str = ""
    """What sort of move it was (e.g. relevant, repeated), for reports only; never rewarded."""
    reveals: tuple[str, ...] = ()
    """Pieces of `task.hidden` that this turn's feedback shows to the agent."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the rules must remember, e.g. {"covered": [0, 2]}. JSON values only."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A task and the turns played so far. The whole state of a game: there is no other.

    So an episode can be stopped, saved, resumed, replayed or branched at any turn without further code.
    """

    task: Task
    turns: tuple[Turn, ...] = ()
    stop: Stop = "running"
    error: str | None = None
    """Set exactly when `stop` is "error": which role failed, and how."""
    seed: int = 0
    """The run's seed."""
    attempt: int = 0
    """Which of the episodes of this task in this run (the group member in RL)."""
    max_turns: int = DEFAULT_MAX_TURNS
    rules: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the gym, as given to `make`: {"compat": "userrl"} or a gym's own knobs."""

    @property
    def key(self) -> tuple[str, str, int]:
        """(gym, task id, attempt): what identifies the episode within a run."""
        return (self.task.gym, self.task.id, self.attempt)

    @property
    def place(self) -> Place:
        """Where the episode stands: at its next turn."""
        return Place(*self.key, self.seed, len(self.turns))

    @property
    def rewards(self) -> list[float]:
        """(T,) rewards of the turns, in the gym's units."""
        return [turn.reward for turn in self.turns]

    def best(self, fact: str, default: float = 0.0) -> float:
        """The largest value of a numeric fact over the turns so far."""
        return max((turn.facts[fact] for turn in self.turns if fact in turn.facts), default=default)

    def play(self, turn: Turn) -> Episode:
        """The episode with one more turn; ended where the rules or the turn limit say so."""
        turns = (*self.turns, turn)
        stop: Stop = "done" if turn.done else "turn_limit" if len(turns) >= self.max_turns else "running"
        return replace(self, turns=turns, stop=stop)

    def fail(self, error: str) -> Episode:
        """The episode ended by a failure. Its turns are kept; it has no score."""
        return replace(self, stop="error", error=error)

    def rng(self, *salt: str) -> random.Random:
        """A generator that depends on (seed, task, attempt, turn, salt) alone, so that replay draws the same."""
        return random.Random("|".join([str(self.seed), *map(str, self.key), str(len(self.turns)), *salt]))


R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Query(Generic[R]):
    """A question of the rules to the user or the judge, typed by its reply.

    An LLM renders `template` with the facts and must return JSON that fits `reply`; a script answers from the
    facts alone; a person reads them. A gym puts its own template in, so no one reaches back into the gym.
    """

    name: str
    """"<gym>.<what>", e.g. "intention.addressed"."""
    reply: type[R]
    """A pydantic model class. Its validators may look at the facts (pydantic's validation context), beyond its JSON schema."""
    template: str
    """Text with `$name` slots for facts (`string.Template` syntax), filled in one pass."""
    facts: Mapping[str, Any]
    """All that the one who answers may know."""
    untrusted: frozenset[str] = frozenset()
    """Names of the facts that hold the agent's words: escaped and fenced wherever they are rendered."""
    place: Place = Place()
    """The turn of the episode in which it is asked; `rollout.advance` fills it in."""

    @property
    def turn(self) -> int:
        """Turn of the episode, counted from 0."""
        return self.place.turn


class User(Protocol):
    """Whoever knows the hidden part and answers: an LLM, a script, a person."""

    async def answer(self, query: Query[R]) -> R:
        """Raises `ReplyError` when no reply fits, or an `EndpointError` when none came."""
        ...


class Judge(Protocol):
    """Whoever marks. Never the user: a persona or an adversary must not mark the work."""

    async def answer(self, query: Query[R]) -> R:
        """Raises as `User.answer` does."""
        ...


@dataclass(frozen=True, slots=True)
class Cast:
    """Who stands behind the gym. Stateless, so one cast serves any number of episodes at once."""

    user: User
    judge: Judge


class Agent(Protocol):
    """Whoever plays: the policy in training, a remote model, a script, a person. Stateless towards episodes."""

    async def act(self, episode: Episode) -> Action:
        """The next move in `episode`, of which only `render.messages` may be shown to a model."""
        ...
