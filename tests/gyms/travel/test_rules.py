"""The rules of travel: searches, talk, choices, rewards and scores, with a judge that says what the test wants."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from userrl.core import Action, Cast, Episode, Query, Task, Turn
from userrl.errors import ConfigError, ReplyError, UnknownName
from userrl.evaluate.metrics import share, summarize, total
from userrl.gyms.base import FINISH, Gym, make
from userrl.gyms.travel import ANSWER, NOTHING_LEFT, REWARDS, SEARCH, SEARCH_DOWN, TALK, TOO_VAGUE, Match, Talk, Words
from userrl.llm.fake import FakeClient
from userrl.rollout import advance
from userrl.scripted import Scripted
from userrl.users.llm import LLMSeat

GYM, COMPAT = make("travel"), make("travel", compat="userrl")

FLIGHTS = [
    {"id": "F3", "path": ["Oslo", "Porto"], "cost": 210, "company": ["Nordvind Airways"]},
    {"id": "F1", "path": ["Oslo", "Amsterdam", "Porto"], "cost": 150, "company": ["Polder Air"]},
    {"id": "F2", "path": ["Oslo", "Porto"], "cost": 260, "company": ["SkyBus"]},
]
HOTELS = [
    {"id": f"H{n}", "name": name, "cost": [100 + n]} for n, name in enumerate(("Casa do Rio", "Torre Rooms", "Granito House"))
]


def preference(number: int, category: str, text: str, hint: str) -> dict[str, Any]:
    return {"id": f"P{number}", "category": category, "text": text, "hints": [hint]}


TASK = Task(
    "t",
    "travel",
    "I need a flight from Oslo to Porto on May 3rd and a hotel there.",
    {
        "scenario": "A couple flies from Oslo to Porto.",
        "family": "22",
        "aspects": {
            "flight": {
                "arguments": {"origin": "Oslo", "destination": "Porto", "date": "May 3rd"},
                "preferences": [
                    preference(1, "layover", "wants a nonstop flight", "Changing planes is no joy with my knees."),
                    preference(2, "baggage", "wants a checked bag free of charge", "I never travel without my big suitcase."),
                ],
                "options": FLIGHTS,
                "best": "F3",
                "correct": ["F3", "F2"],
            },
            "hotel": {
                "arguments": {"city": "Porto", "guests": 2},
                "preferences": [
                    preference(3, "pool", "wants a swimming pool", "I do my lengths every morning."),
                    preference(4, "rating", "wants a rating of 8 at least", "I was fooled by a middling place once."),
                ],
                "options": HOTELS,
                "best": "H0",
                "correct": ["H0", "H2"],
            },
        },
    },
)


class Room:
    """User and judge: the judge says what it is given, turn by turn; the user says a preference's first hint."""

    def __init__(self, *verdicts: Match | Talk) -> None:
        self.verdicts, self.asked = list(verdicts), list[Query[Any]]()

    def cast(self) -> Cast:
        return Cast(
            Scripted({"travel.reveal": self.say, "travel.chat": self.say}),
            Scripted({"travel.search": self.judge, "travel.talk": self.judge}),
        )

    def judge(self, query: Query[Any]) -> Any:
        self.asked.append(query)
        return self.verdicts.pop(0)

    def say(self, query: Query[Any]) -> Words:
        self.asked.append(query)
        return Words(words=query.facts.get("examples", ["Nice to talk to you."])[0])


def found(aspect: Any) -> Match:
    return Match(matches=True, aspect=aspect)


def asks(number: int) -> Talk:
    return Talk(kind="asks", preference=f"P{number}")


SMALL, VAGUE, NONE, WRONG = Talk(kind="other"), Talk(kind="vague"), Talk(kind="nothing_left"), Match(matches=False)


def played(*moves: Match | Talk | str, gym: Gym = GYM, task: Task = TASK, max_turns: int = 16, seed: int = 0) -> Episode:
    """An episode: a verdict is a search or a question that gets it, a text is an answer."""
    room = Room(*(move for move in moves if not isinstance(move, str)))
    rules = {"compat": "userrl"} if gym.compat else {}
    episode = Episode(task, max_turns=max_turns, rules=rules, seed=seed)
    for move in moves:
        kind = ANSWER if isinstance(move, str) else SEARCH if isinstance(move, Match) else TALK
        action = Action(kind, move if isinstance(move, str) else "Something?")
        episode = asyncio.run(advance(episode, action, room.cast(), gym))
    return episode


def labels(episode: Episode) -> list[str]:
    return [turn.label for turn in episode.turns]


# --- searches --------------------------------------------------------------------------------------------------------


