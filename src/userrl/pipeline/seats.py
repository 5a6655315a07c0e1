"""Who plays, who is the user, who judges: from one word on the command line to an agent or a cast."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from userrl.calls import Calls
from userrl.core import Action, Agent, Cast, Episode
from userrl.errors import ConfigError, UnknownName
from userrl.gyms.base import TRAITS, find
from userrl.llm import ChatClient, Client
from userrl.llm.endpoint import JOB_SETTINGS, SETTINGS, Role, parse_endpoints, shown_url
from userrl.llm.pool import Pool
from userrl.store import is_folder
from userrl.users.llm import LLMSeat

AGENT_HELP = (
    "expert[:SKILL], an agent without skill (random, ...), the folder of a local model, MODEL@URL[,URL...] (at OpenAI: MODEL@), "
    "or MODULE:NAME, an agent in Python"
)
USER_HELP = f"scripted[:{'|'.join(TRAITS)}] or MODEL@URL"
JUDGE_HELP = "scripted or MODEL@URL"

Endpoints = Mapping[str, Mapping[str, Any]]
"""Role -> settings of its endpoint, as in a job's tables `[endpoints.agent]`; see `JOB_SETTINGS`."""


@dataclass(frozen=True)
class PerGym:
    """An agent that has one agent for each gym."""

    choose: Callable[[str], Agent]

    async def act(self, episode: Episode) -> Action:
        return await self.choose(episode.task.gym).act(episode)


async def agent(
    spec: str,
    stack: AsyncExitStack,
    *,
    gyms: Sequence[str] = (),
    endpoints: Endpoints | None = None,
    temperature: float | None = None,
    max_new: int = 512,
    seed: int = 0,
    calls: Calls | None = None,
) -> Agent:
    """The agent that `spec` names; connections live until the stack closes.

    Args:
        gyms: those it will play, so that a name that one of them lacks is found before play begins.
        temperature: of a model's sampling; goes before the one in `endpoints`.
        max_new, seed: of a local model.
        calls: what stands around a remote model: record, ledger, budget.

    Raises ConfigError or UnknownName for a spec that names nothing.
    """
    check_endpoints(endpoints or {})
    if is_folder(spec):
        from userrl.agents.policy import Policy, PolicyAgent, set_threads

        if "OMP_NUM_THREADS" not in os.environ:
            set_threads(1)  # as in training: on shared cores more threads wait for each other, many times longer than they work
        policy = Policy.load(Path(spec), device="auto")
        policy.model.eval()
        return PolicyAgent(policy, temperature=1.0 if temperature is None else temperature, max_new=max_new, seed=seed)
    if "@" in spec:
        from userrl.agents.llm import LLMAgent

        more = {} if temperature is None else {"temperature": temperature}
        return LLMAgent(await _client(spec, "agent", stack, endpoints, calls, **more))
    return scripted_agent(spec, gyms)


def scripted_agent(spec: str, gyms: Sequence[str] = ()) -> Agent:
    """The expert, the agent without skill of that name, or the agent of somebody's module. Raises as `agent` does."""
    name, _, dial = spec.partition(":")
    if name == "expert":
        skill = _skill(dial)
        experts: dict[str, Agent] = {}
        return PerGym(lambda gym: experts.setdefault(gym, find(gym).expert(skill)))
    if dial.isidentifier() and all(part.isidentifier() for part in name.split(".")):
        return own_agent(name, dial)
    if "/" in spec:
        raise ConfigError(f"There is no folder {shown_url(spec)!r}. An agent is {AGENT_HELP}.")

    found: dict[str, Agent] = {}

    def baseline(gym: str) -> Agent:
        if gym not in found:
            agents = find(gym).baselines()
            if spec not in agents:
                raise UnknownName(f"agent for gym {gym!r}", spec, ["expert", *agents], f"An agent is {AGENT_HELP}.")
            found[gym] = agents[spec]
        return found[gym]

    for gym in gyms:
        baseline(gym)
    return PerGym(baseline)


