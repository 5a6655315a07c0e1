"""A local policy: any Hugging Face causal LM as an agent that keeps its token ids.

`Policy` is the weights with their tokenizer and chat template; `PolicyAgent` plays with them, batching the moves
of all episodes that wait at the same time. Tokens in, tokens out: what was sampled is what is trained on.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from userrl.agents.chat import ChatFormat
from userrl.config import Count, Fraction, Whole
from userrl.core import Action, Episode, Tokens
from userrl.errors import ConfigError, SeatError, StoreError, WindowFull, needs
from userrl.gyms.base import gym_of

with needs("local", "A local policy"):
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.cache_utils import Cache, CacheLayerMixin
    from transformers.modeling_layers import GradientCheckpointingLayer
    from transformers.utils.logging import disable_progress_bar

disable_progress_bar()  # a bar for every checkpoint would tear ours apart


def set_threads(count: int) -> None:
    """Threads of one operation. One is best where cores are shared; all free ones where they are not."""
    torch.set_num_threads(count)


ADAPTER = "adapter_config.json"
"""File of a LoRA adapter's folder, which names the model that it is for."""
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]


def chosen_device(name: Device) -> torch.device:
    """ "auto" is the GPU where torch sees one. Raises ConfigError when a GPU is asked for and none is seen."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch sees no GPU. Install a build of torch for it, or choose --device cpu.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


@dataclass(frozen=True)
class LoRA:
    """A low-rank adapter that is trained while all other weights stand still (arXiv 2106.09685)."""

    r: Whole = 0
    """Its rank; 0 trains all weights and no adapter."""
    alpha: Count = 32
    """The adapter's share is scaled by alpha / r."""
    dropout: Fraction = 0.0
    """In SFT. RL has no dropout, since it compares the same network before and after."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the modules that get an adapter; all linear ones but the output layer by default."""
    keep_adapter: bool = False
    """Save the adapter apart, too, beside the whole model that it was merged into."""


