"""Multi-turn GRPO: play groups of episodes, compare within each group, push up what did better.

One step: `groups` tasks x `group_size` episodes are played by the policy itself; their turn rewards become token
advantages (`rewards.advantages`); the batch is cut into `updates` parts, each one clipped policy-gradient update.
Source: UserRL, arXiv 2509.19736, section 3.3, and GRPO, arXiv 2402.03300. Differs from the original: sampled token
ids are trained on as they are (no re-tokenizing), failed episodes are left out instead of trained on as reward 0,
and groups without variance are skipped and counted.
"""

from __future__ import annotations

import asyncio
import math
import random
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

from userrl.agents.policy import Policy
from userrl.config import Above0, AtLeast0, Count, Fraction, Weight, Whole
from userrl.core import INVALID, Cast, Episode, Task, Tokens
from userrl.errors import ConfigError, RunStopped, UnknownName, UserRLError, needs
from userrl.gyms.base import gym_of, make, rules_for
from userrl.rewards.advantage import CREDIT, SCORE, Compat, CreditNorm, CreditSign, advantages, check_settings, comparable
from userrl.rewards.base import EM_K, GAMMA, TURN_COST, Array, read_by
from userrl.rewards.estimators.gigpo import gym_states
from userrl.rewards.schemes import CREDITS, ESTIMATORS, SCORES
from userrl.train import checkpoint
from userrl.train.batch import Batch, Reference, batch, frozen, logprobs, micro_batches, speaks, written
from userrl.train.rollouts import draw, rollout, turn_limit
from userrl.train.sft import COMPAT, adamw, descend, schedule

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
    warmup: Whole | None = None
    """Steps until the learning rate is at its height; 10, or a quarter of a run of fewer than 40 steps, by default."""
    lr_floor: Fraction = 0.1
    """Share of the learning rate at the end of a cosine; 1 keeps it constant after the warm-up."""
    clip_low: AtLeast0 = 0.2
    clip_high: AtLeast0 = 0.28
    """The ratio new / old probability is kept within [1 - clip_low, 1 + clip_high]."""
    clip_norm: Above0 = 1.0
    entropy: AtLeast0 = 0.0
    """Weight of an entropy bonus."""
    kl: AtLeast0 = 0.0
    """Weight of the divergence from the policy that training began with (`divergence`); 0 does not measure it."""
    micro_batch: Count | None = None
    """Tokens of one forward pass at most, padding included; all of an update by default. Bounds memory, not the result."""
    credit: Annotated[str, AfterValidator(CREDITS.named)] = CREDIT
    score: Annotated[str, AfterValidator(SCORES.named)] = SCORE
    estimator: Annotated[str, AfterValidator(ESTIMATORS.named)] = "grpo"
    """These three and the next are those of `rewards.advantages`; see docs/credit.md."""
    gamma: Fraction = GAMMA
    credit_sign: CreditSign = "plain"
    credit_norm: CreditNorm = "credited"
    em_k: Above0 = EM_K
    """For the credit `em`."""
    turn_cost: AtLeast0 = TURN_COST
    """For the score `composite`."""
    compat: Compat | None = None
    """"userrl" computes advantages as the original does. The gyms' own is set under `rules`."""
    scale: bool = True
    """Divide a group's advantages by its standard deviation."""
    temperature: Above0 = 1.0
    max_new: Count = 256
    """Tokens of one reply at most; a longer one is cut, and most likely no valid call."""
    max_turns: Count = 16
    turns: tuple[tuple[Whole, Count], ...] = ()
    """A curriculum: (steps done, turn limit from then on), e.g. [[0, 4], [30, 8]]; `max_turns` before the first."""
    rules: Mapping[str, Any] = field(default_factory=dict)
    """Settings of all gyms, and tables of their own by the gyms' names (`gyms.base.rules_for`)."""
    weights: Mapping[str, Weight] = field(default_factory=dict)
    """Gym -> how often its tasks are drawn, relative to the other gyms'; 1 where none is given."""
    max_errors: int | None = None
    """Failed episodes in one step that stop the run; a quarter of them by default."""
    seed: int = 0
    save_every: Count | None = None
    """Steps between two checkpoints; 10, or a quarter of a run of fewer than 40 steps, by default."""

    @property
    def warm_steps(self) -> int:
        return min(10, self.steps // 4) if self.warmup is None else self.warmup

    @property
    def steps_between_saves(self) -> int:
        return min(10, max(1, self.steps // 4)) if self.save_every is None else self.save_every


@dataclass(frozen=True)
class Push:
    """How advantages push a step's policy tokens, of all episodes that could be compared, those at the mean of their group
    included."""

    zero: float
    """Share of the tokens whose advantage is 0; 1 where there are no tokens."""
    up: float
    """Sum of the tokens' advantages above 0, over the number of tokens."""
    down: float
    """The same of those below 0, which is never above 0."""

    @classmethod
    def of(cls, worth: Sequence[Array], tokens: Sequence[Sequence[int]]) -> Push:
        """From advantages (T_i,) and numbers of policy tokens (T_i,) of each turn of the episodes."""
        each = [(float(a), n) for rows, counts in zip(worth, tokens, strict=True) for a, n in zip(rows, counts, strict=True)]
        if not (whole := sum(n for _, n in each)):
            return cls(1.0, 0.0, 0.0)
        zero = sum(n for a, n in each if abs(a) <= NOTHING)
        return cls(zero / whole, sum(a * n for a, n in each if a > 0) / whole, sum(a * n for a, n in each if a < 0) / whole)


@dataclass(frozen=True)
class Step:
    """What happened in one step."""

    number: int
    """Steps done."""
    episodes: Sequence[Episode]
    skipped: int
    """Groups without variance, or with fewer than two episodes that did not fail."""
    groups: int
    """All of the step's groups."""
    loss: float
    entropy: float
    """Mean over the policy's tokens, in nats."""
    clipped: float
    """Share of tokens whose ratio was clipped."""
    grad_norm: float
    cut: float
    """Share of replies that had no eos token at their end, in episodes that did not fail."""
    kl: float | None
    """Mean over the policy's tokens, in nats; None when it is not measured."""
    lr: float
    max_turns: int
    push: Push = Push(1.0, 0.0, 0.0)
    undone: bool = False
    """A loss or a gradient was no finite number, or the policy could not tell probabilities any more after the updates: weights
    and optimizer are as they were before the step."""


NOTHING = 1e-9
"""An advantage of this size or less is none."""
IDLE = 3
"""So many steps in a row in which no group could be compared are warned of."""


async def train(
    policy: Policy,
    tasks: Sequence[Task],
    cast: Cast | Callable[[str], Cast],
    config: GRPOConfig,
    *,
    folder: Path | None = None,
    on_step: Callable[[Step], Awaitable[str | None]] | None = None,
    on_end: Callable[[Episode], None] | None = None,
    best: Callable[[], int | None] | None = None,
) -> None:
    """Train in place.

    Tasks, sampling and the order of updates follow from the seed and a step's number: a checkpoint needs no more.
    A step that ends in numbers that are not finite is undone as a whole (`Step.undone`), and the next one is taken.
    A run that is cancelled, or gives up, while episodes are played leaves a checkpoint of the steps done.

    Args:
        tasks: of one gym or several; see `rollouts.draw`.
        folder: where checkpoints go; a newer one found there is gone on from.
        on_step: awaited after each step, before its checkpoint is written. May return why to stop once it is.
        on_end: called with each episode as it ends.
        best: asked after `on_step` for the step whose policy is the best so far. Its checkpoint is written and always kept.

    Raises:
        RunStopped: too many episodes of a step failed, or `on_step` says so.
        ResumeError: the checkpoint found was made with another tokenizer.

    Warns of training under `compat`, and of steps in a row from which nothing could be learned.
    """
    if not tasks:
        raise ConfigError("There are no tasks to train on.")
    check(config)
    gyms = dict.fromkeys(task.gym for task in tasks)
    if config.compat or any(make(gym, **rules_for(config.rules, gym)).compat for gym in gyms):
        warnings.warn(COMPAT, stacklevel=2)
    for gym in config.weights:
        if gym not in gyms:
            raise UnknownName("gym in the run, though weights has one", gym, gyms)
    optimizer = adamw(policy, config.lr)
    reference = frozen(policy) if config.kl else None
    start, idle = 0, 0
    if folder is not None and (found := checkpoint.latest(folder)):
        start, _ = checkpoint.restore(found, policy, optimizer)
    for number in range(start, config.steps):
        try:
            episodes = await rollout(policy, draw(tasks, number, config), cast, config, number, on_end)
        except (asyncio.CancelledError, UserRLError):  # Ctrl-C, a budget that is spent, too many failures
            if folder is not None and number > checkpoint.steps_done(folder):
                checkpoint.save(folder, number, policy, optimizer, {}, best=None if best is None else best())
            raise
        step = update(policy, optimizer, episodes, config, number, reference)
        idle = idle + 1 if step.skipped == step.groups else 0
        if idle == IDLE:
            warnings.warn(_nothing_learned(step, config), stacklevel=2)
        stop = None if on_step is None else await on_step(step)
        top = None if best is None else best()
        due = (number + 1) % config.steps_between_saves == 0 or number + 1 in (config.steps, top)
        if folder is not None and (stop or due):
            checkpoint.save(folder, number + 1, policy, optimizer, {}, best=top)
        if stop:
            raise RunStopped(stop)
    policy.model.eval()


def check(config: GRPOConfig) -> None:
    """Raises UnknownName or ConfigError for groups of one, and for settings of the advantages that do not go together
    (`rewards.check_settings`)."""
    if config.group_size < 2:
        raise ConfigError(f"group_size is {config.group_size}; a group needs at least 2 episodes to compare.")
    check_settings(
        config.credit,
        config.score,
        config.estimator,
        gamma=config.gamma,
        credit_sign=config.credit_sign,
        credit_norm=config.credit_norm,
        em_k=config.em_k,
        compat=config.compat,
    )


def _nothing_learned(step: Step, config: GRPOConfig) -> str:
    invalid = _mean([float(turn.label == INVALID) for e in step.episodes for turn in e.turns])
    return (
        f"Nothing was learned in {IDLE} steps, up to step {step.number}: within each group all episodes earned the same. In "
        f"the last one {invalid:.0%} of the replies were invalid and {step.cut:.0%} were cut at {config.max_new} tokens. If "
        f"many are cut, raise --max-new; if many are invalid, begin with a policy of `userrl sft train`; else raise "
        f"--group-size, or choose tasks that are neither too easy nor too hard."
    )


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    episodes: Sequence[Episode],
    config: GRPOConfig,
    number: int,
    reference: Reference | None = None,
) -> Step:
    """The updates of one step."""
    whole = [e for e in episodes if e.stop != "error"]
    if not whole:
        raise RunStopped(f"All {len(episodes)} episodes of step {number + 1} failed. The last one: {episodes[-1].error}")
    alone = config.compat is not None  # the original also trains on the only episode of a group
    good = (
        whole if alone else [episodes[i] for i in comparable(list(map(_group, episodes)), [e.stop == "error" for e in episodes])]
    )
    tokens = [[turn.action.tokens for turn in e.turns if turn.action.tokens] for e in good]
    max_turns = turn_limit(config, number)
    counts = [[len(t.ids) for t in turns] for turns in tokens]
    worth = advantages(
        [e.rewards for e in good],
        [_group(e) for e in good],
        counts,
        credit=config.credit,
        score=config.score,
        estimator=config.estimator,
        gamma=config.gamma,
        scale=config.scale,
        credit_sign=config.credit_sign,
        credit_norm=config.credit_norm,
        em_k=config.em_k,
        success=[float(gym_of(e).solved(e)) for e in good] if read_by(SCORES.find(config.score)).success else None,
        max_turns=max_turns,
        turn_cost=config.turn_cost,
        states=[gym_states(e) for e in good] if read_by(ESTIMATORS.find(config.estimator)).states else None,
        compat=config.compat,
    )
    used = [i for i in range(len(good)) if any(abs(a) > NOTHING for a in worth[i])]
    groups = set(map(_group, episodes))
    random.Random(f"grpo-shuffle|{config.seed}|{number}").shuffle(used)
    policy.learning(dropout=False)  # the ratio compares the same network before and after
    lr = config.lr * schedule(number, config.warm_steps, config.steps, config.lr_floor)
    seen: list[_Seen] = []
    before, sound = checkpoint.Snapshot(policy, optimizer), True
    for part in _parts(used, config.updates):
        found = _accumulate(policy, [tokens[i] for i in part], [worth[i] for i in part], config, reference)
        seen.append(found._replace(norm=descend(policy, optimizer, lr, config.clip_norm)))
        if not (sound := all(map(math.isfinite, seen[-1]))):
            break
    undone = bool(used) and not (sound and speaks(policy, tokens[used[0]]))
    if undone:
        before.put_back()
    means = _Seen(*map(_mean, zip(*seen, strict=True))) if seen else _Seen()
    ends = [turn.action.tokens.ids[-1] for e in whole for turn in e.turns if turn.action.tokens]
    return Step(
        number + 1,
        episodes,
        skipped=len(groups - {_group(good[i]) for i in used}),
        groups=len(groups),
        push=Push.of(worth, counts),
        loss=means.loss,
        entropy=means.entropy,
        clipped=means.clipped,
        grad_norm=means.norm,
        cut=_mean([float(end != policy.eos) for end in ends]),
        kl=means.kl if reference else None,
        lr=lr,
        max_turns=max_turns,
        undone=undone,
    )


class _Seen(NamedTuple):
    """Figures of one update, or of a part of it weighted by its tokens."""

    loss: float = 0.0
    entropy: float = 0.0
    clipped: float = 0.0
    kl: float = 0.0
    norm: float = 0.0


def _accumulate(
    policy: Policy, tokens: Sequence[Sequence[Tokens]], worth: Sequence[Array], config: GRPOConfig, reference: Reference | None
) -> _Seen:
    """Add up the gradient of an update's loss, the mean over all its tokens, in forward passes of `micro_batch` tokens."""
    sums = _Seen()
    for places in micro_batches(tokens, config.micro_batch):
        b = batch([tokens[i] for i in places], policy.eos, policy.device)
        start = reference(b, config.temperature) if reference else None
        new, entropy = logprobs(policy, b, config.temperature, entropy_grad=config.entropy > 0)
        loss, clipped = clipped_loss(
            new, b.old[b.mask], _spread(b, [worth[i] for i in places]), config.clip_low, config.clip_high
        )
        share = len(new) / written(tokens)
        objective = loss - config.entropy * entropy.mean()
        kl = 0.0
        if start is not None:
            apart = divergence(new, start)
            objective, kl = objective + config.kl * apart, apart.item()
        (objective * share).backward()
        now = _Seen(loss.item(), entropy.mean().item(), clipped, kl)
        sums = _Seen(*(total + share * value for total, value in zip(sums, now, strict=True)))
    return sums


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


def divergence(new: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Mean over the policy's tokens of r - 1 - log r with r = p_start / p_new: an estimate of KL(new || start) that is
    unbiased on samples of the new policy and never negative (k3; Schulman 2020, and GRPO, arXiv 2402.03300, eq. 4).

    Args:
        new, start: (N,) log-probabilities now and under the policy that training began with.
    """
    return ((start - new).exp() - (start - new) - 1).mean()


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
