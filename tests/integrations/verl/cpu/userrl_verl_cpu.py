"""For tests only: lets verl's trainer run as it is on processor cores, with a tiny policy.

verl trains on accelerators and samples from vLLM, SGLang or TensorRT-LLM. Loaded in every process by
VERL_USE_EXTERNAL_MODULES, this adds a platform "cpu" and an inference server "userrl_cpu", which samples from the weights
that the trainer pushes to it. Nothing of the plug-in knows of it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import types
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from torch.distributed import distributed_c10d
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl.plugin.platform import platform_manager
from verl.plugin.platform.platform_cuda import PlatformCUDA
from verl.workers.rollout import base
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput

SERVER = "userrl_cpu"
LOG = "USERRL_CPU_LOG"
"""Environment variable: a file to which each push of weights is written as a line of JSON."""
LONGEST = "USERRL_CPU_LONGEST"
"""Environment variable: tokens of one reply at most."""


class _Device(types.ModuleType):
    """`torch.cpu` with what verl asks of `torch.cuda` besides."""

    def __getattr__(self, name: str) -> Any:
        if name in ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"):
            return lambda *_, **__: 0
        if name == "mem_get_info":
            return lambda *_, **__: (2**33, 2**34)
        if name == "get_device_name":
            return lambda *_, **__: "cpu"
        if name == "get_rng_state":
            return lambda *_, **__: torch.get_rng_state()
        if name in ("empty_cache", "ipc_collect", "manual_seed", "manual_seed_all", "set_rng_state", "reset_peak_memory_stats"):
            return lambda *_, **__: None
        return getattr(torch.cpu, name)


DEVICE = _Device("userrl_cpu_device")


def _nothing(*_: Any, **__: Any) -> None:
    """Where a GPU would be set up, waited for or cleared."""


@platform_manager.PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformCUDA):
    """Cores in place of GPUs. Ray is told that it has "GPUs", so that verl's placement works as it is."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = DEVICE
    set_device = synchronize = manual_seed = manual_seed_all = set_allocator_settings = empty_cache = _nothing
    profiler_start = profiler_stop = cudart = _nothing

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def is_ipc_supported(self) -> bool:
        return False

    def nvtx_range(self, msg: str) -> Any:
        return nullcontext()


def _one_backend() -> None:
    """verl asks torch for "cpu:gloo,<device>:<its backend>", which names the cores twice here."""
    made = distributed_c10d.BackendConfig.__init__

    def init(self: Any, backend: Any) -> None:
        made(self, distributed_c10d.Backend("gloo") if str(backend) == "cpu:gloo,cpu:gloo" else backend)

    distributed_c10d.BackendConfig.__init__ = init  # type: ignore[method-assign]


def _note(line: dict[str, Any]) -> None:
    if path := os.environ.get(LOG):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@dataclass
class _Request:
    ids: list[int]
    limit: int
    temperature: float
    reply: asyncio.Future[tuple[list[int], list[float]]]


