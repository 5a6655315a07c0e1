"""GRPO: which episodes are compared, which tokens are pushed and how far, and that it learns."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from typing import Any, ClassVar

import pytest
import torch

from userrl.agents.policy import Policy, PolicyAgent
from userrl.agents.tiny import Shape, new_policy
from userrl.core import Action, Cast, Episode, Query, Task, Tokens, Turn
from userrl.errors import ConfigError, ReplyError, RunStopped, UnknownName
from userrl.gyms import base
from userrl.gyms.base import Gym, make
from userrl.pipeline.jobs import figures
from userrl.rollout import run, starts
from userrl.scripted import Acting, Scripted
from userrl.train import sft
from userrl.train.batch import batch, frozen, logprobs
from userrl.train.grpo import GRPOConfig, Step, clipped_loss, divergence, train, update
from userrl.train.rollouts import draw, rollout, turn_limit

TASKS = make("intention").tasks("train")[:8]
NOBODY = Cast(Scripted({}), Scripted({}))


# --- the loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped", "slope"),
    [
        (1.0, 2.0, -2.0, 0.0, -2.0),
        (1.2, 1.0, -1.2, 0.0, -1.2),
        (1.5, 1.0, -1.28, 1.0, 0.0),
        (0.5, 1.0, -0.5, 0.0, -0.5),
        (0.5, -1.0, 0.8, 1.0, 0.0),
        (1.5, -1.0, 1.5, 0.0, 1.5),
        (1.5, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_a_ratio_pays_up_to_its_clip_and_no_further(
    ratio: float, advantage: float, loss: float, clipped: float, slope: float
) -> None:
    """`slope` is the gradient by the new log-probability: 0 once clipped."""
    new = torch.tensor([log(ratio) - 1.0], requires_grad=True)
    value, share = clipped_loss(new, torch.tensor([-1.0]), torch.tensor([advantage]), 0.2, 0.28)
    assert value.item() == pytest.approx(loss, abs=1e-6) and share == clipped
    [gradient] = torch.autograd.grad(value, new)
    assert gradient.item() == pytest.approx(slope, abs=1e-6)


def test_the_loss_is_the_mean_over_all_tokens_whatever_their_episode() -> None:
    new, old = torch.tensor([-1.0, -2.0, -0.5, -3.0]), torch.tensor([-1.0, -1.0, -1.0, -3.0])
    value, share = clipped_loss(new, old, torch.tensor([1.0, 1.0, 1.0, -2.0]), 0.2, 0.28)
    assert value.item() == pytest.approx(-(1.0 + exp(-1) + 1.28 - 2.0) / 4)
    assert share == 0.25


# --- which tasks ---------------------------------------------------------------------------------------------


def numbered(count: int) -> list[Task]:
    return [Task(str(i), "intention", "") for i in range(count)]


def drawn(count: int, steps: int, **fields: Any) -> list[list[str]]:
    return [[t.id for t in draw(numbered(count), step, GRPOConfig(**fields))] for step in range(steps)]


@pytest.mark.parametrize(("count", "groups"), [(12, 4), (10, 4), (3, 7)])
def test_every_pass_draws_each_task_once_across_the_steps(count: int, groups: int) -> None:
    steps = drawn(count, 3 * count, groups=groups)
    assert {len(step) for step in steps} == {groups}
    flat = [task for step in steps for task in step]
    passes = [flat[i : i + count] for i in range(0, len(flat), count)]
    assert len(passes) == 3 * groups
    assert all(sorted(p) == sorted(t.id for t in numbered(count)) for p in passes)
    assert len({tuple(p) for p in passes}) > 1


def test_the_order_of_tasks_depends_on_the_seed_alone() -> None:
    assert drawn(10, 3, seed=1) == drawn(10, 3, seed=1) != drawn(10, 3, seed=2)


# --- one step of updates -------------------------------------------------------------------------------------


def told(task: str, attempt: int, *rewards: float, stop: Any = "turn_limit") -> Episode:
    """An episode with made-up tokens, each turn's its own, that the policy gave one thousandth each."""
    rng = random.Random(f"{task}|{attempt}")
    ids = [tuple(rng.sample(range(300), 3)) for _ in rewards]
    turns = tuple(
        Turn(Action("action", "x", tokens=Tokens((40 + i, 41), ids[i], (log(1e-3),) * 3)), "ok", reward=r)
        for i, r in enumerate(rewards)
    )
    return Episode(replace(TASKS[0], id=task), turns, stop, "user: gone" if stop == "error" else None, attempt=attempt)


