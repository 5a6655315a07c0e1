"""The intention gym: its rules, its scripted user, judge, expert and baselines, its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

import pytest

from userrl.core import INVALID, Action, Agent, Cast, Episode, Query, Task, Turn
from userrl.data import split_of
from userrl.errors import ConfigError, ReplyError, UnknownName
from userrl.evaluate.metrics import share
from userrl.gyms.base import FINISH, TRAITS, Gym, make
from userrl.gyms.intention import Addressed, Answer, detail, generate, question_reward, wishes
from userrl.gyms.intention.generate import MAX_MISSING, MIN_MISSING, details, domains, lexicons, tasks
from userrl.gyms.intention.lexicon import mentioned
from userrl.gyms.intention.scripted import (
    NO_PREFERENCE,
    NOT_UNDERSTOOD,
    UNSURE,
    fitted_bundles,
    fitted_order,
    fixed_order,
    recognize,
)
from userrl.llm.fake import FakeClient
from userrl.rollout import advance, play, run, starts
from userrl.scripted import Listed, Scripted
from userrl.users.llm import LLMSeat

GYM, COMPAT = make("intention"), make("intention", compat="userrl")
TEST = GYM.tasks("test")

DATE = detail("date", "date", 3, "next Friday", answer="I need it by next Friday.", lexicon=["date", "when"])
COLORS = detail("colors", "colors", 3, "green", answer="I like green.", lexicon=["color", "colors"])
SIZE = detail("size", "size", 2, "large", answer="It should be large.", lexicon=["size"])
BRAND = detail("brand", "brand", 1, "no brand", answer="I want no brand.", lexicon=["brand"])
BUDGET = detail("budget", "budget", 2, "100 dollars", answer="I can spend 100 dollars.", lexicon=["budget"])
TASK = Task("t", "intention", "I need a gift.", {"details": [DATE, COLORS, SIZE, BRAND], "stated": [BUDGET]})


def cast(*addressed: Sequence[int], on_task: bool = True, heard: list[Query[Any]] | None = None) -> Cast:
    """A user who says "Fine." and a judge whose verdict on the n-th turn is the n-th argument."""

    def answer(query: Query[Any]) -> Answer:
        if heard is not None:
            heard.append(query)
        return Answer(words="Fine.")

    def mark(query: Query[Any]) -> Addressed:
        if heard is not None:
            heard.append(query)
        return Addressed(addressed=list(addressed[query.turn]), on_task=on_task)

    return Cast(Scripted({"intention.answer": answer}), Scripted({"intention.addressed": mark}))


def played(*addressed: Sequence[int], gym: Gym = GYM, task: Task = TASK, max_turns: int = 16, on_task: bool = True) -> Episode:
    """An episode of questions that the judge says are about these details, one list a turn."""
    episode = Episode(task, max_turns=max_turns)
    for n in range(len(addressed)):
        action = Action("action", f"Question {n}?")
        episode = asyncio.run(advance(episode, action, cast(*addressed, on_task=on_task), gym))
    return episode


def asked(*questions: str, trait: str = "plain", task: Task = TASK) -> Episode:
    """An episode of these questions with the gym's own scripted cast."""
    actions = [Action("action", question) for question in questions]
    return asyncio.run(play(Episode(task, max_turns=len(actions)), Listed(actions), GYM.cast(trait)))


# --- reward --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("importances", "reward"),
    [
        ([], 0.0),
        ([3], 1.0),
        ([2], 0.7),
        ([1], 0.4),
        ([3, 3], 0.8),
        ([1, 3], 0.8),
        ([2, 1, 1], 0.3),
        ([1, 1, 1], 0.0),
        ([1, 1, 1, 1], 0.0),
        ([3, 3, 3, 3, 3, 3], 0.0),
        ([3, 2, 2, 1, 1, 1, 1], 0.0),
    ],
)
def test_a_question_pays_its_best_new_detail_less_a_fifth_for_each_further_one_never_below_zero(
    importances: list[int], reward: float
) -> None:
    assert question_reward(importances) == reward
    hidden = {"details": [*({**SIZE, "importance": i} for i in importances), {**SIZE, "importance": 1}], "stated": []}
    assert played(range(len(importances)), task=replace(TASK, hidden=hidden)).rewards == [reward]