class Policy(ChatFormat):
    """A causal LM, its tokenizer and how a game is written in its chat template.

    The model must end a reply with its tokenizer's `eos_token`.

    Args:
        mixed: compute in bfloat16 with weights that stay in fp32 (autocast), for play and training alike.
    """

    def __init__(self, model: Any, tokenizer: Any, *, mixed: bool = False) -> None:
        super().__init__(tokenizer)
        self.model = model
        self.window: int = model.config.max_position_embeddings
        self.mixed = mixed
        self.adapted = False
        """Whether a LoRA adapter is trained, and nothing else."""
        self._twice = False

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """In which keys and values are computed."""
        dtype: torch.dtype = torch.bfloat16 if self.mixed else self.model.dtype
        return dtype

    def computing(self) -> AbstractContextManager[object]:
        """Around every forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.mixed else nullcontext()

    @staticmethod
    def load(folder: Path, *, dtype: Dtype = "float32", device: Device = "cpu") -> Policy:
        """The policy saved in a folder (`config.json`, weights, tokenizer with a chat template).

        Args:
            dtype: of the weights. Do not train them in bfloat16: see `prepare`.

        A LoRA adapter, as a checkpoint holds it, is merged in fp32 into the model that it names.

        Raises ConfigError when the folder holds no such model, or the device is not there.
        """
        if (folder / "model" / "config.json").is_file() and not any(folder.glob("*.safetensors")):
            raise ConfigError(f"{folder} is the folder of a run, not of a model. Did you mean {folder / 'model'}?")
        if (folder / ADAPTER).is_file() and not (folder / "config.json").is_file():
            return Policy._merged(folder, dtype, device)
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
        return Policy(torch.nn.Module.to(model, chosen_device(device)), tokenizer)

    @staticmethod
    def _merged(folder: Path, dtype: Dtype, device: Device) -> Policy:
        """The policy of a LoRA adapter's folder."""
        with needs("lora", "A LoRA adapter"):
            import peft
        try:
            base = Path(json.loads((folder / ADAPTER).read_text("utf-8"))["base_model_name_or_path"])
            if not (base / "config.json").is_file():
                raise ConfigError(
                    f"{folder} holds a LoRA adapter of the model in {base}, which is not there. Give the command where that path "
                    f"leads to the model, or write its path into {folder / ADAPTER}."
                )
            whole = Policy.load(base, device=device)
            with _without_old_names():
                model: Any = peft.PeftModel.from_pretrained(whole.model, str(folder)).merge_and_unload()
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{folder} holds no LoRA adapter that can be loaded: {error}") from error
        return Policy(model.to(getattr(torch, dtype)), tokenizer)

    def prepare(self, dtype: Dtype, lora: LoRA, *, gradient_checkpointing: bool = False, seed: int = 0) -> None:
        """Make ready for training, in place.

        What learns is always held in fp32, as an update of 1e-6 is lost in a bfloat16 weight of 1. With "bfloat16" a
        whole model computes by autocast; under LoRA the weights that stand still are held in bfloat16, too.

        Args:
            gradient_checkpointing: compute activations twice instead of keeping them: less memory, more time.
            seed: of the adapter's first weights.

        Raises:
            ConfigError: `lora.targets` names no module of the model.
        """
        self.mixed = dtype == "bfloat16" and not lora.r
        if lora.r:
            with needs("lora", "LoRA"):
                import peft
            torch.manual_seed(seed)
            targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
            config = peft.LoraConfig(
                r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
            )
            with _without_old_names():
                try:
                    self.model = peft.get_peft_model(self.model.to(getattr(torch, dtype)), config)
                except ValueError as error:
                    raise ConfigError(
                        f"lora.targets is {lora.targets!r}: {error} Use 'all-linear', or names of modules."
                    ) from error
            self.adapted = True
        if gradient_checkpointing:
            enable = getattr(self.model, "activation_checkpointing_enable", None) or self.model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
            self._twice = True
        self.model.eval()

    def learning(self, *, dropout: bool) -> None:
        """Switch to training: dropout or none, and activations kept or computed twice as `prepare` was told."""
        self.model.train(dropout)
        if self._twice:
            for module in self.model.modules():
                if isinstance(module, GradientCheckpointingLayer):
                    module.training = True  # the switch for computing twice; its dropout is in the modules within

    def without_adapter(self) -> AbstractContextManager[object]:
        """The weights that training began with, under LoRA."""
        disabled: AbstractContextManager[object] = self.model.disable_adapter() if self.adapted else nullcontext()
        return disabled

    def merge(self) -> None:
        """Add the adapter to the weights, in fp32; the policy is then a whole model that can be saved."""
        if self.adapted:
            self.model, self.adapted = self.model.float().merge_and_unload(), False

    def restore(self, folder: Path) -> None:
        """Take the weights (under LoRA the adapter's) that `save` wrote."""
        if self.adapted:
            from peft import load_peft_weights, set_peft_model_state_dict

            set_peft_model_state_dict(self.model, load_peft_weights(str(folder), device="cpu"))
        else:
            self.model.load_state_dict(Policy.load(folder).model.state_dict())

    def save(self, folder: Path) -> None:
        """Write weights, config and tokenizer, as `load` reads them; under LoRA the adapter alone. Raises StoreError."""
        try:
            self.model.save_pretrained(folder, **({"save_embedding_layers": False} if self.adapted else {}))
            self.tokenizer.save_pretrained(folder)
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"Cannot write the policy to {folder}: {error}. Free some space or choose a writable folder with --out."
            ) from error


