"""Checkpoints: whole or not there, and read back bit for bit."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from userrl.agents.policy import Policy
from userrl.errors import StoreError
from userrl.train import checkpoint


def optimizer_of(policy: Policy, lr: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW(policy.model.parameters(), lr=lr)


def stepped(policy: Policy, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """One optimizer step along a random gradient."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_weights_optimizer_and_extra_come_back_bit_for_bit(untrained: Policy, policy: Policy, tmp_path: Path) -> None:
    optimizer = optimizer_of(untrained)
    stepped(untrained, optimizer, 0)
    saved = checkpoint.save(tmp_path, 7, untrained, optimizer, {"note": [1, "two"]})
    assert saved == tmp_path / "step-000007"
    then = weights(untrained)
    stepped(untrained, optimizer, 1)
    after = weights(untrained)

    other = optimizer_of(policy, lr=0.5)
    assert checkpoint.restore(saved, policy, other) == (7, {"note": [1, "two"]})
    assert same(weights(policy), then)
    stepped(policy, other, 1)
    assert same(weights(policy), after) and not same(after, then)


def test_a_checkpoint_is_a_policy_folder(untrained: Policy, tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path, 1, untrained, optimizer_of(untrained), {})
    assert same(weights(Policy.load(saved)), weights(untrained))


def test_the_newest_checkpoints_are_kept(untrained: Policy, tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None and checkpoint.latest(tmp_path / "none") is None
    for step in (8, 9, 10, 110):
        checkpoint.save(tmp_path, step, untrained, optimizer_of(untrained), {}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000010", "step-000110"]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-000110"


def test_a_half_written_checkpoint_is_ignored_and_written_anew(untrained: Policy, tmp_path: Path) -> None:
    optimizer = optimizer_of(untrained)
    whole = checkpoint.save(tmp_path, 1, untrained, optimizer, {})
    part = tmp_path / ".step-000002.part"
    shutil.copytree(whole, part)
    (part / "trainer.pt").unlink()
    (part / "rubbish").write_text("torn", "utf-8")
    assert checkpoint.latest(tmp_path) == whole
    second = checkpoint.save(tmp_path, 2, untrained, optimizer, {})
    assert checkpoint.latest(tmp_path) == second
    assert not part.exists() and not (second / "rubbish").exists()
    assert checkpoint.restore(second, untrained, optimizer)[0] == 2


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("what", ["config.json", "model.safetensors", "trainer.pt"])
def test_a_full_disk_is_a_store_error_and_leaves_the_earlier_checkpoint(untrained: Policy, tmp_path: Path, what: str) -> None:
    optimizer = optimizer_of(untrained)
    stepped(untrained, optimizer, 0)
    whole = checkpoint.save(tmp_path, 1, untrained, optimizer, {})
    size = (whole / what).stat().st_size
    then = weights(untrained)
    with disk_of(size - 1), pytest.raises(StoreError, match=r"Cannot write the checkpoint .*step-000002: .*--resume"):
        checkpoint.save(tmp_path, 2, untrained, optimizer, {})
    assert checkpoint.latest(tmp_path) == whole
    stepped(untrained, optimizer, 1)
    checkpoint.restore(whole, untrained, optimizer)
    assert same(weights(untrained), then)


def test_a_crash_while_saving_leaves_the_earlier_checkpoint(
    untrained: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = optimizer_of(untrained)
    whole = checkpoint.save(tmp_path, 1, untrained, optimizer, {})

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 2, untrained, optimizer, {}, keep=1)
    assert checkpoint.latest(tmp_path) == whole and (whole / "trainer.pt").is_file()
