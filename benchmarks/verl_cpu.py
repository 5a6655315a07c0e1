"""Does a policy learn through verl as it does with the local trainer? The demo's gym, the same work for both, over seeds.

    make setup-verl && .venv-verl/bin/python benchmarks/verl_cpu.py --seeds 3 --out runs/verl-cpu

One tiny policy a seed is fine-tuned on a scripted expert; then stock `verl.trainer.main_ppo` (on cores, with the stand-ins of
the plug-in's tests) and `userrl.train.grpo` train copies of it: the same tasks, groups, updates, learning rate, AdamW, clipping,
credit and turns. Printed are the mean rewards of an episode over the steps, and last minus first fifth. Single steps differ,
as each trainer draws its own tasks and users; the direction should not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from userrl.agents.policy import Policy, set_threads
from userrl.agents.tiny import Shape, new_policy
from userrl.gyms.base import make
from userrl.integrations.verl import data
from userrl.rollout import run, starts
from userrl.train import grpo
from userrl.train.sft import SFTConfig
from userrl.train.sft import train as fine_tune

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integrations" / "verl" / "cpu"))
import stock

GYM = make("intention")
TURNS, REPLY, LR = 6, 32, 4e-4


@dataclass(frozen=True)
class Work:
    """What both trainers do."""

    steps: int
    groups: int
    size: int
    updates: int = 4
    tasks: int = 400


def beginner(folder: Path, seed: int) -> Policy:
    """A policy that can play, and not well: a weak expert imitated for a while."""
    experts = run(starts(GYM.tasks("demo-train")[:1500], max_turns=TURNS, seed=seed), GYM.expert(0.5), GYM.cast())
    policy = new_policy(experts, Shape(), seed)
    fine_tune(policy, [policy.tokens(e, GYM) for e in experts], SFTConfig(steps=300, lr=2e-3, seed=seed))
    policy.save(folder)
    return policy


def local(model: Path, work: Work, seed: int) -> list[float]:
    """The mean rewards of each step's episodes, with the local trainer."""
    config = grpo.GRPOConfig(
        steps=work.steps,
        groups=work.groups,
        group_size=work.size,
        updates=work.updates,
        lr=LR,
        warmup=0,
        lr_floor=1.0,
        max_new=REPLY,
        max_turns=TURNS,
        seed=seed,
    )
    means: list[float] = []

    async def note(step: grpo.Step) -> None:
        means.append(mean(sum(e.rewards) for e in step.episodes))

    asyncio.run(grpo.train(Policy.load(model), list(GYM.tasks("demo-train")[: work.tasks]), GYM.cast(), config, on_step=note))
    return means


def through_verl(model: Path, folder: Path, work: Work, seed: int) -> list[float]:
    """The same, with verl's."""
    data.write(folder / "train.parquet", GYM.tasks("demo-train")[: work.tasks], purpose=data.TRAINING, split="demo-train")
    data.write(folder / "val.parquet", GYM.tasks("demo-validation")[:4], purpose=data.VALIDATION, split="demo-validation")
    overrides = [
        f"actor_rollout_ref.model.path={model}",
        f"data.train_files={folder / 'train.parquet'}",
        f"data.val_files={folder / 'val.parquet'}",
        f"data.train_batch_size={work.groups}",
        f"data.seed={seed}",
        "data.max_prompt_length=256",
        "data.max_response_length=640",
        f"actor_rollout_ref.rollout.n={work.size}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={work.groups // work.updates}",
        f"actor_rollout_ref.actor.optim.lr={LR}",
        "actor_rollout_ref.actor.optim.weight_decay=0",
        "actor_rollout_ref.actor.optim.betas=[0.9,0.95]",
        "actor_rollout_ref.actor.clip_ratio_low=0.2",
        "actor_rollout_ref.actor.clip_ratio_high=0.28",
        f"userrl.max_turns={TURNS}",
        f"userrl.max_new={REPLY}",
        f"userrl.seed={seed}",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        "trainer.total_epochs=1000",
        f"trainer.total_training_steps={work.steps}",
        f"trainer.default_local_dir={folder / 'checkpoints'}",
    ]
    metrics = stock.train(folder, overrides, ranks=1, timeout_s=3600 * 4, reply=REPLY)
    return [line["data"]["critic/score/mean"] for line in metrics if "critic/score/mean" in line["data"]]


def gain(means: Sequence[float]) -> float:
    """Mean of the last fifth less that of the first."""
    fifth = max(1, len(means) // 5)
    return mean(means[-fifth:]) - mean(means[:fifth])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("runs/verl-cpu"))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    set_threads(1)
    work = Work(given.steps, given.groups, given.size)
    for seed in range(given.seeds):
        folder = (given.out / f"seed-{seed}").resolve()
        model = folder / "model"
        if not model.exists():
            beginner(model, seed)
        curves: dict[str, list[float]] = {}
        for name in ("local", "verl"):
            began = time.monotonic()
            curves[name] = local(model, work, seed) if name == "local" else through_verl(model, folder, work, seed)
            fifth = max(1, len(curves[name]) // 5)
            first, last = mean(curves[name][:fifth]), mean(curves[name][-fifth:])
            took = time.monotonic() - began
            print(f"seed {seed}  {name:<6} {first:.2f} -> {last:.2f} ({gain(curves[name]):+.2f})  {took:.0f} s", flush=True)
            print(f"        {' '.join(f'{m:.2f}' for m in curves[name])}", flush=True)
        (folder / "curves.json").write_text(json.dumps(curves) + "\n", "utf-8")
        same = all(gain(curve) > 0 for curve in curves.values())
        print(f"seed {seed}  {'both gain' if same else 'NOT both gain'}", flush=True)


if __name__ == "__main__":
    main()
