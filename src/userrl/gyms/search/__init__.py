"""Search: answer a question by looking things up, a few searches at most.

Reward of an answer: 1 when it is right, and the episode ends; else 0, and one may try again. A search earns 0.
Source: UserRL, arXiv 2509.19736, section 3; differences from the original are listed in the data sheet
(`README.md` beside this file).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import Template
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from userrl.core import INVALID, Action, Cast, Episode, Task, Turn
from userrl.data.hidden import HiddenModel, Text
from userrl.errors import ConfigError, boundary
from userrl.gyms.base import FINISH, Gym, held
from userrl.gyms.search.engines import engine
from userrl.gyms.search.results import Result, listing, query_text

_DASHES = str.maketrans(dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}\N{HYPHEN}\N{NON-BREAKING HYPHEN}", "-"))
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}([, \u00a0\u202f])\d{3}(?:\1\d{3})*(?!,?\d)")
_GAP = re.compile(r"[\W_]+")
_LEAD = re.compile(r"-\s*[.,]?$|[.,]$")


class Same(BaseModel):
    """Whether an answer is the right one."""

    model_config = ConfigDict(extra="ignore", strict=True)
    same: bool = Field(description="Whether the given answer says the same as the right one.")


class Hop(HiddenModel):
    """A step to the answer."""

    of: Text
    relation: Text
    value: Text
    passage: Text
    """Title of the passage of the corpus that tells it."""


class Hidden(HiddenModel):
    """The answer, and the way to it."""

    answer: Text
    aliases: list[Text] = Field(default_factory=list)
    """Further spellings of the answer."""
    answer_kind: Text = "unknown"
    hops: list[Hop] = Field(default_factory=list)
    """For reports."""


class Search(Gym):
    """Look things up and answer. `task.hidden`: see `Hidden`. `compat="userrl"` offers to finish, which shows the answer."""

    name = "search"
    summary = "answer a question by searching"
    actions: ClassVar = {
        "search": "look something up; you see the best results",
        "answer": "give the answer to the question, and nothing else; you may try again",
    }
    hidden_model = Hidden
    secrets = ("answer", "aliases")
    labels = ("found", "searched", "repeated", "empty", "over_budget", "correct", "wrong_answer", FINISH, INVALID)
    settings: ClassVar = {"max_search_steps": 5, "results_shown": 5, "engine": "corpus"}

    def __init__(self, *, compat: str | None = None, show_reward: bool = False, **settings: Any) -> None:
        super().__init__(compat=compat, show_reward=show_reward, **settings)
        for name, lowest in (("max_search_steps", 0), ("results_shown", 1)):
            value = self.config[name]
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ConfigError(f"{name} of gym 'search' is {value!r:.40}; expected a whole number of at least {lowest}.")
        self.engine = engine(self.config["engine"])

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        if action.kind == "search":
            return await self._search(episode, action)
        answer = episode.task.hidden["answer"]
        if action.kind == FINISH:
            return Turn(action, f"You ended the game. The answer is: {answer}", done=True, label=FINISH, reveals=(answer,))
        if not action.text.strip():
            return Turn(action, "Your answer is empty: its content must be the answer to the question.", label="empty")
        if await self._right(episode, action, cast):
            return Turn(action, "That is right.", reward=1.0, done=True, label="correct")
        return Turn(action, "That is not the answer.", label="wrong_answer")

    async def _search(self, episode: Episode, action: Action) -> Turn:
        """Every search counts, also an empty one, as in the original. A failing engine raises: it is no empty result."""
        allowed, query = self.config["max_search_steps"], query_text(action.text)
        left = allowed - sum(turn.action.kind == "search" for turn in episode.turns) - 1
        if left < 0:
            return Turn(action, f"Nothing was searched: your {allowed} searches are used up. Answer now.", label="over_budget")
        rest = f"Searches left: {left}."
        if not query:
            return Turn(action, f"Nothing was searched: the content must say what to look for. {rest}", label="empty")
        with boundary("search engine"):
            results = await self.engine.search(query, self.config["results_shown"])
        results = results[: self.config["results_shown"]]
        feedback = f"{listing(results) or 'Nothing was found.'}\n{rest}"
        found = hops_found(episode.task, results)
        return Turn(
            action,
            feedback,
            label=_label(episode, query, found),
            reveals=held(_secrets(episode.task), feedback),
            facts={"query": query, "found": found},
        )

    async def _right(self, episode: Episode, action: Action, cast: Cast) -> bool:
        hidden = episode.task.hidden
        right = [hidden["answer"], *hidden.get("aliases", ())]
        form = letters_and_digits if self.compat else bare
        given = form(action.text)
        if given and given in map(form, right):
            return True
        facts = {"question": episode.task.prompt, "right": right, "given": action.text}
        verdict: Same = await cast.judge.answer(self.query(episode, "same", Same, untrusted=["given"], **facts))
        return verdict.same

    def system(self, task: Task) -> str:
        return Template(super().system(task)).substitute(searches=self.config["max_search_steps"])

    def solved(self, episode: Episode) -> bool:
        """Whether the right answer was given; finishing (compat) ends an episode without it."""
        return episode.stop == "done" and episode.turns[-1].label == "correct"


def bare(text: str) -> str:
    """What is compared first: letters and digits in one case, and what makes a number another one.

    Kept are a sign or point before a number, a percent sign, and whatever stands between two digits, a comma as a blank;
    only separators of thousands are dropped. Everything else (spaces, hyphens between words, punctuation) does not count.

    >>> bare("  4,884 m. ") == bare("4884M")
    True
    >>> bare("May 3, 1789") == bare("may 3 1789")
    True
    >>> bare("4.12 km"), bare("-412"), bare("4-1-2"), bare("Zhovika-Thrunn, 3rd")
    ('4.12km', '-412', '4-1-2', 'zhovikathrunn3rd')
    """
    text = _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text.translate(_DASHES).casefold())
    return _GAP.sub(_kept, text)


def letters_and_digits(text: str) -> str:
    """What the original compares (compat): nothing else counts, so that "4.12 km" is "412 km"."""
    return "".join(filter(str.isalnum, text.casefold()))


def _kept(gap: re.Match[str]) -> str:
    """What counts of the characters between two words or numbers."""
    before, after = gap.string[max(gap.start() - 1, 0) : gap.start()], gap.string[gap.end() : gap.end() + 1]
    if before.isdigit() and after.isdigit():
        return "".join(gap[0].split()).strip(",") or " "
    percent = "%" if before.isdigit() and gap[0].lstrip().startswith("%") else ""
    # A hyphen or point right after a letter joins a word to a number ("GN-412"): no sign of the number.
    lead = _LEAD.search(gap[0]) if after.isdigit() and not (before and gap[0].strip() == gap[0]) else None
    return percent + ("".join(lead[0].split()) if lead else "")


def hops_found(task: Task, results: Sequence[Result]) -> list[int]:
    """Which steps of the way to the answer, counted from 0, are told by these results."""
    titles = {result.title for result in results}
    return [i for i, hop in enumerate(task.hidden.get("hops", ())) if hop["passage"] in titles]


def _label(episode: Episode, query: str, found: Sequence[int]) -> str:
    """What sort of search it was, for the action mix; never rewarded."""
    before = {i for turn in episode.turns for i in turn.facts.get("found", ())}
    if any(bare(query) == bare(turn.facts["query"]) for turn in episode.turns if "query" in turn.facts):
        return "repeated"
    return "found" if set(found) - before else "searched"


def _secrets(task: Task) -> Iterator[str]:
    """What a result may show of the hidden part."""
    yield task.hidden["answer"]
    yield from task.hidden.get("aliases", ())
    for hop in task.hidden.get("hops", ()):
        yield from (hop["of"], hop["value"], hop["passage"])
