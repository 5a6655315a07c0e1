"""Chat templates of several families, and a tokenizer for them."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from userrl.agents.policy import Policy

SPECIAL = ["<|pad|>", "<|im_end|>", "<|im_start|>"]

CHATML = """\
{%- for m in messages -%}
{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""Knows no tools."""

TRIMMING = CHATML.replace("m.content", "(m.content | trim)")
"""Trims every content, line breaks included."""

QWEN = """\
{%- set ns = namespace(last=0) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- if tools -%}
{{ '<|im_start|>system\\n' + messages[0].content + '\\n\\n# Tools\\n<tools>' }}
{%- for t in tools -%}{{ '\\n' + (t | tojson) }}{%- endfor -%}
{{ '\\n</tools><|im_end|>\\n' }}
{%- endif -%}
{%- for m in messages -%}
{%- if m.role == 'tool' -%}
{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}
{{ '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{ '<|im_end|>\\n' }}{%- endif -%}
{%- elif m.role == 'assistant' -%}
{{ '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.last and loop.last -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}
{%- if m.content -%}{{ m.content }}{%- endif -%}
{%- for call in m.tool_calls or [] -%}
{{ '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments if call.function.arguments is string else (call.function.arguments | tojson) -}}
{{ '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- elif m.role == 'user' or not tools -%}
{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""Of Qwen3's kind: tools, native calls, results as a user's turn, an empty thought before a last answer."""

MARKED = CHATML.replace(
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}",
    "{{ '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant' -%}{% generation %}{{ m.content + '<|im_end|>' }}"
    "{% endgeneration %}{%- else -%}{{ m.content + '<|im_end|>' }}{%- endif -%}{{ '\\n' }}",
)
"""The same text as CHATML, with the marks by which TRL finds what the assistant wrote."""

LATE_END = CHATML.replace("m.content + '<|im_end|>", "m.content + '\\n<|im_end|>")
"""Ends a reply with a line break that no rollout wrote."""

_LINE = "{{ '<|im_start|>' + m.role"
FORGETFUL = CHATML.replace(_LINE, "{%- if m.role == 'tool' and not loop.last -%}{%- continue -%}{%- endif -%}" + _LINE)
"""Leaves out the results of earlier turns."""


def tokenizer(template: str) -> Any:
    """Byte-level BPE that has learned a few words."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["What is the date of it, and where will it be? It is on Friday night at my home."], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|pad|>")
    fast.chat_template = template
    return fast


def policy(template: str) -> Policy:
    """Random weights behind such a tokenizer."""
    made = tokenizer(template)
    torch.manual_seed(0)
    ends = {"bos_token_id": None, "eos_token_id": made.eos_token_id, "pad_token_id": made.pad_token_id}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16}
    return Policy(Qwen3ForCausalLM(Qwen3Config(vocab_size=len(made), intermediate_size=16, **sizes, **ends)), made)
