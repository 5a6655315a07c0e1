"""Travel: someone plans a trip; find out what they want by asking, search, and recommend one option for each part.

Reward of an answer: 1 for the best option of its aspect, 0.8 for another one that satisfies all preferences, else 0.
Rewards on the way: for the first right search of each aspect, and for each question that elicits a preference.
The score of an episode in reports is the mean over its aspects of the answers' rewards.

Source: UserRL, arXiv 2509.19736, section 3; differences from the original are listed in the data sheet
(`README.md` beside this file).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from userrl.core import INVALID, Action, Cast, Episode, Task, Turn
from userrl.errors import ConfigError, ReplyError, UnknownName
from userrl.gyms.base import FINISH, Gym, held
from userrl.gyms.travel.hidden import ASPECTS, Aspect, Hidden
from userrl.gyms.travel.preferences import hints_of

SEARCH, TALK, ANSWER = "search", "action", "answer"

REWARDS: Mapping[str, tuple[float, float]] = {"default": (0.2, 0.2), "training": (0.0, 0.8), "evaluation": (0.2, 0.6)}
"""Preset -> rewards of a right search and of an elicited preference."""
SHOWN_HINTS = 3
"""Phrasings of a preference that a user is given to draw on."""

FIELDS = {
    "flight": "path is the airports in order; time the hours of each flight, with those of each stop in between",
    "hotel": "room and cost go in pairs, cost in dollars for the whole stay; rating is out of 10",
    "apartment": "room 2B1B is 2 bed, 1 bath; cost is in dollars for the whole stay; rating is out of 10",
    "restaurant": "expectation is the price class; rating is out of 10; reviews are counted by stars",
    "rental_car": "cost is in dollars for the whole rental",
}
"""What is not plain about the fields of listed options."""

ASKED = "The assistant asked you about it."
VOLUNTEERED = "The assistant has been off the point for a while: bring it up yourself."

TOO_VAGUE = "That is too general for me. Ask me about one particular thing of one part of the trip, in plain words."
NOTHING_LEFT = "I have no wishes there, or none that I have not told you."
SEARCH_DOWN = "The search is down at the moment. Please try again."


class Match(BaseModel):
    """Whether a search request says what a search of one aspect must say."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    matches: bool = Field(strict=True, description="Whether the request is right and complete for one aspect.")
    aspect: Aspect | None = Field(default=None, description="The aspect that the request is about; null when it is about none.")

    @model_validator(mode="after")
    def _names_its_aspect(self, info: ValidationInfo) -> Self:
        if self.matches and self.aspect is None:
            raise ValueError("a request that matches is about an aspect; name it")
        requests = (info.context or {}).get("requests")
        if self.matches and requests is not None and self.aspect not in requests:
            raise ValueError(f"the trip has no {self.aspect!r}; its parts are {', '.join(requests)}")
        return self


class Talk(BaseModel):
    """What sort of thing the agent said."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    kind: Literal["asks", "nothing_left", "vague", "other"] = Field(description="What sort of thing the assistant said.")
    preference: str = Field(
        default="", description='Id of the preference it asks for, such as "P2"; empty unless kind is "asks".'
    )

    @model_validator(mode="after")
    def _names_its_preference(self, info: ValidationInfo) -> Self:
        if self.kind == "asks" and not self.preference:
            raise ValueError("kind 'asks' needs the id of the preference")
        allowed = (info.context or {}).get("allowed")
        if self.kind == "asks" and allowed is not None and self.preference not in allowed:
            raise ValueError(f"{self.preference!r} is none of the untold wishes, which are {', '.join(allowed) or 'none'}")
        return self


class Words(BaseModel):
    """What the user says."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    words: str = Field(min_length=1, description="What you say.")


