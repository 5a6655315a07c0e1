"""SmolLM2-135M on built-in gyms on one GPU: how good at the start, after SFT, after GRPO; how fast; how much memory.

    userrl models get smollm2
    python benchmarks/gpu.py --minutes 8          give it again until it says that all is done
    python benchmarks/gpu.py --dry-run            the same code with a tiny model and a few steps, on a CPU

For each seed: SFT on scripted experts' episodes, multi-turn GRPO on all gyms together, and an evaluation of the three policies
by sampling on test tasks that neither has seen. Scores are shares of what a task allows, means over the seeds' means with 95%
intervals by Student's t over the seeds; with each stands the share of invalid actions.

Speed is measured on the policy of the first seed after SFT: rollouts, then updates on what was played, each the median of three
rounds after one to warm up. Tokens are all that the model reads or writes, without padding. The share of peak (MFU) counts
2 floating-point operations for each weight and token of a forward pass, and attention; twice that again for the gradients (once
under LoRA, whose other weights need none); the output layer only where it is needed. It is a share of the device's peak for dense
bfloat16 as its maker states it, from a short table here or --peak-tflops.

What is done stays in --out: interrupted, killed or out of --minutes, the same command goes on. Figures go to results.json there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from userrl.agents.policy import LoRA, Policy, PolicyAgent, set_threads
from userrl.agents.tiny import Shape, new_policy
from userrl.config import as_dict
from userrl.core import Episode
from userrl.evaluate.metrics import share
from userrl.evaluate.run import chosen_tasks
from userrl.evaluate.statistics import runs_interval
from userrl.gyms.base import make
from userrl.pipeline.jobs import MODEL, RLJob, SFTJob, fine_tune, reinforce
from userrl.rollout import play_recorded, run, starts
from userrl.store import RunFolder, dump, fingerprint
from userrl.train import grpo, rollouts, sft

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "A10": 125.0, "L4": 121.0, "T4": 65.0}
"""Part of a device's name -> dense half-precision peak as NVIDIA states it, 10^12 operations a second."""
STAGES = ("start", "SFT", "GRPO")
ROUNDS = 3


class TimeUp(Exception):
    """The minutes are over."""


@dataclass(frozen=True)
class Plan:
    """What is run. It is saved, and a folder is gone on with by the same plan only."""

    gyms: tuple[str, ...] = ("intention", "telepathy", "function", "persuade", "turtle")
    model: str = "runs/smollm2"
    seeds: int = 3
    skill: float = 0.8
    """Of the scripted experts."""
    expert_tasks: int = 400
    """Of each gym."""
    max_turns: int = 8
    max_new: int = 128
    sft_steps: int = 300
    sft_batch: int = 16
    sft_lr: float = 1e-4
    grpo_steps: int = 60
    groups: int = 20
    group_size: int = 8
    grpo_lr: float = 2e-5
    micro_batch: int = 32_768
    test_tasks: int = 100
    """Of each gym."""
    lora: int = 0
    dtype: str = "bfloat16"
    device: str = "cuda"


DRY = Plan(
    gyms=("intention", "turtle"),
    model="",
    seeds=2,
    expert_tasks=20,
    max_turns=3,
    max_new=24,
    sft_steps=150,
    sft_batch=8,
    sft_lr=4e-3,
    grpo_steps=2,
    groups=4,
    group_size=4,
    grpo_lr=4e-4,
    micro_batch=4096,
    test_tasks=6,
    device="cpu",
)