CONFIG = GRPOConfig(updates=1, lr=1e-2, warmup=0, credit="equalized", score="sum", clip_low=9.0, clip_high=9.0)
"""One update, in effect without a clip, since the made-up log-probabilities are far from the policy's."""


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in policy.model.parameters()]).clone()


def updated(policy: Policy, episodes: Sequence[Episode], config: GRPOConfig = CONFIG) -> tuple[Step, torch.Tensor]:
    """What one step does to the policy's weights; the policy is put back as it was."""
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    step = update(policy, torch.optim.SGD(policy.model.parameters(), lr=1.0), episodes, config, 0)
    after = weights(policy)
    policy.model.load_state_dict(before)
    return step, after


def likelihood(policy: Policy, episode: Episode) -> list[float]:
    """Sum of the log-probabilities of each turn's tokens."""
    tokens = [turn.action.tokens for turn in episode.turns if turn.action.tokens]
    with torch.no_grad():
        chosen, _ = logprobs(policy, batch([tokens], policy.eos))
    return chosen.reshape(len(tokens), -1).sum(1).tolist()


def test_what_did_better_than_its_group_becomes_likelier_and_what_did_worse_less_likely(untrained: Policy) -> None:
    good, bad = told("a", 0, 1.0), told("a", 1, 0.0)
    before = likelihood(untrained, good) + likelihood(untrained, bad)
    update(untrained, torch.optim.SGD(untrained.model.parameters(), lr=0.1), [good, bad], CONFIG, 0)
    after = likelihood(untrained, good) + likelihood(untrained, bad)
    assert after[0] > before[0] and after[1] < before[1]


def test_groups_are_compared_within_themselves(untrained: Policy) -> None:
    """The worse episode of an easy task is pushed down although it earned more than all of a hard task's."""
    episodes = [told("easy", 0, 3.0), told("easy", 1, 2.0), told("hard", 0, 1.0), told("hard", 1, 0.0)]
    before = [likelihood(untrained, e)[0] for e in episodes]
    update(untrained, torch.optim.SGD(untrained.model.parameters(), lr=0.1), episodes, CONFIG, 0)
    rose = [likelihood(untrained, e)[0] > b for e, b in zip(episodes, before, strict=True)]
    assert rose == [True, False, True, False]


def test_a_turns_credit_pushes_that_turn(untrained: Policy) -> None:
    """With the credit `naive`, only the turn that earned something is made likelier."""
    config = replace(CONFIG, credit="naive")
    alone, _ = updated(untrained, [told("a", 0, 0.0, 1.0), told("a", 1, 0.0, 0.0)], config)
    tokens = [t.action.tokens for t in told("a", 0, 0.0, 1.0).turns if t.action.tokens]
    seen: list[torch.Tensor] = []

    def watch(module: Any, args: Any, out: Any) -> None:
        if out.logits.requires_grad:  # of the update, not of the look at what came of it
            out.logits.retain_grad()
            seen.append(out.logits)

    untrained.model.register_forward_hook(watch)
    updated(untrained, [told("a", 0, 0.0, 1.0), told("a", 1, 1.0, 0.0)], replace(config, score="r2g"))
    [logits] = seen
    assert logits.grad is not None and alone.skipped == 0
    touched = (logits.grad.abs().sum(-1) > 0).tolist()
    first, second = [False] * 3, [True] * 3
    wanted = [[False, *first, False, False, *second], [False, *second, False, False, *first]]
    assert sorted(touched) == sorted(wanted)
    assert sum(len(t.context) + len(t.ids) for t in tokens) == len(touched[0]) + 1


def test_groups_without_variance_are_skipped_and_counted(untrained: Policy) -> None:
    flat = [told("b", 0, 0.5), told("b", 1, 0.5), told("b", 2, 0.5)]
    uneven = [told("a", 0, 1.0), told("a", 1, 0.0)]
    step, after = updated(untrained, [*flat, *uneven])
    only, same = updated(untrained, uneven)
    assert (step.skipped, only.skipped) == (1, 0)
    assert torch.equal(after, same) and len(step.episodes) == 5


