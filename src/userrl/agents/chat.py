"""How a game is written in a model's chat template, as token ids.

`ChatFormat` needs a tokenizer alone, so that whoever holds the weights (`Policy` here, an inference server elsewhere)
reads the same ids for the same episode.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from userrl.core import Action, Episode, Tokens, Turn
from userrl.errors import ConfigError, needs
from userrl.gyms.base import Gym
from userrl.render import encodable, opening, read_text, text_tool_help, tool, written

with needs("local", "A local policy"):
    from jinja2 import TemplateError

_REPLY = "\u2063reply\u2063"
"""Stands for the assistant's reply where only the text after it is wanted."""

_TAG = re.compile(r"<[^<>\s]+>")
"""Markup of chat templates: <|im_end|>, </tool_response>, <s>."""


class ChatFormat:
    """A tokenizer and how a game is written in its chat template. Replies end with its `eos_token`.

    Args:
        settings: of the template, e.g. {"enable_thinking": False} for Qwen3.

    Raises ConfigError for a tokenizer that lacks a chat template or an eos token.
    """

    def __init__(self, tokenizer: Any, settings: Mapping[str, Any] | None = None) -> None:
        if not tokenizer.chat_template or tokenizer.eos_token is None:
            where = tokenizer.name_or_path or "the model"
            raise ConfigError(f"The tokenizer in {where} lacks a chat template or an eos token; add both to its files.")
        self.tokenizer, self.settings = tokenizer, dict(settings or {})
        self.eos: int = tokenizer.eos_token_id
        template = tokenizer.chat_template
        written_out = [template] if isinstance(template, str) else template.values()  # tags need not be tokens of their own
        tokens = [*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens, *written_out]
        self._markup = sorted({tag for token in tokens for tag in _TAG.findall(token)})
        self.encode = lru_cache(maxsize=100_000)(self._encode)
        self.after_reply = lru_cache(maxsize=100_000)(self._after_reply)
        self.prompt = lru_cache(maxsize=10_000)(self._prompt)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(encodable(text), add_special_tokens=False).input_ids)

    def _template(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=True, **self.settings
            )
        except TemplateError as error:
            roles = ", ".join(m["role"] for m in messages)
            raise ConfigError(
                f"The model's chat template cannot write a talk of the roles {roles}: {error}. Expected one that takes "
                f"system, user, assistant and tool messages; mend the template in the model's folder, or use another model."
            ) from error
        return text

    def _prompt(self, gym: Gym, system: str, first: str) -> tuple[int, ...]:
        text = self._template(opening(system, self.inert(first)), [tool(gym.actions)])
        if text == self._template(opening(system, self.inert(first)), None):  # a template that passes over tools
            text = self._template(opening(f"{system}\n\n{text_tool_help(gym.actions)}", self.inert(first)), None)
        return self._encode(text)

    def _after_reply(self, feedback: str) -> tuple[int, ...]:
        """Ids between the end of a reply (its eos token excluded) and the start of the next."""
        talk = [*opening("s", "u"), {"role": "assistant", "content": _REPLY}, {"role": "tool", "content": self.inert(feedback)}]
        text = self._template(talk, None).split(_REPLY, 1)[1]
        return self._encode(text.removeprefix(self.tokenizer.eos_token))

    def inert(self, text: str, *, call: bool = False) -> str:
        """Text from a task, a user or an agent in which no markup of the chat template stands: it cannot forge a turn.

        Args:
            call: let the tags of a tool call stand, as in what an agent wrote itself.
        """
        for tag in self._markup:
            if tag in text and not (call and tag in ("<tool_call>", "</tool_call>")):
                text = text.replace(tag, f"<\u200b{tag[1:]}")
        return text

    def first_context(self, episode: Episode, gym: Gym) -> tuple[int, ...]:
        """Ids up to where the first reply begins."""
        return self.prompt(gym, gym.system(episode.task), episode.task.prompt)

    def next_context(self, feedback: str, *, ended: bool) -> tuple[int, ...]:
        """Ids from the end of a reply to the start of the next; a reply cut short gets its eos token here."""
        ids = self.after_reply(feedback)
        return ids if ended else (self.eos, *ids)

    def tokens(self, episode: Episode, gym: Gym) -> list[Tokens]:
        """An episode's turns as tokens: the recorded ones where there are any, else the text encoded.

        The log-probabilities of an encoded turn are empty. SFT and RL both read sequences from here.
        """
        out: list[Tokens] = []
        for i, turn in enumerate(episode.turns):
            if turn.action.tokens is not None:
                out.append(turn.action.tokens)
                continue
            before = self.context(replace(episode, turns=episode.turns[:i]), gym, out[-1] if out else None)
            out.append(Tokens(before, (*self.encode(self.inert(written(turn.action), call=True)), self.eos), ()))
        return out

    def context(self, episode: Episode, gym: Gym, last: Tokens | None) -> tuple[int, ...]:
        """Ids from the end of the episode's newest reply, `last`, to the start of the next; up to the first without one."""
        if last is None:
            return self.first_context(episode, gym)
        return self.next_context(_shown(episode.turns[-1], gym), ended=last.ids[-1] == self.eos)

    def reply(self, ids: Sequence[int]) -> Action:
        """The action that the sampled ids of a reply spell."""
        return read_text(self.tokenizer.decode(ids[:-1] if ids[-1] == self.eos else ids))


def _shown(turn: Turn, gym: Gym) -> str:
    return f"{turn.feedback}\nReward: {turn.reward:g}" if gym.show_reward else turn.feedback
