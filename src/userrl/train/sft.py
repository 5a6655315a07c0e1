"""Supervised fine-tuning on good episodes: cross-entropy on the agent's tokens only."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from userrl.agents.policy import Policy
from userrl.config import Above0, AtLeast0, Count, Whole
from userrl.core import Tokens
from userrl.errors import ConfigError, needs
from userrl.train import checkpoint
from userrl.train.batch import batch, logprobs, micro_batches, speaks, written

with needs("local", "Training"):
    import torch


COMPAT = (
    "Training under compat: the policy learns the quirks of the original's rules (see the gym's data sheet). "
    "Compat is meant for comparisons with published figures; train without it."
)


@dataclass(frozen=True)
class SFTConfig:
    """Settings of a fine-tuning run."""

    steps: Count = 1000
    batch_size: Count = 8
    lr: Above0 = 1.5e-3
    warmup: Whole | None = None
    """Steps until the learning rate is at its height; then it falls along a cosine to a tenth. 30, or a quarter of a run of
    fewer than 120 steps, by default."""
    weight_decay: AtLeast0 = 0.01
    clip_norm: Above0 = 1.0
    micro_batch: Count | None = None
    """Tokens of one forward pass at most, padding included; all episodes of a step by default. Bounds memory, not the result."""
    seed: int = 0
    save_every: Count | None = None
    """Steps between two checkpoints; 500, or half of a run of fewer than 1000 steps, by default."""

    @property
    def warm_steps(self) -> int:
        return min(30, self.steps // 4) if self.warmup is None else self.warmup

    @property
    def steps_between_saves(self) -> int:
        return min(500, max(1, self.steps // 2)) if self.save_every is None else self.save_every


def train(
    policy: Policy,
    data: Sequence[Sequence[Tokens]],
    config: SFTConfig,
    *,
    folder: Path | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Fine-tune in place.

    Which episodes a step takes, and its dropout, follow from the seed and its number: a checkpoint needs no more.

    Args:
        data: the turns' tokens of each episode, as `Policy.tokens` gives them.
        folder: where checkpoints go; a newer one found there is gone on from.
        on_step: called with (steps done, loss) after each step, before its checkpoint is written. The loss is nan, too, where a
            checkpoint is due and the policy tells no probabilities any more.

    Raises:
        ConfigError: there are no episodes, or some are longer than the model's window.
        ResumeError: the checkpoint found was made with another tokenizer.
        RunStopped: a checkpoint is due, and the weights are not worth one.
    """
    if not data:
        raise ConfigError("There are no episodes to train on; collect some with `userrl sft collect`.")
    lengths = [sum(len(t.context) + len(t.ids) for t in turns) for turns in data]
    if long := [n for n in lengths if n > policy.window]:
        raise ConfigError(
            f"{len(long)} of {len(data)} episodes are longer than the model's window of {policy.window} tokens (the longest "
            f"has {max(long)}). Collect shorter ones with a lower --max-turns, or use a model with a longer window."
        )
    optimizer = adamw(policy, config.lr, config.weight_decay)
    start = 0
    if folder is not None and (found := checkpoint.latest(folder)):
        start, _ = checkpoint.restore(found, policy, optimizer)
    policy.learning(dropout=True)
    for step in range(start, config.steps):
        rng = random.Random(f"sft|{config.seed}|{step}")
        part = rng.sample(data, min(config.batch_size, len(data)))
        torch.manual_seed(rng.getrandbits(63))  # of dropout
        total = 0.0
        for places in micro_batches(part, config.micro_batch):
            b = batch([part[i] for i in places], policy.eos, policy.device)
            chosen, _ = logprobs(policy, b, entropy_grad=False)
            loss = -chosen.mean() * (len(chosen) / written(part))
            loss.backward()
            total += loss.item()
        norm = descend(policy, optimizer, config.lr * schedule(step, config.warm_steps, config.steps), config.clip_norm)
        if not math.isfinite(norm):
            warnings.warn(f"The gradient's norm is {norm} at step {step + 1}; the step changes nothing.", stacklevel=2)
        due = folder is not None and ((step + 1) % config.steps_between_saves == 0 or step + 1 == config.steps)
        sound = not due or speaks(policy, part[0])
        if on_step is not None:
            on_step(step + 1, total if sound else math.nan)
        if folder is not None and due:
            if not sound:
                raise checkpoint.refused(folder, step + 1)
            checkpoint.save(folder, step + 1, policy, optimizer, {})
    policy.model.eval()


def adamw(policy: Policy, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """The optimizer of all weights that learn. They are fp32 whatever the precision of the rest: see `Policy.load`."""
    learning = [p for p in policy.model.parameters() if p.requires_grad]
    return torch.optim.AdamW(learning, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.95))


def descend(policy: Policy, optimizer: torch.optim.Optimizer, lr: float, clip_norm: float) -> float:
    """One optimizer step along the gradient that has been accumulated, and none along one that is no finite number.

    Returns the gradient's norm before it was clipped.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    norm = float(torch.nn.utils.clip_grad_norm_(policy.model.parameters(), clip_norm))
    if math.isfinite(norm):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def schedule(step: int, warmup: int, steps: int, floor: float = 0.1) -> float:
    """Share of the learning rate: linear warm-up, then a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
