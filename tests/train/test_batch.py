"""What the trainers compute on: only tokens that the policy wrote, each at the place where it wrote them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from userrl.agents.policy import Policy
from userrl.core import Tokens
from userrl.train.batch import Batch, batch, frozen, logprobs, micro_batches, written

LONG = [Tokens((10, 11, 12), (20, 21), (-0.1, -0.2)), Tokens((13,), (22, 23, 24), (-0.3, -0.4, -0.5))]
SHORT = [Tokens((14, 15), (25,), ())]
PAD = 1


class Fixed(torch.nn.Module):
    """Gives every id the same probabilities everywhere."""

    def __init__(self, table: Sequence[float]) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=len(table))
        self.head = torch.nn.Linear(1, len(table))
        torch.nn.init.zeros_(self.head.weight)
        self.head.bias.data = torch.tensor(table).log()

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        assert not use_cache
        return SimpleNamespace(logits=self.head(torch.zeros(*input_ids.shape, 1)))


def fixed(table: Sequence[float]) -> Policy:
    return cast(Policy, SimpleNamespace(model=Fixed(table), computing=nullcontext))


def test_episodes_are_laid_out_one_after_the_other_and_padded_on_the_right() -> None:
    b = batch([LONG, SHORT], PAD)
    assert b.ids.tolist() == [[10, 11, 12, 20, 21, 13, 22, 23, 24], [14, 15, 25, 1, 1, 1, 1, 1, 1]]
    assert b.turn.tolist() == [[-1, -1, -1, 0, 0, -1, 1, 1, 1], [-1, -1, 0, -1, -1, -1, -1, -1, -1]]
    assert b.mask.tolist() == [[t >= 0 for t in row] for row in b.turn.tolist()]
    assert b.old[0].tolist() == pytest.approx([0, 0, 0, -0.1, -0.2, 0, -0.3, -0.4, -0.5])
    assert b.old[1].tolist() == [0.0] * 9
    assert b.ids.dtype == torch.int64 and b.old.dtype == torch.float32


def test_log_probabilities_and_entropies_are_those_of_the_policys_own_tokens_in_order() -> None:
    b = batch([[Tokens((2, 2), (0, 1), ()), Tokens((2,), (2,), ())], [Tokens((0,), (1,), ())]], pad=0)
    chosen, entropy = logprobs(fixed([0.5, 0.3, 0.2]), b)
    assert chosen.tolist() == pytest.approx([math.log(p) for p in (0.5, 0.3, 0.2, 0.3)])
    assert entropy.tolist() == pytest.approx([-sum(p * math.log(p) for p in (0.5, 0.3, 0.2))] * 4)


def test_log_probabilities_are_those_at_the_sampling_temperature() -> None:
    b = batch([[Tokens((2,), (0, 1), ())]], pad=0)
    sharp = [p / (0.25 + 0.09 + 0.04) for p in (0.25, 0.09, 0.04)]
    chosen, entropy = logprobs(fixed([0.5, 0.3, 0.2]), b, temperature=0.5)
    assert chosen.tolist() == pytest.approx([math.log(sharp[0]), math.log(sharp[1])])
    assert entropy.tolist() == pytest.approx([-sum(p * math.log(p) for p in sharp)] * 2)


def test_no_loss_sees_what_the_policy_did_not_write(untrained: Policy) -> None:
    """The gradient of the last hidden states is zero but where a token of the policy was to be told."""
    seen: list[torch.Tensor] = []

    def watch(module: Any, args: Any, out: Any) -> None:
        out.last_hidden_state.retain_grad()
        seen.append(out.last_hidden_state)

    untrained.model.get_decoder().register_forward_hook(watch)
    b = batch([LONG, SHORT], PAD)
    chosen, entropy = logprobs(untrained, b)
    (chosen.sum() + entropy.sum()).backward()
    [hidden] = seen
    assert hidden.grad is not None
    touched = hidden.grad.abs().sum(-1) > 0
    assert touched.tolist() == b.mask[:, 1:].tolist()
    assert len(chosen) == int(b.mask.sum()) == 6


def test_for_a_large_table_the_output_layer_sees_only_the_policys_tokens_and_gives_what_it_gives_for_all(
    untrained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("userrl.train.batch.LARGE", 1)
    b, rows = batch([LONG, SHORT], PAD), list[int]()
    untrained.model.get_output_embeddings().register_forward_hook(lambda _, args, out: rows.append(out.shape[:-1].numel()))
    with torch.no_grad():
        chosen, _ = logprobs(untrained, b)
        whole = torch.log_softmax(untrained.model(b.ids[:, :-1]).logits, -1).gather(2, b.ids[:, 1:, None])[..., 0]
    assert rows == [6, b.ids[:, :-1].numel()]
    assert torch.allclose(chosen, whole[b.mask[:, 1:]], atol=1e-6)


def test_an_entropy_without_gradients_is_the_same_entropy(untrained: Policy) -> None:
    b = batch([LONG, SHORT], PAD)
    (chosen, entropy), (same, plain) = logprobs(untrained, b), logprobs(untrained, b, entropy_grad=False)
    assert torch.equal(entropy, plain) and torch.equal(chosen, same)
    assert (entropy.requires_grad, plain.requires_grad, same.requires_grad) == (True, False, True)


def test_padding_and_the_other_rows_change_nothing(untrained: Policy) -> None:
    with torch.no_grad():
        together, _ = logprobs(untrained, batch([LONG, SHORT], PAD))
        other_pad, _ = logprobs(untrained, batch([LONG, SHORT], 77))
        alone = [logprobs(untrained, batch([episode], PAD))[0] for episode in (LONG, SHORT)]
    assert torch.equal(together, other_pad)
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_the_text_before_a_token_matters_and_the_text_after_it_does_not(untrained: Policy) -> None:
    before = [Tokens((10, 99, 12), (20, 21), ()), LONG[1]]
    after = [LONG[0], Tokens((99,), (98, 97, 96), ())]
    with torch.no_grad():
        whole, changed, same = (logprobs(untrained, batch([e], PAD))[0] for e in (LONG, before, after))
    assert not torch.allclose(whole[:2], changed[:2], atol=1e-6)
    assert torch.equal(whole[:2], same[:2])


def test_a_batch_moves_to_a_device_as_a_whole() -> None:
    b = batch([SHORT], PAD, "meta")
    assert {b.ids.device.type, b.turn.device.type, b.old.device.type, b.mask.device.type} == {"meta"}
    assert isinstance(b, Batch)


# --- parts of a batch ------------------------------------------------------------------------------------------


def of(*lengths: int) -> list[list[Tokens]]:
    return [[Tokens((1,) * (n - 1), (2,), ())] for n in lengths]


def test_a_forward_pass_takes_no_more_tokens_than_allowed_padding_included() -> None:
    lengths = [5, 9, 2, 9, 3, 40, 8]
    cut = micro_batches(of(*lengths), 20)
    assert sorted(i for part in cut for i in part) == list(range(7))
    sizes = [max(lengths[i] for i in part) * len(part) for part in cut]
    assert all(size <= 20 for size, part in zip(sizes, cut, strict=True) if len(part) > 1)
    assert [part for part in cut if 5 in part] == [[5]], "a longer one goes alone"
    assert len(cut) == 4
    assert micro_batches(of(*lengths), None) == [list(range(7))], "in the order they came"
    assert written([LONG, SHORT]) == 6


def test_a_frozen_policy_does_not_learn(policy: Policy) -> None:
    b = batch([LONG, SHORT], PAD)
    with torch.no_grad():
        before, _ = logprobs(policy, b, 0.7)
        start = frozen(policy)
        for parameter in policy.model.parameters():
            parameter.add_(0.1)
        after, _ = logprobs(policy, b, 0.7)
    assert torch.equal(start(b, 0.7), before) and not torch.equal(after, before)
    assert not start(b, 0.7).requires_grad