def own_agent(module: str, name: str) -> Agent:
    """The agent of that name in somebody's Python module: an object with `act`, or what makes one without arguments.

    The module may lie in the working folder. Raises ConfigError when there is no such agent; what the module itself raises
    passes.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        made: Any = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"There is no Python module {module!r} here or installed. An agent is {AGENT_HELP}.") from error
    if isinstance(made, type) or (callable(made) and not hasattr(made, "act")):
        try:
            inspect.signature(made).bind()
        except TypeError as error:
            raise ConfigError(f"{module}:{name} cannot be called without arguments: {error}. Name what can be.") from error
        made = made()
    if not inspect.iscoroutinefunction(getattr(made, "act", None)):
        raise ConfigError(f"{module}:{name} is {made!r:.60}; expected an agent, with `async def act(self, episode)`.")
    agent: Agent = made
    return agent


def _skill(dial: str) -> float:
    try:
        skill = float(dial or 1)
    except ValueError:
        skill = -1.0
    if not 0 <= skill <= 1:
        raise ConfigError(f"Expert skill is {dial!r}; expected a number from 0 to 1, as in expert:0.8.")
    return skill


async def cast(
    user: str, judge: str, stack: AsyncExitStack, *, endpoints: Endpoints | None = None, calls: Calls | None = None
) -> Callable[[str], Cast]:
    """Gym name -> cast, from one spec for each seat. Both scripted seats of a gym come from its `scripted` module.

    Raises ConfigError or UnknownName for a spec that names nothing.
    """
    check_endpoints(endpoints or {})
    models = {
        "user": LLMSeat(await _client(user, "user", stack, endpoints, calls), "user") if "@" in user else None,
        "judge": LLMSeat(await _client(judge, "judge", stack, endpoints, calls), "judge") if "@" in judge else None,
    }
    trait = "plain" if models["user"] else _trait(user)
    if not models["judge"] and judge != "scripted":
        raise UnknownName("judge", judge, ["scripted"], f"A judge is {JUDGE_HELP}.")
    casts: dict[str, Cast] = {}

    def of(gym: str) -> Cast:
        if gym not in casts:
            scripted = find(gym).cast(trait)
            casts[gym] = Cast(models["user"] or scripted.user, models["judge"] or scripted.judge)
        return casts[gym]

    return of


def _trait(spec: str) -> str:
    kind, _, trait = spec.partition(":")
    if kind != "scripted" or (trait and trait not in TRAITS):
        raise UnknownName("user", spec, ["scripted", *(f"scripted:{t}" for t in TRAITS)], f"A user is {USER_HELP}.")
    return trait or "plain"


async def check(agent: str, user: str, judge: str, gyms: Sequence[str], endpoints: Endpoints | None = None) -> None:
    """Find a name that names nothing, without loading a model or reaching an endpoint. Raises as `agent` and `cast` do."""
    async with AsyncExitStack() as stack:
        await cast(user, judge, stack, endpoints=endpoints)
        if "@" in agent:
            await _client(agent, "agent", stack, endpoints, None)
        elif not is_folder(agent):
            scripted_agent(agent, gyms)


def check_endpoints(endpoints: Endpoints) -> None:
    """Raises UnknownName or ConfigError for a role or a setting that a job cannot have."""
    for role, settings in endpoints.items():
        if role not in get_args(Role):
            raise UnknownName("role in the table [endpoints]", role, get_args(Role))
        for name in settings:
            if name in SETTINGS and name not in JOB_SETTINGS:
                raise ConfigError(
                    f"[endpoints.{role}] sets {name!r}, but a job holds no keys, as it is saved with its results. "
                    f"Put the key into the environment variable USERRL_{role.upper()}_API_KEY."
                )
            if name not in JOB_SETTINGS:
                raise UnknownName(f"setting in the table [endpoints.{role}]", name, JOB_SETTINGS)


async def _client(
    spec: str, role: Role, stack: AsyncExitStack, endpoints: Endpoints | None, calls: Calls | None, **more: Any
) -> Client:
    settings = {**(endpoints or {}).get(role, {}), **more}
    found = parse_endpoints(spec, role, **settings)
    clients: list[Client] = [await stack.enter_async_context(ChatClient(endpoint)) for endpoint, _ in found]
    client = clients[0] if len(clients) == 1 else Pool(clients, [weight for _, weight in found])
    return calls.door(client, role) if calls else client
