"""Monitors: what goes wrong in a training run, read off its lines of figures.

A monitor is a plain function of the lines so far, as `train.jsonl` holds them (one a step, the last one just written): it
tells what it sees at the last line, or None. So a resumed run sees what an undisturbed one would, and any log can be looked
through again. Lines may lack figures; a monitor that needs them then stays silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

from userrl.config import Count, Fraction

Reaction = Literal["off", "warn", "stop"]
Line = Mapping[str, Any]

KINDS: Mapping[str, tuple[str, ...]] = {
    "repeated": ("repeated", "searched_again"),
    "irrelevant": ("irrelevant", "nothing_left", "vague", "small_talk", "unclear", "maybe"),
    "multi_part": ("multi_part",),
    "blind_guess": ("wrong_guess", "wrong_answer", "no_better_answer", "wrong"),
}
"""Sort of wasted action -> the labels, of any gym, that count as it. No gym has all; docs/training.md lists which has what."""


@dataclass(frozen=True)
class MonitorConfig:
    """What each monitor does, and from where on."""

    window: Count = 5
    """Steps that are averaged; an alarm that was clear for so many may be raised again."""
    nonfinite: Reaction = "stop"
    """Loss or gradient is no finite number, so that nothing was learned from the step."""
    overfit: Reaction = "warn"
    """Training goes up while validation falls."""
    overfit_rise: Fraction = 0.02
    """By how much, in share of the reachable reward, training has risen since the best validation."""
    overfit_fall: Fraction = 0.05
    """By how much validation has fallen since; its interval lies below its best mean, too."""
    entropy: Reaction = "warn"
    """The policy hardly samples anything else any more."""
    entropy_left: Fraction = 0.1
    """Share of the first steps' entropy."""
    zero_variance: Reaction = "warn"
    """Groups in which all episodes earned the same, so that nothing is learned from them."""
    zero_variance_most: Fraction = 0.75
    """Share of the groups."""
    invalid: Reaction = "warn"
    """Turns that are no valid call."""
    invalid_most: Fraction = 0.2
    """Share of the turns."""
    full_window: Reaction = "warn"
    """Episodes that end because the policy's own window is full."""
    full_window_most: Fraction = 0.1
    """Share of the episodes."""
    repeated: Reaction = "warn"
    irrelevant: Reaction = "warn"
    multi_part: Reaction = "warn"
    blind_guess: Reaction = "warn"
    """A sort of wasted action (`KINDS`) has become more frequent."""
    mix_rise: Fraction = 0.15
    """By how much, in share of the turns, over the run's first steps."""


class Finding(NamedTuple):
    """What a monitor sees."""

    value: float | None
    limit: float | None
    """None where only a finite number will do."""
    text: str
    """What happened, what was expected, what to do."""


@dataclass(frozen=True)
class Alarm:
    """A monitor's finding at the step where it begins; a line of `alarms.jsonl`."""

    step: int
    monitor: str
    reaction: Reaction
    value: float | None
    limit: float | None
    text: str


Monitor = Callable[[Sequence[Line], MonitorConfig], Finding | None]


def alarms(history: Sequence[Line], config: MonitorConfig) -> list[Alarm]:
    """The alarms that the last line raises.

    An alarm that holds on is raised once, at its first line; and again when it comes back after `window` clear lines. Numbers
    that are not finite are no state that holds on: they are told of at each line.
    """
    raised = []
    for name, monitor in MONITORS.items():
        reaction: Reaction = getattr(config, name)
        if reaction == "off" or not history or (found := monitor(history, config)) is None:
            continue
        earlier = range(1, min(config.window, len(history) - 1) + 1) if monitor is not nonfinite else ()
        if not any(monitor(history[:-back], config) for back in earlier):
            raised.append(Alarm(history[-1]["step"], name, reaction, *found))
    return raised