def test_only_details_that_are_new_pay_and_count_against_a_question() -> None:
    episode = played([2], [0, 2], [0, 1, 2], [0])
    assert episode.rewards == [0.7, 1.0, 1.0, 0.0]
    assert [turn.facts for turn in episode.turns] == [
        {"new": [2], "covered": [2]},
        {"new": [0], "covered": [0, 2]},
        {"new": [1], "covered": [0, 1, 2]},
        {"new": [], "covered": [0, 1, 2]},
    ]


def test_the_penalty_of_a_further_detail_can_be_set() -> None:
    assert played([0, 1, 2], gym=make("intention", multi_detail_penalty=0.05)).rewards == [0.9]
    assert played([0, 1, 2], gym=make("intention", multi_detail_penalty=0)).rewards == [1.0]


def test_a_question_that_has_nothing_to_do_with_the_task_earns_nothing() -> None:
    episode = played([0], on_task=False)
    assert (episode.rewards, episode.turns[0].facts["covered"]) == ([0.0], [])


def test_the_reachable_reward_is_what_one_good_question_a_turn_earns() -> None:
    assert GYM.reachable(TASK, 16) == pytest.approx(1.0 + 1.0 + 0.7 + 0.4)
    assert GYM.reachable(TASK, 2) == pytest.approx(2.0)
    assert sum(played([3], [1], [0], [2]).rewards) == pytest.approx(GYM.reachable(TASK, 16))


# --- end -----------------------------------------------------------------------------------------------------


def test_the_episode_ends_when_every_missing_detail_is_covered() -> None:
    episode = played([0, 1, 2], [3])
    assert [turn.done for turn in episode.turns] == [False, True]
    assert (episode.stop, GYM.ended(episode), GYM.solved(episode)) == ("done", (True, False), True)


def test_the_turn_limit_truncates_and_does_not_terminate() -> None:
    episode = played([0], [0], max_turns=2)
    assert (episode.stop, GYM.ended(episode), GYM.solved(episode)) == ("turn_limit", (False, True), False)


def test_covering_everything_on_the_last_turn_terminates_and_does_not_truncate() -> None:
    for gym in (GYM, COMPAT):
        episode = played([0, 1], [2, 3], max_turns=2, gym=gym)
        assert (episode.stop, gym.ended(episode)) == ("done", (True, False))


def test_compat_reports_both_at_the_turn_limit() -> None:
    assert COMPAT.ended(played([0], max_turns=1, gym=COMPAT)) == (True, True)
    assert COMPAT.ended(played([0], max_turns=2, gym=COMPAT)) == (False, False)


# --- labels and reveals --------------------------------------------------------------------------------------


def test_a_turn_is_labeled_by_what_sort_of_question_it_was() -> None:
    episode = played([0], [1, 2], [0], [], [0, 3])
    assert [turn.label for turn in episode.turns] == ["relevant", "multi_part", "repeated", "irrelevant", "relevant"]


def test_the_same_words_again_are_a_repetition_whatever_the_judge_says() -> None:
    episode = Episode(TASK)
    for text in ("Anything else?", "  anything ELSE "):
        episode = asyncio.run(advance(episode, Action("action", text), cast([], []), GYM))
    assert [turn.label for turn in episode.turns] == ["irrelevant", "repeated"]


def test_a_turn_reveals_what_its_answer_tells_of_the_wishes_asked_for_and_those_stated_at_the_start() -> None:
    def reveals(words: str) -> tuple[str, ...]:
        user = Scripted({"intention.answer": lambda query: Answer(words=words)})
        episode = advance(Episode(TASK), Action("action", "?"), Cast(user, cast([2]).judge), GYM)
        return asyncio.run(episode).turns[0].reveals

    assert reveals("Fine.") == ()
    assert reveals("LARGE, please.") == ("large",)
    assert reveals("It should be large. I can spend 100 dollars.") == (
        *("large", "It should be large."),
        *("100 dollars", "I can spend 100 dollars."),
    )
    assert reveals("Large, and green.") == ("large",)


def test_another_choice_is_refused_and_compat_reads_it_as_a_question() -> None:
    for kind in ("answer", "search"):
        action = Action(kind, "Question?")
        [refused] = asyncio.run(advance(Episode(TASK), action, cast([0]), GYM)).turns
        assert (refused.reward, refused.label, refused.done) == (0.0, INVALID, False)
        assert f"The choice '{kind}' is not offered here." in refused.feedback
        [turn] = asyncio.run(advance(Episode(TASK), action, cast([0]), COMPAT)).turns
        assert (turn.reward, turn.action.kind, turn.action.text) == (1.0, "action", "Question?")