@contextmanager
def _without_old_names() -> Iterator[None]:
    """Without the warning that peft, which asks for gradient checkpointing by an old name, would give rise to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        yield


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

    get_max_cache_shape = get_max_length  # what transformers up to 5.10 ask for, which verl needs


@dataclass
class _Session:
    """An episode being played: its ids so far and their keys and values."""

    read: list[int] = field(default_factory=list)
    """Ids whose keys and values are in `kv`."""
    kv: torch.Tensor | None = None
    """(2 x layers, kv heads, ids read, head dim), without padding."""
    limit: int = 0
    """Ids that the coming reply may have."""
    noise: list[float] = field(default_factory=list)
    """The numbers that sample the coming reply, one for each id."""
    pending: list[int] = field(default_factory=list)
    """Ids that the model has not read yet."""
    last: Tokens | None = None
    """Of the newest action: the very object, so that it names the one history that was read."""


def _cache_shape(model: Any) -> tuple[int, int, int]:
    """(layers, kv heads, head dim)"""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, heads, dim


SHARING = 2**24
"""Weights from which on a model reads a prompt that several episodes begin with once. A real model saves most of its reading;
a tiny one hardly any time, and which rows are multiplied together would show in the last digits of its figures."""
_CALM = 20
"""Rounds of the event loop after which those whose reply has come have asked for their next."""


def cache_room(device: torch.device) -> float:
    """GiB of keys and values of one batch: 2, or an eighth of a GPU's memory, as as much is kept, and more is in copies."""
    if device.type != "cuda":
        return 2.0
    return float(torch.cuda.get_device_properties(device).total_memory) / 8 / 2**30


