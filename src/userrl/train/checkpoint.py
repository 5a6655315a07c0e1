"""Checkpoints that a crash cannot spoil: written beside, then renamed into place."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from userrl.agents.policy import Policy
from userrl.errors import ResumeError, RunStopped, StoreError, needs

with needs("local", "Training"):
    import torch


def save(
    folder: Path,
    step: int,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Any],
    keep: int = 2,
    best: int | None = None,
) -> Path:
    """Write `<folder>/step-<n>` with weights (under LoRA the adapter's), tokenizer, optimizer, `extra`; keep the newest `keep`.

    No generator's state nor place in the data is kept: trainers draw both from their seed and the number of the step.

    Args:
        best: step of a checkpoint that is kept, however old.

    Raises:
        RunStopped: a weight, or the optimizer's state, is no finite number. Nothing is written.
        StoreError: it cannot be written.
    """
    if not finite(policy, optimizer):
        raise refused(folder, step)
    target = at(folder, step)
    part = folder / f".{target.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        policy.save(part)
        state = {"step": step, "optimizer": optimizer.state_dict(), "extra": dict(extra), "tokenizer": _tokenizer(policy)}
        torch.save(state, part / "trainer.pt")
        for path in (*(file for file in part.rglob("*") if file.is_file()), part):
            _to_disk(path)
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
        _to_disk(folder)
    except (OSError, RuntimeError, StoreError) as error:  # torch reports a full disk as RuntimeError
        raise StoreError(
            f"Cannot write the checkpoint {target}: {error}. Earlier checkpoints are intact; free some space, then --resume."
        ) from error
    for old in sorted(folder.glob("step-*"))[:-keep]:
        if best is None or old != at(folder, best):
            shutil.rmtree(old)
    return target


def refused(folder: Path, step: int) -> RunStopped:
    """What is raised in the place of a checkpoint of weights that are of no use."""
    found = latest(folder)
    since = f"The newest checkpoint is {found}" if found else "There is none yet, so the run begins anew"
    return RunStopped(
        f"The weights, or what the policy makes of them, are no finite numbers any more at step {step}, so no checkpoint was "
        f"written. {since}: give the command with --resume; after an alarm also with a lower --lr."
    )


def at(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is, if it is there."""
    return folder / f"step-{step:06d}"


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder, or None."""
    found = sorted(folder.glob("step-*"))
    return found[-1] if found else None


def steps_done(folder: Path) -> int:
    """The step of the newest whole checkpoint of a folder; 0 without one."""
    found = latest(folder)
    return int(found.name.removeprefix("step-")) if found else 0


def restore(checkpoint: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> tuple[int, Mapping[str, Any]]:
    """Load weights and optimizer in place. Returns (step, extra).

    Raises:
        ResumeError: the checkpoint's weights were trained with another tokenizer than the policy's.
    """
    state = torch.load(checkpoint / "trainer.pt", map_location="cpu", weights_only=True)
    if state["tokenizer"] != _tokenizer(policy):
        raise ResumeError(
            f"The checkpoint {checkpoint} was trained with another tokenizer or chat template than the policy has now. "
            f"Start from the same data or model as before, or choose another folder with --out."
        )
    policy.restore(checkpoint)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["extra"]


class Snapshot:
    """What learns and its optimizer as they are now, held in main memory until they are put back or the object is dropped."""

    def __init__(self, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
        self._learning, self._optimizer = _learning(policy), optimizer
        self._weights = [_copied(p) for p in self._learning]
        state = optimizer.state_dict()
        held = {i: {name: _copied(value) for name, value in of.items()} for i, of in state["state"].items()}
        self._state = {"state": held, "param_groups": copy.deepcopy(state["param_groups"])}

    def put_back(self) -> None:
        """Undo, once, what was learned since."""
        with torch.no_grad():
            for parameter, weights in zip(self._learning, self._weights, strict=True):
                parameter.copy_(weights)
        self._optimizer.load_state_dict(self._state)


def _copied(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if torch.is_tensor(value) else value


def _learning(policy: Policy) -> list[torch.Tensor]:
    return [p for p in policy.model.parameters() if p.requires_grad]


def finite(policy: Policy, optimizer: torch.optim.Optimizer) -> bool:
    """Whether what learns, and its optimizer's state, are finite numbers."""
    state = (value for of in optimizer.state.values() for value in of.values() if torch.is_tensor(value))
    return all(bool(value.isfinite().all()) for value in (*_learning(policy), *state))


def _tokenizer(policy: Policy) -> str:
    """SHA-256 of what turns text into ids: vocabulary, merges, added tokens, chat template."""
    tokenizer = policy.tokenizer
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())
    whole = json.dumps([rules, tokenizer.chat_template, tokenizer.eos_token], sort_keys=True)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _to_disk(path: Path) -> None:
    """Have a file, or a folder's list of names, written through: a rename may not come before what it names."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