def test_a_step_without_any_variance_changes_nothing(untrained: Policy) -> None:
    step, after = updated(untrained, [told(task, i, 0.5) for task in ("a", "b") for i in range(2)])
    assert torch.equal(after, weights(untrained))
    assert (step.skipped, step.loss, step.entropy, step.clipped, step.grad_norm) == (2, 0.0, 0.0, 0.0, 0.0)


def test_episodes_that_ended_as_an_error_are_left_out(untrained: Policy) -> None:
    good = [told("a", 0, 1.0), told("a", 1, 0.0), told("b", 0, 0.2), told("b", 1, 0.4)]
    failed = [told("a", 2, 9.0, stop="error"), told("b", 2, stop="error"), told("c", 0, 1.0, stop="error")]
    step, after = updated(untrained, [*failed, *good])
    only, same = updated(untrained, good)
    assert torch.equal(after, same)
    assert (step.skipped, only.skipped) == (1, 0)


def test_an_episode_whose_group_has_failed_has_nothing_to_be_compared_with(untrained: Policy) -> None:
    uneven = [told("a", 0, 1.0), told("a", 1, 0.0)]
    step, after = updated(untrained, [*uneven, told("b", 0, 1.0), told("b", 1, 0.0, stop="error")])
    assert torch.equal(after, updated(untrained, uneven)[1])
    assert step.skipped == 1


def test_tasks_of_two_gyms_with_the_same_id_are_two_groups(untrained: Policy) -> None:
    other = replace(told("a", 0, 1.0), task=Task("a", "function", "", {}))
    pair = [replace(other, attempt=i, turns=told("z", i, 0.3).turns) for i in range(2)]
    step, after = updated(untrained, [told("a", 0, 1.0), told("a", 1, 0.0), *pair])
    assert step.skipped == 1
    assert torch.equal(after, updated(untrained, [told("a", 0, 1.0), told("a", 1, 0.0)])[1])


def test_a_batch_is_cut_into_as_many_updates_as_asked_for(untrained: Policy) -> None:
    episodes = [told("a", i, float(i)) for i in range(6)]
    counts = []
    for updates in (1, 2, 3, 50):
        optimizer = torch.optim.SGD(untrained.model.parameters(), lr=1e-6)
        steps = 0

        def count(*_: Any) -> None:
            nonlocal steps
            steps += 1

        optimizer.register_step_post_hook(count)
        update(untrained, optimizer, episodes, replace(CONFIG, updates=updates), 0)
        counts.append(steps)
    assert counts == [1, 2, 3, 6]


def test_a_policy_that_is_still_the_one_that_played_is_not_clipped(policy: Policy) -> None:
    gym = make("intention")
    played = run(starts(TASKS[:2], attempts=4, max_turns=2), PolicyAgent(policy, max_new=16), gym.cast())
    paid = [replace(e, turns=tuple(replace(t, reward=float(e.attempt)) for t in e.turns)) for e in played]
    step, _ = updated(policy, paid, replace(GRPOConfig(), updates=1))
    assert step.clipped == 0.0 and step.grad_norm > 0 and step.skipped == 0
    assert 0.0 < step.entropy < log(len(policy.tokenizer))


# --- a run ---------------------------------------------------------------------------------------------------


def failing(every: int) -> Cast:
    """The intention cast with a user who is gone in every n-th answer."""
    count = iter(range(10**6))
    plain = make("intention").cast()
    answer = plain.user.answers["intention.answer"]  # type: ignore[attr-defined]

    def maybe(query: Query[Any]) -> Any:
        if next(count) % every == 0:
            raise ReplyError("gone")
        return answer(query)

    return Cast(Scripted({"intention.answer": maybe}), plain.judge)


SMALL = GRPOConfig(steps=1, groups=4, group_size=4, updates=1, max_turns=2, max_new=16)


