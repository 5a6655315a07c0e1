"""Persuade: move a user who strongly agrees with a claim, one argument at a time, toward strongly disagreeing.

Reward of an argument: the levels gained over the best level so far, divided by 6, so an episode's rewards sum to at
most 1. The episode ends at Strongly Disagree.

Source: UserRL, arXiv 2509.19736, section 3; differences from the original are listed in the data sheet
(`README.md` beside this file).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from userrl.core import INVALID, Action, Cast, Episode, Turn
from userrl.data.hidden import HiddenModel, Text
from userrl.gyms.base import FINISH, Gym, held

Stance = Literal["Strongly Agree", "Agree", "Partly Agree", "Neutral", "Partly Disagree", "Disagree", "Strongly Disagree"]
"""Of the user towards its claim."""
STANCES: tuple[Stance, ...] = get_args(Stance)
"""By level: a user starts at level 0 and is convinced at the last."""
TOP = len(STANCES) - 1

AGENTS = ("said", "answered", "argument")
"""Facts that hold the agent's words; also the user's answers, which may repeat them."""

LONGEST_TEXT = 2_000
"""Characters of a message that are read; what is beyond makes no argument (and is not kept in memory)."""

Sort = Literal["argument", "repetition", "rudeness", "question", "other"]


class Reply(BaseModel):
    """What the user says."""

    model_config = ConfigDict(extra="ignore")
    words: Annotated[str, Field(min_length=1, description="Your reply, as you would say it.")]


class Verdict(BaseModel):
    """Where the user stands after an argument."""

    model_config = ConfigDict(extra="ignore")
    stance: Stance = Field(description="The user's stance toward the claim now.")
    sort: Sort = Field("argument", description="What sort of message it was. For reports only.")


class ReplyAndStance(BaseModel):
    """Compat: both at once, from the user."""

    model_config = ConfigDict(extra="ignore")
    words: Annotated[str, Field(min_length=1, description="Your reply, as you would say it.")]
    stance: Stance = Field(description="Your stance toward the claim now.")


class Hidden(HiddenModel):
    """What the user holds, why, and what would move it. Only claim and reasons are needed with a cast of models."""

    claim: Text
    reasons: Annotated[list[Text], Field(min_length=1)]
    """The user's own; the first is told in the opening."""
    cares: list[Text] = Field(default_factory=list)
    """Themes that weigh with the user, in the order in which it thinks of them."""
    stubbornness: Literal["open", "firm", "stubborn"] = "firm"


class Persuade(Gym):
    """Argue with a skeptical user who is moved by what matters to it. `task.hidden`: see `Hidden`."""

    name: ClassVar = "persuade"
    summary: ClassVar = "change the mind of a skeptical user, one argument at a time"
    actions: ClassVar = {"action": "give the user one argument, or ask one question"}
    hidden_model: ClassVar = Hidden
    labels: ClassVar = ("moved", "asked", "unconvincing", "repeated", "backfired", "rude", "finish", INVALID)

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        if action.kind == FINISH:
            return Turn(action, "You ended the talk.", done=True, label="finish")
        before, asked = last_level(episode), self._facts(episode, action)
        sort: Sort = "argument"
        if self.compat:
            both = await cast.user.answer(self.query(episode, "both", ReplyAndStance, untrusted=AGENTS, **asked))
            words, now = both.words, both.stance
        else:
            # The judge marks the argument before the user answers it: the answer cannot mark the work.
            verdict = await cast.judge.answer(self.query(episode, "stance", Verdict, untrusted=AGENTS, **asked))
            now, sort = verdict.stance, verdict.sort
            reply = await cast.user.answer(self.query(episode, "reply", Reply, untrusted=AGENTS, **asked, stance_now=now))
            words = reply.words
        level = STANCES.index(now)
        return Turn(
            action,
            f"{words}\n(My stance now: {now}.)",
            reward=round(max(0, level - before) / TOP, 6) if self.compat else max(0.0, level - episode.best("level")) / TOP,
            done=level == TOP,
            label=label(episode, action, before, level, sort),
            reveals=held(episode.task.hidden["reasons"], words),
            facts={"level": level, "words": words},
        )

    def read(self, action: Action) -> Action:
        """Compat: under any choice, or none, a text is an argument, as in the original."""
        if not self.compat or action.kind in (*self.actions, FINISH):
            return action
        return replace(action, kind="action", text=action.text or action.raw)

    def solved(self, episode: Episode) -> bool:
        """Whether the user ended up convinced; finishing (compat) ends an episode without it."""
        return last_level(episode) == TOP

    def ended(self, episode: Episode) -> tuple[bool, bool]:
        """Also under compat: truncated only when not terminated, as in the original."""
        return episode.stop == "done", episode.stop in ("turn_limit", "window")

    def _facts(self, episode: Episode, action: Action) -> dict[str, Any]:
        """What user and judge may know. Both know the user's mind; the agent's words stand apart."""
        hidden, heard = episode.task.hidden, arguments(episode)
        return {
            "claim": hidden["claim"],
            "reasons": list(hidden["reasons"]),
            "cares": list(hidden.get("cares", ())),
            "mind": hidden.get("stubbornness", "firm"),
            "answered": [turn.facts["words"] for turn in heard],
            "stance": STANCES[last_level(episode)],
            "said": [turn.action.text for turn in heard],
            "argument": action.text,
        }


def arguments(episode: Episode) -> Sequence[Turn]:
    """The turns in which the user heard something."""
    return [turn for turn in episode.turns if "level" in turn.facts]


def last_level(episode: Episode) -> int:
    """Where the user stands, as an index into STANCES."""
    heard = arguments(episode)
    return int(heard[-1].facts["level"]) if heard else 0


def label(episode: Episode, action: Action, before: int, level: int, sort: Sort) -> str:
    """What sort of turn it was, for the action mix; never rewarded."""
    if level > before:
        return "moved"
    if sort == "rudeness":
        return "rude"
    if sort == "repetition" or plain(action.text) in {plain(turn.action.text) for turn in arguments(episode)}:
        return "repeated"
    if level < before:
        return "backfired"
    return "asked" if sort == "question" else "unconvincing"


def plain(text: str) -> str:
    """The words of a text's first 2,000 characters in lower case, with single spaces."""
    return _plain(text[:LONGEST_TEXT])


@lru_cache(maxsize=8192)
def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.lower()))