def test_finish_is_offered_under_compat_only_and_ends_with_nothing() -> None:
    [refused] = asyncio.run(advance(Episode(TASK), Action(FINISH), cast([0]), GYM)).turns
    assert (refused.label, refused.done) == (INVALID, False)
    episode = asyncio.run(advance(Episode(TASK), Action(FINISH), cast([0]), COMPAT))
    assert (episode.rewards, episode.stop, episode.turns[0].reveals) == ([0.0], "done", ())
    assert (COMPAT.solved(episode), COMPAT.ended(episode)) == (False, (True, False))


def test_compat_reports_both_ends_for_a_question_at_the_turn_limit_but_not_for_finish() -> None:
    asked = asyncio.run(advance(Episode(TASK, max_turns=1), Action("action", "When?"), cast([0]), COMPAT))
    assert (COMPAT.solved(asked), COMPAT.ended(asked)) == (False, (True, True))
    episode = asyncio.run(advance(Episode(TASK, max_turns=1), Action(FINISH), cast([0]), COMPAT))
    assert (COMPAT.solved(episode), COMPAT.ended(episode)) == (False, (True, False))


# --- the cast ------------------------------------------------------------------------------------------------


def test_an_index_that_no_detail_has_is_an_error_and_compat_ignores_it() -> None:
    with pytest.raises(ReplyError, match="named detail 4; there are 4, numbered from 0"):
        played([0, 4])
    assert played([0, 4], gym=COMPAT).rewards == [1.0]


def judged_by(client: FakeClient) -> Cast:
    """A judge that is a model."""
    return replace(cast([]), judge=LLMSeat(client, "judge"))


def test_a_model_that_names_a_detail_that_is_not_there_is_asked_once_more_and_told_why() -> None:
    client = FakeClient(['{"addressed": [0, 4], "on_task": true}', '{"addressed": [0], "on_task": true}'])
    [turn] = asyncio.run(advance(Episode(TASK), Action("action", "When?"), judged_by(client), GYM)).turns
    assert (turn.reward, turn.facts["new"], len(client.calls)) == (1.0, [0], 2)
    assert "there is no detail 4; the numbers are 0, 1, 2, 3" in client.calls[1]["messages"][-1]["content"]
    stubborn = FakeClient(['{"addressed": [4], "on_task": true}'] * 2)
    with pytest.raises(ReplyError, match=r"^judge: No usable reply .* also after one repair turn"):
        asyncio.run(advance(Episode(TASK), Action("action", "When?"), judged_by(stubborn), GYM))


@pytest.mark.parametrize(
    ("gym", "reply", "reward"),
    [(COMPAT, '{"addressed": [0, 4], "on_task": true}', 1.0), (GYM, '{"addressed": [4], "on_task": false}', 0.0)],
    ids=["compat", "off the task"],
)
def test_a_model_is_not_asked_again_where_a_number_too_high_does_not_count(gym: Gym, reply: str, reward: float) -> None:
    client = FakeClient([reply])
    [turn] = asyncio.run(advance(Episode(TASK), Action("action", "When?"), judged_by(client), gym)).turns
    assert (turn.reward, len(client.calls)) == (reward, 1)


def test_an_index_named_twice_counts_once_and_twice_under_compat() -> None:
    assert (played([2, 2]).rewards, played([2, 2]).turns[0].facts["new"]) == ([0.7], [2])
    assert played([2, 2], gym=COMPAT).rewards == [0.5]


