"""The same ids everywhere: what SFT trains on is what a rollout would have read and written.

The house writes a game piece by piece: the prompt, each reply, what stands between two replies. Servers and other trainers
write the whole conversation with the chat template each time. Where a template trims, moves or drops something, the two
are not the same text, and a model trained on one is played on another.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from userrl.agents.chat import ChatFormat
from userrl.collect.export import STYLES, Style, conversation
from userrl.core import Action, Episode, Tokens
from userrl.errors import ConfigError, needs
from userrl.gyms.base import gym_of

with needs("local", "Reading a tokenizer"):
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

LOOKED_AT = 4
"""Episodes of each gym whose whole text is compared: those with the most turns."""
SHOWN = 60
"""Characters of a text in a message."""


def training_ids(chat: ChatFormat, episodes: Sequence[Episode]) -> list[list[Tokens]]:
    """The turns' tokens of each episode, as `ChatFormat.tokens` gives them, checked.

    Recorded ids of another tokenizer or template are not used: the text is encoded anew, with a warning that counts them.

    Raises ConfigError when the template writes a whole conversation otherwise than piece by piece.
    """
    check(chat, episodes)
    data, foreign = [], 0
    for episode in episodes:
        if any(turn.action.tokens for turn in episode.turns) and not own_ids(chat, episode):
            episode, foreign = without_ids(episode), foreign + 1
        data.append(chat.tokens(episode, gym_of(episode)))
    if foreign:
        warnings.warn(
            f"{foreign} of {len(episodes)} episodes were recorded with the token ids of another tokenizer or chat template; "
            f"their text is encoded anew.",
            stacklevel=2,
        )
    return data


def without_ids(episode: Episode) -> Episode:
    """The episode without recorded ids."""
    turns = tuple(replace(turn, action=replace(turn.action, tokens=None)) for turn in episode.turns)
    return replace(episode, turns=turns)


def own_ids(chat: ChatFormat, episode: Episode) -> bool:
    """Whether the recorded ids are those that a rollout of this tokenizer and template would have recorded for this text."""
    gym, last = gym_of(episode), None
    for i, turn in enumerate(episode.turns):
        recorded = turn.action.tokens
        if recorded is None:
            return False
        if recorded.context != chat.context(replace(episode, turns=episode.turns[:i]), gym, last):
            return False
        if max(recorded.ids) >= len(chat.tokenizer) or chat.reply(recorded.ids).raw != turn.action.raw:
            return False
        last = recorded
    return True


def check(chat: ChatFormat, episodes: Sequence[Episode], styles: Sequence[Style] = STYLES[1:]) -> Style:
    """The first style of `export` in which the template's whole text is, token for token, that of rollouts.

    Raises ConfigError with the first difference when there is none.
    """
    longest = sorted(episodes, key=lambda e: len(e.turns), reverse=True)
    looked: dict[str, list[Episode]] = {}
    for episode in longest:
        if episode.turns and len(of_gym := looked.setdefault(episode.task.gym, [])) < LOOKED_AT:
            of_gym.append(_plain(episode))
    sample = [episode for of_gym in looked.values() for episode in of_gym]
    found = ""
    for style in styles:
        found = next(filter(None, (difference(chat, episode, style) for episode in sample)), "")
        if not found:
            return style
    raise ConfigError(
        f"The model's chat template writes a whole conversation otherwise than turn by turn: {found}. Training would use "
        f"other tokens than play. Mend the template in the model's folder (it must keep contents as they are and end "
        f"replies with the eos token), or use another model."
    )


def _plain(episode: Episode) -> Episode:
    """The episode with every action as a bare call: what the template does with it is what is looked at."""
    turns = tuple(replace(t, action=Action(t.action.kind, t.action.text)) for t in episode.turns)
    return replace(episode, turns=turns)


def difference(chat: ChatFormat, episode: Episode, style: Style) -> str:
    """Where the text of an exported row parts from that of a rollout; "" where it does not."""
    row = conversation(episode, style, chat.inert)
    try:
        text: Any = chat.tokenizer.apply_chat_template(
            row["messages"], tools=row.get("tools"), tokenize=False, **{**chat.settings, "add_generation_prompt": False}
        )
    except (TemplateError, TypeError) as error:
        return f"it cannot write a talk with {style.calls} calls ({error})"
    ours = [i for t in chat.tokens(without_ids(episode), gym_of(episode)) for i in (*t.context, *t.ids)]
    theirs = list(chat.encode(text))
    if theirs[: len(ours)] == ours:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    shown = [chat.tokenizer.decode(ids[max(0, at - 4) : at + 12])[:SHOWN] for ids in (theirs, ours)]
    return f"the whole reads {shown[0]!r} where turn by turn it reads {shown[1]!r} (token {at})"


def read_chat(folder: Path) -> ChatFormat:
    """The tokenizer and chat template in a model's folder. Raises ConfigError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} holds no tokenizer that can be loaded: {error}") from error
    return ChatFormat(tokenizer)