class Bench:
    """One plan in one folder, until a time."""

    def __init__(self, plan: Plan, folder: Path, until: float) -> None:
        self.plan, self.folder, self.until = plan, folder, until
        self.lora = LoRA(r=plan.lora)
        self.job = {"device": plan.device, "dtype": plan.dtype, "lora": self.lora}
        casts = {gym: make(gym).cast() for gym in plan.gyms}
        self.cast = casts.__getitem__
        model = {"weights": fingerprint(Path(plan.model))} if plan.model else {}
        self.run = RunFolder(
            folder, {"kind": "benchmark-gpu", **as_dict(plan), **model}, resume=(folder / "config.json").exists()
        )

    def check_time(self, *_: Any) -> None:
        if time.monotonic() > self.until:
            raise TimeUp

    def all(self) -> None:
        """Every stage that is not done yet. Raises TimeUp."""
        data = self.folder / "experts.jsonl"
        if not data.exists():
            dump(data, self.experts())
        start = Path(self.plan.model) if self.plan.model else self.tiny(data)
        for seed in range(self.plan.seeds):
            at = self.folder / f"seed-{seed}"
            tuned = self.fine_tune(start, data, at / "sft", seed)
            if seed == 0 and not (self.folder / "speed.json").exists():
                self.run.write_json("speed.json", self.speed(tuned))
            trained = self.reinforce(tuned, at / "grpo", seed)
            for stage, model in zip(STAGES, (start, tuned, trained), strict=True):
                self.evaluate(model, stage, seed)

    def experts(self) -> list[Episode]:
        found: list[Episode] = []
        for name in self.plan.gyms:
            gym = make(name)
            begun = starts(chosen_tasks([name], "train", self.plan.expert_tasks), max_turns=self.plan.max_turns)
            found += run(begun, gym.expert(self.plan.skill), gym.cast())
        return [e for e in found if e.stop != "error"]

    def tiny(self, data: Path) -> Path:
        """A model of random weights, for the dry run."""
        if not (self.folder / "tiny" / "config.json").exists():
            policy = new_policy(self.experts(), Shape(hidden=64, feed_forward=128, window=4096), seed=0)
            policy.save(self.folder / "tiny")
        return self.folder / "tiny"

    def fine_tune(self, model: Path, data: Path, folder: Path, seed: int) -> Path:
        plan = self.plan
        if (folder / MODEL / "config.json").exists():
            return folder / MODEL
        config = sft.SFTConfig(
            steps=plan.sft_steps,
            batch_size=plan.sft_batch,
            lr=plan.sft_lr,
            warmup=plan.sft_steps // 10,
            micro_batch=plan.micro_batch,
            seed=seed,
            save_every=25,
        )
        job = SFTJob(data=str(data), model=str(model), sft=config, **self.job)  # type: ignore[arg-type]
        return fine_tune(job, folder, resume=(folder / "config.json").exists(), on_step=self.check_time)

    def reinforce(self, model: Path, folder: Path, seed: int) -> Path:
        if (folder / MODEL / "config.json").exists():
            return folder / MODEL
        job = RLJob(model=str(model), gyms=self.plan.gyms, grpo=self.grpo(seed), baselines=False, **self.job)  # type: ignore[arg-type]
        resume = (folder / "config.json").exists()
        return asyncio.run(reinforce(job, folder, resume=resume, on_step=self.check_time))

    def grpo(self, seed: int) -> grpo.GRPOConfig:
        plan = self.plan
        return grpo.GRPOConfig(
            steps=plan.grpo_steps,
            groups=plan.groups,
            group_size=plan.group_size,
            updates=1,
            lr=plan.grpo_lr,
            warmup=plan.grpo_steps // 10,
            max_turns=plan.max_turns,
            max_new=plan.max_new,
            micro_batch=plan.micro_batch,
            seed=seed,
            save_every=5,
        )

    def load(self, model: Path) -> Policy:
        policy = Policy.load(model, dtype=self.plan.dtype, device=self.plan.device)  # type: ignore[arg-type]
        policy.model.eval()
        return policy

    def evaluate(self, model: Path, stage: str, seed: int) -> None:
        name = f"seed-{seed}/{stage}.jsonl"
        begun = [
            episode
            for gym in self.plan.gyms
            for episode in starts(chosen_tasks([gym], "test", self.plan.test_tasks), seed=seed, max_turns=self.plan.max_turns)
        ]
        done = self.run.index(name)
        if not all(e.key in done for e in begun):
            agent = PolicyAgent(self.load(model), max_new=self.plan.max_new, seed=seed)
            asyncio.run(play_recorded(begun, agent, self.cast, self.run, name=name, on_end=self.check_time))

    def speed(self, model: Path) -> dict[str, Any]:
        """Tokens a second, share of peak and memory, of rollouts and of updates."""
        plan = self.plan
        policy = Policy.load(model, dtype=plan.dtype if plan.lora else "float32", device=plan.device)  # type: ignore[arg-type]
        policy.prepare(plan.dtype, self.lora)  # type: ignore[arg-type]
        tasks = [task for gym in plan.gyms for task in chosen_tasks([gym], "train", None)]
        config, optimizer = replace(self.grpo(0), warmup=0), sft.adamw(policy, 1e-9)
        found: dict[str, list[dict[str, float]]] = {"rollout": [], "training": []}
        for number in range(ROUNDS + 1):
            self.check_time()
            _forget_peak()
            began = _now()
            played = asyncio.run(rollouts.rollout(policy, rollouts.draw(tasks, number, config), self.cast, config, number))
            middle, memory = _now(), _peak_gb()
            episodes = _unequal([e for e in played if e.stop != "error" and e.turns])
            _forget_peak()
            before = _now()
            grpo.update(policy, optimizer, episodes, replace(config, lr=1e-9), number)
            ended = _now()
            if number:
                found["rollout"].append(_figures(policy, episodes, middle - began, memory, 1.0))
                found["training"].append(_figures(policy, episodes, ended - before, _peak_gb(), 2.0 if plan.lora else 3.0))
        names = ("tokens_per_s", "written_per_s", "tflops", "memory_gb")
        out: dict[str, Any] = {w: {n: median(r[n] for r in rounds) for n in names} for w, rounds in found.items()}
        return out | {"device": _device(policy), "parameters": sum(p.numel() for p in policy.model.parameters())}


