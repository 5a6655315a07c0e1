"""Multi-turn GRPO: play groups of episodes, compare within each group, push up what did better.

One step: `groups` tasks x `group_size` episodes are played by the policy itself; their turn rewards become token
advantages (`rewards.advantages`); the batch is cut into `updates` parts, each one clipped policy-gradient update.
Source: UserRL, arXiv 2509.19736, section 3.3, and GRPO, arXiv 2402.03300. Differs from the original: sampled token
ids are trained on as they are (no re-tokenizing), failed episodes are left out instead of trained on as reward 0,
and groups without variance are skipped and counted.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from userrl.agents.policy import Policy, PolicyAgent
from userrl.config import Above0, AtLeast0, Count, Fraction
from userrl.core import INVALID, Cast, Episode, Task
from userrl.errors import ConfigError, RunStopped, needs
from userrl.gyms.base import gym_of
from userrl.rewards.advantage import advantages, comparable
from userrl.rewards.base import Array
from userrl.rewards.estimators.gigpo import gym_states
from userrl.rollout import play_many
from userrl.train import checkpoint
from userrl.train.batch import Batch, batch, logprobs
from userrl.train.sft import COMPAT, schedule

with needs("local", "Training"):
    import torch


@dataclass(frozen=True)
class GRPOConfig:
    """Settings of a GRPO run."""

    steps: Count = 60
    groups: Count = 16
    """Tasks a step."""
    group_size: int = 8
    """Episodes of each task."""
    updates: Count = 4
    """Parts of a batch, one update each."""
    lr: Above0 = 4e-4
    warmup: int = 10
    lr_floor: Fraction = 0.1
    """Share of the learning rate at the end of a cosine; 1 keeps it constant after the warm-up."""
    clip_low: AtLeast0 = 0.2
    clip_high: AtLeast0 = 0.28
    """The ratio new / old probability is kept within [1 - clip_low, 1 + clip_high]."""
    clip_norm: Above0 = 1.0
    entropy: AtLeast0 = 0.0
    """Weight of an entropy bonus."""
    credit: Literal["naive", "equalized", "r2g", "em"] = "equalized"
    score: Literal["sum", "mean", "r2g", "composite"] = "r2g"
    estimator: Literal["grpo", "dr_grpo", "rloo", "mt_grpo", "gigpo"] = "grpo"
    gamma: Fraction = 0.8
    scale: bool = True
    """Divide a group's advantages by its standard deviation."""
    temperature: Above0 = 1.0
    max_new: Count = 256
    """Tokens of one reply at most; a longer one is cut, and most likely no valid call."""
    max_turns: Count = 16
    rules: Mapping[str, Any] = field(default_factory=dict)
    max_errors: int | None = None
    """Failed episodes in one step that stop the run; a quarter of them by default."""
    seed: int = 0
    save_every: Count = 10


@dataclass(frozen=True)
class Step:
    """What happened in one step."""

    number: int
    """Steps done."""
    episodes: Sequence[Episode]
    skipped: int
    """Groups without variance, or with fewer than two episodes that did not fail."""
    loss: float
    entropy: float
    """Mean over the policy's tokens, in nats."""
    clipped: float
    """Share of tokens whose ratio was clipped."""
    grad_norm: float
    cut: float
    """Share of replies that had no eos token at their end, in episodes that did not fail."""


IDLE = 3
"""So many steps in a row in which no group could be compared are warned of."""


async def train(
    policy: Policy,
    tasks: Sequence[Task],
    cast: Cast | Callable[[str], Cast],
    config: GRPOConfig,
    *,
    folder: Path | None = None,
    on_step: Callable[[Step], Awaitable[None]] | None = None,
    on_end: Callable[[Episode], None] | None = None,
) -> None:
    """Train in place.

    Args:
        tasks: drawn from without replacement until used up, in an order fixed by the seed.
        folder: where checkpoints go; a newer one found there is gone on from.
        on_step: awaited after each step, before its checkpoint is written.
        on_end: called with each episode as it ends.

    Raises:
        RunStopped: too many episodes of a step failed.
        ResumeError: the checkpoint found was made with another tokenizer.

    Warns of training under `compat`, and of steps in a row from which nothing could be learned.
    """
    if not tasks:
        raise ConfigError("There are no tasks to train on.")
    if config.group_size < 2:
        raise ConfigError(f"group_size is {config.group_size}; a group needs at least 2 episodes to compare.")
    if config.rules.get("compat"):
        warnings.warn(COMPAT, stacklevel=2)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, weight_decay=0.0, betas=(0.9, 0.95))
    start, idle = 0, 0
    if folder is not None and (found := checkpoint.latest(folder)):
        start, _ = checkpoint.restore(found, policy, optimizer)
    for number in range(start, config.steps):
        episodes = await rollout(policy, draw(tasks, number, config), cast, config, number, on_end)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * schedule(number, config.warmup, config.steps, config.lr_floor)
        step = update(policy, optimizer, episodes, config, number)
        idle = idle + 1 if step.skipped == len(set(map(_group, episodes))) else 0
        if idle == IDLE:
            warnings.warn(_nothing_learned(step, config), stacklevel=2)
        if on_step is not None:
            await on_step(step)
        if folder is not None and ((number + 1) % config.save_every == 0 or number + 1 == config.steps):
            checkpoint.save(folder, number + 1, policy, optimizer, {})
    policy.model.eval()


def _nothing_learned(step: Step, config: GRPOConfig) -> str:
    invalid = _mean([float(turn.label == INVALID) for e in step.episodes for turn in e.turns])
    return (
        f"Nothing was learned in {IDLE} steps, up to step {step.number}: within each group all episodes earned the same. In "
        f"the last one {invalid:.0%} of the replies were invalid and {step.cut:.0%} were cut at {config.max_new} tokens. If "
        f"many are cut, raise --max-new; if many are invalid, begin with a policy of `userrl sft train`; else raise "
        f"--group-size, or choose tasks that are neither too easy nor too hard."
    )


