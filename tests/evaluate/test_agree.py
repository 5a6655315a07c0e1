"""Asking recorded queries again: kappas against textbook values, and a noisy model against what its noise must give."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from userrl.core import Cast, Episode
from userrl.errors import DataError, EndpointRefused
from userrl.evaluate.agree import (
    MISSING,
    AgreeJob,
    Asked,
    Verdicts,
    agreements,
    ask_again,
    chosen,
    cohen,
    fleiss,
    recorded_queries,
    verdicts,
)
from userrl.gyms.base import find
from userrl.gyms.intention import Addressed
from userrl.gyms.telepathy import Reply
from userrl.gyms.travel import Match, Talk
from userrl.gyms.turtle import grades_for
from userrl.llm.fake import FakeClient
from userrl.rollout import run, starts
from userrl.users.llm import LLMSeat, llm_cast

TELEPATHY = find("telepathy")


def test_cohens_kappa_is_the_textbooks() -> None:
    # 50 grants, two readers: 20 both yes, 15 both no, 5 yes-no, 10 no-yes; agreement .7, chance .5
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = cohen([(a, b, i) for i, (a, b) in enumerate(pairs)])
    assert found.share.mean == pytest.approx(0.7)
    assert found.kappa.mean == pytest.approx(0.4)
    assert found.kappa.low < 0.4 < found.kappa.high and found.kappa.n == 50


def test_agreement_without_exception_is_no_surer_than_its_tasks() -> None:
    pairs = [("y", "y", i) for i in range(10)] + [("n", "n", i) for i in range(10)]
    least = 0.025 ** (1 / 10)
    for found in (cohen(pairs), fleiss([(a, b) for a, b, _ in pairs], [task for *_, task in pairs])):
        assert (found.share.mean, found.share.low, found.share.high) == pytest.approx((1.0, least, 1.0))
        # agreement by chance is .5
        assert (found.kappa.mean, found.kappa.low, found.kappa.high) == pytest.approx((1.0, (least - 0.5) / 0.5, 1.0))


def test_fleiss_kappa_is_the_textbooks() -> None:
    # Fleiss (1971): 10 subjects, 14 raters, 5 categories
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    found = fleiss([[k for k, n in enumerate(row) for _ in range(n)] for row in table], range(10))
    assert found.share.mean == pytest.approx(0.378, abs=5e-4)
    assert found.kappa.mean == pytest.approx(0.210, abs=5e-4)


def test_kappas_are_unknown_where_all_say_the_same_and_zero_where_one_does() -> None:
    same = cohen([("y", "y", i) for i in range(5)])
    assert same.share.mean == 1.0 and same.kappa.mean != same.kappa.mean
    assert cohen([("y", "y", 0), ("n", "y", 1)]).kappa.mean == pytest.approx(0.0)
    assert fleiss([["a", "a"]] * 3, range(3)).kappa.mean != 1.0
    assert cohen([]).share.n == fleiss([], []).share.n == 0


def test_missing_verdicts_are_left_out() -> None:
    assert cohen([("y", MISSING, 0), ("y", "y", 1), ("n", "n", 2)]).share.n == 2
    assert fleiss([["y", MISSING], ["y", "n"]], [0, 1]).share.n == 1


def test_verdicts_are_the_fields_that_choose_among_values() -> None:
    assert verdicts(Reply(word="Maybe")) == {"word": "Maybe"}
    assert verdicts(Addressed(addressed=[2, 0, 2], on_task=True)) == {"addressed": (0, 2), "on_task": True}
    assert verdicts(Addressed(addressed=[], on_task=False)) == {"addressed": (), "on_task": False}
    assert verdicts(grades_for(2)(grades=[1, 0.5])) == {"grades 1": 1, "grades 2": 0.5}
    assert verdicts(Match(matches=False)) == {"matches": False, "aspect": None}
    assert verdicts(Talk(kind="asks", preference="P1")) == {"kind": "asks"}


def episodes(tasks: int, skill: float = 0.5) -> list[Episode]:
    return run(starts(TELEPATHY.tasks("test")[:tasks]), TELEPATHY.expert(skill), TELEPATHY.cast())


def heard(tasks: int) -> list[Asked]:
    return asyncio.run(recorded_queries(episodes(tasks), lambda _: TELEPATHY.cast()))


def test_the_queries_of_a_run_come_back_with_the_replies_that_they_got() -> None:
    played = episodes(3)
    found = asyncio.run(recorded_queries(played, lambda _: TELEPATHY.cast()))
    assert len(found) == sum(len(e.turns) for e in played)
    words = [asked.reply.word for asked in found if isinstance(asked.reply, Reply)]
    assert words == [t.feedback for e in played for t in e.turns if t.action.kind == "action"]
    assert {asked.role for asked in found} == {"user", "judge"}


def test_episodes_that_come_out_otherwise_are_refused_and_failed_ones_passed_over() -> None:
    [played] = episodes(1)
    assert asyncio.run(recorded_queries([played.fail("agent: gone")], lambda _: TELEPATHY.cast())) == []
    changed = replace(played, turns=(replace(played.turns[0], feedback="Perhaps."), *played.turns[1:]))
    with pytest.raises(DataError, match=r"Turn 1 of telepathy task .* comes out otherwise"):
        asyncio.run(recorded_queries([changed], lambda _: TELEPATHY.cast()))


def test_no_more_queries_are_drawn_than_wanted_and_only_of_the_role() -> None:
    queries = heard(4)
    job = AgreeJob("r", ("m",), queries=7, role="user")
    picked = chosen(queries, job)
    assert len(picked) == 7 and {asked.role for asked in picked} == {"user"}
    assert picked == chosen(queries, job) != chosen(queries, replace(job, seed=1))
    assert [queries.index(asked) for asked in picked] == sorted(queries.index(asked) for asked in picked)


def noisy(queries: Sequence[Asked], rate: float, seed: int) -> FakeClient:
    """A judge that says the contrary of the run's judge at a rate. One call at a time, so that the draws are the same."""
    truth, rng = iter([asked.reply for asked in queries for _ in range(2)]), random.Random(seed)

    def answer(_: Any) -> str:
        same = verdicts(next(truth))["same"]
        return json.dumps({"same": same if rng.random() >= rate else not same})

    return FakeClient(answer)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25])
