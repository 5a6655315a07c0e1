"""What SFT trains on is, id for id, what a rollout reads and writes."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import templates
from userrl.agents.policy import Policy, PolicyAgent
from userrl.agents.tiny import Shape, new_policy
from userrl.collect.export import STYLES, Style
from userrl.core import Action, Episode
from userrl.errors import ConfigError
from userrl.gyms.base import gym_of, make
from userrl.render import read_text, written
from userrl.rollout import play_many, run, starts
from userrl.store import from_record, to_record
from userrl.train.batch import batch
from userrl.train.parity import check, own_ids, training_ids, without_ids

GYM = make("intention")


def experts(tasks: int = 4, turns: int = 3) -> list[Episode]:
    return list(run(starts(GYM.tasks("train")[:tasks], max_turns=turns), GYM.expert(0.7), GYM.cast()))


@pytest.fixture(scope="module")
def tiny() -> Policy:
    return new_policy(experts(), Shape(16, 1, 1, 1, 16, vocabulary=400), 0)


POLICIES = ["tiny", "CHATML", "TRIMMING", "QWEN", "MARKED"]


@pytest.fixture
def policy(request: pytest.FixtureRequest, tiny: Policy) -> Policy:
    return tiny if request.param == "tiny" else templates.policy(getattr(templates, request.param))


class Dictated(PolicyAgent):
    """A policy that samples what an expert would write: the recorded ids are those of real play."""

    def __init__(self, policy: Policy, like: Sequence[Episode]) -> None:
        super().__init__(policy)
        self.lines = {(e.key, i): written(turn.action) for e in like for i, turn in enumerate(e.turns)}
        self.next: list[str] = []

    async def act(self, episode: Episode) -> Action:
        self.next.append(self.lines[episode.key, len(episode.turns)])
        return await super().act(episode)

    def _generate(self, sessions: Sequence[Any]) -> list[tuple[list[int], list[float]]]:
        said, self.next = self.next[: len(sessions)], self.next[len(sessions) :]
        ids = [[*self.policy.encode(text), self.policy.eos] for text in said]
        for session, new in zip(sessions, ids, strict=True):
            session.pending = [*session.pending, *new]
        return [(new, [-0.5] * len(new)) for new in ids]


def played(policy: Policy, like: Sequence[Episode]) -> list[Episode]:
    plan = starts([e.task for e in like], max_turns=like[0].max_turns)
    return list(asyncio.run(play_many(plan, Dictated(policy, like), GYM.cast())))


@pytest.mark.parametrize("policy", POLICIES, indirect=True)
def test_the_ids_that_sft_trains_on_are_those_that_the_rollout_recorded(policy: Policy) -> None:
    for episode in played(policy, experts()):
        assert episode.turns and all(turn.action.tokens for turn in episode.turns)
        recorded = policy.tokens(episode, GYM)
        encoded = policy.tokens(without_ids(episode), GYM)
        assert [(t.context, t.ids) for t in recorded] == [(t.context, t.ids) for t in encoded]
        first, second = batch([recorded], policy.eos), batch([encoded], policy.eos)
        assert first.ids.equal(second.ids) and first.mask.equal(second.mask)
        assert own_ids(policy, from_record(to_record(episode)))


@pytest.mark.parametrize("policy", POLICIES, indirect=True)
def test_a_template_that_writes_the_whole_as_turn_by_turn_passes(policy: Policy) -> None:
    episodes = experts()
    data = training_ids(policy, episodes)
    assert data == [policy.tokens(e, GYM) for e in episodes]


def test_feedback_with_line_breaks_at_its_ends_is_the_same_text_for_a_template_that_trims() -> None:
    policy = templates.policy(templates.TRIMMING)
    episodes = [replace(e, turns=tuple(replace(t, feedback=f"\n{t.feedback}\n\n") for t in e.turns)) for e in experts()]
    [turns, *_] = training_ids(policy, episodes)
    assert policy.tokenizer.decode(turns[1].context).startswith("\n<|im_start|>tool\n" + episodes[0].turns[0].feedback.strip())


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (templates.LATE_END, r"</tool_call>\n<|im_end|>"),
        (templates.FORGETFUL, r"<|im_start|>assistant"),
    ],
)
def test_a_template_that_writes_it_otherwise_is_a_config_error_that_shows_where(template: str, said: str) -> None:
    policy = templates.policy(template)
    with pytest.raises(ConfigError, match="writes a whole conversation otherwise than turn by turn") as raised:
        training_ids(policy, experts())
    theirs, _, ours = str(raised.value).partition("where turn by turn it reads")
    assert said.split(">", 1)[1] in theirs and said not in ours


def test_ids_of_another_tokenizer_are_encoded_anew_and_counted(tiny: Policy) -> None:
    other = templates.policy(templates.QWEN)
    episodes = [*played(tiny, experts(2)), *experts(4)[2:]]
    with pytest.warns(UserWarning, match="2 of 4 episodes were recorded with the token ids of another tokenizer"):
        data = training_ids(other, episodes)
    assert data == [other.tokens(without_ids(e), gym_of(e)) for e in episodes]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert training_ids(tiny, episodes) == [tiny.tokens(e, gym_of(e)) for e in episodes]


def test_ids_recorded_under_another_template_of_the_same_tokenizer_are_not_used() -> None:
    before, after = templates.policy(templates.CHATML), templates.policy(templates.QWEN)
    [episode] = played(before, experts(1))
    assert own_ids(before, episode) and not own_ids(after, episode)


def test_sampled_ids_that_encode_no_text_the_same_way_stay_as_they_were_sampled(tiny: Policy) -> None:
    [episode] = played(tiny, experts(1))
    first = episode.turns[0].action
    assert first.tokens is not None
    letters = tuple(i for c in first.raw for i in tiny.encode(c))
    assert letters != first.tokens.ids[:-1] and read_text(tiny.tokenizer.decode(letters)).text == first.text
    odd = replace(first, tokens=replace(first.tokens, ids=(*letters, tiny.eos), logprobs=()))
    episode = replace(episode, turns=(replace(episode.turns[0], action=odd), *episode.turns[1:]))
    assert training_ids(tiny, [episode])[0][0].ids == (*letters, tiny.eos)


def test_the_style_is_chosen_that_a_template_writes_as_the_house_does() -> None:
    episodes = experts()
    found = {name: check(templates.policy(getattr(templates, name)), episodes, STYLES) for name in ("QWEN", "CHATML")}
    assert found == {"QWEN": Style("native", "column"), "CHATML": Style("text", "system")}


def test_half_a_character_in_a_users_words_is_a_question_mark_in_training(tiny: Policy) -> None:
    [episode] = experts(1)
    odd = replace(episode, turns=(replace(episode.turns[0], feedback="Yes \ud83d."), *episode.turns[1:]))
    [turns] = training_ids(tiny, [odd])
    assert "Yes ?." in tiny.tokenizer.decode(turns[1].context)
