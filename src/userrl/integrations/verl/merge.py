"""From a checkpoint of verl to the folder of a model, as `userrl eval` reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from userrl.agents.chat import ChatFormat
from userrl.errors import ConfigError, DataError, StoreError, needs

SHARDS = "model_world_size_*_rank_*.pt"
ADAPTER = "lora_adapter"
"""Folder in which verl leaves the low-rank weights apart from the others."""
LINES = 15
"""Of verl's output, shown when it fails."""


def merge(checkpoint: Path, folder: Path, template: Mapping[str, Any] | None = None) -> Path:
    """Put the shards of an FSDP checkpoint together, LoRA folded in, and write them as one Hugging Face model.

    Args:
        checkpoint: `global_step_N` of verl's run, or `actor` in it.
        folder: new or empty.
        template: settings of the chat template that training used (`data.apply_chat_template_kwargs`). They are written into
            the model's template, so that whoever serves the model writes what it was trained on.

    Raises:
        DataError: there is no such checkpoint, or verl cannot merge it.
        StoreError: `folder` holds something already.
        ConfigError: `template` holds what cannot be written into a template.
    """
    preamble = _preamble(template or {})
    actor = checkpoint / "actor" if (checkpoint / "actor").is_dir() else checkpoint
    if not any(actor.glob(SHARDS)):
        raise DataError(f"{actor} holds no {SHARDS}; expected a checkpoint of verl's, e.g. runs/verl/NAME/global_step_20.")
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} holds something already; choose a new folder with --out.")
    with needs("verl", "Merging a checkpoint of verl's"):
        from transformers import AutoTokenizer
    options = ["--backend", "fsdp", "--local_dir", str(actor), "--target_dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "verl.model_merger", "merge", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-LINES:])
        raise DataError(f"verl cannot merge {actor} (status {done.returncode}). Its last lines:\n{tail}")
    if (folder / ADAPTER).is_dir():
        _fold_in(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    ChatFormat(tokenizer)  # which a player of the model will need
    if preamble:
        tokenizer.chat_template = preamble + tokenizer.chat_template
        tokenizer.save_pretrained(folder)
    return folder


def _preamble(settings: Mapping[str, Any]) -> str:
    """Text before a chat template that fixes its settings."""
    for name, value in settings.items():
        if not name.isidentifier() or not isinstance(value, bool | int | float | str):
            raise ConfigError(
                f"The template setting {name!r} is {value!r:.60}; expected a name and a text, a number or a boolean."
            )
    return "".join(f"{{%- set {name} = {json.dumps(value)} -%}}" for name, value in settings.items())


def _fold_in(folder: Path) -> None:
    """Add the low-rank weights to the others."""
    with needs("verl", "Merging a checkpoint with LoRA"):
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
    base = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True, trust_remote_code=False)
    adapter = json.loads((folder / ADAPTER / "adapter_config.json").read_text("utf-8"))
    if not adapter.get("lora_alpha"):
        raise DataError(
            f"{folder / ADAPTER} has no lora_alpha, without which the weights' size is not known; see verl's checkpoint."
        )
    PeftModel.from_pretrained(base, folder / ADAPTER).merge_and_unload().save_pretrained(folder)