def test_too_many_failures_stop_the_run_with_a_message_and_no_update(policy: Policy) -> None:
    before = weights(policy)
    with pytest.raises(RunStopped, match=r"Stopped: 5 episodes ended by a failure \(at most 4 are allowed\).*user: gone"):
        asyncio.run(train(policy, TASKS, failing(every=1), SMALL))
    with pytest.raises(RunStopped, match="at most 0 are allowed"):
        asyncio.run(train(policy, TASKS, failing(every=9), replace(SMALL, max_errors=0)))
    assert torch.equal(before, weights(policy))


def test_a_step_of_nothing_but_failures_stops_the_run(untrained: Policy) -> None:
    with pytest.raises(RunStopped, match=r"All 2 episodes of step 1 failed\. The last one: user: gone"):
        updated(untrained, [told("a", i, stop="error") for i in range(2)])


def test_episodes_that_fill_the_policys_window_stay_in_their_groups_and_are_counted(untrained: Policy) -> None:
    steps: list[Step] = []

    async def note(step: Step) -> None:
        steps.append(step)

    untrained.window = 140
    config = replace(SMALL, max_turns=8, max_errors=0)
    asyncio.run(train(untrained, TASKS, make("intention").cast(), config, on_step=note))
    ends = {e.stop for e in steps[0].episodes}
    assert "window" in ends and "error" not in ends
    line = figures(steps[0])
    assert (line["errors"], line["full_window"]) == (0, sum(e.stop == "window" for e in steps[0].episodes) / 16)


def test_what_an_episode_earned_before_the_window_was_full_is_trained_on(untrained: Policy) -> None:
    def after(stop: str) -> torch.Tensor:
        return updated(untrained, [told("a", 0, 1.0), told("a", 1, 0.0, stop=stop), told("a", 2, 0.0)])[1]

    assert torch.equal(after("window"), after("turn_limit")) and not torch.equal(after("window"), after("error"))


def test_a_few_failures_do_not_stop_the_run(policy: Policy) -> None:
    steps: list[Step] = []

    async def note(step: Step) -> None:
        steps.append(step)

    asyncio.run(train(policy, TASKS, failing(every=9), SMALL, on_step=note))
    [step] = steps
    assert 0 < sum(e.stop == "error" for e in step.episodes) <= 4
    assert len(step.episodes) == 16 and step.number == 1


def test_settings_that_cannot_work_are_refused_before_anything_is_played(policy: Policy) -> None:
    with pytest.raises(ConfigError, match="no tasks to train on"):
        asyncio.run(train(policy, [], NOBODY, SMALL))
    with pytest.raises(ConfigError, match="group_size is 1; a group needs at least 2"):
        asyncio.run(train(policy, TASKS, NOBODY, replace(SMALL, group_size=1)))


class Say(Gym):
    """Saying "three" pays 1, anything else nothing. Nobody is asked."""

    name = "say"
    actions: ClassVar[Mapping[str, str]] = {"action": "say a number"}

    def system(self, task: Task) -> str:
        return "Say a number."

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        return Turn(action, "Next.", reward=float(action.text == "three"))


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Task]]:
    """Tasks of the toy gym."""
    monkeypatch.setattr(base, "find", {"say": Say}.__getitem__)
    base._made.cache_clear()
    yield [Task(f"say-{word}", "say", f"Now, {word}.") for word in ("please", "quick", "go", "well")]
    base._made.cache_clear()


def test_a_policy_learns_by_reward_alone_which_of_four_words_pays(say: list[Task]) -> None:
    """SFT teaches it to say any of the four, so a quarter of the turns pay; GRPO must find the one that pays."""
    words = ("one", "two", "three", "four")
    anything = Acting(lambda e: Action("action", e.rng("word").choice(words)))
    talks = run(starts(say, attempts=50, max_turns=2), anything, NOBODY)
    policy = new_policy(talks, Shape(hidden=32, layers=1, heads=2, feed_forward=32, window=512, vocabulary=280), seed=0)
    corpus = [policy.tokens(e, base.gym_of(e)) for e in talks]
    sft.train(policy, corpus, sft.SFTConfig(steps=80, lr=1e-2, warmup=5, batch_size=16))

    mean: list[float] = []

    async def note(step: Step) -> None:
        mean.append(sum(sum(e.rewards) for e in step.episodes) / len(step.episodes) / 2)

    config = GRPOConfig(steps=16, groups=4, group_size=8, updates=2, lr=5e-3, warmup=1, max_turns=2, max_new=12)
    asyncio.run(train(policy, say, NOBODY, config, on_step=note))
    assert 0.1 < mean[0] < 0.5
    assert sum(mean[-4:]) / 4 > 0.85
    assert not policy.model.training


