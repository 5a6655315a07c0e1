"""A remote model as the agent."""

from __future__ import annotations

from userrl.core import Action, Episode
from userrl.gyms.base import gym_of
from userrl.llm.client import Client, sampling_seed
from userrl.render import Message, messages, read_calls, text_tool_help, tool

EMPTY = "(empty reply)"
"""Stands for a reply without a word, which many endpoints refuse to read again."""


class LLMAgent:
    """Plays with a model that answers over a chat endpoint.

    Args:
        native_tools: let the endpoint handle tool calls. Off, or where the endpoint takes no tools, the system
            message says how to write a call as text.
    """

    def __init__(self, client: Client, native_tools: bool = True) -> None:
        self.client = client
        self.native_tools = native_tools and client.endpoint.tools

    async def act(self, episode: Episode) -> Action:
        """The model's move; a reply that is no valid call becomes an invalid action. Raises EndpointError."""
        gym, place = gym_of(episode), episode.place
        seed = sampling_seed(self.client.endpoint, "agent", place)
        system = gym.system(episode.task)
        if self.native_tools:
            talk = messages(episode, system, show_reward=gym.show_reward, native_tools=True)
            done = await self.client.chat(talk, tools=[tool(gym.actions)], seed=seed, place=place)
        else:
            talk = messages(episode, f"{system}\n\n{text_tool_help(gym.actions)}", show_reward=gym.show_reward)
            done = await self.client.chat([_as_text(message) for message in talk], seed=seed, place=place)
        return read_calls(done.tool_calls, done.content or EMPTY)


def _as_text(message: Message) -> Message:
    """Endpoints take the role "tool" only after a native call."""
    if message["role"] != "tool":
        return message
    return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