def test_the_first_right_search_of_an_aspect_is_paid_and_lists_its_options_once_as_json_lines() -> None:
    episode = played(found("flight"), found("hotel"), found("flight"))
    first, second, again = episode.turns
    assert episode.rewards == [0.2, 0.2, 0.0]
    assert [json.loads(line) for line in first.feedback.split("\n")[1:]] == FLIGHTS
    assert [json.loads(line)["id"] for line in second.feedback.split("\n")[1:]] == ["H0", "H1", "H2"]
    assert "Oslo" not in again.feedback
    assert labels(episode) == ["searched", "searched", "searched_again"]


def test_a_listing_reveals_the_texts_of_its_options_and_a_small_fact() -> None:
    [turn] = played(found("flight")).turns
    shown = {"F1", "F2", "F3", "Oslo", "Porto", "Amsterdam", "Nordvind Airways", "Polder Air", "SkyBus"}
    assert set(turn.reveals) == {*shown, "id", "path", "cost", "company"}
    assert turn.facts == {"listed": "flight"}


def test_a_wrong_search_is_told_what_a_search_of_its_aspect_must_say() -> None:
    about_none, about_one = played(WRONG, Match(matches=False, aspect="flight")).turns
    assert about_none.reward == about_one.reward == 0.0
    assert "flight, hotel" in about_none.feedback
    assert "origin, destination, date" in about_one.feedback
    assert "Oslo" not in about_one.feedback


def test_every_fifth_search_fails_whatever_it_says_and_asks_no_judge() -> None:
    episode = played(*[WRONG] * 4, found("flight"), found("flight"), *[WRONG] * 3, WRONG)
    assert [n for n, turn in enumerate(episode.turns, start=1) if turn.feedback == SEARCH_DOWN] == [5, 10]
    assert episode.rewards[4:6] == [0.0, 0.2]


def test_a_judge_that_finds_an_aspect_outside_the_trip_is_an_error() -> None:
    with pytest.raises(ReplyError, match=r"judge named the aspect 'apartment'; the trip has flight, hotel"):
        played(found("apartment"))


# --- talk ------------------------------------------------------------------------------------------------------------


def test_a_question_for_an_open_preference_is_paid_and_the_user_hints_at_it() -> None:
    [turn] = played(asks(2)).turns
    assert (turn.reward, turn.label, turn.feedback) == (0.2, "elicited", "I never travel without my big suitcase.")
    assert turn.reveals == (turn.feedback,)
    assert turn.facts == {"talk": True, "told": "P2"}


def test_what_is_too_vague_what_is_not_wished_and_small_talk_earn_nothing() -> None:
    episode = played(VAGUE, NONE)
    assert [turn.feedback for turn in episode.turns] == [TOO_VAGUE, NOTHING_LEFT]
    assert [turn.feedback for turn in played(SMALL).turns] == ["Nice to talk to you."]
    assert sum(episode.rewards) == 0.0
    assert labels(episode) == ["vague", "nothing_left"]


def test_the_judge_is_shown_open_preferences_only_and_the_user_never_marks() -> None:
    room = Room(asks(1), VAGUE)
    episode = Episode(TASK)
    for text in ("Stops?", "Well?"):
        episode = asyncio.run(advance(episode, Action(TALK, text), room.cast(), GYM))
    first, reveal, second = room.asked
    assert [p["id"] for p in first.facts["preferences"]] == ["P1", "P2", "P3", "P4"]
    assert [p["id"] for p in second.facts["preferences"]] == ["P2", "P3", "P4"]
    assert second.facts["said"] == ["Stops?"]
    assert list(reveal.reply.model_fields) == ["words"]
    assert {"question", "said"} <= reveal.untrusted & second.untrusted


def test_a_judge_that_names_a_preference_that_is_not_open_is_an_error() -> None:
    with pytest.raises(ReplyError, match=r"judge named the preference 'P1'; open are P2, P3, P4"):
        played(asks(1), asks(1))


def judged_by(client: FakeClient, before: Episode, kind: str, gym: Gym = GYM) -> Turn:
    """The turn after an episode so far, with a model as the judge."""
    cast = Cast(Room().cast().user, LLMSeat(client, "judge"))
    return asyncio.run(advance(before, Action(kind, "Something?"), cast, gym)).turns[-1]


@pytest.mark.parametrize("named", ["P1", "P5", "a pool"])
def test_a_model_that_names_a_preference_that_is_not_open_is_asked_once_more_and_told_why(named: str) -> None:
    bad = json.dumps({"kind": "asks", "preference": named})
    client = FakeClient([bad, '{"kind": "asks", "preference": "P3"}'])
    turn = judged_by(client, played(asks(1)), TALK)
    assert (turn.reward, turn.facts["told"], len(client.calls)) == (0.2, "P3", 2)
    assert f"'{named}' is none of the untold wishes, which are P2, P3, P4" in client.calls[1]["messages"][-1]["content"]
    with pytest.raises(ReplyError, match=r"^judge: No usable reply .* also after one repair turn"):
        judged_by(FakeClient([bad, bad]), played(asks(1)), TALK)


