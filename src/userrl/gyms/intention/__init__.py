"""Intention: someone asks for help with a vague task; find out what matters by asking.

Reward of a question: the worth of the most important detail it newly covers (importance 3 -> 1.0, 2 -> 0.7,
1 -> 0.4), minus 0.2 for every further detail in the same question, never below 0. The episode ends when all
missing details are covered. Rewards of an episode can sum to more than 1.

Source: UserRL, arXiv 2509.19736, section 3; differences from the original are listed in the data sheet
(`README.md` beside this file).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from userrl.core import INVALID, Action, Cast, Episode, Task, Turn
from userrl.data.hidden import HiddenModel, Text
from userrl.errors import ReplyError
from userrl.gyms.base import FINISH, Gym, held, repeats

WORTH = {3: 1.0, 2: 0.7, 1: 0.4}
"""Importance of a detail -> reward for covering it (UserRL, section 3)."""


class Answer(BaseModel):
    """What the user says."""

    model_config = ConfigDict(extra="ignore")
    words: Annotated[str, Field(min_length=1, description="Your answer, as you would say it.")]


class Addressed(BaseModel):
    """Which details a question is about."""

    model_config = ConfigDict(extra="ignore", strict=True)
    addressed: list[Annotated[int, Field(ge=0)]] = Field(description="Numbers of the details the question asks about.")
    on_task: bool = Field(description="Whether the question has to do with the task at all.")

    @model_validator(mode="after")
    def _names_details_that_there_are(self, info: ValidationInfo) -> Self:
        allowed = (info.context or {}).get("allowed")
        if self.on_task and allowed is not None and (strange := [i for i in self.addressed if i not in allowed]):
            raise ValueError(f"there is no detail {strange[0]}; the numbers are {', '.join(map(str, allowed))}")
        return self


class Detail(HiddenModel):
    """Something that the user wishes and has not said, or (stated) has said in the opening."""

    type: Text
    description: Text
    importance: Annotated[int, Field(ge=1, le=3)]
    preference: Text
    """What the user wants: one of the options, where there are any."""
    options: list[Text] = Field(default_factory=list)
    answer: str = ""
    """The preference as a sentence of the user."""
    lexicon: list[Text] = Field(default_factory=list)
    """Phrases by which the scripted judge recognizes a question about it."""

    @model_validator(mode="after")
    def _the_preference_is_an_option(self) -> Self:
        if self.options and self.preference not in self.options:
            raise ValueError(f"preference is {self.preference!r:.60}; expected one of the options {self.options!r:.120}")
        return self


class Hidden(HiddenModel):
    """What is missing from the opening, and what it states."""

    domain: Text
    details: Annotated[list[Detail], Field(min_length=1)]
    stated: list[Detail] = Field(default_factory=list)

    @model_validator(mode="after")
    def _types_differ(self) -> Self:
        types = [d.type for d in (*self.details, *self.stated)]
        if twice := sorted({t for t in types if types.count(t) > 1}):
            raise ValueError(f"type {twice[0]!r} is that of more than one detail; expected each once")
        return self


class Intention(Gym):
    """Ask clarifying questions until every missing detail is known."""

    name = "intention"
    summary = "clarify a vague task by asking for the details that matter"
    actions: ClassVar = {"action": "ask the user one clarifying question"}
    labels = ("relevant", "multi_part", "repeated", "irrelevant", INVALID)
    settings: ClassVar = {"multi_detail_penalty": 0.2}
    hidden_model = Hidden

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        if action.kind == FINISH:
            return Turn(action, "You ended the talk.", done=True)
        details = episode.task.hidden["details"]
        covered = already_covered(episode)
        answer = await cast.user.answer(
            self.query(
                episode,
                "answer",
                Answer,
                untrusted=["question", "said"],
                task=episode.task.prompt,
                wishes=wishes(episode.task),
                question=action.text,
                said=[turn.action.text for turn in episode.turns if turn.action.kind != INVALID],
            )
        )
        verdict = await cast.judge.answer(
            self.query(
                episode,
                "addressed",
                Addressed,
                untrusted=["question"],
                task=episode.task.prompt,
                details=[{"number": i, "detail": d["description"]} for i, d in enumerate(details)],
                covered=sorted(covered),
                allowed=None if self.compat else list(range(len(details))),
                lexicons=[d.get("lexicon", []) for d in details],
                question=action.text,
            )
        )
        new = self.newly_covered(verdict, covered, len(details))
        reward = question_reward([details[i]["importance"] for i in new], self.config["multi_detail_penalty"])
        now = covered | set(new)
        return Turn(
            action,
            answer.words,
            reward=reward,
            done=len(now) == len(details),
            label=label(episode, action, new, verdict.addressed),
            reveals=held(revealed(episode.task, verdict.addressed), answer.words),
            facts={"new": new, "covered": sorted(now)},
        )

    def newly_covered(self, verdict: Addressed, covered: set[int], count: int) -> list[int]:
        """Indices newly covered by a question. Raises ReplyError for an index that no detail has.

        Compat: indices out of range are ignored and a repeated index counts twice, as in the original.
        """
        if not verdict.on_task:
            return []
        outside = [i for i in verdict.addressed if i >= count]
        if outside and not self.compat:
            raise ReplyError(f"The judge named detail {outside[0]}; there are {count}, numbered from 0.")
        new = [i for i in verdict.addressed if i < count and i not in covered]
        return new if self.compat else sorted(set(new))

    def read(self, action: Action) -> Action:
        """Compat: any choice is read as a question, as in the original."""
        return replace(action, kind="action") if self.compat and action.kind in ("answer", "search") else action

    def reachable(self, task: Task, max_turns: int) -> float:
        """The sum of the details' worth, one detail a turn, within the turn limit."""
        return sum(sorted((WORTH[d["importance"]] for d in task.hidden["details"]), reverse=True)[:max_turns])

    def solved(self, episode: Episode) -> bool:
        """Whether every missing detail was covered; finishing (compat) ends an episode without it."""
        return len(already_covered(episode)) == len(episode.task.hidden["details"])

    def ended(self, episode: Episode) -> tuple[bool, bool]:
        """Compat: a question at the turn limit is reported as both, unless all details are covered; `finish` never is."""
        done, full = episode.stop == "done", episode.stop in ("turn_limit", "window")
        if not self.compat or (episode.turns and episode.turns[-1].action.kind == FINISH):
            return done, full
        full = len(episode.turns) >= episode.max_turns and not self.solved(episode)
        return done or full, full


