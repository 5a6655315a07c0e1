"""What would go wrong with a run of verl, found before it starts: `userrl verl check`.

verl passes over a plug-in that fails to load, and some of its options change what the turns of an episode are; a run with
either trains on something else without a word. See docs/scale.md for the list.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from userrl.core import Query
from userrl.errors import SeatError, UserRLError, needs
from userrl.gyms.base import gym_of
from userrl.integrations.verl import data
from userrl.integrations.verl.settings import ESTIMATOR, LOOP, Play, plain, scheme_in, table
from userrl.pipeline import seats
from userrl.rollout import starts

CONFIG = "userrl_grpo"
RELEASES = ("0.9.1", "0.10")
"""The first release of verl that this is made for, and the first that it is not."""
HOLES = ("token_k1", "token_k2", "token_k3")
"""Modes of `rollout_rs` that drop single tokens, and so would make two turns of one."""
WITHOUT_FLASH = (
    "actor_rollout_ref.model.use_remove_padding=false +actor_rollout_ref.model.override_config.attn_implementation=sdpa"
)

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    """"note": nothing that keeps the run from being right, but worth knowing."""
    text: str


def check(overrides: Sequence[str] = ()) -> list[Finding]:
    """All that can be said of a run with these Hydra overrides on this machine.

    Raises MissingExtra without verl.
    """
    with needs("verl", "Checking a run of verl"):
        import hydra  # noqa: F401
    found = [*_installed(), *_registered()]
    try:
        config = composed(overrides)
    except Exception as error:  # noqa: BLE001 - Hydra's and omegaconf's errors have no common base
        return [*found, Finding("configuration", "wrong", f"Hydra cannot compose it: {error}")]
    found.append(_validated(config))
    found += options(config)
    found += _hardware(config)
    found += _earlier(config)
    chat = _model(config, found)
    found += _tasks(config, chat)
    found += _seats(config)
    return found


def composed(overrides: Sequence[str]) -> Any:
    """The configuration that verl will see."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("userrl.integrations.verl.conf", version_base=None):
        return compose(CONFIG, overrides=list(overrides))


def _installed() -> Iterator[Finding]:
    try:
        version = metadata.version("verl")
    except metadata.PackageNotFoundError:
        yield Finding("verl", "wrong", "It is not installed; pip install -c constraints-verl.txt -e '.[verl]'.")
        return
    numbers = [tuple(int(part) for part in v.split(".")[:3] if part.isdigit()) for v in (*RELEASES, version)]
    fits = numbers[0] <= numbers[2] < numbers[1]
    wanted = f"; expected at least {RELEASES[0]} and below {RELEASES[1]}, as much moves between its releases"
    yield Finding("verl", "ok" if fits else "wrong", f"version {version}{'' if fits else wanted}")
    if find_spec("transfer_queue"):
        yield Finding("TransferQueue", "ok", f"version {metadata.version('TransferQueue')}")
    else:
        yield Finding("TransferQueue", "wrong", "It is not installed, and verl does not require it; pip install TransferQueue.")


LOADED = """
import json, logging, sys
import verl
from verl.trainer.ppo import core_algos
from verl.experimental.agent_loop import agent_loop
print(json.dumps([sorted(map(str, core_algos.ADV_ESTIMATOR_REGISTRY)), sorted(agent_loop._agent_loop_registry)]))
"""
"""What each of verl's processes does: import verl, which loads the plug-in or silently does not."""


def _registered() -> Iterator[Finding]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED], capture_output=True, text=True, errors="replace", check=False
    )
    try:
        estimators, loops = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        yield Finding("plug-in", "wrong", f"verl cannot be imported in a fresh process: {last}")
        return
    if ESTIMATOR in estimators and LOOP in loops:
        yield Finding("plug-in", "ok", f"a fresh process has the agent loop {LOOP!r} and the estimator {ESTIMATOR!r}")
        return
    yield Finding("plug-in", "wrong", f"verl did not load it in a fresh process. {_why_not()}")


