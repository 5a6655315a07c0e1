"""Episodes as files that other trainers load: OpenAI's messages and ShareGPT, as JSON lines or Parquet.

The loss belongs on the assistant's turns alone: `assistant` in messages, `gpt` and `function_call` in ShareGPT.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from userrl.core import INVALID, Action, Episode
from userrl.errors import ConfigError, DataError, StoreError, needs
from userrl.evaluate.metrics import share
from userrl.gyms.base import gym_of
from userrl.render import arguments, messages, text_tool_help, tool, written
from userrl.store import read, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

Format = Literal["messages", "sharegpt"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Style:
    """How a row tells of the one tool."""

    calls: Literal["native", "text"] = "native"
    """native: `tool_calls`, which the chat template writes out. text: the call as the model writes it, in the content."""
    tool: Literal["column", "system"] = "column"
    """column: the tool's schema in `tools`, which the chat template writes out. system: in words, in the system message."""


STYLES = (Style(), Style("text"), Style("text", "system"))


class Inert(Protocol):
    """`ChatFormat.inert`: text in which no markup of a model's chat template stands."""

    def __call__(self, text: str, *, call: bool = False) -> str: ...


def conversation(episode: Episode, style: Style = STYLES[0], inert: Inert | None = None) -> Row:
    """`messages` and, in the style that has it, `tools`: the same texts that agents and trainers of the house read.

    Args:
        inert: of the model that the text is for; without it, markup in a user's words stays as it is.
    """
    gym = gym_of(episode)
    episode = _made_inert(episode, inert) if inert else episode
    system = gym.system(episode.task)
    if style.tool == "system":
        system = f"{system}\n\n{text_tool_help(gym.actions)}"
    row: Row = {"messages": messages(episode, system, show_reward=gym.show_reward, native_tools=style.calls == "native")}
    return row | {"tools": [tool(gym.actions)]} if style.tool == "column" else row


def _made_inert(episode: Episode, inert: Inert) -> Episode:
    def action(a: Action) -> Action:
        return replace(a, raw=inert(written(a), call=True), text=inert(a.text))

    turns = tuple(replace(turn, action=action(turn.action), feedback=inert(turn.feedback)) for turn in episode.turns)
    return replace(episode, task=replace(episode.task, prompt=inert(episode.task.prompt)), turns=turns)


def sharegpt(episode: Episode, style: Style = STYLES[0], inert: Inert | None = None) -> Row:
    """`conversations`, `system` and `tools` (JSON text), with the roles of LLaMA-Factory.

    Ends with the agent's last turn: the format wants an even number of turns.
    """
    gym = gym_of(episode)
    episode = _made_inert(episode, inert) if inert else episode
    row = conversation(episode, replace(style, calls="text"))
    head, prompt, *rest = row["messages"]
    turns = [{"from": "human", "value": prompt["content"]}]
    for turn, said in zip(episode.turns, rest[::2], strict=True):
        called = style.calls == "native" and turn.action.kind != INVALID
        turns.append(
            {"from": "function_call", "value": _call(turn.action)} if called else {"from": "gpt", "value": said["content"]}
        )
    answers = [{"from": "observation", "value": said["content"]} for said in rest[1::2]]
    talk = [turns[0], *(x for pair in zip(turns[1:], answers, strict=True) for x in pair)][:-1]
    schema = [tool(gym.actions)["function"]] if style.tool == "column" else []
    return {"conversations": talk, "system": head["content"], "tools": json.dumps(schema, ensure_ascii=False) if schema else ""}


def _call(action: Action) -> str:
    call = {"name": tool({})["function"]["name"], "arguments": json.loads(arguments(action))}
    return json.dumps(call, ensure_ascii=False)


ROWS: dict[Format, Callable[[Episode, Style, Inert | None], Row]] = {"messages": conversation, "sharegpt": sharegpt}


def export(
    episodes: Sequence[Episode], out: Path, format: Format = "messages", style: Style = STYLES[0], inert: Inert | None = None
) -> list[Path]:
    """Write a file (`.jsonl` or `.parquet`, by its name), and for ShareGPT a `dataset_info.json` beside it; returns both.

    Each row also says which episode it is: `gym`, `task`, `attempt`, `share`.

    Raises ConfigError for no episodes, another ending, or a `dataset_info.json` that cannot be added to; MissingExtra for
    Parquet without pyarrow; StoreError, also where the file holds episodes, which are never written over.
    """
    if not episodes:
        raise ConfigError("There are no episodes to export; collect some with `userrl sft collect`.")
    if out.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"{out} ends with {out.suffix!r}; expected .jsonl or .parquet.")
    if _holds_episodes(out):
        raise StoreError(f"{out} holds recorded episodes, which an export would write over. Choose another file with --out.")
    about = ({"gym": e.task.gym, "task": e.task.id, "attempt": e.attempt, "share": share(e)} for e in episodes)
    rows = [ROWS[format](episode, style, inert) | what for episode, what in zip(episodes, about, strict=True)]
    info = _described(out, rows) if format == "sharegpt" else None
    written = [_write(out, rows)]
    if info is not None:
        written.append(write_whole(out.with_name("dataset_info.json"), json.dumps(info, indent=2).encode() + b"\n"))
    return written


def _holds_episodes(file: Path) -> bool:
    try:
        return file.exists() and next(read(file), None) is not None
    except DataError:
        return False


def _write(out: Path, rows: Iterable[Row]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") for row in rows]  # no file takes lone surrogates
    if out.suffix == ".jsonl":
        return write_whole(out, b"".join(line + b"\n" for line in lines))
    with needs("frames", "Writing Parquet"):
        import pyarrow
        from pyarrow import parquet
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist([json.loads(line) for line in lines]), sink)
    return write_whole(out, sink.getvalue().to_pybytes())


def _described(out: Path, rows: Sequence[Row]) -> dict[str, Any]:
    """LLaMA-Factory's `dataset_info.json`, with an entry for this file."""
    file = out.with_name("dataset_info.json")
    info: Any = {}
    if file.exists():
        try:
            info = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"Cannot read {file}: {error}. Mend it, or choose another folder with --out.") from error
        if not isinstance(info, dict):
            raise StoreError(f"{file} holds no JSON object. Mend it, or choose another folder with --out.")
    columns = {"messages": "conversations", "system": "system"} | ({"tools": "tools"} if rows[0]["tools"] else {})
    described: dict[str, Any] = info | {out.stem: {"file_name": out.name, "formatting": "sharegpt", "columns": columns}}
    return described
