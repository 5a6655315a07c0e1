"""The local trainer against TRL's GRPOTrainer with a rollout function: same policy, tasks, episodes and updates.

    pip install -c constraints.txt trl
    python benchmarks/against_trl.py [--quick]

A tiny policy (0.4M parameters, fine-tuned on scripted experts) plays groups of 8 episodes of the intention gym; each step is one
optimizer update over all of them. TRL plays through its `rollout_func`, which calls our rollout: both sides play the very same
episodes, checked by their token counts. The learning rate is so low that the policy stays as it is, and no step differs from
another in length. What is compared is all the rest: from rewards to advantages, log-probabilities, loss, backward pass, update.
TRL runs in fp32 without a reference model, without gradient checkpointing, logging or saving, as it is fastest here.

One thread. The sides take turns; a side's first step of each round is left out, as it warms up. CPU time of the process is what
the ratio is made of (it does not count what other programs take); wall time is printed beside it.
Ends with exit code 1 where the local trainer plays and trains fewer episodes in a CPU second than TRL's.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig as TRLConfig
from trl import GRPOTrainer

from userrl.agents.policy import Policy, set_threads
from userrl.agents.tiny import Shape, new_policy
from userrl.core import Episode, Task
from userrl.gyms.base import make
from userrl.rollout import run, starts
from userrl.train import grpo, rollouts, sft

GYM, TURNS, NEW, GROUP = "intention", 6, 32, 8
BOUND = 1.0
Times = list[tuple[float, float]]
"""(CPU seconds, wall seconds) of each step."""


class Clock:
    """Notes what each step took, from the end of the last."""

    def __init__(self) -> None:
        self.times: Times = []
        self.last = (0.0, 0.0)

    def start(self) -> None:
        self.last = time.process_time(), time.perf_counter()

    def tick(self) -> None:
        now = time.process_time(), time.perf_counter()
        self.times.append((now[0] - self.last[0], now[1] - self.last[1]))
        self.last = now


def count(episodes: Sequence[Episode]) -> int:
    return sum(len(t.context) + len(t.ids) for e in episodes for turn in e.turns if (t := turn.action.tokens))


def ours(policy: Policy, tasks: Sequence[Task], config: grpo.GRPOConfig) -> tuple[Times, list[int]]:
    clock, tokens = Clock(), list[int]()

    async def note(step: grpo.Step) -> None:
        clock.tick()
        tokens.append(count(step.episodes))

    clock.start()
    asyncio.run(grpo.train(policy, tasks, make(GYM).cast(), config, on_step=note))
    return clock.times[1:], tokens


def row(episode: Episode) -> tuple[list[int], list[int], list[float], list[int]]:
    """Prompt ids, and of all that follows: ids, log-probabilities, 1 for the policy's own."""
    turns = [turn.action.tokens for turn in episode.turns if turn.action.tokens]
    ids, logprobs, mask = list[int](), list[float](), list[int]()
    for i, t in enumerate(turns):
        before = t.context if i else ()
        ids += [*before, *t.ids]
        logprobs += [0.0] * len(before) + list(t.logprobs)
        mask += [0] * len(before) + [1] * len(t.ids)
    return list(turns[0].context), ids, logprobs, mask