class Travel(Gym):
    """Elicit preferences, search, recommend.

    `task.hidden`: see `Hidden`. Settings: a preset of `REWARDS`, or the single rewards, which go
    before it; every so-manieth search that fails; off-topic turns after which the user volunteers a preference.
    `compat="userrl"` lets ids that are not there, and aspects that are not part of the trip, count as a choice.
    """

    name = "travel"
    summary = "Find out what somebody wants of a trip, search, and recommend the best options."
    actions: ClassVar = {
        SEARCH: "search one part of the trip (flight, hotel, ...), saying all that the user told about it",
        TALK: "say something to the user: ask for a preference about one particular thing",
        ANSWER: "recommend one option by its id alone, such as H4; one for each part, and it is final",
    }
    labels = (
        "elicited", "nothing_left", "vague", "small_talk", "searched", "searched_again", "search_wrong", "search_down",
        "best", "correct", "wrong", "refused", FINISH, INVALID,
    )  # fmt: skip
    settings: ClassVar = {
        "rewards": "default",
        "search_correct_reward": None,
        "preference_correct_reward": None,
        "choice_best_reward": 1.0,
        "choice_correct_reward": 0.8,
        "search_failure_interval": 5,
        "elicitation_interval": 3,
    }
    secrets = ("aspects",)
    hidden_model = Hidden

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if self.config["rewards"] not in REWARDS:
            raise UnknownName("preset of rewards", str(self.config["rewards"]), REWARDS)
        search, preference = REWARDS[self.config["rewards"]]
        given = {name: self.config[name] for name in self.settings if name.endswith("_reward")}
        defaults = {"search_correct_reward": search, "preference_correct_reward": preference}
        worth = {name: defaults[name] if value is None else value for name, value in given.items()}
        for name, value in worth.items():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ConfigError(f"Setting {name!r} of gym 'travel' is {value!r}; expected a number from 0 to 1.")
        for name in ("search_failure_interval", "elicitation_interval"):
            if not isinstance(self.config[name], int) or self.config[name] < 1:
                raise ConfigError(f"Setting {name!r} of gym 'travel' is {self.config[name]!r}; expected a whole number above 0.")
        self.worth: Mapping[str, float] = {name.removesuffix("_reward"): float(value) for name, value in worth.items()}

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        if action.kind == FINISH:
            return Turn(action, "You ended the talk.", done=True, label=FINISH)
        if action.kind == SEARCH:
            return await self._search(episode, action, cast)
        return self._choose(episode, action) if action.kind == ANSWER else await self._talk(episode, action, cast)

    async def _search(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        """The judge says whether the request is right; each list is shown and paid once."""
        count = 1 + sum(turn.action.kind == SEARCH for turn in episode.turns)
        if count % self.config["search_failure_interval"] == 0:
            return Turn(action, SEARCH_DOWN, label="search_down")
        aspects = episode.task.hidden["aspects"]
        requests = {aspect: dict(part["arguments"]) for aspect, part in aspects.items()}
        match: Match = await cast.judge.answer(
            self.query(episode, "search", Match, untrusted=["request"], requests=requests, request=action.text)
        )
        if not match.matches:
            return Turn(action, _nothing_found(match.aspect, requests), label="search_wrong")
        aspect = match.aspect
        if aspect is None or aspect not in aspects:
            raise ReplyError(f"The judge named the aspect {aspect!r}; the trip has {', '.join(aspects)}.")
        if any(turn.facts.get("listed") == aspect for turn in episode.turns):
            again = f"You have searched {spoken(aspect)}s already: look at the list that you were given."
            return Turn(action, again, label="searched_again")
        options = aspects[aspect]["options"]
        feedback = listing(aspect, options)
        shown = tuple(text for text in _texts(options) if _AS_IT_IS(text))
        return Turn(
            action, feedback, reward=self.worth["search_correct"], label="searched", reveals=shown, facts={"listed": aspect}
        )

    async def _talk(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        """The judge says what sort of talk it is. Only a question for an open preference is paid."""
        open_ones = {p["id"]: p for p in open_preferences(episode)}
        talk: Talk = await cast.judge.answer(
            self.query(
                episode,
                "talk",
                Talk,
                untrusted=["question", "said"],
                scenario=episode.task.hidden["scenario"],
                aspects=list(episode.task.hidden["aspects"]),
                preferences=[{key: p[key] for key in ("id", "aspect", "category", "text")} for p in open_ones.values()],
                allowed=[p["id"] for p in preferences(episode.task)] if self.compat else list(open_ones),
                topics=_topics(episode.task),
                question=action.text,
                said=said(episode),
            )
        )
        if talk.kind == "asks" and talk.preference in open_ones:
            reward = self.worth["preference_correct"]
            return await self._reveal(episode, action, cast, open_ones[talk.preference], ASKED, reward=reward, label="elicited")
        if talk.kind == "asks" and not (self.compat and any(p["id"] == talk.preference for p in preferences(episode.task))):
            raise ReplyError(
                f"The judge named the preference {talk.preference!r}; open are {', '.join(open_ones) or 'none'}, "
                f"and it was told to name one of these."
            )
        label = {"other": "small_talk", "asks": "nothing_left"}.get(talk.kind, talk.kind)
        if open_ones and off_topic(episode) + 1 >= self.config["elicitation_interval"]:
            return await self._reveal(episode, action, cast, volunteered(episode), VOLUNTEERED, label=label)
        if label == "small_talk":
            words: Words = await cast.user.answer(self._ask_user(episode, action, "chat"))
            return Turn(action, words.words, label=label, reveals=_told(episode.task, words.words), facts={"talk": True})
        return Turn(action, TOO_VAGUE if label == "vague" else NOTHING_LEFT, label=label, facts={"talk": True})

    async def _reveal(
        self, episode: Episode, action: Action, cast: Cast, preference: Mapping[str, Any], why: str, **turn: Any
    ) -> Turn:
        """The user tells one preference, in its own words."""
        hints = list(hints_of(preference))
        shown = episode.rng("hints").sample(hints, min(SHOWN_HINTS, len(hints)))
        words: Words = await cast.user.answer(
            self._ask_user(episode, action, "reveal", why=why, hint_at=preference["text"], examples=shown)
        )
        facts = {"talk": True, "told": preference["id"]}
        return Turn(action, words.words, reveals=held([preference["text"], *hints], words.words), facts=facts, **turn)

    def _ask_user(self, episode: Episode, action: Action, name: str, **facts: Any) -> Any:
        """A query to the user. Of its wishes it sees the one that it is to tell now."""
        return self.query(
            episode,
            name,
            Words,
            untrusted=["question", "said"],
            scenario=episode.task.hidden["scenario"],
            topics=_topics(episode.task),
            **facts,
            said=said(episode),
            question=action.text,
        )

    def _choose(self, episode: Episode, action: Action) -> Turn:
        """One option id, for an aspect of the trip that has no choice yet; else it is refused, and nothing is consumed."""
        option, aspects, chosen = action.text.strip(), episode.task.hidden["aspects"], choices(episode)
        if not re.fullmatch(r"[ACFHR][0-9]+", option):
            wanted = "Answer with the id of one option and nothing else, such as H4. Nothing was chosen."
            return Turn(action, wanted, label="refused")
        aspect = ASPECTS[option[0]]
        if aspect in chosen:
            return Turn(action, f"You have chosen a {spoken(aspect)} for me already; that is final.", label="refused")
        if aspect not in aspects and not self.compat:
            return Turn(action, f"I do not need a {spoken(aspect)} on this trip. Nothing was chosen.", label="refused")
        part = aspects.get(aspect, {"best": "", "correct": (), "options": ()})
        if not self.compat and option not in (listed["id"] for listed in part["options"]):
            return Turn(action, f"There is no {spoken(aspect)} {option}. Nothing was chosen.", label="refused")
        label = "best" if option == part["best"] else "correct" if option in part["correct"] else "wrong"
        done = len(chosen) + 1 >= len(aspects)
        lacking = [f"a {spoken(a)}" for a in aspects if a != aspect and a not in chosen]
        then = "That is all, thank you." if done else f"I still need {' and '.join(lacking)}."
        worth = {"best": self.worth["choice_best"], "correct": self.worth["choice_correct"], "wrong": 0.0}[label]
        return Turn(action, f"I take {option}. {then}", reward=worth, done=done, label=label, facts={"chose": aspect})

    # --- what it is worth ----------------------------------------------------------------------------------------

    def reachable(self, task: Task, max_turns: int) -> float:
        """All choices best, all searches right, all preferences asked for; what pays most, if the turns are too few."""
        aspects = len(task.hidden["aspects"])
        paid = [self.worth["choice_best"], self.worth["search_correct"]] * aspects
        paid += [self.worth["preference_correct"] for _ in preferences(task)]
        return sum(sorted(paid, reverse=True)[:max_turns])

    def subsets(self, task: Task) -> tuple[str, ...]:
        """Its family, as the number of wishes decides how much 16 turns can reach."""
        return (f"family {task.hidden['family']}",)

    def score(self, episode: Episode) -> float:
        """The mean over the aspects of the rewards of the answers, in [0, 1]; an aspect without a choice counts 0."""
        aspects = episode.task.hidden["aspects"]
        return math.fsum(turn.reward for turn in episode.turns if turn.facts.get("chose") in aspects) / len(aspects)

    def best_score(self, task: Task, max_turns: int) -> float:
        return self.worth["choice_best"] * min(1.0, max_turns / len(task.hidden["aspects"]))

    def solved(self, episode: Episode) -> bool:
        """Whether every aspect got a choice that satisfies all preferences."""
        right = {turn.facts["chose"] for turn in episode.turns if turn.label in ("best", "correct")}
        return right >= set(episode.task.hidden["aspects"])

    def ended(self, episode: Episode) -> tuple[bool, bool]:
        """Under compat a last choice at the turn limit ends both ways, as in the original; `finish` only terminates."""
        done, full = super().ended(episode)
        return done, full and not (done and episode.turns[-1].label == FINISH)


# --- what the turns so far say -------------------------------------------------------------------------------------


def preferences(task: Task) -> list[dict[str, Any]]:
    """All preferences of a task by their numbers, each with its aspect. A task from a file may have its aspects in any order."""
    found = [{**p, "aspect": aspect} for aspect, part in task.hidden["aspects"].items() for p in part["preferences"]]
    return sorted(found, key=lambda preference: int(preference["id"][1:]))


def _topics(task: Task) -> list[list[str]]:
    """What the preferences are about, for scripts, which go by it; the templates show it to nobody."""
    return [[p["aspect"], p["category"]] for p in preferences(task)]


def choices(episode: Episode) -> list[str]:
    """The aspects for which an option was chosen, in order. Under compat also foreign ones."""
    return [turn.facts["chose"] for turn in episode.turns if "chose" in turn.facts]


def open_preferences(episode: Episode) -> list[dict[str, Any]]:
    """The preferences that were not told yet, of aspects without a choice."""
    told = {turn.facts.get("told") for turn in episode.turns}
    chosen = choices(episode)
    return [p for p in preferences(episode.task) if p["id"] not in told and p["aspect"] not in chosen]


def volunteered(episode: Episode) -> dict[str, Any]:
    """The open preference that the user would bring up by itself at this turn, drawn at random."""
    return episode.rng("volunteer").choice(open_preferences(episode))


def off_topic(episode: Episode) -> int:
    """Talk turns since a preference was told last."""
    count = 0
    for turn in episode.turns:
        count = 0 if "told" in turn.facts else count + ("talk" in turn.facts)
    return count


def said(episode: Episode) -> list[str]:
    """What the agent said to the user so far."""
    return [turn.action.text for turn in episode.turns if turn.action.kind == TALK]


# --- texts -----------------------------------------------------------------------------------------------------------


def spoken(aspect: str) -> str:
    return aspect.replace("_", " ")


def listing(aspect: str, options: list[Mapping[str, Any]]) -> str:
    """What a right search shows: a heading, then one option a line as JSON, its id first."""
    lines = [json.dumps({"id": option["id"], **option}, ensure_ascii=False) for option in options]
    return "\n".join([f"{len(options)} {spoken(aspect)}s ({FIELDS[aspect]}):", *lines])


_AS_IT_IS = re.compile(r'[^"\\\x00-\x1f]*').fullmatch
"""Whether a text stands in JSON without a change."""


def _nothing_found(aspect: str | None, requests: Mapping[str, Mapping[str, Any]]) -> str:
    if aspect is None or aspect not in requests:
        return f"The search found nothing. Search one part of the trip at a time: {', '.join(map(spoken, requests))}."
    fields = ", ".join(map(spoken, requests[aspect]))
    return f"The search found nothing. For the {spoken(aspect)}, say as the user did: {fields}."


def _texts(value: Any) -> list[str]:
    """The different texts in a JSON value, names of fields among them."""
    found: dict[str, None] = {}
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            found[item] = None
        elif isinstance(item, dict):
            found |= dict.fromkeys(item)
            left += item.values()
        elif isinstance(item, list):
            left += item
    return list(found)


def _told(task: Task, words: str) -> tuple[str, ...]:
    return held((text for p in preferences(task) for text in (p["text"], *hints_of(p))), words)
