"""The agent loop "userrl": `rollout.play` with verl's inference server in the agent's chair.

The same gyms, casts, clients and retries as everywhere; the same text, token for token, as `userrl rl train` and
`userrl eval` write for a local model (`agents.chat`). Tokens in, tokens out: what was sampled is what is trained on.
A user or judge that fails after its retries raises, which costs a group one member; it never becomes a reward.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from userrl.agents.chat import ChatFormat
from userrl.config import as_dict
from userrl.core import INVALID, Action, Cast, Episode, Tokens
from userrl.errors import ConfigError, DataError, SeatError, WindowFull, needs
from userrl.evaluate.metrics import share, total
from userrl.gyms.base import gym_of
from userrl.integrations.verl.data import VALIDATION, task_of
from userrl.integrations.verl.settings import Play, plain, table
from userrl.pipeline import seats
from userrl.rollout import play, starts
from userrl.store import Store

with needs("verl", "The verl plug-in"):
    import torch
    from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput


class TurnRewardOutput(AgentLoopOutput):  # type: ignore[misc]  # verl's types are of another environment
    """An output whose rewards stand at the last token of each turn; verl's own puts one sum at the very end.

    `reward_score` must be set all the same, or verl asks its reward loop for one.
    """

    turn_rewards: list[float]
    turn_ends: list[int]
    """Place in `response_ids` of each turn's last token."""

    def as_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = super().as_dict()
        scores = torch.zeros(len(self.response_mask), dtype=torch.float32)
        for reward, end in zip(out.pop("turn_rewards"), out.pop("turn_ends"), strict=True):
            scores[end] = reward
        out["rm_scores"] = scores
        return out


@dataclass
class ServedAgent:
    """The policy behind verl's inference server, for one episode. The tokens so far are those of the episode's turns.

    Args:
        server: verl's client of its inference servers.
        sampling: of verl: temperature, top_p and so on.
        room: tokens of the whole response at most, the users' and judges' words included.
        max_new: tokens of one reply at most.
    """

    server: Any
    chat: ChatFormat
    sampling: Mapping[str, Any]
    room: int
    max_new: int | None = None
    request: str = field(default_factory=lambda: uuid4().hex)
    """The same for all turns, so that one server keeps the episode's prefix cached."""
    versions: dict[str, Any] = field(default_factory=dict)
    """Which versions of the weights wrote: `min_global_steps` of the first reply, `max_global_steps` of the last."""
    seconds: float = 0.0
    """Spent waiting for the server."""

    async def act(self, episode: Episode) -> Action:
        before = [i for tokens in _spoken(episode) for i in (*tokens.context, *tokens.ids)]
        last = episode.turns[-1].action.tokens if episode.turns else None
        context = self.chat.context(episode, gym_of(episode), last)
        used = len(before) + len(context) - len(_spoken(episode)[0].context) if last else 0
        if (left := self.room - used) < 1:
            raise WindowFull(f"The response has {used} tokens; at most {self.room} are allowed.")
        limit = left if self.max_new is None else min(left, self.max_new)
        began = time.monotonic()
        out = await self.server.generate(
            request_id=self.request, prompt_ids=[*before, *context], sampling_params={**self.sampling, "max_tokens": limit}
        )
        self.seconds += time.monotonic() - began
        ids, logprobs = tuple(out.token_ids[:limit]), tuple((out.log_probs or ())[:limit])
        if not ids or len(logprobs) not in (0, len(ids)):
            raise SeatError(
                f"The inference server gave {len(ids)} tokens with {len(logprobs)} log-probabilities (stop reason "
                f"{out.stop_reason!r}); expected at least one token, and as many log-probabilities or none."
            )
        for name, value in out.extra_fields.items():
            if name == "max_global_steps" or name not in self.versions:
                self.versions[name] = value
        return replace(self.chat.reply(ids), tokens=Tokens(context, ids, logprobs))


