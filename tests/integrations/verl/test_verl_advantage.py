"""Through verl's own path to an estimator, our credit is our credit."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

from userrl.errors import ConfigError, DataError
from userrl.evaluate import golden
from userrl.integrations.verl.advantage import rewards_in, turn_grpo, turns_in
from userrl.integrations.verl.settings import ESTIMATOR
from userrl.rewards import CREDITS, ESTIMATORS, SCORES
from userrl.rewards.advantage import advantages

NOT_HERE = ("composite", "gigpo")
"""They read what verl does not hand on."""
SCHEMES = [
    (credit, score, estimator)
    for credit, score, estimator in product(CREDITS, SCORES, ESTIMATORS)
    if not {score, estimator} & set(NOT_HERE) and (estimator != "mt_grpo" or (credit, score) == ("equalized", "r2g"))
]

Turns = list[tuple[int, float, int]]
"""Of an episode: tokens, reward and words of the user behind it, for each turn."""


def episodes(seed: int, groups: int = 4, size: int = 4) -> tuple[list[Turns], list[str]]:
    rng = random.Random(seed)
    made: list[Turns] = []
    for _ in range(groups * size):
        made.append([(rng.randint(1, 6), rng.choice([0.0, 0.0, 0.3, 1.0]), rng.randint(1, 5)) for _ in range(rng.randint(1, 6))])
    return made, [f"g{i // size}" for i in range(groups * size)]


def tensors(made: Sequence[Turns], width: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """(token rewards, response mask) as verl pads them."""
    rewards, mask = torch.zeros(len(made), width), torch.zeros(len(made), width, dtype=torch.long)
    for row, turns in enumerate(made):
        at = 0
        for tokens, reward, words in turns:
            mask[row, at : at + tokens] = 1
            rewards[row, at + tokens - 1] = reward
            at += tokens + words
    return rewards, mask


def through_verl(made: Sequence[Turns], groups: list[str], scale: bool = True, **scheme: Any) -> torch.Tensor:
    rewards, mask = tensors(made)
    config = OmegaConf.create({"adv_estimator": ESTIMATOR, "norm_adv_by_std_in_grpo": scale, "userrl": scheme})
    data = DataProto.from_dict(
        tensors={"response_mask": mask, "token_level_rewards": rewards}, non_tensors={"uid": np.array(groups, dtype=object)}
    )
    keys = [f"{group}_{i}_0" for i, group in enumerate(groups)]
    done = compute_advantage_for_multi_trajectories(
        data, batch_keys=keys, adv_estimator=ESTIMATOR, gamma=1.0, lam=1.0, num_repeat=4, config=config
    )
    out: torch.Tensor = done.batch["advantages"]
    assert torch.equal(out, done.batch["returns"])
    assert not out[mask == 0].any()
    return out


def of_turns(out: torch.Tensor, made: Sequence[Turns]) -> list[list[float]]:
    """The value of each turn; all tokens of a turn must have the same."""
    found = []
    for row, turns in enumerate(made):
        at, values = 0, []
        for tokens, _, words in turns:
            part = out[row, at : at + tokens]
            assert (part == part[0]).all()
            values.append(part[0].item())
            at += tokens + words
        found.append(values)
    return found


def ours(made: Sequence[Turns], groups: list[str], **options: Any) -> list[list[float]]:
    rewards, tokens = [[r for _, r, _ in turns] for turns in made], [[n for n, _, _ in turns] for turns in made]
    return [row.tolist() for row in advantages(rewards, groups, tokens, **options)]


@pytest.mark.parametrize(("credit", "score", "estimator"), SCHEMES)
def test_the_estimator_gives_what_our_function_gives(credit: str, score: str, estimator: str) -> None:
    made, groups = episodes(1)
    found = of_turns(through_verl(made, groups, credit=credit, score=score, estimator=estimator, gamma=0.9), made)
    expected = ours(made, groups, credit=credit, score=score, estimator=estimator, gamma=0.9)
    assert max(map(abs, expected[0])) > 0
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize(("credit", "score"), sorted({(credit, score) for credit, score, _ in SCHEMES}))
def test_under_compat_it_gives_what_the_original_gives(credit: str, score: str) -> None:
    made, groups = episodes(2)
    groups[-1] = "alone"
    found = of_turns(through_verl(made, groups, credit=credit, score=score, compat="userrl"), made)
    for a, b in zip(found, ours(made, groups, credit=credit, score=score, compat="userrl"), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"credit": "r2g", "credit_sign": "directional"},
        {"credit": "em", "scale": False},
        {"credit": "naive", "credit_norm": "episode"},
        {"credit": "em", "em_k": 5.0},
    ],
)
def test_the_other_settings_arrive(options: dict[str, Any]) -> None:
    made, groups = episodes(3)
    expected = ours(made, groups, **options)
    assert expected != ours(made, groups, credit=options["credit"])
    for a, b in zip(of_turns(through_verl(made, groups, **options), made), expected, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_rows_without_a_turn_have_no_part_in_it() -> None:
    made, groups = episodes(4)
    alone = of_turns(through_verl(made, groups), made)
    padding: Turns = []
    padded = through_verl([*made, padding, padding], [*groups, "padding", groups[0]])
    assert not padded[-2:].any()
    assert of_turns(padded[:-2], made) == alone


def test_a_sequence_that_was_rejected_as_a_whole_counts_as_failed() -> None:
    made, groups = episodes(6)
    rewards, mask = tensors(made)
    assert rewards[0].any()
    mask[0] = 0
    out, _ = turn_grpo(rewards, mask, groups)
    others, _ = turn_grpo(rewards[1:], mask[1:], groups[1:])
    assert not out[0].any()
    assert torch.equal(out[1:], others)


def test_a_row_whose_siblings_all_failed_teaches_nothing() -> None:
    made, groups = episodes(5)
    out = through_verl(made, [*groups[:-1], "left over"])
    assert out[:-1].any()
    assert not out[-1].any()


def test_a_batch_of_padding_alone_is_all_zero() -> None:
    assert not through_verl([[], []], ["a", "b"]).any()


def test_a_turn_of_reward_0_is_a_turn() -> None:
    mask = np.array([[1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0]], dtype=bool)
    rewards = np.zeros(mask.shape)
    rewards[0, 1], rewards[0, 9] = 0.2, 1.0
    assert turns_in(mask).tolist() == [[0, 0, -1, 1, 1, 1, -1, -1, 2, 2, -1, -1]]
    assert rewards_in(rewards, mask) == [[0.2, 0.0, 1.0]]


def test_a_reward_whose_token_was_masked_out_stays_with_its_turn() -> None:
    mask = np.array([[1, 1, 0, 0, 1, 1]], dtype=bool)
    rewards = np.zeros(mask.shape)
    rewards[0, 2], rewards[0, 5] = 0.2, 1.0
    assert rewards_in(rewards, mask) == [[0.2, 1.0]]


def test_a_reward_before_any_turn_is_an_error() -> None:
    mask, rewards = np.array([[0, 1]], dtype=bool), np.array([[1.0, 0.0]])
    with pytest.raises(DataError, match="Row 0 has a reward that belongs to no turn"):
        rewards_in(rewards, mask)


@pytest.mark.parametrize(
    "scheme", [{"score": "composite"}, {"estimator": "gigpo"}, {"gama": 0.8}, {"credit": "em", "estimator": "mt_grpo"}]
)
def test_what_cannot_be_computed_here_is_refused(scheme: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, LookupError), match=next(iter(scheme))):
        turn_grpo(torch.zeros(1, 1), torch.ones(1, 1), ["a"], OmegaConf.create({"userrl": scheme}))


NAMES = {"Equalized": "equalized", "R2G": "r2g", "EM": "em", "Sum": "mean"}
"""The original's names of its schemes, and ours."""