def draw(tasks: Sequence[Task], number: int, config: GRPOConfig) -> list[Task]:
    """The tasks of a step: the seed's endless sequence of shuffled passes over all tasks, cut into steps."""
    picked: list[Task] = []
    for at in range(number * config.groups, (number + 1) * config.groups):
        turn, place = divmod(at, len(tasks))
        picked.append(tasks[_order(len(tasks), config.seed, turn)[place]])
    return picked


def _order(count: int, seed: int, turn: int) -> list[int]:
    return random.Random(f"grpo-order|{seed}|{turn}").sample(range(count), count)


async def rollout(
    policy: Policy,
    tasks: Sequence[Task],
    cast: Cast | Callable[[str], Cast],
    config: GRPOConfig,
    number: int,
    on_end: Callable[[Episode], None] | None = None,
) -> list[Episode]:
    """Play a step's episodes with the current weights."""
    policy.model.eval()
    seed = random.Random(f"grpo|{config.seed}|{number}").getrandbits(31)
    agent = PolicyAgent(policy, temperature=config.temperature, max_new=config.max_new, seed=seed)
    total = len(tasks) * config.group_size
    drawn: Counter[tuple[str, str]] = Counter()
    episodes: list[Episode] = []
    for task in tasks:  # a task drawn twice in a step gives one group of twice the size, not the same episodes twice
        fresh = Episode(task, seed=seed, max_turns=config.max_turns, rules=config.rules)
        episodes += [replace(fresh, attempt=drawn[task.gym, task.id] + i) for i in range(config.group_size)]
        drawn[task.gym, task.id] += config.group_size
    return await play_many(
        episodes,
        agent,
        cast,
        on_end=on_end,
        at_once=total,
        max_errors=total // 4 if config.max_errors is None else config.max_errors,
    )


def update(
    policy: Policy, optimizer: torch.optim.Optimizer, episodes: Sequence[Episode], config: GRPOConfig, number: int
) -> Step:
    """The updates of one step."""
    whole = [e for e in episodes if e.stop != "error"]
    if not whole:
        raise RunStopped(f"All {len(episodes)} episodes of step {number + 1} failed. The last one: {episodes[-1].error}")
    good = [episodes[i] for i in comparable([_group(e) for e in episodes], [e.stop == "error" for e in episodes])]
    tokens = [[turn.action.tokens for turn in e.turns if turn.action.tokens] for e in good]
    worth = advantages(
        [e.rewards for e in good],
        [_group(e) for e in good],
        [[len(t.ids) for t in turns] for turns in tokens],
        credit=config.credit,
        score=config.score,
        estimator=config.estimator,
        gamma=config.gamma,
        scale=config.scale,
        success=[float(gym_of(e).solved(e)) for e in good] if config.score == "composite" else None,
        max_turns=config.max_turns,
        states=[gym_states(e) for e in good] if config.estimator == "gigpo" else None,
    )
    used = [i for i in range(len(good)) if any(abs(a) > 1e-9 for a in worth[i])]
    skipped = len(set(map(_group, episodes)) - {_group(good[i]) for i in used})
    random.Random(f"grpo-shuffle|{config.seed}|{number}").shuffle(used)
    policy.model.eval()  # no dropout: the ratio compares the same network before and after
    losses: list[float] = []
    entropies: list[float] = []
    clips: list[float] = []
    norms: list[float] = []
    for part in _parts(used, config.updates):
        b = batch([tokens[i] for i in part], policy.eos, policy.model.device)
        a = _spread(b, [worth[i] for i in part])
        new, entropy = logprobs(policy, b, config.temperature)
        loss, clipped = clipped_loss(new, b.old[b.mask], a, config.clip_low, config.clip_high)
        (loss - config.entropy * entropy.mean()).backward()
        norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        entropies.append(entropy.mean().item())
        clips.append(clipped)
        norms.append(float(norm))
    ends = [turn.action.tokens.ids[-1] for e in whole for turn in e.turns if turn.action.tokens]
    cut = _mean([float(end != policy.eos) for end in ends])
    return Step(number + 1, episodes, skipped, _mean(losses), _mean(entropies), _mean(clips), _mean(norms), cut)


def _group(episode: Episode) -> tuple[str, str]:
    return episode.task.gym, episode.task.id


def clipped_loss(
    new: torch.Tensor, old: torch.Tensor, worth: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, float]:
    """PPO's clipped objective, averaged over the batch's policy tokens: (loss, share of tokens clipped).

    Args:
        new, old: (N,) log-probabilities now and at sampling time.
        worth: (N,) token advantages.
    """
    ratio = (new - old).exp()
    plain, kept = ratio * worth, ratio.clamp(1 - low, 1 + high) * worth
    return -torch.min(plain, kept).mean(), (kept < plain).float().mean().item()


def _spread(b: Batch, worth: Sequence[Array]) -> torch.Tensor:
    """(N,) advantage of each policy token: that of its turn."""
    table = torch.zeros(len(worth), max(len(w) for w in worth))
    for i, w in enumerate(worth):
        table[i, : len(w)] = torch.as_tensor(w, dtype=torch.float32)
    return table.to(b.turn.device).gather(1, b.turn.clamp(min=0))[b.mask]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _parts(items: Sequence[int], count: int) -> list[Sequence[int]]:
    size = -(-len(items) // count) if items else 1
    return [items[i : i + size] for i in range(0, len(items), size)]