def test_a_task_drawn_twice_in_a_step_is_one_group_of_twice_the_size(policy: Policy) -> None:
    gym = make("intention")
    task = gym.tasks("train")[0]
    config = GRPOConfig(groups=2, group_size=2, max_turns=2, max_new=8)
    episodes = asyncio.run(rollout(policy, [task, task], gym.cast(), config, 0))
    assert [e.attempt for e in episodes] == [0, 1, 2, 3]


def test_the_share_of_replies_that_were_cut_counts_those_without_an_eos_at_their_end(policy: Policy) -> None:
    def ended(e: Episode) -> Episode:
        first = e.turns[0]
        assert first.action.tokens
        ids = (*first.action.tokens.ids[:-1], policy.eos)
        action = replace(first.action, tokens=replace(first.action.tokens, ids=ids))
        return replace(e, turns=(replace(first, action=action), *e.turns[1:]))

    episodes = [ended(told("a", 0, 1.0, 0.0)), told("a", 1, 0.0, 0.0), told("a", 2, 0.0, stop="error")]
    step, _ = updated(policy, episodes)
    assert step.cut == 0.75


def test_three_steps_from_which_nothing_was_learned_are_warned_of_once_with_what_to_do(untrained: Policy) -> None:
    """Random weights write no valid call, so every episode earns nothing."""
    with pytest.warns(UserWarning) as caught:
        asyncio.run(train(untrained, TASKS, make("intention").cast(), replace(SMALL, steps=5, groups=2, max_new=4)))
    [warning] = caught
    text = str(warning.message)
    assert "Nothing was learned in 3 steps, up to step 3" in text
    assert "100% of the replies were invalid" in text and "were cut at 4 tokens" in text
    assert "raise --max-new" in text and "userrl sft train" in text


def test_training_under_compat_is_warned_of(policy: Policy) -> None:
    with pytest.warns(UserWarning, match="Training under compat"):
        asyncio.run(train(policy, TASKS, make("intention").cast(), replace(SMALL, groups=1, rules={"compat": "userrl"})))


# --- parts of an update, the start policy ----------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"entropy": 0.1, "kl": 0.5}])
@pytest.mark.parametrize("budget", [1, 25, 60])
def test_an_update_in_several_forward_passes_is_the_update_in_one(
    untrained: Policy, fields: dict[str, float], budget: int
) -> None:
    """Episodes of one, two and three turns, so that a mean of the passes' means would be another gradient."""
    episodes = [told("a", 0, 1.0), told("a", 1, 0.0, 0.0, 0.0), told("b", 0, 0.5, 0.5), told("b", 1, 0.0), told("b", 2, 0.1)]
    config = replace(CONFIG, clip_norm=1e9, **fields)  # type: ignore[arg-type]
    start = moved(untrained)

    def gradient(micro_batch: int | None) -> tuple[Step, torch.Tensor]:
        before = weights(untrained)
        reference = frozen(start) if config.kl else None
        optimizer = torch.optim.SGD(untrained.model.parameters(), lr=1.0)
        kept = {name: value.clone() for name, value in untrained.model.state_dict().items()}
        step = update(untrained, optimizer, episodes, replace(config, micro_batch=micro_batch), 0, reference)
        change = weights(untrained) - before
        untrained.model.load_state_dict(kept)
        return step, change

    (whole, one), (parts, several) = gradient(None), gradient(budget)
    assert torch.allclose(one, several, atol=float(one.abs().max()) * 1e-4) and one.abs().max() > 0
    for name in ("loss", "entropy", "clipped", "grad_norm"):
        assert getattr(whole, name) == pytest.approx(getattr(parts, name), rel=1e-4)
    assert (whole.kl or 0) == pytest.approx(parts.kl or 0, rel=1e-4) and (whole.kl is None) == (config.kl == 0)