def _why_not() -> str:
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    if policy not in ("", "auto") and "userrl" not in policy.split(","):
        return f"VERL_USE_EXTERNAL_PLUGINS is {policy!r}; unset it, or add userrl."
    if not any(point.name == "userrl" for point in metadata.entry_points(group="verl.plugins")):
        return "userrl's entry point is not installed; install userrl again (pip install -e '.[verl]')."
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import userrl.integrations.verl.plugin"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return (done.stderr.strip().splitlines() or ["It loads on its own, so try again."])[-1]


def _validated(config: Any) -> Finding:
    """verl's own checks. That of a LoRA rank asks vLLM, so it is left out where there is none."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    said, model = "validate_config passes", config.actor_rollout_ref.model
    if model.lora_rank > 0 and not find_spec("vllm"):
        config = copy.deepcopy(config)
        config.actor_rollout_ref.model.lora_rank = 0
        said = f"{said}, but the LoRA rank of {model.lora_rank} was not looked at, as vLLM is not here"
    try:
        with redirect_stdout(StringIO()):
            validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    except Exception as error:  # noqa: BLE001 - whatever verl finds wrong, it says in its own way
        return Finding("verl's own check", "wrong", f"{type(error).__name__}: {error}")
    return Finding("verl's own check", "ok", said)


def options(config: Any) -> Iterator[Finding]:
    """The options that this plug-in needs, and those that would change what a turn or its reward is."""
    algorithm, actor_rollout = config.algorithm, config.actor_rollout_ref
    rollout, actor = actor_rollout.rollout, actor_rollout.actor
    correction = algorithm.get("rollout_correction") or {}
    modes = [mode.strip() for mode in str(correction.get("rollout_rs") or "").split(",")]
    holes = [mode for mode in modes if mode in HOLES]
    routed = bool(rollout.get("enable_rollout_routing_replay"))
    whole = config.data.max_prompt_length + config.data.max_response_length
    rules: list[tuple[str, bool, str]] = [
        ("trainer.use_v1", config.trainer.use_v1, "must be true: the older trainer knows no turn rewards"),
        (
            "algorithm.adv_estimator",
            algorithm.adv_estimator == ESTIMATOR,
            f"must be {ESTIMATOR}, or rewards are not credited to turns",
        ),
        ("rollout.agent.default_agent_loop", rollout.agent.default_agent_loop == LOOP, f"must be {LOOP}"),
        (
            "rollout.agent.agent_loop_config_path",
            not rollout.agent.agent_loop_config_path,
            "must be null: the plug-in registers its loop itself, and a file could put another in its place",
        ),
        (
            "algorithm.rollout_correction.rollout_rs",
            not holes,
            f"drops single tokens ({', '.join(holes)}), which makes two turns of one; use a mode of sequences (seq_...)",
        ),
        (
            "algorithm.use_kl_in_reward",
            not algorithm.use_kl_in_reward,
            "must be false: it would take a KL penalty off every turn's reward; set actor.use_kl_loss",
        ),
        ("rollout.n", rollout.n > 1, f"is {rollout.n}; a group needs at least 2 episodes to compare"),
        (
            "rollout.calculate_log_probs",
            bool(rollout.calculate_log_probs),
            "must be true: the difference between the sampler's and the trainer's probabilities is not known without",
        ),
        ("enable_rollout_routing_replay", not routed, "must be false: the agent loop does not pass on the experts' routing"),
        (
            "reward.reward_model.enable",
            not config.reward.reward_model.enable,
            "must be false: on the policy's own GPUs, a reward model's score takes the place of the turns' rewards",
        ),
        (
            "rollout.max_model_len",
            rollout.max_model_len is None or rollout.max_model_len >= whole,
            f"is {rollout.max_model_len}, but an episode may have data.max_prompt_length + data.max_response_length = {whole} "
            f"tokens; verl would cut replies short without a word",
        ),
        (
            "actor.ppo_max_token_len_per_gpu",
            not actor.use_dynamic_bsz or actor.ppo_max_token_len_per_gpu * actor.ulysses_sequence_parallel_size >= whole,
            f"is {actor.ppo_max_token_len_per_gpu}, less than a whole episode ({whole} tokens); verl would stop at the first one",
        ),
        (
            "actor_rollout_ref.hybrid_engine",
            bool(actor_rollout.hybrid_engine) or config.trainer.v1.trainer_mode != "separate_async",
            "must be true: without it, verl 0.9.1 breaks at the start on a line of its log (trainer_separate_async.py)",
        ),
        (
            "rollout.name",
            rollout.name != "sglang",
            "is sglang, whose transformers version verl 0.9 excludes; use vllm",
        ),
    ]
    broken = [Finding(what, "wrong", wrong) for what, fine, wrong in rules if not fine]
    yield from broken or [
        Finding("options", "ok", f"all {len(rules)} on which turns and their rewards depend are as they must be")
    ]
    tables: dict[str, Callable[[], object]] = {
        "userrl": lambda: table(Play, config, "userrl"),
        "algorithm.userrl": lambda: scheme_in(algorithm),
    }
    for where, read in tables.items():
        try:
            read()
            yield Finding(where, "ok", "all settings are known and in range")
        except UserRLError as error:
            yield Finding(where, "wrong", str(error))


def _hardware(config: Any) -> Iterator[Finding]:
    """GPUs, and the packages that a run on them needs. What a machine without GPUs lacks is a note: training runs elsewhere."""
    if config.trainer.device == "cpu":
        return
    import torch

    wanted, have = config.trainer.n_gpus_per_node, torch.cuda.device_count()
    fits = have >= wanted
    text = f"this machine has {have}; trainer.n_gpus_per_node is {wanted}"
    yield Finding("GPUs", "ok" if fits else "note", text if fits else f"{text}. Run the check again where training will run")
    for name, module, how in _needed(config):
        if not find_spec(module):
            yield Finding(name, "wrong" if have else "note", f"It is not installed here; where training will run: {how}.")


def _needed(config: Any) -> Iterator[tuple[str, str, str]]:
    """(name, module, how to install it) of each package that these settings need besides verl's own requirements."""
    rollout, model = config.actor_rollout_ref.rollout, config.actor_rollout_ref.model
    if rollout.name == "vllm":
        yield "vLLM", "vllm", "pip install 'verl[vllm]==0.9.1'"
    if model.override_config.get("attn_implementation", "flash_attention_2") == "flash_attention_2":
        yield "flash-attn", "flash_attn", f"pip install flash-attn==2.8.3 --no-build-isolation, or do without it: {WITHOUT_FLASH}"
    if config.trainer.v1.trainer_mode == "separate_async" and rollout.checkpoint_engine.backend == "nccl":
        yield "cupy", "cupy", "pip install 'verl[cupy-cu130]==0.9.1', by which verl sends weights from node to node"


