"""Supervised fine-tuning on good episodes: cross-entropy on the agent's tokens only."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from userrl.agents.policy import Policy
from userrl.config import Above0, AtLeast0, Count
from userrl.core import Tokens
from userrl.errors import ConfigError, needs
from userrl.train import checkpoint
from userrl.train.batch import batch, logprobs, micro_batches, written

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
    warmup: int = 30
    """Steps until the learning rate is at its height; then it falls along a cosine to a tenth."""
    weight_decay: AtLeast0 = 0.01
    clip_norm: Above0 = 1.0
    micro_batch: Count | None = None
    """Tokens of one forward pass at most, padding included; all episodes of a step by default. Bounds memory, not the result."""
    seed: int = 0
    save_every: Count = 500


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
        on_step: called with (steps done, loss) after each step, before its checkpoint is written.

    Raises:
        ConfigError: there are no episodes, or some are longer than the model's window.
        ResumeError: the checkpoint found was made with another tokenizer.
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
        descend(policy, optimizer, config.lr * schedule(step, config.warmup, config.steps), config.clip_norm)
        if on_step is not None:
            on_step(step + 1, total)
        if folder is not None and ((step + 1) % config.save_every == 0 or step + 1 == config.steps):
            checkpoint.save(folder, step + 1, policy, optimizer, {})
    policy.model.eval()


def adamw(policy: Policy, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """The optimizer of all weights that learn. They are fp32 whatever the precision of the rest: see `Policy.load`."""
    learning = [p for p in policy.model.parameters() if p.requires_grad]
    return torch.optim.AdamW(learning, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.95))


def descend(policy: Policy, optimizer: torch.optim.Optimizer, lr: float, clip_norm: float) -> float:
    """One optimizer step along the gradient that has been accumulated; returns its norm before it was clipped."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def schedule(step: int, warmup: int, steps: int, floor: float = 0.1) -> float:
    """Share of the learning rate: linear warm-up, then a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
