"""Tau: serve a customer of a shop or an airline, with tools over a database and a policy to keep.

Reward when the episode ends: 1 when the database is as the ground truth leaves it and every text that had to be said
to the user was said; else 0. Everything before earns 0.
Source: UserRL, arXiv 2509.19736, section 3, over tau-bench, arXiv 2406.12045; differences from the original are listed
in the data sheet (`README.md` beside this file).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from userrl.core import INVALID, Action, Cast, Episode, Task, Turn
from userrl.data import TaskSet
from userrl.data.hidden import HiddenModel, Text
from userrl.gyms.base import FINISH, Gym, held
from userrl.gyms.tau import database, official, rules, state, texts, tools
from userrl.gyms.tau.reading import Unreadable, read_call
from userrl.gyms.tau.source import Texts
from userrl.gyms.tau.talk import STOP, Talk, transcript

SEARCH, CALL, TALK = "search", "answer", rules.TALK

FORM = 'Expected one JSON object: {"name": "TOOL", "arguments": {"PARAMETER": VALUE}}.'
ALREADY = "You have been given the list of tools already; it stands above."
NOT_HERE = 'That cannot be searched for here: the content is "tools" or "help". Everything else is looked up with the tools.'
HELP = (
    'Say something to the user: choice "action", and your words. Call a tool: choice "answer", and a JSON object such as '
    '{"name": "think", "arguments": {"thought": "..."}}. See which tools there are: choice "search", and "tools". '
    "One call at a time. The user ends the talk, or you do by a transfer to a human agent."
)


class TrueCall(HiddenModel):
    """A tool call of the ground truth."""

    name: Text
    arguments: dict[str, Any]


class Hidden(HiddenModel):
    """What a task hides."""

    domain: Literal["retail", "airline"]
    database: Literal["retail", "airline", "official/retail", "official/airline"]
    user_id: Text
    instruction: Text
    """What the user wants and knows."""
    actions: list[TrueCall]
    """The ground truth: calls that do what is wanted, in order."""
    outputs: list[Text]
    """Texts that the agent has to say to the user."""
    unchanged: bool = False
    """Whether the ground truth leaves the database as it is; for readers, since the rules work it out."""
    script: dict[str, Any] = Field(default_factory=dict)
    """What the scripted user goes by; official tasks have none."""


class Tau(Gym):
    """Serve a customer.

    The database of an episode is never stored: it follows from the calls in the turns' facts (`state.replay`).
    `compat="userrl"` shows no policy, reads `name: {arguments}`, ends a talk by the user's words, offers to finish,
    and earns nothing at the turn limit.
    """

    name = "tau"
    summary = "serve a customer of a shop or an airline with tools, by its policy"
    actions: ClassVar = {
        SEARCH: '"tools" lists the tools and their parameters, "help" says how to act',
        CALL: 'call one tool: {"name": "TOOL", "arguments": {...}}',
        TALK: "say something to the user",
    }
    labels = (
        "talk",
        "read",
        "write",
        "refused",
        "unknown_tool",
        "malformed",
        "tools",
        "help",
        "repeated",
        "not_searchable",
        "user_ended",
        "transfer",
        FINISH,
        INVALID,
    )
    asks = (TALK,)
    answers = ()
    voices: ClassVar = {SEARCH: "tools", CALL: "tools"}
    hidden_model = Hidden
    settings: ClassVar = {"data": ""}
    """data: a folder with tau-bench's data, from which official tasks are played in the place of what was imported."""

    @classmethod
    def matter(cls, task: Task) -> Mapping[Literal["prompt", "errand", "hidden"], Any]:
        """The errand, which is the calls that do what is wanted, where there are any, in whatever words it is asked for; and all
        that is hidden. Not the prompt, with which talks about other errands open, too."""
        errand = {name: task.hidden[name] for name in ("database", "actions")}
        return {**({"errand": errand} if errand["actions"] else {}), "hidden": task.hidden}

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        if action.kind == FINISH:
            return Turn(action, "You ended the talk.", done=True, label=FINISH)
        if action.kind == TALK:
            turn = await self._talk(episode, action, cast)
        else:
            turn = self._call(episode, action) if action.kind == CALL else self._search(episode, action)
        played = episode.play(turn)
        if not turn.done and (self.compat or played.stop == "running"):
            return turn
        verdict = rules.judge(played, self._base(episode.task))
        facts = {**turn.facts, "database": verdict.database, "outputs": list(verdict.outputs)}
        return replace(turn, reward=verdict.reward, facts=facts)

    # --- the three choices -------------------------------------------------------------------------------------

    async def _talk(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        hidden = episode.task.hidden
        reply: Talk = await cast.user.answer(
            self.query(
                episode,
                "talk",
                Talk,
                untrusted=["transcript", "message"],
                domain=hidden["domain"],
                instruction=hidden["instruction"],
                script=hidden.get("script", {}),
                opening=episode.task.prompt,
                transcript=transcript(episode, action),
                message=action.text,
            )
        )
        ends = reply.ends or (self.compat and STOP in reply.text)
        known = {name: hidden.get(name, "") for name in ("instruction", "script", "user_id")}
        return Turn(
            action,
            reply.text or ("(The user leaves.)" if ends else "(The user says nothing.)"),
            done=ends,
            label="user_ended" if ends else "talk",
            reveals=held(sorted(set(_pieces(known))), reply.text),
        )

    def _call(self, episode: Episode, action: Action) -> Turn:
        hidden = episode.task.hidden
        try:
            call = read_call(action.text, loosely=self.compat)
        except Unreadable as problem:
            return Turn(action, f"No tool was called: {problem}. {FORM}", label="malformed")
        db = state.replay(self._base(episode.task), rules.calls(episode))
        result = tools.call(hidden["domain"], db, call.name, call.arguments)
        shown = texts.render(result, self._texts(episode.task).messages)
        transfers = call.name == tools.TRANSFER
        label = "read" if call.name in tools.READS else "write"
        if not result.ok:
            label = "unknown_tool" if result.code == "unknown_action" else "refused"
        return Turn(
            action,
            shown or "(The tool has nothing to say.)",
            done=transfers,
            label="transfer" if transfers else label,
            reveals=held(sorted(set(_pieces(hidden))), shown),
            facts={"call": call.record, "code": result.code},
        )

    def _search(self, episode: Episode, action: Action) -> Turn:
        wanted = action.text.strip().casefold()
        if wanted == "help":
            return Turn(action, HELP, label="help")
        if wanted != "tools":
            return Turn(action, NOT_HERE, label="not_searchable")
        if any(turn.label == "tools" for turn in episode.turns):
            return Turn(action, ALREADY, label="repeated")
        listing = texts.tool_list(self._texts(episode.task))
        return Turn(action, listing, label="tools", reveals=held(sorted(set(_pieces(episode.task.hidden))), listing))

    # --- what the task is played with ----------------------------------------------------------------------------

    def _base(self, task: Task) -> database.Base:
        return database.load(task.hidden["database"], self.config["data"])

    def _texts(self, task: Task) -> Texts:
        return texts.load(task.hidden["database"], self.config["data"])

    def system(self, task: Task) -> str:
        """How to act, and the policy of the task's domain; under compat, as in the original, no policy."""
        how = super().system(task)
        return how if self.compat else f"{how}\n\nThe policy of the company:\n\n{self._texts(task).policy.strip()}"

    @classmethod
    def sets(cls) -> Mapping[str, TaskSet]:
        """Also those imported from tau-bench, whose tasks come without the user's first message."""
        return {**super().sets(), **official.bench_sets(cls.__module__, cls.hidden_model)}

    # --- what reports tell ---------------------------------------------------------------------------------------

    def solved(self, episode: Episode) -> bool:
        """Whether the reward was earned, at the turn limit, too."""
        return sum(episode.rewards) >= 1.0

    def subsets(self, task: Task) -> tuple[str, ...]:
        """Tasks whose ground truth changes the database are scored apart, since the others can be passed by doing nothing."""
        return () if rules.leaves_database(task, self._base(task)) else ("database changes",)

    def idle(self, task: Task) -> float:
        """1 where nothing is to be changed and nothing to be said: a transfer at once is enough."""
        return float(rules.leaves_database(task, self._base(task)) and not task.hidden["outputs"])


def _pieces(value: Any) -> Iterator[str]:
    """The texts in a JSON value, and their sentences."""
    if isinstance(value, str):
        yield from (value, *re.split(r"(?<=[.!?])\s+", value)) if value.strip() else ()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _pieces(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _pieces(item)