def test_a_model_that_names_a_preference_that_was_told_is_believed_under_compat() -> None:
    client = FakeClient(['{"kind": "asks", "preference": "P1"}'])
    assert judged_by(client, played(asks(1), gym=COMPAT), TALK, COMPAT).label == "nothing_left"
    unknown = FakeClient(['{"kind": "asks", "preference": "P5"}', '{"kind": "vague"}'])
    assert judged_by(unknown, played(asks(1), gym=COMPAT), TALK, COMPAT).label == "vague"


def test_a_model_that_finds_an_aspect_outside_the_trip_is_asked_once_more_and_told_why() -> None:
    client = FakeClient(['{"matches": true, "aspect": "apartment"}', '{"matches": true, "aspect": "hotel"}'])
    assert judged_by(client, Episode(TASK), SEARCH).facts == {"listed": "hotel"}
    assert "the trip has no 'apartment'; its parts are flight, hotel" in client.calls[1]["messages"][-1]["content"]
    wrong = FakeClient(['{"matches": false, "aspect": "apartment"}'])
    assert judged_by(wrong, Episode(TASK), SEARCH).label == "search_wrong"


@pytest.mark.parametrize("kinds", [(SMALL, SMALL, SMALL), (VAGUE, NONE, VAGUE), (NONE, SMALL, NONE)])
def test_after_three_off_topic_turns_the_user_volunteers_a_preference_for_nothing(kinds: tuple[Talk, ...]) -> None:
    episode = played(*kinds, SMALL, SMALL, SMALL)
    told = [turn.facts.get("told") for turn in episode.turns]
    assert told[:2] == told[3:5] == [None, None]
    assert told[2] != told[5] and {told[2], told[5]} <= {"P1", "P2", "P3", "P4"}
    assert episode.rewards == [0.0] * 6
    assert len(episode.turns[2].reveals) == 1


def test_an_elicited_preference_begins_the_count_of_off_topic_turns_anew_and_searches_leave_it() -> None:
    episode = played(SMALL, SMALL, asks(1), SMALL, WRONG, SMALL)
    assert [turn.facts.get("told") for turn in episode.turns] == [None, None, "P1", None, None, None]
    assert "told" in played(SMALL, WRONG, SMALL, WRONG, SMALL).turns[-1].facts


def test_which_preference_is_volunteered_depends_on_the_seed_alone() -> None:
    drawn = [played(SMALL, SMALL, SMALL, seed=seed).turns[2].facts["told"] for seed in (*range(20), *range(20))]
    assert drawn[:20] == drawn[20:]
    assert set(drawn) == {"P1", "P2", "P3", "P4"}


def test_a_user_with_nothing_left_to_tell_volunteers_nothing() -> None:
    episode = played(asks(1), asks(2), asks(3), asks(4), SMALL, SMALL, VAGUE)
    assert all("told" not in turn.facts for turn in episode.turns[4:])


def test_a_user_that_says_its_wish_outright_is_found_out_by_what_the_turn_reveals() -> None:
    user = Scripted({"travel.reveal": lambda q: Words(words=f"It wants a nonstop flight. {q.facts['examples'][0]}")})
    room = Room(asks(1))
    cast = Cast(user, room.cast().judge)
    turn = asyncio.run(advance(Episode(TASK), Action(TALK, "Stops?"), cast, GYM)).turns[-1]
    assert turn.reveals == ("wants a nonstop flight", "Changing planes is no joy with my knees.")


# --- choices ---------------------------------------------------------------------------------------------------------


def test_the_best_option_earns_1_another_correct_one_less_and_a_wrong_one_nothing() -> None:
    assert played("F3", "H0").rewards == [1.0, 1.0]
    assert played("F2", "H2").rewards == [0.8, 0.8]
    assert played("F1", "H1").rewards == [0.0, 0.0]
    assert labels(played("F3", "H2")) == ["best", "correct"]


def test_the_talk_ends_when_each_aspect_has_a_choice_and_feedback_never_marks_it() -> None:
    episode = played("F3", asks(3), "H1")
    assert [turn.done for turn in episode.turns] == [False, False, True]
    assert (episode.stop, GYM.solved(episode)) == ("done", False)
    assert {turn.feedback for turn in (*played("F1").turns, *played("F3").turns)} == {
        "I take F1. I still need a hotel.",
        "I take F3. I still need a hotel.",
    }


def test_a_choice_drops_the_open_preferences_of_its_aspect() -> None:
    room = Room(VAGUE)
    episode = played("F1")
    asyncio.run(advance(episode, Action(TALK, "Well?"), room.cast(), GYM))
    assert [p["id"] for p in room.asked[0].facts["preferences"]] == ["P3", "P4"]


