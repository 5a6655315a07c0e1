"""From a GGUF file to the folder of a Hugging Face causal LM that `Policy.load` reads: weights, tokenizer, chat template."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from userrl.agents.policy import Policy
from userrl.errors import needs

with needs("gguf", "Reading a GGUF file"):
    import gguf  # noqa: F401 - transformers reads GGUF files through it
with needs("local", "A local policy"):
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

CHATML = """\
{%- if messages[0].role == 'system' -%}
{%- set system = messages[0].content -%}
{%- else -%}
{%- set system = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face' -%}
{%- endif -%}
{{- '<|im_start|>system\\n' + system -}}
{%- if tools -%}
{{- '\\n\\nYou may call these tools; each is described by a JSON schema:\\n<tools>' -}}
{%- for tool in tools -%}
{{- '\\n' + (tool | tojson) -}}
{%- endfor -%}
{{- '\\n</tools>\\nTo call one, write its name and its arguments as JSON between tags:\\n' -}}
{{- '<tool_call>\\n{"name": "the tool", "arguments": {"an argument": "its value"}}\\n</tool_call>' -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '\\n' if loop.index0 and messages[loop.index0 - 1].role == 'tool' else '<|im_start|>user\\n' -}}
{{- '<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}
{%- elif message.role != 'system' or not loop.first -%}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') -}}
{%- for call in message.tool_calls or [] -%}
{%- set called = call.function or call -%}
{%- set arguments = called.arguments if called.arguments is string else called.arguments | tojson -%}
{{- '\\n' if message.content or not loop.first -}}
{{- '<tool_call>\\n{"name": ' + (called.name | tojson) + ', "arguments": ' + arguments + '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
"""SmolLM2's ChatML, with tools, calls and their results in the form that Hermes- and Qwen-style models use.

Every line feed is written out: transformers trims those of the template's own text. The default system message is the
model's own.
"""


def read(file: Path) -> tuple[Any, Any]:
    """The (model, tokenizer) of a GGUF file of the Llama architecture, its quantized weights as plain float32."""
    at = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    plain = GgufConfig(dequantize=True)
    with redirect_stderr(io.StringIO()):  # a bar of its own for the weights, which transformers cannot switch off
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **at)
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, quantization_config=plain, dtype=torch.float32, **at)
    model.eval()
    return model, tokenizer


def convert(file: Path, folder: Path) -> None:
    """Write SmolLM2's GGUF file as a folder: weights in bf16, the tokenizer, a chat template that knows tools.

    SmolLM2 reads each digit alone, also after several spaces; transformers' reader of GGUF files passes over that rule.
    """
    model, tokenizer = read(file)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.chat_template = CHATML
    Policy(model.to(torch.bfloat16), tokenizer).save(folder)
