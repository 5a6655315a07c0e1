"""Telepathy: someone thinks of a thing and names its category; find out which it is by asking yes/no questions.

Reward of a guess: 1 when the judge says that it names the thing, and the episode ends; else 0, and one may go on.
A question earns 0. Source: UserRL, arXiv 2509.19736, section 3; differences from the original are listed in the
data sheet (`README.md` beside this file).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from userrl.core import INVALID, Action, Cast, Episode, Turn
from userrl.data.hidden import HiddenModel, Text
from userrl.gyms.base import FINISH, Gym

PREFIX_LENGTH = 8
"""Characters that the original cuts from a text that is no answer, meant to be "[action]" (compat)."""

QUESTION, ANSWER = "action", "answer"


class Reply(BaseModel):
    """What the user says to a question."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    word: Literal["Yes", "No", "Maybe"] = Field(description="Your answer to the question.")


class Verdict(BaseModel):
    """Whether a guess names the thing."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    same: bool = Field(strict=True, description="Whether the guess names the thing.")


class Hidden(HiddenModel):
    """The thing that the user thinks of."""

    title: Text
    category: Text
    aliases: list[Text] = Field(default_factory=list)
    """Other names that count."""
    description: str = ""
    """For the user."""


class Telepathy(Gym):
    """Twenty questions, in 16 turns by default.

    `task.hidden`: see `Hidden`. `compat="userrl"` reads whatever is no valid choice as a question.
    """

    name = "telepathy"
    summary = "Find out which thing someone thinks of by asking yes/no questions."
    actions: ClassVar = {
        QUESTION: "ask one question that can be answered with yes or no",
        ANSWER: "guess the thing by its name; you may try again",
    }
    hidden_model = Hidden
    secrets = ("title", "aliases")
    labels = ("question", "unclear", "repeated", "correct", "wrong_guess", FINISH, INVALID)

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        if action.kind == FINISH:
            return Turn(action, "You ended the game.", done=True, label=FINISH)
        return await (self._guess if action.kind == ANSWER else self._question)(episode, action, cast)

    async def _question(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        hidden = episode.task.hidden
        reply: Reply = await cast.user.answer(
            self.query(
                episode,
                "question",
                Reply,
                untrusted=["question", "said"],
                title=hidden["title"],
                category=hidden["category"],
                description=hidden.get("description", ""),
                question=action.text,
                said=[turn.action.text for turn in episode.turns if turn.action.kind == QUESTION],
            )
        )
        label = "unclear" if reply.word == "Maybe" else "question"
        return Turn(action, reply.word, label="repeated" if repeats(episode, action) else label)

    async def _guess(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        hidden = episode.task.hidden
        verdict: Verdict = await cast.judge.answer(
            self.query(
                episode,
                "guess",
                Verdict,
                untrusted=["guess"],
                title=hidden["title"],
                category=hidden["category"],
                aliases=list(hidden.get("aliases", ())),
                guess=action.text,
            )
        )
        if verdict.same:
            return Turn(action, "Yes, that is it.", reward=1.0, done=True, label="correct")
        label = "repeated" if repeats(episode, action) else "wrong_guess"
        return Turn(action, "No, that is not it.", label=label)

    def read(self, action: Action) -> Action:
        """Compat: a text that does not begin with a known choice is a question, less its first 8 characters.

        The original puts the choice in brackets before the text, so that "[search] " is cut away whole, and of a
        text without a choice its beginning.
        """
        if not self.compat or self.offers(action.kind):
            return action
        text = action.raw if action.kind == INVALID else f"[{action.kind}] {action.text}"
        return replace(action, kind=QUESTION, text=text[PREFIX_LENGTH:].strip())

    def solved(self, episode: Episode) -> bool:
        """Whether a guess was right; finishing (compat) ends an episode without it."""
        return episode.stop == "done" and episode.turns[-1].label == "correct"


def repeats(episode: Episode, action: Action) -> bool:
    """Whether the same words came before with the same choice; for reports only."""
    words = action.text.casefold().split()
    return any(turn.action.kind == action.kind and turn.action.text.casefold().split() == words for turn in episode.turns)