def test_the_golden_cases_of_the_original_come_out_through_verl() -> None:
    """Where every turn has tokens and no reward is left over: then the case's turns can be laid out as runs of ones."""
    path = Path(__file__).parents[2] / "golden" / "advantages.json"
    compared = 0
    for case in json.loads(path.read_text("utf-8"))["cases"]:
        rows = zip(case["response_mask"], case["turn_starts"], case["turn_rewards"], strict=True)
        made: list[Turns] = []
        for mask, begin, rewards in rows:
            tokens = golden._tokens_per_turn(mask, begin)
            made.append([(n, r, 1) for n, r in zip(tokens, rewards, strict=False)] if len(tokens) == len(rewards) else [])
        if not all(made) or not all(n for turns in made for n, _, _ in turns):
            continue
        scheme = {"credit": NAMES[case["turn_method"]], "score": NAMES[case["traj_method"]], "gamma": case["gamma"]}
        for key, scale in (("adv_norm_std", True), ("adv_no_std", False)):
            found = of_turns(through_verl(made, case["group"], scale, compat="userrl", **scheme), made)
            for i, (ours, theirs) in enumerate(zip(found, case[key], strict=True)):
                own = [row for row, group in enumerate(case["group"]) if group == case["group"][i]]
                scores = [SCORES[scheme["score"]]([r for _, r, _ in made[row]], gamma=case["gamma"]).item() for row in own]
                equal = len(own) > 1 and np.ptp(scores) <= 1e-6
                assert golden._agree(ours, theirs, equal_scores=equal), (case["kind"], i)
                compared += 1
    assert compared > 70
