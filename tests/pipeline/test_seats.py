"""From one word to an agent or a cast: what the words mean, and that one that means nothing is refused before play."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from userrl.agents.llm import LLMAgent
from userrl.core import Episode
from userrl.errors import ConfigError, UnknownName, UserRLError
from userrl.gyms.base import find
from userrl.llm.endpoint import JOB_SETTINGS, Endpoint
from userrl.pipeline import seats
from userrl.users.llm import LLMSeat

URL = "http://127.0.0.1:9/v1"
TASK = find("intention").tasks("test")[0]


def seated(seat: Any, *args: Any, **options: Any) -> Any:
    async def go() -> Any:
        async with AsyncExitStack() as stack:
            return await seat(*args, stack, **options)

    return asyncio.run(go())


def agent(spec: str, **options: Any) -> Any:
    return seated(seats.agent, spec, **options)


def cast(user: str = "scripted", judge: str = "scripted", **options: Any) -> Any:
    return seated(seats.cast, user, judge, **options)("intention")


def endpoint(spec: str, **options: Any) -> Endpoint:
    played = agent(spec, **options)
    assert isinstance(played, LLMAgent)
    return played.client.endpoint


@pytest.mark.parametrize("spec", ["expert", "expert:", "expert:0", "expert:0.5", "random", "fixed_list"])
def test_a_scripted_agent_plays_by_its_name(spec: str) -> None:
    episode = Episode(TASK, max_turns=1)
    name, _, dial = spec.partition(":")
    own = find("intention").expert(float(dial or 1)) if name == "expert" else find("intention").baselines()[name]
    assert asyncio.run(agent(spec).act(episode)) == asyncio.run(own.act(episode))


@pytest.mark.parametrize(
    ("spec", "model", "url"),
    [
        (f"m@{URL}", "m", URL),
        ("gpt-4o-mini@", "gpt-4o-mini", "https://api.openai.com/v1"),
        (f"expert@{URL}", "expert", URL),
        (f"vendor/m:8b@{URL}", "vendor/m:8b", URL),
    ],
)
def test_a_word_with_an_at_is_a_model(spec: str, model: str, url: str) -> None:
    found = endpoint(spec)
    assert (found.model, found.url) == (model, url)
    assert found.key_names[:2] == ("USERRL_AGENT_API_KEY", "USERRL_API_KEY")


def test_the_jobs_temperature_goes_before_the_endpoints() -> None:
    settings = {"agent": {"temperature": 0.5, "tools": False}, "user": {"max_tokens": 9}}
    found = endpoint(f"m@{URL}", endpoints=settings)
    assert (found.temperature, found.tools, found.max_tokens) == (0.5, False, None)
    assert endpoint(f"m@{URL}", endpoints=settings, temperature=0.0).temperature == 0.0
    assert endpoint(f"m@{URL}").temperature is None


@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        ("", UnknownName, "No agent for gym 'intention' named ''."),
        ("exprt", UnknownName, "Did you mean 'expert'"),
        ("random:0.5", UnknownName, "Did you mean 'random'"),
        ("gpt-4o-mini", UnknownName, "MODEL@URL[,URL...] (at OpenAI: MODEL@)"),
        ("x" * 5000, UnknownName, "No agent for gym"),
        ("runs/nowhere", ConfigError, "There is no folder 'runs/nowhere'. An agent is "),
        ("expert:2", ConfigError, "Expert skill is '2'"),
        ("expert:nan", ConfigError, "Expert skill is 'nan'"),
        ("expert:a lot", ConfigError, "Expert skill is 'a lot'"),
        ("@", ConfigError, "needs the name of a model"),
        ("m@host:8000", ConfigError, "must begin with http://"),
    ],
)
def test_a_word_that_names_no_agent_is_refused_in_one_message(spec: str, kind: type[UserRLError], said: str) -> None:
    with pytest.raises(kind) as caught:
        agent(spec, gyms=["intention"])
    assert said in str(caught.value)


def test_an_agent_must_be_known_to_every_gym_it_is_to_play() -> None:
    agent("fixed_list", gyms=["intention"])
    with pytest.raises(UnknownName, match="No agent for gym 'function' named 'fixed_list'"):
        agent("fixed_list", gyms=["intention", "function"])


def test_a_folder_is_a_local_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my@model").mkdir()
    with pytest.raises(ConfigError, match=r"my@model holds no config.json"):
        agent("my@model")


@pytest.mark.parametrize("trait", ["", ":plain", ":terse", ":hesitant"])
def test_a_scripted_user_has_its_trait_and_the_judge_has_none(trait: str) -> None:
    from userrl.gyms.intention import Answer

    gym = find("intention")()
    question = "Hello?"
    seat = cast(f"scripted{trait}")
    own = gym.cast(trait.lstrip(":") or "plain")
    query = gym.query(Episode(TASK), "answer", Answer, task=TASK.prompt, wishes=[], question=question, said=[])
    assert asyncio.run(seat.user.answer(query)) == asyncio.run(own.user.answer(query))


def test_user_and_judge_can_each_be_a_model() -> None:
    both = cast(f"u@{URL}", f"j@{URL}", endpoints={"judge": {"structured": "none"}})
    assert isinstance(both.user, LLMSeat)
    assert isinstance(both.judge, LLMSeat)
    assert (both.user.client.endpoint.model, both.user.client.endpoint.structured) == ("u", "json_schema")
    assert (both.judge.client.endpoint.model, both.judge.client.endpoint.structured) == ("j", "none")
    assert both.judge.client.endpoint.key_names[0] == "USERRL_JUDGE_API_KEY"
    assert isinstance(cast(f"u@{URL}").user, LLMSeat)
    assert not isinstance(cast(f"u@{URL}").judge, LLMSeat)


@pytest.mark.parametrize(
    ("user", "judge", "said"),
    [
        ("scripted:shy", "scripted", "No user named 'scripted:shy'."),
        ("plain", "scripted", "A user is scripted[:plain|terse|hesitant] or MODEL@URL."),
        ("scripted", "scripted:terse", "No judge named 'scripted:terse'. Did you mean 'scripted'?"),
        ("scripted", "expert", "A judge is scripted or MODEL@URL."),
        (f"u@{URL}", "", "No judge named ''"),
    ],
)
def test_a_word_that_names_no_seat_is_refused_in_one_message(user: str, judge: str, said: str) -> None:
    with pytest.raises(UnknownName) as caught:
        cast(user, judge)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"agnet": {}}, "No role in the table [endpoints] named 'agnet'. Did you mean 'agent'?"),
        ({"user": {"tool": True}}, "No setting in the table [endpoints.user] named 'tool'. Did you mean 'tools'"),
        ({"user": {"model": "x"}}, "No setting in the table [endpoints.user] named 'model'"),
        ({"judge": {"key": "sk-secret"}}, "Put the key into the environment variable USERRL_JUDGE_API_KEY."),
        ({"agent": {"key_env": "HOME"}}, "[endpoints.agent] sets 'key_env', but a job holds no keys"),
    ],
)
def test_a_table_of_endpoints_names_what_it_cannot_have(table: Any, said: str) -> None:
    for seat in (lambda: agent("expert", endpoints=table), lambda: cast(endpoints=table)):
        with pytest.raises(UserRLError) as caught:
            seat()
        assert said in str(caught.value)
        assert "sk-secret" not in str(caught.value)


def test_a_job_can_set_all_of_an_endpoint_but_its_keys() -> None:
    from dataclasses import fields

    assert {f.name for f in fields(Endpoint)} - set(JOB_SETTINGS) == {"model", "url", "key", "key_env"}


OWN = """
class Mine:
    async def act(self, episode):
        return None

class Needy(Mine):
    def __init__(self, key):
        pass

def made():
    return Mine()

one = Mine()
number = 3
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_agents.py").write_text(OWN, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("own_agents", None)


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("name", ["Mine", "made", "one"])
def test_an_agent_of_ones_own_module_in_the_working_folder_plays(name: str) -> None:
    assert type(seats.scripted_agent(f"own_agents:{name}", ["intention"])).__name__ == "Mine"


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("own_agents:missing", "own_agents:missing is None; expected an agent, with `async def act"),
        ("own_agents:number", "own_agents:number is 3; expected an agent"),
        ("own_agents:Needy", "cannot be called without arguments: missing a required argument: 'key'"),
        ("no_such_agents:Mine", "There is no Python module 'no_such_agents' here or installed. An agent is "),
    ],
)
def test_a_word_that_names_no_agent_of_a_module_is_refused(spec: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        seats.scripted_agent(spec, ["intention"])
    assert said in str(caught.value)