IDS = ("", "f3", "F 3", "F3.", "<F3>", "X3", "F", "F3, H0", "F3 H0", "I take F3", "F٣", "R1", "C1", "F9", "F03")


@pytest.mark.parametrize("text", IDS)
def test_what_is_not_one_id_of_an_aspect_of_the_trip_is_refused_and_consumes_nothing(text: str) -> None:
    episode = played(text, "F3", "H0")
    assert episode.rewards == [0.0, 1.0, 1.0]
    assert episode.turns[0].label == "refused"


def test_a_second_choice_of_an_aspect_is_refused() -> None:
    episode = played("F1", "F3", " H0 ")
    assert episode.rewards == [0.0, 0.0, 1.0]
    assert labels(episode) == ["wrong", "refused", "best"]


def test_compat_counts_a_choice_outside_the_trip_or_the_list() -> None:
    for first in ("R1", "H9"):
        episode = played(first, "F3", gym=COMPAT)
        assert (episode.rewards, episode.stop) == ([0.0, 1.0], "done")


def test_compat_takes_a_closed_preference_for_nothing_left_and_offers_finish() -> None:
    episode = played(asks(1), asks(1), gym=COMPAT)
    assert episode.rewards == [0.2, 0.0]
    ended = asyncio.run(advance(episode, Action(FINISH), Room().cast(), COMPAT))
    assert (ended.stop, ended.turns[-1].reward) == ("done", 0.0)


def test_compat_reports_both_ends_for_a_last_choice_at_the_turn_limit_but_not_for_finish() -> None:
    chosen = played("F3", "H0", gym=COMPAT, max_turns=2)
    assert COMPAT.ended(chosen) == (True, True)
    full = played("F3", NONE, gym=COMPAT, max_turns=2)
    assert COMPAT.ended(full) == (False, True)
    finished = asyncio.run(advance(played("F3", gym=COMPAT, max_turns=2), Action(FINISH), Room().cast(), COMPAT))
    assert COMPAT.ended(finished) == (True, False)
    assert GYM.ended(played("F3", "H0", max_turns=2)) == (True, False)


# --- worth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "search", "told"), [("default", 0.2, 0.2), ("training", 0.0, 0.8), ("evaluation", 0.2, 0.6)])
def test_presets_set_the_rewards_on_the_way(preset: str, search: float, told: float) -> None:
    assert played(found("hotel"), asks(1), "F3", gym=make("travel", rewards=preset)).rewards == [search, told, 1.0]
    assert REWARDS[preset] == (search, told)


def test_a_single_reward_goes_before_the_preset() -> None:
    gym = make("travel", rewards="training", search_correct_reward=0.5, choice_correct_reward=0.7)
    assert played(found("hotel"), asks(1), "F2", gym=gym).rewards == [0.5, 0.8, 0.7]


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"rewards": "trainign"}, UnknownName, "Did you mean 'training'"),
        ({"search_correct_reward": -1}, ConfigError, "'search_correct_reward' of gym 'travel' is -1"),
        ({"choice_best_reward": "1"}, ConfigError, "expected a number from 0 to 1"),
        ({"elicitation_interval": 0}, ConfigError, "expected a whole number above 0"),
        ({"search_failure_interval": 1.5}, ConfigError, "is 1.5"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make("travel", **settings)


def test_the_score_is_the_mean_of_the_answers_whatever_else_was_earned() -> None:
    episode = played(found("flight"), asks(1), "F3", "H2")
    assert (total(episode), share(episode)) == (pytest.approx(0.9), pytest.approx(0.9))
    assert sum(episode.rewards) == pytest.approx(2.2)
    assert GYM.solved(episode)
    assert total(played("F3")) == 0.5
    [summary] = summarize([episode, played("F1", "H1")])
    assert (summary.score.mean, summary.solved.mean) == (pytest.approx(0.45), 0.5)


def test_reachable_is_what_pays_most_within_the_turns() -> None:
    assert GYM.reachable(TASK, 16) == pytest.approx(2 * 1.0 + 2 * 0.2 + 4 * 0.2)
    assert GYM.reachable(TASK, 3) == pytest.approx(2.2)
    full = played(found("flight"), found("hotel"), *map(asks, range(1, 5)), "F3", "H0")
    assert sum(full.rewards) == pytest.approx(GYM.reachable(TASK, 16))
    assert (share(full), GYM.best_score(TASK, 1)) == (1.0, 0.5)


def test_reports_score_each_family_apart() -> None:
    gym = make("travel")
    tasks = gym.tasks("test")[:40]
    assert {part for task in tasks for part in gym.subsets(task)} == {f"family {task.id.split('-')[1]}" for task in tasks}