def theirs(policy: Policy, tasks: Sequence[Task], config: grpo.GRPOConfig) -> tuple[Times, list[int]]:
    clock, tokens, cast = Clock(), list[int](), make(GYM).cast()
    drawn = [task for number in range(config.steps) for task in rollouts.draw(tasks, number, config)]

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        number = trainer.state.global_step
        chosen = rollouts.draw(tasks, number, config)
        assert prompts == [task.id for task in chosen for _ in range(GROUP)]
        episodes = asyncio.run(rollouts.rollout(policy, chosen, cast, config, number))
        tokens.append(count(episodes))
        prompt, ids, logprobs, mask = zip(*map(row, episodes), strict=True)
        scores = [sum(e.rewards) for e in episodes]
        return {"prompt_ids": prompt, "completion_ids": ids, "logprobs": logprobs, "env_mask": mask, "score": scores}

    class Notes(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.start()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.tick()

    with tempfile.TemporaryDirectory() as folder:
        settings = TRLConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            max_steps=config.steps,
            per_device_train_batch_size=config.groups * GROUP,
            gradient_accumulation_steps=1,
            num_generations=GROUP,
            num_iterations=1,
            max_completion_length=TURNS * 128,
            beta=0.0,
            temperature=1.0,
            loss_type="bnpo",  # the mean over the batch's tokens, as ours
            epsilon=config.clip_low,
            epsilon_high=config.clip_high,
            learning_rate=config.lr,
            adam_beta2=0.95,
            max_grad_norm=config.clip_norm,
            shuffle_dataset=False,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=lambda score, **_: score,
            args=settings,
            train_dataset=Dataset.from_dict({"prompt": [task.id for task in drawn]}),
            processing_class=policy.tokenizer,
            rollout_func=rollout,
            callbacks=[Notes()],
        )
        trainer.train()
    return clock.times[1:], tokens


def begin(steps: int) -> Policy:
    gym = make(GYM)
    experts = run(starts(gym.tasks("train")[:400], max_turns=TURNS), gym.expert(0.5), gym.cast())
    policy = new_policy(experts, Shape(), seed=0)
    data = [policy.tokens(e, gym) for e in experts]
    sft.train(policy, data, sft.SFTConfig(steps=steps, lr=2e-3))
    return policy


def main() -> None:
    parser = argparse.ArgumentParser(description="The local trainer against TRL's.")
    parser.add_argument("--quick", action="store_true", help="one round of a few small steps")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6, help="of a side in a round; the first is left out")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps, args.groups = 1, 3, 4
    set_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="torch|trl|transformers|accelerate")
    config = grpo.GRPOConfig(
        steps=args.steps, groups=args.groups, group_size=GROUP, updates=1, lr=1e-7, warmup=0, max_turns=TURNS, max_new=NEW
    )
    start, tasks = begin(60 if args.quick else 300), make(GYM).tasks("train")
    sides = {"local": ours, "TRL": theirs}
    times: dict[str, Times] = {name: [] for name in sides}
    tokens: dict[str, list[int]] = {name: [] for name in sides}
    for number in range(args.rounds):
        for name in sorted(sides, reverse=number % 2 == 1):
            policy = Policy(copy.deepcopy(start.model), start.tokenizer)
            more, read = sides[name](policy, tasks, config)
            times[name] += more
            tokens[name] += read
    episodes = args.groups * GROUP
    length = sum(tokens["local"]) / len(tokens["local"])
    print(f"{episodes} episodes of {TURNS} turns at most a step, {length:,.0f} tokens, one update, one thread")
    print(f"{'':8}{'steps':>6}{'CPU s a step':>14}{'episodes / CPU s':>18}{'wall s a step':>15}")
    found = {}
    for name, measured in times.items():
        cpu, wall = (median(column) for column in zip(*measured, strict=True))
        found[name] = {"steps": len(measured), "cpu_s": cpu, "episodes_per_cpu_s": episodes / cpu, "wall_s": wall}
        print(f"{name:8}{len(measured):6d}{cpu:14.3f}{episodes / cpu:18.1f}{wall:15.3f}")
    ratio = found["TRL"]["cpu_s"] / found["local"]["cpu_s"]
    wall_ratio = found["TRL"]["wall_s"] / found["local"]["wall_s"]
    print(
        f"local / TRL, episodes a CPU second: {ratio:.2f} (at least {BOUND:.0f} wanted); a second of wall time: {wall_ratio:.2f}"
    )
    if args.json:
        figures = {"ratio": ratio, "wall_ratio": wall_ratio, "torch": torch.__version__, **found}
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    if abs(sum(tokens["TRL"]) / sum(tokens["local"]) - 1) > 0.02:
        sys.exit("The sides did not play the same episodes: their token counts differ by more than 2%.")
    sys.exit(0 if ratio >= BOUND else 1)


if __name__ == "__main__":
    main()