class Server:
    """Samples replies, those asked for at the same time as one batch. One Ray actor stands for one engine of vLLM."""

    def __init__(self, rank: int, folder: str) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(rank)
        self.rank, self.step = rank, 0
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.eos: int = AutoTokenizer.from_pretrained(folder).eos_token_id
        self.waiting: list[_Request] = []
        self.working: asyncio.Task[None] | None = None

    async def load(self, state: dict[str, torch.Tensor], step: int | None) -> None:
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        lost = [name for name in missing if name != "lm_head.weight"]  # which is the embedding
        self.step = self.step if step is None else step
        _note({"rank": self.rank, "step": step, "tensors": len(state), "missing": lost, "unexpected": unexpected})

    async def generate(self, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any) -> TokenOutput:
        limit = min(int(os.environ.get(LONGEST, "64")), sampling_params["max_tokens"])
        reply: asyncio.Future[tuple[list[int], list[float]]] = asyncio.get_running_loop().create_future()
        self.waiting.append(_Request(list(prompt_ids), limit, float(sampling_params["temperature"]), reply))
        if self.working is None or self.working.done():
            self.working = asyncio.create_task(self.work())
        ids, logprobs = await reply
        return TokenOutput(token_ids=ids, log_probs=logprobs, stop_reason="completed", extra_fields={"global_steps": self.step})

    async def work(self) -> None:
        while self.waiting:
            await asyncio.sleep(0.02)  # lets others join the batch
            heat = self.waiting[0].temperature
            batch = [r for r in self.waiting if r.temperature == heat]
            self.waiting = [r for r in self.waiting if r.temperature != heat]
            try:
                replies = await asyncio.to_thread(self.sample, batch, heat)
            except Exception as error:  # noqa: BLE001 - handed to everyone who waits for this batch
                for request in batch:
                    request.reply.set_exception(error)
                continue
            for request, reply in zip(batch, replies, strict=True):
                request.reply.set_result(reply)

    @torch.inference_mode()
    def sample(self, batch: list[_Request], temperature: float) -> list[tuple[list[int], list[float]]]:
        """Replies of at most so many ids as each request allows, with their log-probabilities."""
        width = max(len(r.ids) for r in batch)
        ids = torch.full((len(batch), width), self.eos)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for row, request in enumerate(batch):
            ids[row, width - len(request.ids) :] = torch.tensor(request.ids)
            mask[row, width - len(request.ids) :] = 1
        how: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        out = self.model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=max(r.limit for r in batch),
            eos_token_id=self.eos,
            pad_token_id=self.eos,
            return_dict_in_generate=True,
            output_logits=True,
            **how,
        )
        new = out.sequences[:, width:]
        logprobs = torch.log_softmax(torch.stack(out.logits, 1) / (temperature or 1.0), -1)
        chosen = logprobs.gather(2, new[:, :, None])[:, :, 0].tolist()
        replies = []
        for row, request in enumerate(batch):
            written = new[row].tolist()
            end = min(request.limit, written.index(self.eos) + 1 if self.eos in written else len(written))
            replies.append((written[:end], chosen[row][:end]))
        return replies

    async def wake_up(self, *_: Any, **__: Any) -> None:
        """Nothing sleeps here."""

    sleep = abort_all_requests = resume_generation = clear_kv_cache = release_kv_cache = resume_kv_cache = wake_up


def _name(rank: int) -> str:
    return f"{SERVER}_{rank}"


class CPUReplica(RolloutReplica):  # type: ignore[misc]  # Any here
    async def launch_servers(self) -> None:
        options = {"name": _name(self.replica_rank), "num_cpus": 0, "max_concurrency": 512}
        server = ray.remote(Server).options(**options).remote(self.replica_rank, self.model_config.path)
        self.servers, self._server_handle, self._server_address = [server], server, f"local:{self.replica_rank}"


class CPURollout(BaseRollout):  # type: ignore[misc]  # Any here
    async def resume(self, tags: list[str]) -> None:
        """Nothing sleeps here."""

    async def release(self) -> None:
        """Nothing is freed here."""

    async def update_weights(
        self, weights: Any, wire_format: str = "named_tensors", global_steps: int | None = None, **_: Any
    ) -> None:
        pairs = [pair async for pair in weights] if inspect.isasyncgen(weights) else list(weights)
        state = {name: tensor.detach().cpu().float().clone() for name, tensor in pairs}
        await ray.get_actor(_name(int(os.environ["RANK"]))).load.remote(state, global_steps)


platform_manager._current_platform = PlatformCPU()
os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")  # verl's FSDP engine is registered for accelerators alone
_one_backend()
base._ROLLOUT_REGISTRY[(SERVER, "async")] = f"{__name__}.CPURollout"
RolloutReplicaRegistry.register(SERVER, lambda: CPUReplica)
