"""Episodes as padded arrays, and the policy's log-probabilities of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def logprobs(policy: Policy, b: Batch, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the policy's own tokens, and the entropy where each was drawn.

    Returns:
        Two (N,) tensors over the N True places of `b.mask`, in row order. The first token of a row is never the
        policy's, as a prompt precedes it.
    """
    logits = policy.model(input_ids=b.ids[:, :-1], use_cache=False).logits[b.mask[:, 1:]].float() / temperature
    table = torch.log_softmax(logits, -1)
    chosen = table.gather(1, b.ids[:, 1:][b.mask[:, 1:]][:, None])[:, 0]
    return chosen, -(table.exp() * table).sum(-1)
