"""Turtle: find the hidden story behind a strange one by asking yes/no questions (lateral thinking).

Reward of an answer: how much its score exceeds the best score so far, in [0, 1]; a question earns 0. A score is the
sum over the lines of a rubric of weight x grade. The episode ends when the score reaches the threshold (1).

Source: UserRL, arXiv 2509.19736, section 3; differences from the original are listed in the data sheet
(`README.md` beside this file).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, reduce
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from userrl.core import INVALID, Action, Cast, Episode, Turn
from userrl.data.hidden import HiddenModel, Text
from userrl.errors import ConfigError
from userrl.gyms.base import FINISH, Gym, repeats

Reply: TypeAlias = Literal["Yes", "No", "Maybe"]

GRADES = (0.0, 0.5, 1.0)
"""A line of the rubric is missed, half there, or there."""
TOLERANCE = 1e-6
"""By which a score may stay below the threshold and still reach it: sums of weights are inexact."""
NOTHING_COVERED = "No point of the hidden story is fully told yet."


class Word(BaseModel):
    """What the user says to a question."""

    model_config = ConfigDict(extra="ignore")
    word: Reply = Field(description="Your reply to the question.")


def _one_of_the_grades(value: float) -> float:
    if value not in GRADES:
        raise ValueError("a grade is 0, 0.5 or 1")
    return value


Grade = Annotated[float, Field(strict=True, json_schema_extra={"enum": list(GRADES)}), AfterValidator(_one_of_the_grades)]


class Grades(BaseModel):
    """How much of each line of the rubric a told story holds."""

    model_config = ConfigDict(extra="ignore")
    grades: list[Grade] = Field(description="One grade for each line of the rubric, in its order.")


@cache
def grades_for(lines: int) -> type[Grades]:
    """`Grades` of exactly that many lines, so that another number of grades does not fit the schema."""
    field = Field(min_length=lines, max_length=lines, description=Grades.model_fields["grades"].description)
    return create_model(f"Grades{lines}", __base__=Grades, grades=(list[Grade], field))


class Line(HiddenModel):
    """A line of a rubric."""

    line: Text
    weight: Annotated[float, Field(ge=0)]
    words: str = ""


class Fact(HiddenModel):
    """A question that the scripted user understands, and its reply."""

    question: Text
    reply: Reply
    words: Text


class Hidden(HiddenModel):
    """The story behind the strange one.

    Words, facts and common are what the scripted judge and user go by (see `words.concepts`); models need none of them.
    """

    story: Text
    rubric: Annotated[list[Line], Field(min_length=1)]
    facts: list[Fact] = Field(default_factory=list)
    common: dict[str, Reply] = Field(default_factory=dict)
    """Key of the content file's table of common questions -> reply."""

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        total = math.fsum(line.weight for line in self.rubric)
        if abs(total - 1) > TOLERANCE:
            raise ValueError(f"the weights of the rubric sum to {total:g}; expected 1")
        return self


class Turtle(Gym):
    """Ask yes/no questions about a strange story, then tell what is behind it. One may tell it several times.

    `task.hidden`: see `Hidden`.
    """

    name = "turtle"
    summary = "find the hidden story behind a strange one by asking yes/no questions"
    actions: ClassVar[Mapping[str, str]] = {
        "action": "ask one question about the story that can be answered by yes or no",
        "answer": "tell the whole hidden story as you understand it; you may try again",
    }
    hidden_model = Hidden
    labels = ("yes", "no", "maybe", "repeated", "better_answer", "no_better_answer", FINISH, INVALID)
    settings: ClassVar[Mapping[str, Any]] = {"success_threshold": 1.0}

    def __init__(self, *, compat: str | None = None, show_reward: bool = False, **settings: Any) -> None:
        super().__init__(compat=compat, show_reward=show_reward, **settings)
        threshold = self.config["success_threshold"]
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise ConfigError(f"success_threshold is {threshold!r}; expected a number above 0 and at most 1.")

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        if action.kind == FINISH:
            return Turn(action, "You ended the game.", done=True, label=FINISH)
        return await (self._question if action.kind == "action" else self._answer)(episode, action, cast)

    async def _question(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        hidden = episode.task.hidden
        before = [turn.action.text for turn in episode.turns if turn.action.kind == "action"]
        reply = await cast.user.answer(
            self.query(
                episode,
                "question",
                Word,
                untrusted=["question", "asked"],
                surface=episode.task.prompt,
                story=hidden["story"],
                facts=list(hidden.get("facts", ())),
                common=dict(hidden.get("common", {})),
                asked=before,
                question=action.text,
            )
        )
        return Turn(action, reply.word, label="repeated" if repeats(action.text, before) else reply.word.lower())

    async def _answer(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        rubric = episode.task.hidden["rubric"]
        reply = await cast.judge.answer(
            self.query(
                episode,
                "grade",
                grades_for(len(rubric)),
                untrusted=["told"],
                surface=episode.task.prompt,
                story=episode.task.hidden["story"],
                rubric=[{"number": str(i), "line": line["line"]} for i, line in enumerate(rubric, start=1)],
                words=[line.get("words", "") for line in rubric],
                told=action.text,
            )
        )
        score = rubric_score(reply.grades, [line["weight"] for line in rubric])
        gain = round(max(0.0, score - episode.best("score")), 9)
        covered = tuple(line["line"] for line, grade in zip(rubric, reply.grades, strict=True) if grade == 1.0)
        return Turn(
            action,
            "\n".join(["Your story holds:", *(f"- {line}" for line in covered)]) if covered else NOTHING_COVERED,
            reward=gain,
            done=self.reached(score),
            label="better_answer" if gain else "no_better_answer",
            reveals=covered,
            facts={"score": score, "grades": list(reply.grades)},
        )

    def reached(self, score: float) -> bool:
        """Whether a score ends the episode. Compat: without a tolerance, so 0.1 + 0.2 + 0.7 = 0.99… never is 1."""
        threshold: float = self.config["success_threshold"]
        return score >= threshold - (0.0 if self.compat else TOLERANCE)

    def read(self, action: Action) -> Action:
        """Compat: text that is no call is a question, as in the original."""
        if self.compat and action.kind == INVALID and action.raw:
            return replace(action, kind="action", text=action.raw, problem="")
        return action

    def solved(self, episode: Episode) -> bool:
        """Whether the hidden story was told; finishing (compat) ends an episode without it."""
        return episode.stop == "done" and episode.turns[-1].label != FINISH


def rubric_score(grades: Sequence[float], weights: Sequence[float]) -> float:
    """The sum of weight x grade, added one after the other as the original does (Python's `sum` may round less).

    >>> rubric_score([1.0, 0.5, 0.0], [0.5, 0.25, 0.25])
    0.625
    """
    return reduce(operator.add, map(operator.mul, weights, grades), 0.0)
