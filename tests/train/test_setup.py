"""How a policy is held while it is trained: adapters, precision, devices, and models of other families."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from userrl.agents.policy import Device, LoRA, Policy, PolicyAgent, chosen_device
from userrl.core import Tokens
from userrl.errors import ConfigError
from userrl.gyms.base import gym_of, make
from userrl.rollout import run, starts
from userrl.train import grpo, sft
from userrl.train.batch import batch, logprobs

Corpus = Sequence[Sequence[Tokens]]
GYM = make("intention")
INST = """\
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{ '[SYS]' + m.content + '[/SYS]' }}
{%- elif m.role == 'assistant' -%}{{ m.content + eos_token }}
{%- else -%}{{ '[INST]' + m.content + '[/INST]' }}{%- endif -%}
{%- endfor -%}
"""
"""A template of another family: no markup around replies, no tools, no generation prompt."""


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in policy.model.state_dict().items()}


def moved(policy: Policy, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in policy.model.state_dict().items() if not torch.equal(value, before[name])}


def trained(policy: Policy, corpus: Corpus, **fields: float) -> Policy:
    sft.train(policy, corpus, replace(sft.SFTConfig(steps=3, lr=1e-2, warmup=0), **fields))  # type: ignore[arg-type]
    return policy


def test_an_adapter_learns_and_no_other_weight_does(untrained: Policy, corpus: Corpus) -> None:
    plain = logprobs(untrained, batch([corpus[0]], untrained.eos))[0].detach()
    untrained.prepare("float32", LoRA(r=2))
    b = batch([corpus[0]], untrained.eos)
    assert torch.equal(logprobs(untrained, b)[0].detach(), plain), "a new adapter changes nothing"
    before = weights(untrained)
    trained(untrained, corpus)
    changed = moved(untrained, before)
    assert changed and all("lora_" in name for name in changed)
    after = logprobs(untrained, b)[0].detach()
    assert not torch.allclose(after, plain, atol=1e-3)
    with untrained.without_adapter():
        assert torch.equal(logprobs(untrained, b)[0].detach(), plain)
    untrained.merge()
    assert torch.allclose(logprobs(untrained, b)[0].detach(), after, atol=1e-4)


def test_targets_that_no_module_has_are_refused(untrained: Policy) -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets is 'nowhere'.*all-linear"):
        untrained.prepare("float32", LoRA(r=2, targets="nowhere"))


@pytest.mark.parametrize(("lora", "frozen"), [(LoRA(), torch.float32), (LoRA(r=2), torch.bfloat16)])
def test_what_learns_is_fp32_though_the_policy_computes_in_bfloat16(
    untrained: Policy, corpus: Corpus, lora: LoRA, frozen: torch.dtype
) -> None:
    untrained.prepare("bfloat16", lora)
    assert {p.dtype for p in untrained.model.parameters() if p.requires_grad} == {torch.float32}
    assert untrained.model.get_input_embeddings().weight.dtype == frozen and untrained.dtype == torch.bfloat16
    before = weights(untrained)
    trained(untrained, corpus, lr=1e-6)
    assert moved(untrained, before), "a small update is not lost"


@pytest.mark.parametrize("lora", [LoRA(), LoRA(r=2)])
def test_play_and_training_agree_in_bfloat16(policy: Policy, lora: LoRA) -> None:
    policy.prepare("bfloat16", lora)
    episodes = run(starts(GYM.tasks("train")[:4], max_turns=3), PolicyAgent(policy, max_new=24), GYM.cast())
    sequences = [[t.action.tokens for t in e.turns if t.action.tokens] for e in episodes]
    b = batch(sequences, policy.eos)
    with torch.no_grad():
        now, _ = logprobs(policy, b)
    assert (now - b.old[b.mask]).abs().mean() < 0.02


@pytest.mark.parametrize("lora", [LoRA(), LoRA(r=2)])
def test_computing_activations_twice_changes_no_gradient(untrained: Policy, corpus: Corpus, lora: LoRA, tmp_path: Path) -> None:
    untrained.save(tmp_path)
    calls: list[int] = []

    def gradients(twice: bool) -> list[torch.Tensor]:
        policy = Policy.load(tmp_path)
        policy.prepare("float32", lora, gradient_checkpointing=twice)
        policy.learning(dropout=False)
        layer = next(m for name, m in policy.model.named_modules() if name.endswith("layers.0.self_attn"))
        layer.register_forward_hook(lambda *_: calls.append(twice))
        logprobs(policy, batch(corpus[:3], policy.eos))[0].mean().backward()
        return [p.grad for p in policy.model.parameters() if p.grad is not None]

    once, twice = gradients(False), gradients(True)
    assert len(once) == len(twice) > 0 and all(torch.allclose(a, b, atol=1e-7) for a, b in zip(once, twice, strict=True))
    assert calls == [False, True, True]


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device("auto") == chosen_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        chosen_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    names: list[Device] = ["auto", "cuda", "cpu"]
    assert [chosen_device(name).type for name in names] == ["cuda", "cuda", "cpu"]


@pytest.mark.filterwarnings("ignore:Nothing was learned")
@pytest.mark.parametrize("lora", [LoRA(), LoRA(r=2)])
def test_a_llama_with_a_template_of_its_own_is_fine_tuned_and_reinforced(untrained: Policy, tmp_path: Path, lora: LoRA) -> None:
    tokenizer = untrained.tokenizer
    before, tokenizer.chat_template = tokenizer.chat_template, INST
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Policy(LlamaForCausalLM(config), tokenizer).save(tmp_path / "llama")
    tokenizer.chat_template = before
    policy = Policy.load(tmp_path / "llama")
    policy.prepare("float32", lora)
    experts = run(starts(GYM.tasks("train")[:16], max_turns=2), GYM.expert(0.8), GYM.cast())
    corpus = [policy.tokens(e, gym_of(e)) for e in experts]
    losses: list[float] = []
    config_sft = sft.SFTConfig(steps=40, lr=2e-2, warmup=2)
    sft.train(policy, corpus, config_sft, on_step=lambda _, loss: losses.append(loss))
    assert losses[-1] < (0.98 if lora.r else 0.7) * losses[0]  # an adapter of random weights can do little
    start = weights(policy)
    settings = grpo.GRPOConfig(steps=2, groups=3, group_size=4, updates=1, warmup=0, lr=1e-2, max_turns=2, max_new=80, kl=0.01)
    steps: list[grpo.Step] = []

    async def note(step: grpo.Step) -> None:
        steps.append(step)

    asyncio.run(grpo.train(policy, GYM.tasks("train")[:6], GYM.cast(), settings, on_step=note))
    assert all(s.groups == 3 for s in steps)
    assert moved(policy, start) or all(s.skipped == 3 for s in steps)
    policy.merge()
    policy.save(tmp_path / "out")
    assert Policy.load(tmp_path / "out").model.config.model_type == "llama"
