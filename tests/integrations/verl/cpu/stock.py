"""For tests and benchmarks only: stock `verl.trainer.main_ppo`, as it is, on processor cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FP32 = "{param_dtype: fp32, reduce_dtype: fp32, buffer_dtype: fp32}"
OVERRIDES = (
    "trainer.device=cpu",
    "trainer.val_before_train=false",
    "trainer.resume_mode=disable",
    "trainer.ray_wait_register_center_timeout=1200",
    "actor_rollout_ref.model.use_remove_padding=false",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
    "actor_rollout_ref.model.enable_gradient_checkpointing=false",
    "actor_rollout_ref.actor.strategy=fsdp2",
    "actor_rollout_ref.actor.use_torch_compile=false",
    "actor_rollout_ref.actor.fsdp_config.dtype=float32",
    f"+actor_rollout_ref.actor.fsdp_config.mixed_precision={FP32}",
    "actor_rollout_ref.rollout.name=userrl_cpu",
    "actor_rollout_ref.rollout.dtype=float32",
    "actor_rollout_ref.rollout.free_cache_engine=false",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "reward.num_workers=1",
    "data.dataloader_num_workers=0",
    "ray_kwargs.ray_init.num_cpus=16",
    "+ray_kwargs.ray_init.include_dashboard=false",
)
"""What a machine without a GPU needs, and nothing else."""


NOT_STARTED, TRIES = "The current node timed out during startup", 5
"""Ray gives its helper processes 15 seconds to start, which on a machine that does much else can be too few: tried again."""


def train(folder: Path, overrides: Sequence[str], *, ranks: int, timeout_s: float, reply: int = 64) -> list[dict[str, Any]]:
    """Train in a folder; returns the figures of each step as verl's logger "file" has them.

    Args:
        reply: tokens of one reply at most.

    Raises RuntimeError with the end of the output when verl fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "VERL_USE_EXTERNAL_MODULES": "userrl_verl_cpu",
        "VERL_FILE_LOGGER_PATH": str(folder / "metrics.jsonl"),
        "VERL_LOGGING_LEVEL": "WARN",
        "USERRL_CPU_LOG": str(folder / "pushed.jsonl"),
        "USERRL_CPU_LONGEST": str(reply),
        "WANDB_MODE": "disabled",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",  # Ray's 15 starves the workers on a machine that does anything else
    }
    where = ["--config-path=pkg://userrl.integrations.verl.conf", "--config-name=userrl_grpo"]
    places = [f"+ray_kwargs.ray_init.num_gpus={ranks}", f"trainer.n_gpus_per_node={ranks}", f"hydra.run.dir={folder / 'hydra'}"]
    command = [sys.executable, "-W", "ignore", "-m", "verl.trainer.main_ppo", *where, *OVERRIDES, *places, *overrides]
    for _ in range(TRIES):
        with (folder / "output.txt").open("w", encoding="utf-8") as out:
            done = subprocess.run(command, env=env, stdout=out, stderr=subprocess.STDOUT, timeout=timeout_s, check=False)
        if not done.returncode:
            return lines(folder / "metrics.jsonl")
        text = (folder / "output.txt").read_text("utf-8", errors="replace")
        if NOT_STARTED not in text:
            break
    raise RuntimeError(f"verl ended with status {done.returncode}:\n{text[-6000:]}")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