class PolicyAgent:
    """Plays with a policy. Moves asked for at the same time are generated as one batch, off the event loop.

    Args:
        temperature: 1 samples from the policy itself; 0 is greedy.
        max_new: ids of one reply at most; a longer one is cut and most likely invalid.
        seed: of the sampling. With the episode's own seed, task, attempt and turn it fixes every draw, so the same
            episode comes out alone, in any batch, and after a resume (up to rounding in other batch sizes).
        at_most: moves in one batch, and episodes between two moves that are kept (others are read again).
        cache_gb: GiB of keys and values that one batch may take, and again those kept between moves; see `cache_room` for the
            default. Where it does not do for all episodes at once, those that have begun are played on before others begin.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        temperature: float = 1.0,
        max_new: int = 128,
        seed: int = 0,
        at_most: int = 256,
        cache_gb: float | None = None,
    ) -> None:
        self.policy, self.temperature, self.max_new, self.at_most = policy, temperature, max_new, at_most
        self.device = policy.device
        self.seed = seed
        self._shape = _cache_shape(policy.model)
        layers, heads, dim = self._shape
        self._shares = sum(p.numel() for p in policy.model.parameters()) >= SHARING
        room = cache_room(policy.device) if cache_gb is None else cache_gb
        self._room = int(room * 2**30 / (2 * layers * heads * dim * policy.dtype.itemsize))
        """Ids whose keys and values fit into `cache_gb`."""
        self._sessions: OrderedDict[tuple[Any, ...], _Session] = OrderedDict()
        self._waiting: list[tuple[_Session, asyncio.Future[tuple[list[int], list[float]]]]] = []
        self._working: asyncio.Task[None] | None = None

    async def act(self, episode: Episode) -> Action:
        key = (*episode.key, episode.seed)
        session, context = self._session(episode, self._sessions.pop(key, None))
        room = self.policy.window - len(session.read) - len(session.pending)
        if room < 1:
            if episode.turns:
                raise WindowFull(
                    f"The episode fills the model's window of {self.policy.window} tokens after {len(episode.turns)} turns."
                )
            raise SeatError(
                f"The prompt of task {episode.task.id!r} has {len(session.pending)} tokens and fills the model's window of "
                f"{self.policy.window}; use a model with a longer window."
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
        while len(self._sessions) > self.at_most or (len(self._sessions) > 1 and self._held() > self._room):
            self._sessions.popitem(last=False)
        return replace(self.policy.reply(ids), tokens=session.last)

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
        context = self.policy.context(episode, gym, last)
        session.pending += context
        return session, context

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # lets every episode that is ready now join the batch
            if self._full():  # then those that are about to move again should be here, to go first
                for _ in range(_CALM):
                    await asyncio.sleep(0)
            batch = self._next_batch()
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

    def _full(self) -> bool:
        """Whether those who wait would take more keys and values than fit."""
        rows = [session for session, _ in self._waiting]
        return self._held() + self._columns(rows) * len(rows) > self._room

    def _held(self) -> int:
        """Ids whose keys and values are kept."""
        return sum(len(s.read) for s in (*self._sessions.values(), *(session for session, _ in self._waiting)))

    def _columns(self, sessions: Sequence[_Session]) -> int:
        """Of the slab for a batch: every row is as long as the longest."""
        longest = max((len(s.read) for s in sessions), default=0)
        return longest + max((len(s.pending) for s in sessions), default=0) + self.max_new

    def _next_batch(self) -> list[tuple[_Session, asyncio.Future[tuple[list[int], list[float]]]]]:
        """Take from those who wait what fits: those first whose past is kept, then new ones while there is room to keep it."""
        if len(self._waiting) <= self.at_most and not self._full():
            batch, self._waiting = self._waiting, []
            return batch
        queue = sorted(self._waiting, key=lambda waiting: waiting[0].kv is None)
        held, rows = self._held(), list[_Session]()
        for session, _ in queue[: self.at_most]:
            more = 0 if session.kv is not None else len(session.pending) + self.max_new
            if rows and (self._columns([*rows, session]) * (len(rows) + 1) > self._room or (more and held + more > self._room)):
                break
            while more and held + more > self._room and self._sessions:
                held -= len(self._sessions.popitem(last=False)[1].read)
            held += more
            rows.append(session)
        batch, self._waiting = queue[: len(rows)], queue[len(rows) :]
        return batch

    @torch.inference_mode()
    def _generate(self, sessions: Sequence[_Session]) -> list[tuple[list[int], list[float]]]:
        """One reply for each session: (ids, log-probabilities).

        Rows are aligned at their right end, so that every step is one column for all; `real` (B, columns) says
        which columns of a row are its own ids. Finished rows ride along as padding until all have ended.
        """
        if self._shares:
            self._read_once(sessions)
        past, fresh = max(len(s.read) for s in sessions), max(len(s.pending) for s in sessions)
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

    def _read_once(self, sessions: Sequence[_Session]) -> None:
        """Read a prompt that several episodes begin with, as those of a group do, once for all of them."""
        same: dict[tuple[int, ...], list[_Session]] = {}
        for s in sessions:
            if s.kv is None:
                same.setdefault(tuple(s.pending[:-1]), []).append(s)
        prompts = {prompt: group for prompt, group in same.items() if len(group) > 1 and prompt}
        if not prompts:
            return
        longest = max(map(len, prompts))
        firsts = [_Session(pending=list(prompt)) for prompt in prompts]
        slab, real = self._slab(firsts, 0, longest)
        ids = torch.full((len(firsts), longest), self.policy.eos, device=self.device)
        for i, s in enumerate(firsts):
            ids[i, longest - len(s.pending) :] = torch.tensor(s.pending, device=self.device)
            real[i, longest - len(s.pending) :] = True
        self._logits(ids, slab, real, 0, longest)
        for i, (prompt, group) in enumerate(prompts.items()):
            for s in group:
                s.kv, s.read, s.pending = slab[:, i, :, longest - len(prompt) :], list(prompt), s.pending[-1:]

    def _logits(self, ids: torch.Tensor, slab: torch.Tensor, real: torch.Tensor, start: int, end: int) -> torch.Tensor:
        """(B, vocabulary) logits after the columns start..end, whose keys and values go into the slab."""
        width = end - start
        places = real[:, :end].cumsum(1)[:, start:].sub(1).clamp(min=0)
        mask = torch.ones(width, end, dtype=torch.bool, device=self.device).tril(start) & real[:, None, :end]
        mask[..., start:] |= torch.eye(width, dtype=torch.bool, device=self.device)  # padding must see something
        cache = Cache(layers=[_Slab(slab[2 * i], slab[2 * i + 1], start) for i in range(len(slab) // 2)])
        with self.policy.computing():
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
        layers, heads, dim = self._shape
        slab = torch.zeros(2 * layers, len(sessions), heads, columns, dim, dtype=self.policy.dtype, device=self.device)
        real = torch.zeros(len(sessions), columns, dtype=torch.bool, device=self.device)
        for i, s in enumerate(sessions):
            if s.kv is not None:
                slab[:, i, :, past - len(s.read) : past] = s.kv
                real[i, past - len(s.read) : past] = True
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
            ids = replies[rows[row]][0]
            session.read += [*session.pending, *ids[:-1]]
            session.pending = ids[-1:]

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
