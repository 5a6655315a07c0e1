"""A checkpoint of verl as a model: LoRA folded in, the chat template's settings written down, mistakes named."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from verl.model_merger.base_model_merger import BaseModelMerger

from userrl.agents.policy import Policy
from userrl.errors import ConfigError, DataError, StoreError
from userrl.gyms.base import make
from userrl.integrations.verl import merge as module
from userrl.integrations.verl.merge import ADAPTER, merge
from userrl.rollout import starts

GYM = make("intention")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """What looks like one from outside."""
    actor = tmp_path / "global_step_2" / "actor"
    actor.mkdir(parents=True)
    (actor / "model_world_size_2_rank_0.pt").touch()
    return actor.parent


def merged_by_verl(policy: Policy, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> list[list[str]]:
    """Put a stand-in in verl's place, which writes `policy`; returns the commands it was given."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        if not status:
            policy.save(Path(command[-1]))
        return subprocess.CompletedProcess(command, status, "loading\nno such shard\n")

    monkeypatch.setattr(module.subprocess, "run", run)
    return commands


def test_settings_of_the_template_are_written_into_it(
    checkpoint: Path, tmp_path: Path, untrained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinks = "{%- if think is defined and think is false -%}{{ '(no thoughts) ' + mark }}{%- endif -%}"
    untrained.tokenizer.chat_template = thinks + untrained.tokenizer.chat_template
    commands = merged_by_verl(untrained, monkeypatch)
    assert merge(checkpoint, tmp_path / "out", {"think": False, "mark": 'a"b'}) == tmp_path / "out"
    tokenizer = Policy.load(tmp_path / "out").tokenizer
    talk = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(talk, tokenize=False).startswith('(no thoughts) a"b')
    assert not untrained.tokenizer.apply_chat_template(talk, tokenize=False).startswith("(no thoughts)")
    assert [command[-1] for command in commands] == [str(tmp_path / "out")]
    assert str(checkpoint / "actor") in commands[0]


@pytest.mark.parametrize("settings", [{"a b": 1}, {"x -%}{{ 1": 1}, {"x": None}, {"x": [1]}])
def test_what_cannot_stand_in_a_template_is_refused(checkpoint: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="template setting"):
        merge(checkpoint, tmp_path / "out", settings)


def test_a_folder_without_shards_or_one_that_is_taken_is_named(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no model_world_size"):
        merge(tmp_path / "none", tmp_path / "out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(StoreError, match="holds something already"):
        merge(checkpoint, tmp_path / "taken")


def test_when_verl_fails_its_last_lines_are_shown(
    checkpoint: Path, tmp_path: Path, untrained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged_by_verl(untrained, monkeypatch, status=3)
    with pytest.raises(DataError, match=r"status 3(.|\n)*no such shard"):
        merge(checkpoint, tmp_path / "out")


def adapted(policy: Policy, folder: Path, alpha: int) -> Any:
    """Write what verl leaves of a policy under LoRA: the base and, apart, the adapter. Returns the policy with both."""
    config = peft.LoraConfig(r=4, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    whole = peft.get_peft_model(copy.deepcopy(policy.model), config)
    torch.manual_seed(1)
    for name, weight in whole.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    state = {name: tensor.detach().clone() for name, tensor in whole.state_dict().items()}
    policy.save(folder)
    meta = {"r": 4, "lora_alpha": alpha, "task_type": "CAUSAL_LM"}
    merger = SimpleNamespace(config=SimpleNamespace(target_dir=str(folder)), _load_lora_train_meta=lambda: meta)
    assert BaseModelMerger.save_lora_adapter(merger, state) == str(folder / ADAPTER)
    return whole


def test_lora_is_folded_into_the_weights(tmp_path: Path, untrained: Policy) -> None:
    whole = adapted(untrained, tmp_path / "out", alpha=8).merge_and_unload().eval()
    module._fold_in(tmp_path / "out")
    loaded = Policy.load(tmp_path / "out").model.eval()
    ids = torch.tensor([untrained.first_context(next(starts(GYM.tasks("train"))), GYM)])
    with torch.no_grad():
        expected, got, before = (model(ids).logits for model in (whole, loaded, untrained.model.eval()))
    assert torch.allclose(got, expected, atol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)


def test_merging_a_checkpoint_with_lora_folds_it_in(
    checkpoint: Path, tmp_path: Path, untrained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    wholes: list[Any] = []

    def run(command: list[str], **_: Any) -> Any:
        wholes.append(adapted(untrained, Path(command[-1]), alpha=8))
        return subprocess.CompletedProcess(command, 0, "")

    monkeypatch.setattr(module.subprocess, "run", run)
    merged = Policy.load(merge(checkpoint, tmp_path / "out")).model.state_dict()
    expected = wholes[0].merge_and_unload().state_dict()
    assert expected.keys() == merged.keys()
    assert all(torch.allclose(merged[name].float(), weight, atol=1e-4) for name, weight in expected.items())
    assert any(not torch.allclose(merged[name], weight, atol=1e-2) for name, weight in untrained.model.state_dict().items())


def test_an_adapter_of_unknown_size_is_an_error_not_a_guess(tmp_path: Path, untrained: Policy) -> None:
    adapted(untrained, tmp_path / "out", alpha=8)
    config = tmp_path / "out" / ADAPTER / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), "lora_alpha": 0}), "utf-8")
    with pytest.raises(DataError, match="has no lora_alpha"):
        module._fold_in(tmp_path / "out")
