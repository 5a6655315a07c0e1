"""Checkpoints: whole or not there, and read back bit for bit."""

from __future__ import annotations

import os
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
from userrl.agents.tiny import Shape, new_policy
from userrl.core import Episode
from userrl.errors import ResumeError, StoreError
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


def test_a_checkpoint_made_with_another_tokenizer_is_refused_and_changes_no_weight(
    untrained: Policy, experts: list[Episode], tmp_path: Path
) -> None:
    saved = checkpoint.save(tmp_path / "run", 1, untrained, optimizer_of(untrained), {})
    shape = Shape(hidden=48, layers=2, heads=4, kv_heads=2, feed_forward=96, window=640, vocabulary=500)
    other = new_policy(experts[30:], shape, seed=1)
    before = weights(other)
    with pytest.raises(ResumeError, match=r"step-000001 was trained with another tokenizer or chat template"):
        checkpoint.restore(saved, other, optimizer_of(other))
    assert same(weights(other), before)


def test_a_checkpoint_made_with_another_chat_template_is_refused(untrained: Policy, tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path / "run", 1, untrained, optimizer_of(untrained), {})
    untrained.save(tmp_path / "model")
    other = Policy.load(tmp_path / "model")
    assert checkpoint.restore(saved, other, optimizer_of(other))[0] == 1
    other.tokenizer.chat_template += " "
    with pytest.raises(ResumeError, match="another tokenizer or chat template"):
        checkpoint.restore(saved, other, optimizer_of(other))


def test_a_checkpoint_is_on_disk_before_it_gets_its_name(
    untrained: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def note(file: int) -> None:
        synced.append((Path(f"/proc/self/fd/{file}").readlink().name, (tmp_path / "step-000001").exists()))
        fsync(file)

    monkeypatch.setattr(os, "fsync", note)
    saved = checkpoint.save(tmp_path, 1, untrained, optimizer_of(untrained), {})
    early = {name for name, named in synced if not named}
    assert early >= {file.name for file in saved.iterdir()} | {".step-000001.part"}
    assert {name for name, named in synced if named} == {tmp_path.name}


def test_a_checkpoint_is_a_policy_folder(untrained: Policy, tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path, 1, untrained, optimizer_of(untrained), {})
    assert same(weights(Policy.load(saved)), weights(untrained))


def test_the_newest_checkpoints_are_kept(untrained: Policy, tmp_path: Path) -> None:
    assert checkpoint.steps_done(tmp_path) == 0
    assert checkpoint.latest(tmp_path) is None and checkpoint.latest(tmp_path / "none") is None
    for step in (8, 9, 10, 110):
        checkpoint.save(tmp_path, step, untrained, optimizer_of(untrained), {}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000010", "step-000110"]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-000110" and checkpoint.steps_done(tmp_path) == 110


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
