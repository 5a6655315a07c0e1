"""Who plays, who is the user, who judges: from one word on the command line to an agent or a cast."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from userrl.core import Action, Agent, Cast, Episode
from userrl.errors import ConfigError, UnknownName
from userrl.gyms.base import TRAITS, find
from userrl.llm import ChatClient, parse_endpoint
from userrl.users.llm import LLMSeat

AGENT_HELP = "expert[:SKILL], a baseline of the gym (random, ...), the folder of a local model, or MODEL@URL"
SEAT_HELP = "scripted[:plain|terse|hesitant] or MODEL@URL"


@dataclass(frozen=True)
class PerGym:
    """An agent that has one agent for each gym."""

    choose: Callable[[str], Agent]

    async def act(self, episode: Episode) -> Action:
        return await self.choose(episode.task.gym).act(episode)


async def agent(spec: str, stack: AsyncExitStack, *, temperature: float | None = None, max_new: int = 512, seed: int = 0) -> Agent:
    """The agent that `spec` names; connections live until the stack closes.

    Raises ConfigError or UnknownName for a spec that names nothing.
    """
    name, _, dial = spec.partition(":")
    if "@" in spec:
        from userrl.agents.llm import LLMAgent

        client = await stack.enter_async_context(ChatClient(parse_endpoint(spec, role="agent", temperature=temperature)))
        return LLMAgent(client)
    if name == "expert":
        skill = _skill(dial)
        experts: dict[str, Agent] = {}
        return PerGym(lambda gym: experts.setdefault(gym, find(gym).expert(skill)))
    if Path(spec).is_dir():
        from userrl.agents.policy import Policy, PolicyAgent

        policy = Policy.load(Path(spec))
        policy.model.eval()
        return PolicyAgent(policy, temperature=1.0 if temperature is None else temperature, max_new=max_new, seed=seed)
    if "/" in spec:
        raise ConfigError(f"No folder {spec!r}. An agent is {AGENT_HELP}.")

    def baseline(gym: str) -> Agent:
        agents = find(gym).baselines()
        if spec not in agents:
            raise UnknownName(f"agent for gym {gym!r}", spec, ["expert", *agents], f"An agent is {AGENT_HELP}.")
        return agents[spec]

    return PerGym(baseline)


def _skill(dial: str) -> float:
    try:
        skill = float(dial or 1)
    except ValueError:
        skill = -1.0
    if not 0 <= skill <= 1:
        raise ConfigError(f"Expert skill is {dial!r}; expected a number from 0 to 1, as in expert:0.8.")
    return skill


async def cast(user: str, judge: str, stack: AsyncExitStack) -> Callable[[str], Cast]:
    """Gym name -> cast, from one spec for each seat. Both scripted seats of a gym come from its `scripted` module."""
    clients = {
        role: await stack.enter_async_context(ChatClient(parse_endpoint(spec, role=role)))
        for role, spec in (("user", user), ("judge", judge))
        if "@" in spec
    }
    casts: dict[str, Cast] = {}

    def of(gym: str) -> Cast:
        if gym not in casts:
            casts[gym] = Cast(
                LLMSeat(clients["user"], "user") if "user" in clients else find(gym).cast(_trait(user)).user,
                LLMSeat(clients["judge"], "judge") if "judge" in clients else find(gym).cast(_trait(judge)).judge,
            )
        return casts[gym]

    return of


def _trait(spec: str) -> str:
    kind, _, trait = spec.partition(":")
    if kind != "scripted" or (trait and trait not in TRAITS):
        raise UnknownName("user or judge", spec, [f"scripted:{t}" for t in TRAITS], f"A seat is {SEAT_HELP}.")
    return trait or "plain"