def moved(policy: Policy, by: float = 1.1) -> Policy:
    """Another policy of the same shape."""
    other = Policy(copy.deepcopy(policy.model), policy.tokenizer)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(by)
    return other


def test_the_divergence_is_k3_and_grows_with_the_distance() -> None:
    new, start = torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -2.5])
    assert divergence(new, start).item() == pytest.approx((0.0 + exp(-0.5) + 0.5 - 1) / 2)
    drawn = torch.distributions.Categorical(torch.tensor([0.7, 0.2, 0.1])).sample((100_000,))
    p, q = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.5, 0.3, 0.2]).log()
    exact = float((p.exp() * (p - q)).sum())
    assert divergence(p[drawn], q[drawn]).item() == pytest.approx(exact, rel=0.05)


def test_a_kl_weight_draws_the_policy_towards_its_start(untrained: Policy) -> None:
    episodes = [told("a", 0, 1.0), told("a", 1, 0.0)]
    reference, optimizer = frozen(moved(untrained, 3.0)), torch.optim.SGD(untrained.model.parameters(), lr=0.02)
    config = replace(CONFIG, kl=50.0, clip_norm=1.0)
    apart = [update(untrained, optimizer, episodes, replace(config, lr=0.02), 0, reference).kl for _ in range(6)]
    assert apart[0] is not None and apart[-1] is not None and 0 < apart[-1] < 0.8 * apart[0]


# --- several gyms, curriculum ----------------------------------------------------------------------------------


def of_gyms(**counts: int) -> list[Task]:
    return [Task(f"{gym}-{i}", gym, "") for gym, count in counts.items() for i in range(count)]


def test_gyms_are_drawn_equally_often_by_default_however_many_tasks_they_have() -> None:
    tasks = of_gyms(intention=50, function=4)
    for number in range(5):
        assert Counter(t.gym for t in draw(tasks, number, GRPOConfig(groups=6))) == {"intention": 3, "function": 3}


def test_gyms_are_drawn_by_weight_and_each_without_replacement_across_steps() -> None:
    tasks = of_gyms(intention=10, function=3, turtle=4)
    config = GRPOConfig(groups=5, weights={"intention": 2.0, "turtle": 0.5})
    flat = [task for number in range(14) for task in draw(tasks, number, config)]
    assert Counter(t.gym for t in flat) == {"intention": 40, "function": 20, "turtle": 10}
    for gym, size in {"intention": 10, "function": 3, "turtle": 4}.items():
        ids = [t.id for t in flat if t.gym == gym]
        for first in range(0, len(ids) - size + 1, size):
            assert len(set(ids[first : first + size])) == size
    shares = [Counter(t.gym for t in flat[:n])["intention"] / n for n in range(7, 71, 7)]
    assert all(abs(s - 4 / 7) < 0.15 for s in shares), "at any time, not at the end alone"


def test_weights_of_a_gym_that_is_not_played_are_refused(untrained: Policy) -> None:
    with pytest.raises(UnknownName, match="'function'"):
        asyncio.run(train(untrained, TASKS, NOBODY, GRPOConfig(weights={"function": 2.0})))


@pytest.mark.parametrize(
    ("turns", "limits"), [((), [9] * 5), (((0, 4), (3, 8)), [4, 4, 4, 8, 8]), (((3, 8), (1, 2)), [9, 2, 2, 8, 8])]
)
def test_the_turn_limit_follows_the_curriculum(turns: tuple[tuple[int, int], ...], limits: list[int]) -> None:
    config = GRPOConfig(max_turns=9, turns=turns)
    assert [turn_limit(config, number) for number in range(5)] == limits


def test_each_gym_is_played_by_its_own_rules_and_the_steps_turn_limit(policy: Policy) -> None:
    rules = {"show_reward": True, "intention": {"multi_detail_penalty": 0.5}}
    config = GRPOConfig(groups=1, group_size=2, max_new=4, max_turns=3, turns=((1, 2),), rules=rules)
    for number, limit in ((0, 3), (1, 2)):
        for episode in asyncio.run(rollout(policy, TASKS[:1], make("intention").cast(), config, number)):
            assert episode.rules == {"show_reward": True, "multi_detail_penalty": 0.5} and episode.max_turns == limit
