"""Episodes as padded arrays, and the policy's log-probabilities of their tokens."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from userrl.agents.policy import Policy
from userrl.core import Tokens
from userrl.errors import needs

with needs("local", "Training"):
    import torch


@dataclass(frozen=True)
class Batch:
    """B episodes of at most L tokens, padded on the right."""

    ids: torch.Tensor
    """(B, L) token ids."""
    turn: torch.Tensor
    """(B, L) turn in which the policy wrote the token; -1 for context and padding."""
    old: torch.Tensor
    """(B, L) log-probabilities at sampling time; 0 where there are none."""

    @property
    def mask(self) -> torch.Tensor:
        """(B, L) True where the policy wrote the token: the only tokens that any loss sees."""
        return self.turn >= 0


def batch(episodes: Sequence[Sequence[Tokens]], pad: int, device: torch.device | str = "cpu") -> Batch:
    """Pad episodes, each given as its turns' tokens."""
    length = max(sum(len(t.context) + len(t.ids) for t in turns) for turns in episodes)
    ids = torch.full((len(episodes), length), pad)
    turn = torch.full((len(episodes), length), -1)
    old = torch.zeros(len(episodes), length)
    for row, turns in enumerate(episodes):
        at = 0
        for i, t in enumerate(turns):
            start, end = at + len(t.context), at + len(t.context) + len(t.ids)
            ids[row, at:end] = torch.tensor((*t.context, *t.ids))
            turn[row, start:end] = i
            if t.logprobs:
                old[row, start:end] = torch.tensor(t.logprobs)
            at = end
    return Batch(ids.to(device), turn.to(device), old.to(device))


def logprobs(
    policy: Policy, b: Batch, temperature: float = 1.0, *, entropy_grad: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the policy's own tokens, and the entropy where each was drawn.

    Args:
        entropy_grad: let gradients flow through the entropy, which takes twice the memory.

    Returns:
        Two (N,) tensors over the N True places of `b.mask`, in row order. The first token of a row is never the
        policy's, as a prompt precedes it.
    """
    mask = b.mask[:, 1:]
    with policy.computing():
        logits = _logits(policy.model, b.ids[:, :-1], mask)
    table = torch.log_softmax(logits.float() / temperature, -1)
    chosen = table.gather(1, b.ids[:, 1:][mask][:, None])[:, 0]
    with torch.set_grad_enabled(entropy_grad and torch.is_grad_enabled()):
        entropy = -(table.exp() * table).sum(-1)
    return chosen, entropy


@torch.no_grad()
def speaks(policy: Policy, turns: Sequence[Tokens]) -> bool:
    """Whether the policy tells finite log-probabilities of an episode: weights may be finite, and yet too large for any."""
    return bool(logprobs(policy, batch([turns], policy.eos, policy.device), entropy_grad=False)[0].isfinite().all())


LARGE = 2**25
"""Numbers in a table of logits from which on only those that are wanted are computed. It takes gigabytes with a real
vocabulary; in a small one it costs little, and which rows are multiplied together would show in the last digits."""


def _logits(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(N, vocabulary) logits after the N tokens at the mask's True places."""
    if ids.numel() * model.config.vocab_size < LARGE:
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[mask]
        return logits
    choosing = model.get_output_embeddings().register_forward_pre_hook(lambda _, hidden: (hidden[0][mask],))
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        choosing.remove()
    return logits


Reference = Callable[[Batch, float], torch.Tensor]
"""(batch, temperature) -> (N,) log-probabilities under a policy that does not learn."""


def frozen(policy: Policy) -> Reference:
    """The policy as it is now, whatever it learns later: a copy, or under LoRA the weights without the adapter."""
    start = policy if policy.adapted else Policy(copy.deepcopy(policy.model), policy.tokenizer, mixed=policy.mixed)

    def of(b: Batch, temperature: float) -> torch.Tensor:
        with torch.no_grad(), start.without_adapter():
            return logprobs(start, b, temperature)[0]

    return of


def micro_batches(episodes: Sequence[Sequence[Tokens]], budget: int | None) -> list[list[int]]:
    """Places of episodes, cut into forward passes of at most `budget` tokens, padding included; a longer one goes alone.

    What is averaged over all tokens comes out the same (up to rounding) when each pass is weighted by its tokens.
    """
    if budget is None:
        return [list(range(len(episodes)))]
    lengths = [sum(len(t.context) + len(t.ids) for t in turns) for turns in episodes]
    cut: list[list[int]] = [[]]
    for i in sorted(range(len(episodes)), key=lengths.__getitem__):
        if cut[-1] and lengths[i] * (len(cut[-1]) + 1) > budget:
            cut.append([])
        cut[-1].append(i)
    return cut


def written(episodes: Sequence[Sequence[Tokens]]) -> int:
    """Tokens that the policy wrote."""
    return sum(len(t.ids) for turns in episodes for t in turns)