@pytest.mark.parametrize(
    "reply",
    [
        {"addressed": ["0"], "on_task": True},
        {"addressed": [-1], "on_task": True},
        {"addressed": [0], "on_task": "false"},
        {"addressed": [True], "on_task": True},
        {"addressed": [0]},
    ],
)
def test_a_verdict_that_only_resembles_one_is_refused(reply: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Addressed.model_validate(reply)


def test_the_user_sees_the_request_and_its_wishes_but_nothing_on_what_is_missing_or_matters() -> None:
    heard: list[Query[Any]] = []
    episode = asyncio.run(advance(Episode(TASK), Action("action", "First?"), cast([0], [], heard=heard), GYM))
    asyncio.run(advance(episode, Action("action", "Second?"), cast([0], [], heard=heard), GYM))
    query = heard[2]
    assert query.name == "intention.answer"
    assert query.facts == {"task": "I need a gift.", "wishes": wishes(TASK), "question": "Second?", "said": ["First?"]}
    assert query.untrusted == {"question", "said"}
    assert {key for wish in wishes(TASK) for key in wish} == {"about", "wish", "sentence"}


def test_no_fact_of_the_user_tells_a_missing_detail_from_a_stated_one_or_an_important_one_from_another() -> None:
    """Two tasks that differ in nothing but what is missing, in its order and in its importance are one to the user."""
    other = {"details": [{**BUDGET, "importance": 3}, {**COLORS, "importance": 1}], "stated": [BRAND, SIZE, DATE]}
    heard: list[Query[Any]] = []
    for task in (TASK, replace(TASK, hidden=other)):
        asyncio.run(advance(Episode(task), Action("action", "What?"), cast([0], heard=heard), GYM))
    first, _, second, _ = heard
    assert first == second


def test_the_judge_sees_the_missing_details_and_not_the_wishes() -> None:
    heard: list[Query[Any]] = []
    asyncio.run(advance(Episode(TASK), Action("action", "What?"), cast([0], heard=heard), GYM))
    judged = heard[1]
    assert judged.name == "intention.addressed"
    assert judged.facts["details"][0] == {"number": 0, "detail": "date"}
    assert judged.untrusted == {"question"}
    assert not [d["preference"] for d in TASK.hidden["details"] if d["preference"] in str(judged.facts)]
    assert "importance" not in judged.facts


def test_the_prompts_ask_for_facts_that_the_queries_hold() -> None:
    heard: list[Query[Any]] = []
    asyncio.run(advance(Episode(TASK), Action("action", "What?"), cast([0], heard=heard), GYM))
    for query in heard:
        slots = set(Template(query.template).get_identifiers())
        assert {"task", "question"} <= slots <= set(query.facts)
    assert "wishes" not in Template(heard[1].template).get_identifiers()


# --- the scripted user and judge -----------------------------------------------------------------------------


def test_a_plain_user_answers_what_was_asked_in_the_order_asked() -> None:
    episode = asked("What size and what date?", "Which color?", "Which color and brand?")
    assert [turn.feedback for turn in episode.turns] == [
        "It should be large. I need it by next Friday.",
        "I like green.",
        "I like green. I want no brand.",
    ]
    assert episode.rewards == [0.8, 1.0, 0.4]


def test_a_terse_user_says_the_bare_wish() -> None:
    episode = asked("What size and what date?", "What is your budget?", "How old are you?", trait="terse")
    assert [turn.feedback for turn in episode.turns] == ["Large. Next Friday.", "100 dollars.", "None."]


def test_a_hesitant_user_is_unsure_once_about_each_thing() -> None:
    episode = asked("What size?", "What size?", "Which brand?", "Size and brand?", trait="hesitant")
    said = [turn.feedback for turn in episode.turns]
    assert said == [UNSURE, "It should be large.", UNSURE, "It should be large. I want no brand."]


@pytest.mark.parametrize("trait", TRAITS)
def test_how_a_user_talks_changes_no_reward(trait: str) -> None:
    episode = asked("What size?", "What size?", "Colors, brand?", "Hm?", trait=trait)
    assert episode.rewards == [0.7, 0.0, 0.8, 0.0]


@pytest.mark.parametrize(
    ("question", "said", "label"),
    [
        ("How are you today?", NOT_UNDERSTOOD, "irrelevant"),
        ("", NOT_UNDERSTOOD, "irrelevant"),
        ("What do you have in mind?", NOT_UNDERSTOOD, "irrelevant"),
        ("How old are you?", NO_PREFERENCE, "irrelevant"),
        ("What is your budget?", "I can spend 100 dollars.", "irrelevant"),
        ("WHAT SIZE", "It should be large.", "relevant"),
        ("Shall I downsize it?", NOT_UNDERSTOOD, "irrelevant"),
        ("What date, please?\n\nDATE!", "I need it by next Friday.", "relevant"),
    ],
)
def test_a_question_is_understood_by_its_lexicon_at_word_boundaries(question: str, said: str, label: str) -> None:
    [turn] = asked(question).turns
    assert (turn.feedback, turn.label) == (said, label)


def test_the_user_never_tells_a_wish_that_was_not_asked_for() -> None:
    for task in TEST[:20]:
        for kind, d in details().items():
            [turn] = asked(d["questions"][0], task=task).turns
            others = [w for w in wishes(task) if w["about"] != d["name"]]
            assert not [w for w in others if w["sentence"] in turn.feedback], (task.id, kind)


def test_an_unknown_trait_is_named() -> None:
    with pytest.raises(UnknownName, match=r"No scripted user trait named 'tense'\. Did you mean 'terse'\?"):
        GYM.cast("tense")


# --- expert and baselines ------------------------------------------------------------------------------------


def shares(agent: Agent, count: int = 60, max_turns: int = 16, trait: str = "plain") -> float:
    episodes = run(starts(TEST[:count], max_turns=max_turns), agent, GYM.cast(trait))
    assert not [e.error for e in episodes if e.error]
    return sum(map(share, episodes)) / len(episodes)


def test_the_expert_earns_nearly_all_there_is_with_every_user() -> None:
    for trait in TRAITS:
        assert shares(GYM.expert(1.0), trait=trait) >= 0.9


def test_more_skill_earns_more() -> None:
    dial = [shares(GYM.expert(skill), max_turns=8) for skill in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert dial == sorted(dial)
    assert dial[0] < 0.5 < 0.95 < dial[-1]


def test_agents_without_skill_stay_far_below_the_expert() -> None:
    for agents in (GYM.baselines(), GYM.baselines(GYM.tasks("train"))):
        questions = {"random_question", "fixed_list", "fixed_bundles", "repeat_one", "all_at_once"}
        assert {"random", "blind_answer", *questions} == agents.keys()
        earned = {name: shares(agent) for name, agent in agents.items()}
        assert max(earned.values()) == earned["fixed_bundles"] < 0.85, earned
        assert earned["blind_answer"] == 0.0
        assert earned["all_at_once"] < 0.2 and earned["repeat_one"] < 0.2
        assert earned["random"] <= 0.15 and earned["random_question"] < earned["fixed_list"]


@pytest.mark.parametrize("name", ["expert", *GYM.baselines()])
def test_an_agent_acts_without_a_look_at_what_is_hidden(name: str) -> None:
    agent = {"expert": GYM.expert(0.5), **GYM.baselines()}[name]
    for task in TEST[:10]:
        turns = (Turn(Action("action", "What is your budget?"), NO_PREFERENCE),)
        for done in ((), turns):
            blank = Episode(replace(task, hidden={}), done)
            assert asyncio.run(agent.act(blank)) == asyncio.run(agent.act(Episode(task, done)))


def test_the_expert_recognizes_the_domain_of_every_test_task() -> None:
    assert [t.id for t in TEST if recognize(t.prompt) != t.hidden["domain"]] == []
    assert recognize("I need a unicorn.") is None


def test_bundles_put_details_that_never_meet_into_one_question_and_leave_none_out() -> None:
    other = replace(TASK, hidden={"details": [BRAND], "stated": []})
    alone = replace(TASK, hidden={"details": [SIZE], "stated": []})
    assert fitted_bundles([alone, other]) == [[SIZE["type"], BRAND["type"]]]
    together = replace(TASK, hidden={"details": [SIZE, BRAND], "stated": []})
    assert fitted_bundles([together]) == [
        [max((SIZE, BRAND), key=lambda d: d["importance"])["type"]],
        *fitted_bundles([together])[1:],
    ]
    assert sorted(k for bundle in fitted_bundles([together]) for k in bundle) == sorted([SIZE["type"], BRAND["type"]])


def test_a_list_fitted_to_tasks_begins_with_what_is_worth_most_in_them() -> None:
    assert fitted_order([TASK, replace(TASK, hidden={"details": [SIZE, BRAND], "stated": []})]) == (
        "size",
        "date",
        "colors",
        "brand",
    )
    assert sorted(fixed_order()) == sorted(details())


# --- tasks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made() -> list[Task]:
    return tasks(400, seed=5)


def test_a_seed_gives_the_same_tasks_again_and_more_of_them_begin_with_the_same(made: list[Task]) -> None:
    assert tasks(60, seed=5) == made[:60]
    assert not {t.prompt for t in tasks(60, seed=6)} & {t.prompt for t in made[:60]}
    assert len({t.prompt for t in made}) == len({t.id for t in made}) == 400


def test_a_task_lacks_three_to_seven_details_the_most_important_first(made: list[Task]) -> None:
    for task in made:
        importances = [d["importance"] for d in task.hidden["details"]]
        assert MIN_MISSING <= len(importances) <= MAX_MISSING
        assert importances == sorted(importances, reverse=True)
    assert {len(t.hidden["details"]) for t in made} == set(range(MIN_MISSING, MAX_MISSING + 1))


def test_the_opening_states_what_is_known_and_names_nothing_that_is_missing(made: list[Task]) -> None:
    for task in made:
        stated = [d["type"] for d in task.hidden["stated"]]
        assert mentioned(task.prompt, lexicons()) == stated
        assert not set(stated) & {d["type"] for d in task.hidden["details"]}
        assert all(d["preference"] in task.prompt for d in task.hidden["stated"])
    assert any(t.hidden["stated"] for t in made) and not all(t.hidden["stated"] for t in made)


def test_a_detail_is_one_of_its_domain_with_a_wish_among_its_options(made: list[Task]) -> None:
    for task in made:
        specs = {spec["type"]: spec for spec in domains()[task.hidden["domain"]]["detail"]}
        for d in (*task.hidden["details"], *task.hidden["stated"]):
            assert d["importance"] == specs[d["type"]]["importance"]
            assert d["preference"] in d["options"] == specs[d["type"]]["options"]
            assert d["preference"] in d["answer"]
            assert d["lexicon"] == lexicons()[d["type"]]


def test_tasks_come_from_all_domains_alike_or_from_those_asked_for(made: list[Task]) -> None:
    def counts(drawn: Sequence[Task]) -> Mapping[str, int]:
        return {key: sum(t.hidden["domain"] == key for t in drawn) for key in domains()}

    assert set(counts(made).values()) <= {26, 27}
    some = tasks(20, seed=5, only=["legal_advice", "trip"])
    assert {key: n for key, n in counts(some).items() if n} == {"legal_advice": 10, "trip": 10}


def test_the_split_of_a_task_is_fixed_by_its_text_whatever_its_seed_and_name() -> None:
    for split in ("train", "validation", "test"):
        for task in tasks(30, seed=9, split=split, prefix="other"):
            assert split_of(task.prompt) == split
            assert task.id.startswith(f"other-{task.hidden['domain']}-9-")


def test_the_built_in_splits_share_no_text() -> None:
    texts = {split: {task.prompt for task in GYM.tasks(split)} for split in GYM.built_in_sets()}
    assert {"train", "validation", "test"} <= texts.keys()
    for split, mine in texts.items():
        assert len(mine) == len(GYM.tasks(split))
        for other, theirs in texts.items():
            if split.removeprefix("demo-") != other.removeprefix("demo-"):
                assert not mine & theirs, f"{split} and {other} share texts"


def test_a_built_in_set_is_the_one_that_the_manifest_names() -> None:
    for split, task_set in GYM.built_in_sets().items():
        assert task_set.license == "Apache-2.0"
        assert task_set.recipe is not None and task_set.recipe["split"] == split.removeprefix("demo-")
    validation = GYM.built_in_sets()["validation"]
    assert len(validation.check()) == validation.count == 120
    with pytest.raises(Exception, match="but the manifest names 120"):
        replace(validation, recipe={**(validation.recipe or {}), "seed": 0}).check()


def test_the_data_sheet_names_each_set_with_its_size_and_seed() -> None:
    sheet = (Path(generate.__file__).parent / "README.md").read_text("utf-8")
    for split, task_set in GYM.built_in_sets().items():
        assert task_set.recipe is not None
        assert f"| {split} | {task_set.count:,} | {task_set.recipe['seed']} |" in sheet
    domains_of_demo = GYM.built_in_sets()["demo-train"].recipe or {}
    assert f"| {', '.join(domains_of_demo['only'])} |" in sheet


def test_a_domain_that_does_not_exist_is_named_with_its_near_misses() -> None:
    with pytest.raises(UnknownName, match=r"No intention domain named 'clinic_intak'\. Did you mean 'clinic_intake'\?"):
        tasks(3, seed=0, only=["clinic_intak"])


def test_fewer_tasks_than_asked_for_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="count is 0; expected at least 1 task"):
        tasks(0, seed=0)
    stream = generate._stream

    def short(*args: Any) -> Iterator[Task]:
        return islice(stream(*args), 50)

    monkeypatch.setattr(generate, "_stream", short)
    with pytest.raises(ConfigError, match="Domains trip give only 50 distinct tasks of split None; 60 were asked for"):
        tasks(60, seed=0, only=["trip"])


def test_a_misspelled_setting_is_named() -> None:
    with pytest.raises(UnknownName, match="multi_detail_penalty"):
        make("intention", multi_detail_penalti=0.1)
