"""Between episodes and what models read: chat messages, the one tool, and replies read back as actions.

Every agent, trainer and integration goes through here, so that a model sees the same text everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from userrl.core import INVALID, Action, Episode

TOOL_NAME = "interact_with_env"
SEVERAL = "Only the first of your calls was played: one call per reply."
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"

Message = dict[str, Any]


def tool(actions: Mapping[str, str]) -> dict[str, Any]:
    """The JSON schema of `interact_with_env(choice, content)` for a gym's actions, in OpenAI's form."""
    meanings = "; ".join(f'"{kind}": {what}' for kind, what in actions.items())
    return {
        "type": "function",
        "function": {
            "name": TOOL_NAME,
            "description": "Your only way to act.",
            "parameters": {
                "type": "object",
                "properties": {
                    "choice": {"type": "string", "enum": list(actions), "description": meanings},
                    "content": {"type": "string", "description": "The text that goes with the choice."},
                },
                "required": ["choice", "content"],
            },
        },
    }


def call_text(kind: str, text: str) -> str:
    """An action as the text of a tool call, in the form that Qwen- and Hermes-style chat templates use."""
    call = json.dumps({"name": TOOL_NAME, "arguments": {"choice": kind, "content": text}}, ensure_ascii=False)
    whole = call.replace("</tool_call>", "<\\/tool_call>")  # JSON for the same text, which does not end the block
    return f"<tool_call>\n{whole}\n</tool_call>"


def text_tool_help(actions: Mapping[str, str]) -> str:
    """How to call the one tool in plain text, for models that are given no tool schema."""
    choices = "\n".join(f'- "{kind}": {what}' for kind, what in actions.items())
    return (
        f"You act by calling the tool {TOOL_NAME}, once in each reply. Write the call as JSON between tags, like this:\n"
        f"{call_text('<choice>', '<content>')}\n"
        f"The content is the text that goes with the choice. The choices are:\n{choices}"
    )


def written(action: Action) -> str:
    """What the agent wrote, or what it would have written had it been a text model."""
    return action.raw or call_text(action.kind, action.text)


def opening(system: str, prompt: str) -> list[Message]:
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def messages(episode: Episode, system: str, *, show_reward: bool = False, native_tools: bool = False) -> list[Message]:
    """The episode as the agent saw it. Hidden parts and (by default) rewards never appear.

    Args:
        system: the gym's system message.
        show_reward: append "Reward: r" to every feedback, as the original's training does.
        native_tools: assistant turns as OpenAI `tool_calls` with ids; else as text.
    """
    out = opening(system, episode.task.prompt)
    for i, turn in enumerate(episode.turns):
        called = turn.action.kind != INVALID
        feedback = f"{turn.feedback}\nReward: {turn.reward:g}" if show_reward else turn.feedback
        if native_tools and called:
            function = {"name": TOOL_NAME, "arguments": arguments(turn.action)}
            out.append(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": f"call_{i}", "type": "function", "function": function}],
                }
            )
            out.append({"role": "tool", "tool_call_id": f"call_{i}", "content": feedback})
        else:
            out.append({"role": "assistant", "content": written(turn.action)})
            out.append({"role": "user" if native_tools else "tool", "content": feedback})
    return out


def arguments(action: Action) -> str:
    """The arguments of an action's call, as JSON. Asked for again in every later turn."""
    return (_short_arguments if len(action.text) < 1000 else _arguments)(action.kind, action.text)


def _arguments(kind: str, text: str) -> str:
    return json.dumps({"choice": kind, "content": text}, ensure_ascii=False)


_short_arguments = lru_cache(maxsize=20_000)(_arguments)


def read_text(reply: str) -> Action:
    """A text reply as an action: the first `<tool_call>` block. Never raises; see `Action.problem`."""
    block, rest = _block(reply)
    if block is None:
        return Action(INVALID, raw=reply, problem="Your reply holds no complete <tool_call>.")
    try:
        call = json.loads(block.strip(), strict=False)
    except (ValueError, RecursionError):
        return Action(INVALID, raw=reply, problem="Your tool call is not valid JSON.")
    if not isinstance(call, dict):
        return Action(INVALID, raw=reply, problem="Your tool call is not a JSON object.")
    return read_call(call.get("name"), call.get("arguments"), raw=reply, several=_block(rest)[0] is not None)


def _block(reply: str) -> tuple[str | None, str]:
    """What stands in the first complete `<tool_call>` block, and what follows it. Takes linear time, unlike a pattern."""
    inside, closed, rest = reply.partition(_OPEN)[2].partition(_CLOSE)
    return (inside, rest) if closed else (None, "")


def read_calls(calls: Sequence[Mapping[str, Any]], content: str) -> Action:
    """Native `tool_calls` of a chat completion as an action; falls back to text when there are none."""
    if not calls:
        return read_text(content)
    function = calls[0].get("function") or {}
    return read_call(function.get("name"), function.get("arguments"), raw="", several=len(calls) > 1)


def read_call(name: Any, arguments: Any, *, raw: str = "", several: bool = False) -> Action:
    """Check one call's name and arguments (an object or its JSON text)."""

    def invalid(problem: str) -> Action:
        try:
            shown = raw or json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False, default=str)
        except RecursionError:  # arguments nested too deep to be written, though they could be read
            shown = "(a call that is nested too deep)"
        return Action(INVALID, raw=shown, problem=problem)

    if name != TOOL_NAME:
        called = "(not a text)" if isinstance(name, list | dict) else str(name)[:40]
        return invalid(f"There is no tool {called!r}; the only one is {TOOL_NAME}.")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            return invalid("The arguments of your call are not valid JSON.")
    if not isinstance(arguments, dict):
        return invalid("The arguments of your call are not a JSON object.")
    choice, content = arguments.get("choice"), arguments.get("content")
    if not isinstance(choice, str) or not isinstance(content, str):
        return invalid("A call needs the two texts `choice` and `content`.")
    return Action(encodable(choice), encodable(content), raw=raw, note=SEVERAL if several else "")


def encodable(text: str) -> str:
    """Lone surrogates, which JSON escapes can spell and no tokenizer or file takes, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