def already_covered(episode: Episode) -> set[int]:
    """Indices of the details that the questions so far have covered."""
    return {i for turn in episode.turns for i in turn.facts.get("new", ())}


def revealed(task: Task, addressed: Sequence[int]) -> tuple[str, ...]:
    """What an answer may tell: the wishes about the details asked for, and those that the opening stated."""
    details = task.hidden["details"]
    told = [details[i] for i in sorted(set(addressed)) if i < len(details)] + list(task.hidden.get("stated", ()))
    return tuple(text for d in told for text in (d["preference"], d.get("answer", "")) if text)


def wishes(task: Task) -> list[dict[str, str]]:
    """What the user wants, without a word on what matters or what is missing: all that a user may know."""
    known = [*task.hidden["details"], *task.hidden.get("stated", ())]
    return sorted(({"about": d["description"], "wish": d["preference"], "sentence": d.get("answer", "")} for d in known), key=str)


def question_reward(importances: Sequence[int], penalty: float = 0.2) -> float:
    """Reward of a question that newly covers details of these importances.

    >>> question_reward([2, 3])
    0.8
    >>> question_reward([])
    0.0
    """
    if not importances:
        return 0.0
    return round(max(0.0, max(WORTH[i] for i in importances) - penalty * (len(importances) - 1)), 9)


def label(episode: Episode, action: Action, new: Sequence[int], addressed: Sequence[int]) -> str:
    """What sort of question it was, for the action mix; never rewarded.

    Two question marks, or two details newly covered, make it multi-part, whatever it earned.
    """
    if len(new) > 1 or action.text.count("?") > 1:
        return "multi_part"
    if new:
        return "relevant"
    return "repeated" if addressed or repeats(action.text, (turn.action.text for turn in episode.turns)) else "irrelevant"


def detail(kind: str, description: str, importance: int, preference: str, **more: Any) -> dict[str, Any]:
    """One entry of `Task.hidden["details"]`; `more` may hold options, the user's answer sentence and a lexicon."""
    return {"type": kind, "description": description, "importance": importance, "preference": preference, **more}
