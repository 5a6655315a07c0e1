"""The scripted user and judge of travel, its expert and the agents without skill, on tasks of the generator."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from userrl.core import Action, Agent, Episode, Task, Turn
from userrl.errors import UnknownName
from userrl.evaluate.metrics import share, total
from userrl.gyms.base import TRAITS, find, make
from userrl.gyms.travel import ANSWER, NOTHING_LEFT, SEARCH, TALK, TOO_VAGUE, generate
from userrl.gyms.travel.listening import hear
from userrl.gyms.travel.preferences import bank, categories
from userrl.gyms.travel.scripted import (
    QUESTIONS,
    SMALL_TALK,
    UNSURE,
    Part,
    about,
    as_made,
    ask,
    beliefs,
    city,
    closest,
    notes,
    party,
    request,
    slip,
)
from userrl.rollout import run
from userrl.scripted import Listed

GYM = make("travel")
FAMILIES = ("22", "33", "44", "233", "333", "334", "444", "2222")


@cache
def tasks(family: str, count: int = 6) -> tuple[Task, ...]:
    return tuple(generate.task(f"travel-{family}-77-{number}") for number in range(count))


def play(agent: Agent, family: str, trait: str = "plain", **options: Any) -> list[Episode]:
    episodes = run([Episode(task, **options) for task in tasks(family)], agent, GYM.cast(trait))
    assert all(episode.stop != "error" for episode in episodes)
    return episodes


def mean(episodes: list[Episode], of: Callable[[Episode], float] = total) -> float:
    return sum(map(of, episodes)) / len(episodes)


# --- user and judge --------------------------------------------------------------------------------------------------

TASK = Task(
    "t",
    "travel",
    "Please find us a hotel in Porto from May 3rd to May 6th and a restaurant there on May 4th. We are two people.",
    {
        "scenario": "A couple spends some days in Porto.",
        "family": "22",
        "aspects": {
            "hotel": {
                "arguments": {"city": "Porto", "check_in": "May 3rd", "check_out": "May 6th", "guests": 2},
                "preferences": [
                    {"id": "P1", "category": "wellness", "text": "wants a pool", "hints": ["I do my lengths every day."]},
                    {"id": "P2", "category": "meals", "text": "wants breakfast", "hints": ["I am lost without a bread roll."]},
                ],
                "options": [{"id": "H1", "name": "Torre", "cost": [100]}, {"id": "H2", "name": "Casa do Rio", "cost": [90]}],
                "best": "H2",
                "correct": ["H2"],
            },
            "restaurant": {
                "arguments": {"city": "Porto", "date": "May 4th", "guests": 2},
                "preferences": [
                    {"id": "P3", "category": "atmosphere", "text": "wants it quiet", "hints": ["We want to hear each other."]},
                    {"id": "P4", "category": "seating", "text": "wants a terrace", "hints": ["I sit indoors all year."]},
                ],
                "options": [{"id": "R1", "name": "Verde", "expectation": "$"}],
                "best": "R1",
                "correct": ["R1"],
            },
        },
    },
)  # fmt: skip


def asked(*questions: str, trait: str = "plain") -> Episode:
    [episode] = run([Episode(TASK)], Listed([Action(TALK, text) for text in questions]), GYM.cast(trait))
    return episode


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("Should the hotel have a pool?", "P1"),
        ("Do you need a gym or a pool, at the hotel?", "P1"),
        ("Tell me about breakfast at the hotel.", "P2"),
        ("For the hotel: any wishes as to breakfast, and as to a pool?", "P2"),
        ("Now the restaurant. Should it be quiet?", "P3"),
        ("Do you care about the view at the restaurant?", "P4"),
        ("Romantic or lively, which do you prefer?", "P3"),
    ],
)
def test_a_question_that_names_a_category_elicits_its_preference(question: str, told: str) -> None:
    turn = asked(question).turns[0]
    assert (turn.facts.get("told"), turn.reward, turn.label) == (told, 0.2, "elicited")


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("What kind of hotel would you like?", "vague"),
        ("What are your preferences?", "vague"),
        ("Any pool, breakfast, parking or late check-out at the hotel?", "vague"),
        ("Is breakfast at the hotel important, and is a terrace at the restaurant?", "vague"),
        ("Is the rating of the hotel important?", "nothing_left"),
        ("Is the rating of the hotel important, or a pool?", "nothing_left"),
        ("Which airline should the flight be with?", "nothing_left"),
        ("Hello there!", "small_talk"),
        ("How are you today?", "small_talk"),
        ("The hotel has a pool.", "small_talk"),
        ("pool breakfast quiet terrace", "small_talk"),
        ("", "small_talk"),
    ],
)
def test_other_talk_elicits_nothing(question: str, label: str) -> None:
    turn = asked(question).turns[0]
    assert (turn.label, turn.reward, turn.reveals) == (label, 0.0, ())
    assert turn.feedback == {"vague": TOO_VAGUE, "nothing_left": NOTHING_LEFT, "small_talk": SMALL_TALK}[label]


def test_a_preference_that_was_told_is_nothing_left() -> None:
    episode = asked("Does the hotel need a pool?", "And a gym?", "And breakfast?")
    assert [turn.label for turn in episode.turns[:3]] == ["elicited", "nothing_left", "elicited"]


def test_the_user_hints_and_never_says_its_wish_outright() -> None:
    for family in ("44", "2222"):
        for episode in play(GYM.expert(), family):
            outright = [p["text"] for part in episode.task.hidden["aspects"].values() for p in part["preferences"]]
            for turn in episode.turns:
                if "told" in turn.facts:
                    assert len(turn.reveals) == 1
                    assert not any(text in turn.feedback for text in outright)


def test_a_terse_user_says_the_phrasing_alone_and_a_plain_one_leads_up_to_it() -> None:
    question = "Does the hotel need a pool?"
    assert asked(question, trait="terse").turns[0].feedback == "I do my lengths every day."
    assert asked(question).turns[0].feedback.endswith(" I do my lengths every day.")
    assert asked("Hello!", trait="terse").turns[0].feedback == "All right."


def test_a_hesitant_user_is_unsure_once_and_then_answers() -> None:
    episode = asked("Hello!", "Does the hotel need a pool?", "Does the hotel need a pool?", "And breakfast?", trait="hesitant")
    assert [turn.feedback for turn in episode.turns[:2]] == [SMALL_TALK, UNSURE]
    assert [turn.label for turn in episode.turns[:4]] == ["small_talk", "small_talk", "elicited", "elicited"]
    assert episode.rewards[:4] == [0.0, 0.0, 0.2, 0.2]


def test_a_user_that_is_bored_brings_something_up_by_itself() -> None:
    episode = asked("Hello!", "Hello!", "Hello!")
    assert episode.turns[2].feedback.startswith("By the way")
    assert episode.turns[2].facts["told"] in ("P1", "P2", "P3", "P4")


# --- what the expert makes of texts ----------------------------------------------------------------------------------


def test_every_question_of_the_expert_is_heard_as_being_about_its_category() -> None:
    for preference in bank().values():
        label = categories(preference.aspect)[preference.category].label
        for form in QUESTIONS:
            text = form.format(label=label, aspect=preference.aspect.replace("_", " "))
            heard = hear(text, list(categories_by_aspect()))
            assert heard.asks
            assert heard.topics == ((preference.aspect, preference.category),), text


def categories_by_aspect() -> dict[str, Any]:
    return {aspect: categories(aspect) for aspect in ("flight", "hotel", "apartment", "restaurant", "rental_car")}


def test_the_expert_searches_with_what_the_request_says_and_with_all_of_it_if_that_fails() -> None:
    text = request(Episode(TASK), "hotel")
    assert text == "hotel: hotel in Porto from May 3rd to May 6th, two people"
    failing = Action(SEARCH, text)
    [episode] = run([Episode(TASK, max_turns=1)], Listed([failing]), GYM.cast())
    assert episode.turns[0].label == "searched"
    again = Episode(TASK).play(Turn(failing, "The search found nothing."))
    assert TASK.prompt in request(again, "hotel")


def test_parts_of_a_request_are_told_apart() -> None:
    prompt = (
        "I go to Rome. I need:\n- a flight out of Oslo on May 3\n- dinner at a restaurant there on 4 May\nJust me, one person."
    )
    assert about(prompt, "flight") == "a flight out of Oslo on May 3"
    assert about(prompt, "restaurant") == "dinner at a restaurant there on 4 May"
    assert about(prompt, "hotel") == ""
    assert (city("From Oslo to Rome, then home from Rome"), city("I go to Rome by a flight out of Oslo")) == ("", "Rome")
    assert (party(prompt), party("We are planning it. In all we are 3."), party("Just us.")) == (", one person", ", 3 people", "")


def test_the_expert_understands_other_words_than_the_banks_by_what_they_share_with_one_preference() -> None:
    nonstop = bank()["flight.layover.nonstop"]
    assert closest(nonstop.text, "flight", "layover") == nonstop
    assert closest("zzz", "flight", "layover") is None


def test_only_as_many_options_as_a_task_has_and_a_cheaper_near_miss_for_each_wish_are_believed() -> None:
    by_price = list(range(8))
    wish, other = 0b11110100, 0b11111000
    assert as_made([wish, other], by_price) == [4, 5, 6, 7]
    assert as_made([wish], by_price) == []
    assert as_made([0b11110000, 0b11111100], by_price) == []


def test_beliefs_are_sure_of_the_best_option_once_all_is_told() -> None:
    for family in ("22", "44"):
        for task in tasks(family):
            [episode] = run([Episode(task)], GYM.expert(), GYM.cast())
            for aspect, part in notes(episode).items():
                truth = task.hidden["aspects"][aspect]
                told = frozenset(p["key"] for p in truth["preferences"])
                worth = beliefs(part.listed, told, frozenset(categories(aspect))).worth
                assert max(worth, key=lambda name: worth[name]) == truth["best"]
                assert worth[truth["best"]] == pytest.approx(1.0)


def test_what_the_expert_notes_is_in_the_prompt_and_the_feedback_alone() -> None:
    [episode] = run([Episode(tasks("33")[0])], GYM.expert(), GYM.cast())
    blind = Episode(Task("x", "travel", episode.task.prompt), episode.turns)
    assert notes(blind) == notes(episode)
    assert {aspect for aspect, part in notes(blind).items() if part.chosen} == set(episode.task.hidden["aspects"])


# --- agents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_does_well_in_every_family_that_16_turns_can_serve(family: str) -> None:
    episodes = play(GYM.expert(), family)
    assert mean(episodes, share) >= (0.9 if family != "444" else 0.8)
    searches = [turn.label for episode in episodes for turn in episode.turns if turn.action.kind == SEARCH]
    assert set(searches) == {"searched"}


@pytest.mark.parametrize("trait", TRAITS)
def test_the_expert_copes_with_every_trait(trait: str) -> None:
    assert mean(play(GYM.expert(), "33", trait), share) >= 0.9


def test_more_skill_scores_more() -> None:
    scores = [mean(play(GYM.expert(skill), "33")) for skill in (0.0, 0.4, 0.8, 1.0)]
    assert scores == sorted(scores)
    assert scores[0] < 0.2 < 0.9 < scores[-1]


def test_random_earns_little_and_answering_at_random_or_cheaply_after_searching_not_much_more() -> None:
    agents = find("travel").baselines()
    scores = {name: sum(mean(play(agent, family)) for family in ("22", "33", "233")) / 3 for name, agent in agents.items()}
    assert set(scores) == {"random", "random_after_search", "ask_nothing", "infer_only"}
    assert scores["random"] < 0.15
    assert scores["random_after_search"] < 0.4
    assert scores["ask_nothing"] == 0.0
    assert scores["infer_only"] < mean(play(GYM.expert(), "33")) - 0.1


def test_agents_without_skill_never_ask_for_a_preference() -> None:
    for agent in find("travel").baselines().values():
        labels = Counter(turn.label for episode in play(agent, "333") for turn in episode.turns)
        assert labels["elicited"] == 0


def test_all_agents_end_a_trip_that_their_words_do_not_fit() -> None:
    odd = Task("t", "travel", "I drive my car to the flight: find me a hotel.", TASK.hidden)
    for agent in (GYM.expert(), GYM.expert(0.3), *find("travel").baselines().values()):
        [episode] = run([Episode(odd)], agent, GYM.cast())
        assert episode.stop in ("done", "turn_limit")


def test_the_listing_can_be_read_back_as_json_with_the_id_first() -> None:
    [episode] = run([Episode(tasks("22")[0])], GYM.expert(), GYM.cast())
    listed = next(turn for turn in episode.turns if "listed" in turn.facts)
    rows = [json.loads(line) for line in listed.feedback.split("\n")[1:]]
    assert len(rows) == 19
    assert all(next(iter(row)) == "id" for row in rows)
    assert "why" not in listed.feedback


def test_an_unknown_trait_is_named() -> None:
    with pytest.raises(UnknownName, match="scripted user trait"):
        find("travel").cast("loud")


def test_a_question_carries_the_label_of_its_category() -> None:
    action = ask("rental_car", "mileage", Episode(TASK).rng("x"))
    assert (action.kind, "rental car" in action.text) == (TALK, True)
    assert categories("rental_car")["mileage"].label in action.text
    assert ANSWER not in action.text


def test_a_slip_depends_on_the_seed_alone_and_not_on_the_order_of_a_set() -> None:
    part = Part(asked=frozenset(categories("hotel")))
    slips = {slip(Episode(TASK), {"hotel": part}, random.Random(seed)).text for seed in range(60)}
    first = min(part.asked)
    again = {ask("hotel", first, random.Random(seed)).text for seed in range(60)}
    assert slips & again and len(slips - again) == 3