def nonfinite(history: Sequence[Line], config: MonitorConfig) -> Finding | None:
    """Loss, gradient or KL of the last step is infinite or not a number, or the step was undone for what came after it."""
    line = history[-1]
    found = {name.replace("_norm", "ient"): line.get(name) for name in ("loss", "grad_norm", "kl")}
    what = next((f"The {name} is {x}" for name, x in found.items() if x is not None and not math.isfinite(x)), "")
    if not what and line.get("undone"):
        what = "After the updates the policy's probabilities are no numbers"
    if not what:
        return None
    left = "Its updates were undone. Go on from before it" if line.get("undone") else "Go on from the newest checkpoint"
    command = "with the same command, --resume and a lower --lr"
    return Finding(None, None, f"{what} at step {line['step']}. {left} {command}.")


def overfit(history: Sequence[Line], config: MonitorConfig) -> Finding | None:
    """The training share has risen since the best validation, and the validation share has fallen.

    Beyond chance: the last interval lies below the best mean. Training shares are means of `window` steps, apart.
    """
    tested = [at for at, line in enumerate(history) if "validation" in line]
    highest = best(history)
    if len(tested) < 2 or highest is None:
        return None
    last = tested[-1]
    now, top = validated(history[last]), validated(highest)
    lines = trained(history[: last + 1])
    then = [line for line in lines if line["step"] <= max(highest["step"], config.window)][-config.window :]
    recent = lines[-config.window :]
    if not then or len(recent) < config.window or recent[0]["step"] <= then[-1]["step"]:
        return None
    fall, rise = top["mean"] - now["mean"], mean(recent, "share") - mean(then, "share")
    if fall <= config.overfit_fall or now["high"] >= top["mean"] or rise <= config.overfit_rise:
        return None
    return Finding(
        fall,
        config.overfit_fall,
        f"Validation fell to {now['mean']:.3f} [{now['low']:.3f}, {now['high']:.3f}] at step {history[last]['step']} from "
        f"{top['mean']:.3f} at step {highest['step']}, while training rose by {rise:.3f}: it learns its tasks by heart, or "
        f"to please the training's user or judge. Train for fewer --steps, on more tasks, with a lower --lr, or with --kl.",
    )


def entropy(history: Sequence[Line], config: MonitorConfig) -> Finding | None:
    """The entropy of the policy's tokens has fallen to a small part of what it was in the first steps."""
    lines = [line for line in trained(history) if updated(line)]
    if (pair := early_and_late(lines, "entropy", config.window)) is None:
        return None
    first, now = pair
    if now >= config.entropy_left * first:
        return None
    return Finding(
        now / first,
        config.entropy_left,
        f"The entropy of the policy's tokens collapsed to {now:.3g} nats (mean of {config.window} steps), {now / first:.0%} of "
        f"the {first:.3g} it began with; below {config.entropy_left:.0%} it hardly tries anything else any more. Lower --lr, "
        f"add an entropy bonus or a KL penalty, or raise the temperature ([grpo] in the settings file).",
    )


def zero_variance(history: Sequence[Line], config: MonitorConfig) -> Finding | None:
    """Most groups are skipped, as all their episodes earned the same."""
    recent = [line for line in trained(history) if line.get("groups")][-config.window :]
    if len(recent) < config.window:
        return None
    skipped = sum(line["skipped_groups"] for line in recent) / sum(line["groups"] for line in recent)
    if skipped <= config.zero_variance_most:
        return None
    share = mean(recent, "share")
    why = "They are too easy by now" if share > 0.5 else "They are too hard, or the policy does the same each time"
    return Finding(
        skipped,
        config.zero_variance_most,
        f"In {skipped:.0%} of the groups of the last {config.window} steps all episodes earned the same, so nothing was learned "
        f"from them (up to {config.zero_variance_most:.0%} are fine). The tasks' mean share is {share:.2f}. {why}: choose other "
        f"tasks, raise --group-size, or change the turn limit.",
    )


def invalid(history: Sequence[Line], config: MonitorConfig) -> Finding | None:
    """Many turns are no valid call."""
    lines = [line for line in trained(history) if "invalid" in line]
    recent = lines[-config.window :]
    if len(recent) < config.window or (now := mean(recent, "invalid")) <= config.invalid_most:
        return None
    began, cut = lines[0]["invalid"], mean(recent, "cut")
    if began <= config.invalid_most:
        advice = f"It began with {began:.0%}, so training spoils it: lower --lr"
    else:
        advice = "Raise --max-new" if cut > now / 2 else "Begin with a policy of `userrl sft train`"
    return Finding(
        now,
        config.invalid_most,
        f"{now:.0%} of the turns of the last {config.window} steps were no valid call (up to {config.invalid_most:.0%} are "
        f"fine), and {cut:.0%} of the replies were cut at their greatest length. {advice}.",
    )