def _earlier(config: Any) -> Iterator[Finding]:
    """A checkpoint from which verl would go on: it tells runs apart by their folder, not by their settings."""
    folder = Path(config.trainer.default_local_dir)
    newest = folder / "latest_checkpointed_iteration.txt"
    if config.trainer.resume_mode == "auto" and newest.is_file():
        step = newest.read_text("utf-8", "replace").strip()[:20]
        text = (
            f"the run goes on from step {step} in {folder}, whatever settings that had; name another with trainer.experiment_name"
        )
        yield Finding("earlier run", "note", text)


def _model(config: Any, found: list[Finding]) -> Any:
    """The model's chat format, if its tokenizer is at hand."""
    from omegaconf import OmegaConf
    from transformers import AutoTokenizer

    from userrl.agents.chat import ChatFormat

    model = config.actor_rollout_ref.model
    if OmegaConf.is_missing(model, "path"):
        found.append(Finding("model", "note", "not looked at; name it: actor_rollout_ref.model.path=MODEL"))
        return None
    settings = plain(config.data.get("apply_chat_template_kwargs")) or {}
    try:
        chat = ChatFormat(AutoTokenizer.from_pretrained(model.get("tokenizer_path") or model.path), settings)
        text = _continues(chat)
    except (OSError, ValueError, UserRLError) as error:
        away = "" if Path(model.path).is_dir() else f" Nothing is downloaded here; fetch it first: hf download {model.path}"
        found.append(Finding("model", "wrong", f"{model.path}: {error}{away}"))
        return None
    found.append(Finding("model", "wrong" if text else "ok", text or f"{model.path}: its chat template goes on turn by turn"))
    if "enable_thinking" in chat.tokenizer.chat_template and "enable_thinking" not in settings:
        found.append(
            Finding(
                "thinking",
                "note",
                "the model thinks before each reply unless data.apply_chat_template_kwargs.enable_thinking=false; its thoughts "
                "stay in the context and count towards data.max_response_length",
            )
        )
    return chat


