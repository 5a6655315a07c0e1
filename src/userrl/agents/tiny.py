"""A small transformer of a stock architecture with a tokenizer made for the gyms: the demo's policy.

Its tokenizer is byte-level BPE trained on transcripts. Texts that never change within a gym (system message with
its tool, the scaffold of calls and results) are single tokens: same text, a third of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from userrl.agents.policy import Device, Policy, chosen_device
from userrl.core import Episode
from userrl.errors import needs
from userrl.gyms.base import gym_of
from userrl.render import call_text, opening, tool

with needs("local", "A local policy"):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

EOS, PAD = "<|im_end|>", "<|pad|>"
TEMPLATE = """\
{%- for m in messages -%}
{%- if m.role == 'tool' -%}
{{ '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif m.role == 'system' and tools -%}
{{ '<|im_start|>system\\n' + m.content + '\\nTool: ' + (tools[0] | tojson) + '<|im_end|>\\n' }}
{%- else -%}
{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""ChatML with calls and results in the form of Qwen's templates."""


@dataclass(frozen=True)
class Shape:
    """Size of the transformer."""

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 1
    feed_forward: int = 256
    window: int = 1024
    vocabulary: int = 1200


def train_tokenizer(episodes: Iterable[Episode], vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer for these episodes' gyms, learned from their texts."""
    episodes = list(episodes)
    texts: list[str] = []
    for episode in episodes:
        texts.append(episode.task.prompt)
        for turn in episode.turns:
            texts += [turn.action.text, turn.feedback]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD)
    fast.chat_template = TEMPLATE
    fast.add_tokens(_scaffold(fast, episodes))
    return fast


def _scaffold(tokenizer: PreTrainedTokenizerFast, episodes: Sequence[Episode]) -> list[str]:
    """The pieces of text that never change. A special token inside a piece would keep it from ever matching."""
    before, after = call_text("<choice>", "<content>").split("<choice>")
    middle, end = after.split("<content>")
    pieces = [before, middle, end, "<|im_start|>user\n", "\n<|im_start|>user\n", "\n<|im_start|>assistant\n"]
    pieces += ["\n<|im_start|>user\n<tool_response>\n", "\n</tool_response>"]
    for episode in {e.task.gym: e for e in episodes}.values():
        gym = gym_of(episode)
        text = tokenizer.apply_chat_template(opening(gym.system(episode.task), ""), tools=[tool(gym.actions)], tokenize=False)
        pieces.append(str(text).split(EOS)[0])
        pieces += list(gym.actions)
    return pieces


def new_policy(episodes: Sequence[Episode], shape: Shape, seed: int, device: Device = "cpu") -> Policy:
    """A policy with random weights and a tokenizer trained on these episodes."""
    tokenizer = train_tokenizer(episodes, shape.vocabulary)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.hidden // shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.window,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Policy(torch.nn.Module.to(Qwen3ForCausalLM(config), chosen_device(device)), tokenizer)