def full_window(history: Sequence[Line], config: MonitorConfig) -> Finding | None:
    """Many episodes end before their turn limit, as they fill the policy's window."""
    recent = [line for line in trained(history) if "full_window" in line][-config.window :]
    if len(recent) < config.window or (now := mean(recent, "full_window")) <= config.full_window_most:
        return None
    return Finding(
        now,
        config.full_window_most,
        f"{now:.0%} of the episodes of the last {config.window} steps filled the policy's window before their end (up to "
        f"{config.full_window_most:.0%} are fine). They are trained on with what they had earned by then, so long replies cost "
        f"turns. Lower --max-new or --max-turns, or use a model with a longer window.",
    )


def shift(kind: str, history: Sequence[Line], config: MonitorConfig) -> Finding | None:
    """A sort of wasted action is more frequent than in the run's first steps with the same turn limit."""
    lines = trained(history)
    lines = [line for line in lines if line.get("max_turns") == lines[-1].get("max_turns")]
    shares = [{kind: share_of(kind, line["mix"])} for line in lines if "mix" in line]
    if (pair := early_and_late(shares, kind, config.window)) is None:
        return None
    first, now = pair
    if now - first <= config.mix_rise:
        return None
    return Finding(
        now - first,
        config.mix_rise,
        f"{WORDS[kind]} are {now:.0%} of the turns (mean of {config.window} steps), up from {first:.0%} in the first steps: more "
        f"than {100 * config.mix_rise:.0f} points. The policy may have found that they cost nothing. Read some episodes of the "
        f"last steps (episodes.jsonl); try --score r2g, a shorter --max-turns, or a lower --lr.",
    )


WORDS = {
    "repeated": "Repeated questions",
    "irrelevant": "Questions that ask for nothing to the point",
    "multi_part": "Questions that ask several things at once",
    "blind_guess": "Wrong answers and guesses",
}
MONITORS: Mapping[str, Monitor] = {
    "nonfinite": nonfinite,
    "overfit": overfit,
    "entropy": entropy,
    "zero_variance": zero_variance,
    "invalid": invalid,
    "full_window": full_window,
    **{kind: partial(shift, kind) for kind in KINDS},
}


def trained(history: Iterable[Line]) -> list[Line]:
    """The lines of training steps: without one that holds only the validation before the first."""
    return [line for line in history if line["step"] > 0]


def best(history: Iterable[Line]) -> Line | None:
    """The line with the best validation: the greatest mean share, of equal ones the earliest. None without a validation."""
    tested = [line for line in history if "validation" in line]
    return max(tested, key=lambda line: validated(line)["mean"], default=None)


def validated(line: Line) -> Mapping[str, float]:
    """Mean, low and high of a validated line's share of the reachable reward."""
    interval: Mapping[str, float] = line["validation"]["share"]
    return interval


def share_of(kind: str, mix: Mapping[str, float]) -> float:
    """Share of all turns that a sort of wasted action has in an action mix."""
    return sum(mix.get(label, 0.0) for label in KINDS[kind])


def updated(line: Line) -> bool:
    """Whether the step changed the weights; where no group could be compared, it has no loss and no entropy."""
    return "groups" not in line or bool(line["skipped_groups"] < line["groups"])


def early_and_late(lines: Sequence[Line], name: str, window: int) -> tuple[float, float] | None:
    """Mean of a figure in the first and in the last `window` of these lines; None where they overlap or it is missing."""
    lines = [line for line in lines if line.get(name) is not None and math.isfinite(line[name])]
    if len(lines) < 2 * window:
        return None
    return mean(lines[:window], name), mean(lines[-window:], name)


def mean(lines: Sequence[Line], name: str) -> float:
    return sum(float(line.get(name, 0.0)) for line in lines) / len(lines)