def _unequal(episodes: Sequence[Episode]) -> list[Episode]:
    """With rewards that differ within each group, so that an update leaves none out."""
    return [replace(e, turns=(*e.turns[:-1], replace(e.turns[-1], reward=float(i % 2)))) for i, e in enumerate(episodes)]


def _figures(policy: Policy, episodes: Sequence[Episode], seconds: float, memory_gb: float, passes: float) -> dict[str, float]:
    """What one round came to.

    Args:
        passes: what is computed, in forward passes.
    """
    config = policy.model.config
    head = config.hidden_size * config.vocab_size
    body = sum(p.numel() for p in policy.model.parameters()) - head * (1 if config.tie_word_embeddings else 2)
    read = written = work = 0.0
    for e in episodes:
        tokens = [turn.action.tokens for turn in e.turns if turn.action.tokens]
        length, own = sum(len(t.context) + len(t.ids) for t in tokens), sum(len(t.ids) for t in tokens)
        read, written = read + length, written + own
        attention = 2 * config.num_hidden_layers * config.num_attention_heads * _head_dim(config) * length  # half of all pairs
        work += passes * (length * (2 * body + attention) + own * 2 * head)
    return {
        "tokens_per_s": read / seconds,
        "written_per_s": written / seconds,
        "tflops": work / seconds / 1e12,
        "memory_gb": memory_gb,
    }


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_gb() -> float:
    """Of the device's memory; without a GPU, of this process since it began."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def _device(policy: Policy) -> str:
    return torch.cuda.get_device_name() if policy.device.type == "cuda" else "CPU"


def show(bench: Bench, peak_tflops: float | None) -> dict[str, Any]:
    """Print what is there so far, and return it."""
    plan, scores = bench.plan, dict[str, Any]()
    print(f"\n{'share of the best score':24}" + "".join(f"{gym:>26}" for gym in plan.gyms))
    for stage in STAGES:
        cells = []
        for gym in plan.gyms:
            runs, invalid = list[float](), list[float]()
            for seed in range(plan.seeds):
                episodes = [
                    e for e in bench.run.episodes(f"seed-{seed}/{stage}.jsonl") if e.stop != "error" and e.task.gym == gym
                ]
                if len(episodes) == len(chosen_tasks([gym], "test", plan.test_tasks)):
                    runs.append(sum(map(share, episodes)) / len(episodes))
                    turns = [turn.label == "invalid" for e in episodes for turn in e.turns]
                    invalid.append(sum(turns) / len(turns))
            found = runs_interval(runs)
            bounds = [x if math.isfinite(x) else None for x in (found.mean, found.low, found.high)]
            scores[f"{stage}/{gym}"] = {"mean, low, high": bounds, "seeds": found.n, "invalid": invalid}
            cells.append(f"{found} {sum(invalid) / len(invalid):4.0%}" if runs else "not done yet")
        print(f"{stage:24}" + "".join(f"{cell:>26}" for cell in cells))
    print(f"means of {plan.seeds} seeds [95% over seeds], and the share of invalid actions")
    results: dict[str, Any] = {"plan": as_dict(plan), "scores": scores}
    file = bench.folder / "speed.json"
    if file.exists():
        speed = json.loads(file.read_text("utf-8"))
        peak = peak_tflops or next((p for part, p in PEAK_TFLOPS.items() if part in speed["device"]), None)
        trained = "LoRA" if plan.lora else "all weights"
        print(f"\n{speed['device']}, {speed['parameters'] / 1e6:.1f}M parameters, {plan.dtype}, {trained}")
        print(f"{'':12}{'tokens / s':>12}{'written / s':>13}{'TFLOP / s':>11}{'share of peak':>15}{'memory':>10}")
        for what in ("rollout", "training"):
            s = speed[what]
            of_peak = f"{s['tflops'] / peak:.2%}" if peak else "no peak known"
            rates = f"{s['tokens_per_s']:12,.0f}{s['written_per_s']:13,.0f}{s['tflops']:11.3f}"
            print(f"{what:12}{rates}{of_peak:>15}{s['memory_gb']:7.2f} GB")
        results["speed"] = speed | {"peak_tflops": peak}
        if speed["device"] == "CPU":
            print("NOT MEASURED ON A GPU: these figures show that the code runs, and nothing else.")
    bench.run.write_json("results.json", results)
    print(f"\n{bench.folder / 'results.json'}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="SmolLM2-135M on the built-in gyms on one GPU.")
    parser.add_argument("--out", type=Path, help="default: runs/gpu, or runs/gpu-dry")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many; the same command goes on")
    parser.add_argument("--dry-run", action="store_true", help="a tiny model and a few steps on a CPU")
    parser.add_argument("--peak-tflops", type=float, help="of the device, where the table here does not know it")
    parser.add_argument("--model", help="folder of a causal LM; default: runs/smollm2")
    parser.add_argument("--gyms", nargs="+")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    for name in (
        "seeds",
        "sft-steps",
        "grpo-steps",
        "groups",
        "group-size",
        "test-tasks",
        "max-turns",
        "max-new",
        "micro-batch",
        "lora",
    ):
        parser.add_argument(f"--{name}", type=int)
    for name in ("sft-lr", "grpo-lr"):
        parser.add_argument(f"--{name}", type=float)
    args = vars(parser.parse_args())
    began = time.monotonic()
    dry, out, minutes, peak = (args.pop(name) for name in ("dry_run", "out", "minutes", "peak_tflops"))
    given = {name: tuple(value) if name == "gyms" else value for name, value in args.items() if value is not None}
    plan = replace(DRY if dry else Plan(), **given)
    if plan.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU. Try `python benchmarks/gpu.py --dry-run`.")
    set_threads(1)
    bench = Bench(plan, out or Path("runs/gpu-dry" if dry else "runs/gpu"), began + 60 * minutes)
    done = True
    try:
        bench.all()
    except TimeUp:
        done = False
    show(bench, peak)
    print("All is done." if done else "Out of time; the same command goes on.")


if __name__ == "__main__":
    main()
