"""Stock `verl.trainer.main_ppo` on two ranks, end to end: plays, credits, updates, pushes weights, saves; merged and evaluated.

About two minutes and a half on two free cores, most of them for Ray and for verl's imports in ten processes. The model, the
platform and the inference server are small stand-ins (`cpu/`); the trainer, its queue, FSDP and Ray are verl's own, and the
plug-in is what a lab would run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from userrl.agents.policy import Policy, PolicyAgent, set_threads
from userrl.agents.tiny import Shape, new_policy
from userrl.evaluate.metrics import share
from userrl.gyms.base import make
from userrl.integrations.verl import data
from userrl.rollout import run, starts
from userrl.store import read
from userrl.train.sft import SFTConfig, train

sys.path.insert(0, str(Path(__file__).parent / "cpu"))
import stock

GYM = make("intention")
TASKS, SIZE, TURNS, VALIDATED = 8, 4, 4, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has learned eight tasks by heart, but not so well that a group's episodes are all alike."""
    set_threads(1)
    tasks = GYM.tasks("train")[:TASKS]
    experts = run(starts(tasks, attempts=12, max_turns=TURNS), GYM.expert(0.9), GYM.cast())
    shape = Shape(hidden=64, layers=2, heads=4, kv_heads=2, feed_forward=128, window=640, vocabulary=500)
    policy = new_policy(experts, shape, seed=0)
    train(policy, [policy.tokens(e, GYM) for e in experts], SFTConfig(steps=100, lr=1e-2, warmup=5, batch_size=16))
    folder = tmp_path_factory.mktemp("model")
    policy.save(folder)
    return folder


def train_with_verl(model: Path, folder: Path, ranks: int, *overrides: str) -> list[dict[str, Any]]:
    data.export(data.DataJob(train_tasks=TASKS, val_tasks=VALIDATED), folder)
    settings = [
        f"actor_rollout_ref.model.path={model}",
        f"data.train_files={folder / 'train.parquet'}",
        f"data.val_files={folder / 'val.parquet'}",
        f"data.train_batch_size={TASKS}",
        "data.max_prompt_length=256",
        "data.max_response_length=384",
        f"actor_rollout_ref.rollout.n={SIZE}",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4",
        "actor_rollout_ref.actor.optim.lr=1e-3",
        f"userrl.max_turns={TURNS}",
        f"userrl.episodes={folder / 'episodes'}",
        f"trainer.default_local_dir={folder / 'checkpoints'}",
    ]
    return stock.train(folder, [*settings, *overrides], ranks=ranks, timeout_s=1200)


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("verl")
    return folder, train_with_verl(model, folder, 2, "trainer.total_epochs=2", "trainer.save_freq=2", "trainer.test_freq=2")


@pytest.mark.e2e
def test_two_steps_learn_from_turns_with_the_probabilities_that_were_sampled(trained: tuple[Path, list[dict[str, Any]]]) -> None:
    _, metrics = trained
    steps = {line["step"]: line["data"] for line in metrics}
    assert set(steps) >= {1, 2}
    for step in (1, 2):
        figures = steps[step]
        assert figures["training/rollout_probs_diff_max"] < 1e-2
        assert figures["critic/advantages/min"] < 0 < figures["critic/advantages/max"]
        assert figures["actor/grad_norm"] > 0
        assert figures["critic/score/mean"] > 0
    assert any(name.startswith("val-core/userrl/intention/reward") for name in steps[2])
    assert any(name.startswith("val-aux/userrl/intention/share") for name in steps[2])


@pytest.mark.e2e
def test_the_weights_are_pushed_to_both_servers_after_each_step(trained: tuple[Path, list[dict[str, Any]]]) -> None:
    pushed = stock.lines(trained[0] / "pushed.jsonl")
    for rank in (0, 1):
        own = [line for line in pushed if line["rank"] == rank]
        assert [line["step"] for line in own] == [0, 1, 2]
        assert all(line["tensors"] > 20 and not line["missing"] and not line["unexpected"] for line in own)


@pytest.mark.e2e
def test_each_episode_is_recorded_with_its_place_in_the_run(trained: tuple[Path, list[dict[str, Any]]]) -> None:
    episodes = [episode for path in (trained[0] / "episodes").iterdir() for episode in read(path)]
    validation = [episode for episode in episodes if episode.seed == 0]
    assert len(validation) == VALIDATED
    assert len(episodes) - len(validation) == 2 * TASKS * SIZE
    assert {episode.attempt for episode in episodes} == set(range(SIZE))
    assert len({episode.seed for episode in episodes}) == 3


@pytest.mark.e2e
def test_the_checkpoint_becomes_a_model_that_eval_plays(
    trained: tuple[Path, list[dict[str, Any]]], model: Path, tmp_path: Path
) -> None:
    def userrl(*words: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("userrl")), *words], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    checkpoint = trained[0] / "checkpoints" / "global_step_2"
    assert "Policy: merged" in userrl("verl", "merge", str(checkpoint), "--out", "merged")
    words = ["--tasks", "4", "--max-turns", str(TURNS), "--split", "train", "--max-new", "64"]
    userrl("eval", "intention", "--agent", "merged", "--out", "eval", *words)
    assert len(list(read(tmp_path / "eval" / "episodes.jsonl"))) == 4
    before, after = Policy.load(model), Policy.load(tmp_path / "merged")
    moved = [
        (old.float() - new.float()).abs().max().item()
        for old, new in zip(before.model.state_dict().values(), after.model.state_dict().values(), strict=True)
    ]
    assert torch.tensor(moved).max() > 1e-4
    tasks = GYM.tasks("train")[:TASKS]
    played = run(starts(tasks, attempts=2, max_turns=TURNS), PolicyAgent(after, max_new=64), GYM.cast())
    assert sum(map(share, played)) > 0


@pytest.mark.e2e
def test_asynchronous_play_trains_on_episodes_that_older_weights_began(model: Path, tmp_path: Path) -> None:
    metrics = train_with_verl(
        model, tmp_path, 1, "recipe=colocate_async", "trainer.total_epochs=3", "trainer.save_freq=-1", "trainer.test_freq=-1"
    )
    steps = {line["step"]: line["data"] for line in metrics}
    assert set(steps) >= {1, 2, 3}
    for step in (1, 2, 3):
        assert steps[step]["critic/advantages/min"] < 0 < steps[step]["critic/advantages/max"]
        assert steps[step]["actor/grad_norm"] > 0
    assert max(steps[step]["training/off_policy/trajectory_staleness_worst/max"] for step in steps) >= 1