def _continues(chat: Any) -> str:
    """What is wrong with a template, if a reply in it does not end with the eos token; else nothing."""
    probe = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "reply"}]
    text = chat.tokenizer.apply_chat_template(probe, tokenize=False)
    after = text.rpartition("reply")[2]
    eos = chat.tokenizer.eos_token
    if not after.startswith(eos):
        return f"a reply ends with {after[:20]!r} in its chat template, but its eos token is {eos!r}; they must be the same"
    if not chat.after_reply("f"):
        return "its chat template writes nothing between a reply and the next"
    return ""


def _tasks(config: Any, chat: Any) -> Iterator[Finding]:
    """The data files: every row's gym is here and takes the rules, and every prompt fits."""
    try:
        rules = table(Play, config, "userrl").rules
    except UserRLError:
        rules = {}  # said already
    for name in ("train_files", "val_files"):
        files = plain(config.data.get(name))
        for file in files if isinstance(files, list) else [files]:
            yield _file(f"data.{name}", Path(str(file)), config, rules, chat)


def _file(what: str, path: Path, config: Any, rules: Mapping[str, Any], chat: Any) -> Finding:
    longest, limit, counts = 0, int(config.data.max_prompt_length), dict[str, int]()
    try:
        for row in data.read(path):
            info = row.get("extra_info")
            task = data.task_of(info.get("task", "") if isinstance(info, Mapping) else "")
            if row.get("agent_name") != LOOP or not str(row.get("data_source", "")).startswith("userrl/"):
                return Finding(what, "wrong", f"{path} has rows of other loops; make it with `userrl verl data`.")
            counts[task.gym] = counts.get(task.gym, 0) + 1
            [start] = starts([task], rules=rules)
            gym = gym_of(start)
            if chat is not None:
                longest = max(longest, len(chat.first_context(start, gym)))
    except UserRLError as error:
        return Finding(what, "wrong", str(error))
    said = f"{path}: {', '.join(f'{count} of {gym}' for gym, count in counts.items())}"
    if longest > limit:
        return Finding(what, "wrong", f"{said}; the longest prompt has {longest} tokens, data.max_prompt_length is {limit}")
    return Finding(what, "ok", f"{said}; the longest prompt has {longest} tokens of {limit}" if chat is not None else said)


class _Word(BaseModel):
    word: str


def _seats(config: Any) -> Iterator[Finding]:
    """One question to the user's and the judge's models; of scripted ones, whether there are such."""
    try:
        settings = table(Play, config, "userrl")
    except UserRLError:
        return  # said already
    for role, spec in (("user", settings.user), ("judge", settings.judge)):
        for part in _each(spec) if "@" in spec else [spec]:
            yield asyncio.run(_asked(role, part, settings))


def _each(spec: str) -> list[str]:
    from userrl.llm.endpoint import parse_endpoints

    return [f"{endpoint.model}@{endpoint.url}" for endpoint, _ in parse_endpoints(spec)]


async def _asked(role: str, spec: str, settings: Play) -> Finding:
    user, judge = (spec, "scripted") if role == "user" else ("scripted", spec)
    query = Query(f"check.{role}", _Word, 'Reply with the JSON object {"word": "ready"}.', {})
    try:
        async with AsyncExitStack() as stack:
            cast = (await seats.cast(user, judge, stack, endpoints=settings.endpoints))("intention")
            if "@" not in spec:
                return Finding(role, "ok", spec)
            seat: Callable[[Query[_Word]], Any] = cast.user.answer if role == "user" else cast.judge.answer
            await seat(query)
    except (SeatError, UserRLError) as error:
        return Finding(role, "wrong", str(error))
    return Finding(role, "ok", f"{spec} answers, in the form asked for")
