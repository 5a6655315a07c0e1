"""A local policy: any Hugging Face causal LM as an agent that keeps its token ids.

`Policy` is the weights with their tokenizer and chat template; `PolicyAgent` plays with them, batching the moves
of all episodes that wait at the same time. Tokens in, tokens out: what was sampled is what is trained on.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from userrl.core import Action, Episode, Tokens
from userrl.errors import ConfigError, SeatError, StoreError, needs
from userrl.gyms.base import Gym, gym_of
from userrl.render import opening, read_text, text_tool_help, tool, written

with needs("local", "A local policy"):
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from jinja2 import TemplateError
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.cache_utils import Cache, CacheLayerMixin
    from transformers.utils.logging import disable_progress_bar

disable_progress_bar()  # a bar for every checkpoint would tear ours apart


def set_threads(count: int) -> None:
    """Threads of one operation. One is best where cores are shared; all free ones where they are not."""
    torch.set_num_threads(count)


_REPLY = "\u2063reply\u2063"
"""Stands for the assistant's reply where only the text after it is wanted."""

_TAG = re.compile(r"<[^<>\s]+>")
"""Markup of chat templates: <|im_end|>, </tool_response>, <s>."""


class Policy:
    """A causal LM, its tokenizer and how a game is written in its chat template.

    The model must end a reply with its tokenizer's `eos_token`.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.eos: int = tokenizer.eos_token_id
        self.window: int = model.config.max_position_embeddings
        tokens = [*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens]
        self._markup = sorted({tag for token in tokens for tag in _TAG.findall(token)})
        self.encode = lru_cache(maxsize=100_000)(self._encode)
        self.after_reply = lru_cache(maxsize=100_000)(self._after_reply)
        self.prompt = lru_cache(maxsize=10_000)(self._prompt)

    @staticmethod
    def load(folder: Path, *, dtype: str = "float32", device: str = "cpu") -> Policy:
        """The policy saved in a folder (`config.json`, weights, tokenizer with a chat template).

        Raises ConfigError when the folder holds no such model.
        """
        if not (folder / "config.json").is_file():
            raise ConfigError(f"{folder} holds no config.json; expected the folder of a Hugging Face causal LM.")
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
            raise ConfigError(f"{folder} holds no causal LM that can be loaded: {error}") from error
        model, found = loaded
        if missing := sorted(found["missing_keys"]):  # transformers would fill them with random numbers
            raise ConfigError(f"The weights in {folder} lack {len(missing)} tensors, e.g. {missing[0]}; expected a whole model.")
        if not tokenizer.chat_template or tokenizer.eos_token is None:
            raise ConfigError(f"The tokenizer in {folder} lacks a chat template or an eos token; add both to its files.")
        return Policy(torch.nn.Module.to(model, torch.device(device)), tokenizer)

    def save(self, folder: Path) -> None:
        """Write weights, config and tokenizer, as `load` reads them. Raises StoreError."""
        try:
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"Cannot write the policy to {folder}: {error}. Free some space or choose a writable folder with --out."
            ) from error

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _template(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            roles = ", ".join(m["role"] for m in messages)
            raise ConfigError(
                f"The model's chat template cannot write a talk of the roles {roles}: {error}. Expected one that takes "
                f"system, user, assistant and tool messages; mend the template in the model's folder, or use another model."
            ) from error
        return text

    def _prompt(self, gym: Gym, system: str, first: str) -> tuple[int, ...]:
        text = self._template(opening(system, self.inert(first)), [tool(gym.actions)])
        if text == self._template(opening(system, self.inert(first)), None):  # a template that passes over tools
            text = self._template(opening(f"{system}\n\n{text_tool_help(gym.actions)}", self.inert(first)), None)
        return self._encode(text)

    def _after_reply(self, feedback: str) -> tuple[int, ...]:
        """Ids between the end of a reply (its eos token excluded) and the start of the next."""
        talk = [*opening("s", "u"), {"role": "assistant", "content": _REPLY}, {"role": "tool", "content": self.inert(feedback)}]
        text = self._template(talk, None).split(_REPLY, 1)[1]
        return self._encode(text.removeprefix(self.tokenizer.eos_token))

    def inert(self, text: str, *, call: bool = False) -> str:
        """Text from a task, a user or an agent in which no markup of the chat template stands: it cannot forge a turn.

        Args:
            call: let the tags of a tool call stand, as in what an agent wrote itself.
        """
        for tag in self._markup:
            if tag in text and not (call and tag in ("<tool_call>", "</tool_call>")):
                text = text.replace(tag, f"<\u200b{tag[1:]}")
        return text

    def first_context(self, episode: Episode, gym: Gym) -> tuple[int, ...]:
        """Ids up to where the first reply begins."""
        return self.prompt(gym, gym.system(episode.task), episode.task.prompt)

    def next_context(self, feedback: str, *, ended: bool) -> tuple[int, ...]:
        """Ids from the end of a reply to the start of the next; a reply cut short gets its eos token here."""
        ids = self.after_reply(feedback)
        return ids if ended else (self.eos, *ids)

    def tokens(self, episode: Episode, gym: Gym) -> list[Tokens]:
        """An episode's turns as tokens: the recorded ones where there are any, else the text encoded.

        The log-probabilities of an encoded turn are empty. SFT and RL both read sequences from here.
        """
        out: list[Tokens] = []
        for i, turn in enumerate(episode.turns):
            if turn.action.tokens is not None:
                out.append(turn.action.tokens)
                continue
            before = self.first_context(episode, gym) if i == 0 else self._next(out[-1], _shown(episode, i - 1, gym))
            out.append(Tokens(before, (*self.encode(self.inert(written(turn.action), call=True)), self.eos), ()))
        return out

    def _next(self, last: Tokens, feedback: str) -> tuple[int, ...]:
        return self.next_context(feedback, ended=last.ids[-1] == self.eos)


def _shown(episode: Episode, i: int, gym: Gym) -> str:
    turn = episode.turns[i]
    return f"{turn.feedback}\nReward: {turn.reward:g}" if gym.show_reward else turn.feedback


class _Slab(CacheLayerMixin):
    """One layer's keys and values, written in place into a preallocated slab instead of grown by copies."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.slabs, self.length, self.is_initialized = (keys, values), length, True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The slab is there from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = self.length + key_states.shape[-2]
        for slab, new in zip(self.slabs, (key_states, value_states), strict=True):
            slab[:, :, self.length : end] = new
        self.length = end
        return self.slabs[0][:, :, :end], self.slabs[1][:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.slabs[0].shape[-2]


@dataclass
class _Session:
    """An episode being played: its ids so far and their keys and values."""

    length: int = 0
    """Ids whose keys and values are in `kv`."""
    kv: torch.Tensor | None = None
    """(2 x layers, kv heads, length, head dim), without padding."""
    limit: int = 0
    """Ids that the coming reply may have."""
    noise: list[float] = field(default_factory=list)
    """The numbers that sample the coming reply, one for each id."""
    pending: list[int] = field(default_factory=list)
    """Ids that the model has not read yet."""
    last: Tokens | None = None
    """Of the newest action: the very object, so that it names the one history that was read."""


class PolicyAgent:
    """Plays with a policy. Moves asked for at the same time are generated as one batch, off the event loop.

    Args:
        temperature: 1 samples from the policy itself; 0 is greedy.
        max_new: ids of one reply at most; a longer one is cut and most likely invalid.
        seed: of the sampling. With the episode's own seed, task, attempt and turn it fixes every draw, so the same
            episode comes out alone, in any batch, and after a resume (up to rounding in other batch sizes).
        at_most: moves in one batch, and episodes between two moves whose keys and values are kept (more are read again).
    """

    def __init__(
        self, policy: Policy, *, temperature: float = 1.0, max_new: int = 128, seed: int = 0, at_most: int = 256
    ) -> None:
        self.policy, self.temperature, self.max_new, self.at_most = policy, temperature, max_new, at_most
        self.device = policy.model.device
        self.seed = seed
        self._sessions: OrderedDict[tuple[Any, ...], _Session] = OrderedDict()
        self._waiting: list[tuple[_Session, asyncio.Future[tuple[list[int], list[float]]]]] = []
        self._working: asyncio.Task[None] | None = None

    async def act(self, episode: Episode) -> Action:
        key = (*episode.key, episode.seed)
        session, context = self._session(episode, self._sessions.pop(key, None))
        room = self.policy.window - session.length - len(session.pending)
        if room < 1:
            raise SeatError(
                f"The episode fills the model's window of {self.policy.window} tokens at turn {len(episode.turns)}; "
                f"lower max_turns, or use a model with a longer window."
            )
        session.limit = min(self.max_new, room)
        rng = episode.rng("policy", str(self.seed))
        session.noise = [rng.random() for _ in range(self.max_new)]
        reply: asyncio.Future[tuple[list[int], list[float]]] = asyncio.get_running_loop().create_future()
        self._waiting.append((session, reply))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        ids, logprobs = await reply
        session.last = Tokens(context, tuple(ids), tuple(logprobs))
        self._sessions[key] = session
        while len(self._sessions) > self.at_most:
            self._sessions.popitem(last=False)
        body = ids[:-1] if ids[-1] == self.policy.eos else ids
        return replace(read_text(self.policy.tokenizer.decode(body)), tokens=session.last)

    def _session(self, episode: Episode, kept: _Session | None) -> tuple[_Session, tuple[int, ...]]:
        """The episode's session, with the new context pending; rebuilt when the one kept has read another history."""
        gym = gym_of(episode)
        last = episode.turns[-1].action.tokens if episode.turns else None
        if kept is not None and last is not None and kept.last is last:
            session = kept
        else:
            turns = self.policy.tokens(episode, gym)
            session = _Session(pending=[i for t in turns for i in (*t.context, *t.ids)])
            last = turns[-1] if turns else None
        context = self.policy._next(last, _shown(episode, -1, gym)) if last else self.policy.first_context(episode, gym)
        session.pending += context
        return session, context

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # lets every episode that is ready now join the batch
            batch, self._waiting = self._waiting[: self.at_most], self._waiting[self.at_most :]
            try:
                replies = await asyncio.to_thread(self._generate, [session for session, _ in batch])
            except Exception as error:  # noqa: BLE001 - handed to everyone who waits for this batch
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result(reply)
            await asyncio.sleep(0)

    @torch.inference_mode()
    def _generate(self, sessions: Sequence[_Session]) -> list[tuple[list[int], list[float]]]:
        """One reply for each session: (ids, log-probabilities).

        Rows are aligned at their right end, so that every step is one column for all; `real` (B, columns) says
        which columns of a row are its own ids. Finished rows ride along as padding until all have ended.
        """
        past, fresh = max(s.length for s in sessions), max(len(s.pending) for s in sessions)
        slab, real = self._slab(sessions, past, past + fresh + self.max_new)
        ids = torch.full((len(sessions), fresh), self.policy.eos, device=self.device)
        for i, s in enumerate(sessions):
            ids[i, fresh - len(s.pending) :] = torch.tensor(s.pending, device=self.device)
            real[i, past + fresh - len(s.pending) : past + fresh] = True
        replies: list[tuple[list[int], list[float]]] = [([], []) for _ in sessions]
        noise = torch.tensor([s.noise for s in sessions], dtype=torch.float64, device=self.device)
        limit = torch.tensor([s.limit for s in sessions], device=self.device)
        rows = list(range(len(sessions)))
        """Row of the slab -> session; ended ones drop out when they are half of the rows."""
        start, end = past, past + fresh
        for step in range(self.max_new):
            chosen, logprobs = self._sample(self._logits(ids, slab, real, start, end), noise[rows, step])
            live = real.any(1) if step == 0 else real[:, end - 1]
            for row, (going, token, logprob) in enumerate(zip(live.tolist(), chosen.tolist(), logprobs.tolist(), strict=True)):
                if going:
                    replies[rows[row]][0].append(token)
                    replies[rows[row]][1].append(logprob)
            live = live & (chosen != self.policy.eos) & (step + 1 < limit[rows])
            if not live.any():
                break
            if 2 * int(live.sum()) <= len(rows):
                self._keep(sessions, replies, rows, slab, real, end, ~live)
                rows = [session for session, going in zip(rows, live.tolist(), strict=True) if going]
                slab, real, chosen, live = slab[:, live], real[live], chosen[live], live[live]
            ids, start = chosen[:, None], end
            real[:, end] = live
            end += 1
        self._keep(sessions, replies, rows, slab, real, end, torch.ones(len(rows), dtype=torch.bool, device=self.device))
        return replies

    def _logits(self, ids: torch.Tensor, slab: torch.Tensor, real: torch.Tensor, start: int, end: int) -> torch.Tensor:
        """(B, vocabulary) logits after the columns start..end, whose keys and values go into the slab."""
        width = end - start
        places = real[:, :end].cumsum(1)[:, start:].sub(1).clamp(min=0)
        mask = torch.ones(width, end, dtype=torch.bool, device=self.device).tril(start) & real[:, None, :end]
        mask[..., start:] |= torch.eye(width, dtype=torch.bool, device=self.device)  # padding must see something
        cache = Cache(layers=[_Slab(slab[2 * i], slab[2 * i + 1], start) for i in range(len(slab) // 2)])
        out = self.policy.model(
            input_ids=ids,
            attention_mask=mask[:, None],
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def _slab(self, sessions: Sequence[_Session], past: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        config, model = self.policy.model.config, self.policy.model
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        slab = torch.zeros(
            2 * config.num_hidden_layers, len(sessions), heads, columns, dim, dtype=model.dtype, device=self.device
        )
        real = torch.zeros(len(sessions), columns, dtype=torch.bool, device=self.device)
        for i, s in enumerate(sessions):
            if s.kv is not None:
                slab[:, i, :, past - s.length : past] = s.kv
                real[i, past - s.length : past] = True
        return slab, real

    def _keep(
        self,
        sessions: Sequence[_Session],
        replies: Sequence[tuple[list[int], list[float]]],
        rows: Sequence[int],
        slab: torch.Tensor,
        real: torch.Tensor,
        end: int,
        ended: torch.Tensor,
    ) -> None:
        """Keep the ended rows' keys and values without the padding; a row's last sampled id is still unread."""
        for row in ended.nonzero()[:, 0].tolist():
            session = sessions[rows[row]]
            session.kv = slab[:, row, :, :end][:, :, real[row, :end]]
            session.length = session.kv.shape[2]
            session.pending = [replies[rows[row]][0][-1]]

    def _sample(self, logits: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B,) ids and their (B,) log-probabilities at the sampling temperature, from (B,) numbers in [0, 1).

        Drawn through the distribution function: so a row's ids depend on its own numbers only, never on the batch.
        """
        logprobs = torch.log_softmax(logits / (self.temperature or 1.0), -1)
        if self.temperature == 0:
            chosen = logprobs.argmax(-1)
        else:
            cdf = logprobs.double().exp().cumsum(-1)
            chosen = torch.searchsorted(cdf, noise[:, None] * cdf[:, -1:], right=True)[:, 0].clamp(max=cdf.shape[1] - 1)
        return chosen, logprobs.gather(1, chosen[:, None])[:, 0]