class UserRLAgentLoop(AgentLoopBase):  # type: ignore[misc]  # as above
    """Plays one row of the data. verl makes one of these for each episode."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> TurnRewardOutput:
        """The episode as verl trains on it.

        Raises:
            SeatError: the user, the judge or the inference server failed after the retries.
            ConfigError: the settings, or a prompt that is longer than `data.max_prompt_length`.
            DataError: the row holds no task.
        """
        settings = table(Play, self.config, "userrl")
        room = await _room(settings)
        start, chat = _start(settings, row), _chat(self.tokenizer, json.dumps(plain(self.apply_chat_template_kwargs)))
        gym = gym_of(start)
        longest, prompt = self.rollout_config.prompt_length, chat.first_context(start, gym)
        if len(prompt) > longest:
            raise ConfigError(
                f"The prompt of task {start.task.id!r} of {start.task.gym} has {len(prompt)} tokens; at most {longest} are "
                f"allowed. Raise data.max_prompt_length (`userrl verl check` prints what the data needs)."
            )
        agent = ServedAgent(self.server_manager, chat, sampling_params, self.rollout_config.response_length, settings.max_new)
        began, newest = time.monotonic(), start

        def note(episode: Episode) -> None:
            nonlocal newest
            newest = episode

        try:
            newest = await play(
                start,
                agent,
                room.cast(start.task.gym),
                gym,
                turn_timeout_s=settings.turn_timeout_s,
                episode_timeout_s=settings.episode_timeout_s,
                on_turn=note,
            )
        except SeatError as error:  # an endpoint that refuses, which no retry mends
            newest = newest.fail(str(error))
        if room.store is not None:
            room.store.append(newest)
        if newest.stop == "error":
            raise SeatError(f"Episode {newest.key} failed at turn {len(newest.turns)}: {newest.error}")
        return output(newest, agent, time.monotonic() - began, cut=newest.stop == "window")


def output(episode: Episode, agent: ServedAgent, seconds: float, *, cut: bool) -> TurnRewardOutput:
    """An episode with tokens in each turn, as verl takes it.

    Args:
        seconds: the episode took.
        cut: the token budget ended it.
    """
    spoken = _spoken(episode)
    ids: list[int] = []
    mask: list[int] = []
    logprobs: list[float] = []
    ends: list[int] = []
    for i, tokens in enumerate(spoken):
        context = tokens.context if i else ()
        ids += [*context, *tokens.ids]
        mask += [0] * len(context) + [1] * len(tokens.ids)
        logprobs += [0.0] * len(context) + list(tokens.logprobs)
        ends.append(len(ids) - 1)
    invalid = sum(turn.label == INVALID for turn in episode.turns)
    figures = {
        "score": total(episode),
        "share": share(episode),
        "solved": float(gym_of(episode).solved(episode)),
        "turns": float(len(episode.turns)),
        "invalid": invalid / len(episode.turns),
        "cut": float(cut),
    }
    return TurnRewardOutput(
        prompt_ids=list(spoken[0].context),
        response_ids=ids,
        response_mask=mask,
        response_logprobs=logprobs if len(logprobs) == len(ids) else None,
        reward_score=sum(episode.rewards),
        num_turns=2 * len(episode.turns),
        metrics=AgentLoopMetrics(generate_sequences=agent.seconds, tool_calls=seconds - agent.seconds),
        extra_fields={**agent.versions, "turn_scores": episode.rewards, "reward_extra_info": figures},
        turn_rewards=episode.rewards,
        turn_ends=ends,
    )


def _spoken(episode: Episode) -> list[Tokens]:
    return [turn.action.tokens for turn in episode.turns if turn.action.tokens is not None]


def _start(settings: Play, row: Mapping[str, Any]) -> Episode:
    """The fresh episode of a row. In training each step meets users with other luck; validation always the same."""
    info = row.get("extra_info")
    if not isinstance(info, Mapping) or "task" not in info:
        raise DataError("A row of the data has no `extra_info.task`; make the files with `userrl verl data`.")
    seed = settings.seed
    if info.get("purpose") != VALIDATION:
        seed = random.Random(f"verl|{seed}|{row.get('global_steps', 0)}").getrandbits(31)
    [episode] = starts([task_of(info["task"])], seed=seed, max_turns=settings.max_turns, rules=settings.rules)
    return replace(episode, attempt=int(row.get("session_id", 0)))


# --- what the episodes of a process share ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Room:
    cast: Callable[[str], Cast]
    store: Store | None


_ROOMS: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Task[_Room]] = {}


async def _room(settings: Play) -> _Room:
    loop = asyncio.get_running_loop()
    key = (loop, json.dumps(as_dict(settings), sort_keys=True))
    if key not in _ROOMS:
        _ROOMS[key] = loop.create_task(_open(settings))
    return await asyncio.shield(_ROOMS[key])


async def _open(settings: Play) -> _Room:
    """Clients keep their connections until the process's event loop ends, and close them then by themselves."""
    cast = await seats.cast(settings.user, settings.judge, AsyncExitStack(), endpoints=settings.endpoints)
    if settings.episodes is None:
        return _Room(cast, None)
    store = Store(Path(settings.episodes) / f"{socket.gethostname()}-{os.getpid()}.jsonl", tokens=False)
    return _Room(cast, store.__enter__())


@lru_cache(maxsize=8)
def _chat(tokenizer: Any, settings: str) -> ChatFormat:
    return ChatFormat(tokenizer, json.loads(settings))
