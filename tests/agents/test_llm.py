"""A remote model as the agent: with tool calls of the endpoint, and with calls written as text."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from userrl.agents.llm import EMPTY, LLMAgent
from userrl.core import INVALID, Action, Cast, Episode, Task, Turn
from userrl.errors import EndpointError
from userrl.gyms.base import Gym, known
from userrl.llm.client import ChatClient, Completion, Endpoint
from userrl.llm.fake import FakeClient, Request, Response, completion, fake_server
from userrl.render import TOOL_NAME, call_text, text_tool_help, tool
from userrl.rollout import play
from userrl.scripted import Scripted

TEXT_ONLY = Endpoint("m", "http://fake.invalid/v1", tools=False)
NOBODY = Cast(Scripted({}), Scripted({}))


class Echo(Gym):
    """Says back what the agent says; ends at the word "stop"."""

    name = "echo-for-llm-agent"
    actions: ClassVar[Mapping[str, str]] = {"action": "say something", "answer": "say the last word"}

    def system(self, task: Task) -> str:
        return "Say things."

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        return Turn(action, f"You said {action.text}.", reward=0.5, done=action.text == "stop")


@pytest.fixture(autouse=True)
def echo_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known(), Echo.name, f"{__name__}:Echo")


def episode(*turns: Turn, **settings: Any) -> Episode:
    return Episode(Task("t", Echo.name, "Go.", {"secret": "the hidden word"}), turns, **settings)


def called(choice: str, content: str, more: int = 0) -> Completion:
    function = {"name": TOOL_NAME, "arguments": json.dumps({"choice": choice, "content": content})}
    return Completion(tool_calls=({"id": "x", "type": "function", "function": function},) * (1 + more))


def act(client: FakeClient, episode: Episode, **options: Any) -> Action:
    return asyncio.run(LLMAgent(client, **options).act(episode))


def test_the_model_sees_the_game_as_native_tool_calls_with_its_one_tool() -> None:
    client = FakeClient([called("answer", "stop")])
    assert act(client, episode(Turn(Action("action", "hi"), "You said hi.", reward=0.5))) == Action("answer", "stop")
    (call,) = client.calls
    assert call["tools"] == [tool(Echo.actions)]
    roles = [m["role"] for m in call["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert call["messages"][2]["tool_calls"][0]["id"] == call["messages"][3]["tool_call_id"]
    assert "hidden" not in json.dumps(call)
    assert "eward" not in json.dumps(call)


def test_show_reward_is_the_gyms_setting() -> None:
    client = FakeClient([called("action", "a")])
    act(client, episode(Turn(Action("action", "hi"), "You said hi.", reward=0.5), rules={"show_reward": True}))
    assert client.calls[0]["messages"][-1]["content"] == "You said hi.\nReward: 0.5"


def test_only_the_first_of_several_calls_is_played_and_the_agent_is_told() -> None:
    action = act(FakeClient([called("action", "a", more=2)]), episode())
    assert (action.kind, action.text) == ("action", "a")
    assert "Only the first" in action.note


@pytest.mark.parametrize("options", [{"native_tools": False}, {}])
def test_without_native_tools_the_call_is_text_and_the_system_message_says_how(options: dict[str, Any]) -> None:
    endpoint = None if options else TEXT_ONLY
    client = FakeClient([f"I say {call_text('action', 'two')}"], endpoint)
    before = Turn(Action("action", "one", raw="Well. " + call_text("action", "one")), "You said one.")
    action = act(client, episode(before), **options)
    assert (action.kind, action.text) == ("action", "two")
    (call,) = client.calls
    assert "tools" not in call
    system, prompt, said, heard = call["messages"]
    assert system["content"] == "Say things.\n\n" + text_tool_help(Echo.actions)
    assert prompt == {"role": "user", "content": "Go."}
    assert said == {"role": "assistant", "content": before.action.raw}
    assert heard == {"role": "user", "content": "<tool_response>\nYou said one.\n</tool_response>"}


def test_the_help_on_text_calls_names_every_choice_and_shows_a_call_that_can_be_read() -> None:
    text = text_tool_help(Echo.actions)
    assert call_text("<choice>", "<content>") in text
    for kind, what in Echo.actions.items():
        assert f'"{kind}": {what}' in text


def test_a_text_call_is_read_even_where_tools_were_offered() -> None:
    action = act(FakeClient([call_text("action", "hi")]), episode())
    assert (action.kind, action.text) == ("action", "hi")


@pytest.mark.parametrize(("reply", "raw"), [("What shall I say?", "What shall I say?"), ("", EMPTY)])
def test_a_reply_without_a_call_is_an_invalid_action_that_keeps_its_text(reply: str, raw: str) -> None:
    action = act(FakeClient([reply]), episode())
    assert (action.kind, action.raw) == (INVALID, raw)
    assert action.problem


def test_a_game_over_http_is_played_to_its_end_in_native_tool_calls() -> None:
    seen: list[Request] = []

    def handler(request: Request) -> Response:
        seen.append(request)
        said = ["one", "two", "stop"][request.number]
        return Response(completion(calls=[(TOOL_NAME, {"choice": "action", "content": said})]))

    async def main() -> Episode:
        async with fake_server(handler) as url, ChatClient(Endpoint("m", url)) as client:
            return await play(episode(), LLMAgent(client), NOBODY)

    ended = asyncio.run(main())
    assert (ended.stop, ended.rewards) == ("done", [0.5, 0.5, 0.5])
    assert [turn.action.text for turn in ended.turns] == ["one", "two", "stop"]
    assert [m["content"] for m in seen[-1].messages if m["role"] == "tool"] == ["You said one.", "You said two."]


def test_a_failing_endpoint_ends_the_episode_as_the_agents_error() -> None:
    client = FakeClient([called("action", "hi"), EndpointError("down")])
    ended = asyncio.run(play(episode(), LLMAgent(client), NOBODY))
    assert (ended.stop, ended.error, len(ended.turns)) == ("error", "agent: down", 1)