def test_kappas_fall_as_far_as_the_noise_of_a_judge_must_make_them(rate: float) -> None:
    guesses = [asked for asked in heard(169) if asked.role == "judge"]
    yes, no = ([asked for asked in guesses if verdicts(asked.reply)["same"] is value] for value in (True, False))
    queries = (yes[: len(no)] + no[: len(yes)]) * 4  # half of them yes: chance agreement is a half
    client = noisy(queries, rate, 1)
    cast = Cast(LLMSeat(client, "user"), LLMSeat(client, "judge"))
    replies = asyncio.run(ask_again(queries, lambda _: cast, 2, at_once=1))
    [found] = agreements(queries, {"m": replies}).models
    assert (found.failed, found.queries) == (0, len(queries)) and len(queries) > 300
    # of a verdict that is half yes and turned round at a rate e: with the truth 1 - 2e, of two such with each other (1 - 2e)^2
    assert found.reproducibility is not None
    assert found.fidelity.kappa.mean == pytest.approx(1 - 2 * rate, abs=0.06)
    assert found.reproducibility.kappa.mean == pytest.approx((1 - 2 * rate) ** 2, abs=0.09)
    if rate:
        assert found.reproducibility.kappa.mean < found.fidelity.kappa.mean < 1


def test_a_model_can_agree_with_itself_and_not_with_the_run() -> None:
    queries = [asked for asked in heard(60) if asked.role == "user"]
    contrary = {"Yes": "No", "No": "Yes", "Maybe": "Maybe"}
    rows: list[list[Verdicts | None]] = [[{"word": contrary[asked.reply.word]}] * 3 for asked in queries]  # type: ignore[attr-defined]
    [found] = agreements(queries, {"m": rows}).models
    assert found.reproducibility is not None
    assert found.reproducibility.kappa.mean == 1.0 and found.fidelity.kappa.mean < 0.2


def test_two_models_are_compared_repeat_by_repeat() -> None:
    queries = [asked for asked in heard(10) if asked.role == "user"]
    right: list[list[Verdicts | None]] = [[verdicts(asked.reply)] * 2 for asked in queries]
    found = agreements(queries, {"a": right, "b": right, "c": [[None, None]] * len(queries)})
    assert [(p.first, p.second, p.agreement.share.n) for p in found.pairs] == [
        ("a", "b", 2 * len(queries)),
        ("a", "c", 0),
        ("b", "c", 0),
    ]
    assert found.pairs[0].agreement.kappa.mean == 1.0
    assert [m.failed for m in found.models] == [0, 0, 2 * len(queries)]


def test_a_reply_that_does_not_fit_is_a_missing_verdict_and_a_refusal_ends_the_asking() -> None:
    queries = [asked for asked in heard(2) if asked.role == "user"][:2]
    client = FakeClient(['{"word": "Yes"}', "what?", "what?", '{"word": "No"}', '{"word": "No"}'])
    replies = asyncio.run(ask_again(queries, lambda _: llm_cast(client, client), 2, at_once=1))
    assert replies == [[{"word": "Yes"}, None], [{"word": "No"}, {"word": "No"}]]
    gone = FakeClient([EndpointRefused("no such model")])
    with pytest.raises(EndpointRefused, match="no such model"):
        asyncio.run(ask_again(queries, lambda _: llm_cast(gone, gone), 2, at_once=1))


def test_each_repeat_has_a_place_of_its_own_so_that_no_kept_reply_is_given_twice() -> None:
    queries = [asked for asked in heard(2) if asked.role == "user"][:3]
    places = []

    class Placed:
        async def answer(self, query: Any) -> Any:
            places.append(query.place)
            return Reply(word="Yes")

    asyncio.run(ask_again(queries, lambda _: Cast(Placed(), Placed()), 3))
    assert len(set(places)) == 9
