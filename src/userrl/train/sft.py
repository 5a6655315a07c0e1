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
from userrl.train.batch import batch, logprobs

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
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.95))
    start = 0
    if folder is not None and (found := checkpoint.latest(folder)):
        start, _ = checkpoint.restore(found, policy, optimizer)
    policy.model.train()
    for step in range(start, config.steps):
        rng = random.Random(f"sft|{config.seed}|{step}")
        b = batch(rng.sample(data, min(config.batch_size, len(data))), policy.eos, policy.model.device)
        chosen, _ = logprobs(policy, b)
        loss = -chosen.mean()
        for group in optimizer.param_groups:
            group["lr"] = config.lr * schedule(step, config.warmup, config.steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_step is not None:
            on_step(step + 1, loss.item())
        if folder is not None and ((step + 1) % config.save_every == 0 or step + 1 == config.steps):
            checkpoint.save(folder, step + 1, policy, optimizer, {})
    policy.model.eval()


def schedule(step: int, warmup: int, steps: int, floor: float = 0.1) -> float:
    """Share of the learning rate: linear warm-up, then a cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
