"""What a data set holds: per gym, how much was kept and why not more, and what the kept episodes are like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from userrl.collect.select import Selection
from userrl.core import Episode
from userrl.errors import DataError
from userrl.evaluate.metrics import action_mix, share
from userrl.render import written
from userrl.store import write_whole

FILE = "quality.json"
LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Quantiles of scores and turns."""

Count = Callable[[Episode], tuple[int, int]]
"""Tokens of an episode: (of the agent, of all)."""


@dataclass(frozen=True)
class Quality:
    """The part of a data set that is one gym's."""

    gym: str
    episodes: int
    """All that there were to choose from."""
    kept: int
    tasks: int
    """Different tasks among the kept episodes."""
    left: Mapping[str, int]
    """Why -> how many episodes were left out for it (`select.Why`)."""
    share: Mapping[str, float]
    """Quantile -> share of the best score, of the kept episodes."""
    turns: Mapping[str, float]
    """Quantile -> turns, of the kept episodes."""
    mix: Mapping[str, float]
    """Label -> its share of the kept turns."""
    choices: Mapping[str, float]
    """Kind of action -> its share of the kept turns."""
    agent_chars: int
    """Characters that the agent wrote: what the loss is taken on."""
    chars: int
    """The same with prompts and answers, without system messages."""
    agent_tokens: int | None = None
    tokens: int | None = None
    """The same in tokens of a model, system messages and scaffold included; None where none was named."""
    unplayed: int = 0
    """Tasks that were left out before play, as they are like held-out ones."""


def quality_of(selection: Selection, count: Count | None = None) -> list[Quality]:
    """A line for each gym, in the order in which they come."""
    kept: dict[str, list[Episode]] = {}
    for episode in selection.kept:
        kept.setdefault(episode.task.gym, []).append(episode)
    left: dict[str, Counter[str]] = {gym: Counter() for gym in kept}
    for one in selection.left:
        left.setdefault(one.gym, Counter())[one.why] += 1
    unplayed = Counter(one.gym for one in selection.unplayed)
    return [_of_gym(gym, kept.get(gym, []), left.get(gym, Counter()), unplayed[gym], count) for gym in {**left, **unplayed}]


def _of_gym(gym: str, kept: Sequence[Episode], left: Counter[str], unplayed: int, count: Count | None) -> Quality:
    turns = [turn for episode in kept for turn in episode.turns]
    kinds = Counter(turn.action.kind for turn in turns)
    agent = sum(len(written(turn.action)) for turn in turns)
    tokens = [count(episode) for episode in kept] if count else None
    return Quality(
        gym,
        len(kept) + left.total(),
        len(kept),
        len({episode.task.id for episode in kept}),
        dict(left.most_common()),
        _quantiles(map(share, kept)),
        _quantiles(len(episode.turns) for episode in kept),
        action_mix(kept),
        {kind: n / len(turns) for kind, n in kinds.most_common()},
        agent,
        agent + sum(len(e.task.prompt) for e in kept) + sum(len(turn.feedback) for turn in turns),
        sum(own for own, _ in tokens) if tokens is not None else None,
        sum(whole for _, whole in tokens) if tokens is not None else None,
        unplayed,
    )


def _quantiles(values: Iterable[float]) -> dict[str, float]:
    found = list(values)
    return {f"{level:g}": float(x) for level, x in zip(LEVELS, np.quantile(found, LEVELS), strict=True)} if found else {}


def write(folder: Path, rows: Sequence[Quality]) -> Path:
    """Write `quality.json` beside the data. Raises StoreError."""
    return write_whole(folder / FILE, TypeAdapter(list[Quality]).dump_json(list(rows), indent=2) + b"\n")


def read(folder: Path) -> list[Quality]:
    """The report beside a data set. Raises DataError where there is none that can be read."""
    file = folder / FILE
    try:
        return TypeAdapter(list[Quality]).validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        what = error.strerror if isinstance(error, OSError) else error.errors(include_url=False)[0]["msg"]
        raise DataError(
            f"{file} holds no report that can be read: {what}. Name the folder of `userrl sft collect` or `userrl sft select`."
        ) from error
