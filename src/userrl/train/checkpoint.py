"""Checkpoints that a crash cannot spoil: written beside, then renamed into place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from userrl.agents.policy import Policy
from userrl.errors import StoreError, needs

with needs("local", "Training"):
    import torch


def save(
    folder: Path, step: int, policy: Policy, optimizer: torch.optim.Optimizer, extra: Mapping[str, Any], keep: int = 2
) -> Path:
    """Write `<folder>/step-<n>` with weights, tokenizer, optimizer and `extra`; keep the newest `keep`."""
    target = folder / f"step-{step:06d}"
    part = folder / f".{target.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        policy.save(part)
        torch.save({"step": step, "optimizer": optimizer.state_dict(), "extra": dict(extra)}, part / "trainer.pt")
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
    except (OSError, RuntimeError, StoreError) as error:  # torch reports a full disk as RuntimeError
        raise StoreError(
            f"Cannot write the checkpoint {target}: {error}. Earlier checkpoints are intact; free some space, then --resume."
        ) from error
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return target


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder, or None."""
    found = sorted(folder.glob("step-*"))
    return found[-1] if found else None


def restore(checkpoint: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> tuple[int, Mapping[str, Any]]:
    """Load weights and optimizer in place. Returns (step, extra)."""
    weights = Policy.load(checkpoint).model.state_dict()
    policy.model.load_state_dict(weights)
    state = torch.load(checkpoint / "trainer.pt", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["extra"]
