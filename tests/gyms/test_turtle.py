"""The turtle gym: its rules, its scripted user, judge, expert and baselines, its stories."""

from __future__ import annotations

import asyncio
import math
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import pytest
from pydantic import ValidationError

from userrl.core import INVALID, Action, Agent, Cast, Episode, Query, Task, Turn
from userrl.data import split_of
from userrl.errors import ConfigError, ReplyError, UnknownName
from userrl.evaluate.golden import check
from userrl.evaluate.metrics import share
from userrl.gyms.base import FINISH, TRAITS, make
from userrl.gyms.turtle import NOTHING_COVERED, Turtle, Word, grades_for, rubric_score
from userrl.gyms.turtle.generate import content, tasks
from userrl.gyms.turtle.scripted import MAX_QUESTION_WORDS, MAX_TOLD_WORDS, VOCABULARY, bank, line_grade, salad, understood
from userrl.gyms.turtle.words import concepts, stem, stems, words
from userrl.llm.fake import FakeClient
from userrl.llm.replies import render_query
from userrl.rollout import advance, play, run, starts
from userrl.scripted import Listed, Scripted
from userrl.users.llm import LLMSeat

GYM, COMPAT = make("turtle"), make("turtle", compat="userrl")
STORIES = {task.id: task for task in tasks()}
EXTRACT = Path(__file__).parents[1] / "golden" / "turtle.jsonl"

KEEPER = {"line": "The keeper was asleep.", "weight": 0.5, "words": "keeper / guard; asleep / sleep / slept"}
STORM = {"line": "A storm broke the window.", "weight": 0.3, "words": "storm / wind; window / pane; broke / break"}
CAT = {"line": "The cat came in.", "weight": 0.2, "words": "cat / kitten"}
FACTS = [
    {"question": "Was the keeper asleep?", "reply": "Yes", "words": "asleep / sleep"},
    {"question": "Was the keeper drunk?", "reply": "No", "words": "drunk"},
    {"question": "Was the cat asleep?", "reply": "No", "words": "cat; asleep / sleep"},
]
COMMON = {"child": "Yes", "death": "No", "weather": "Maybe", "unheard_of": "Yes"}
STORY = "The keeper was asleep when a storm broke the window, and the cat came in."
HIDDEN = {"story": STORY, "rubric": [KEEPER, STORM, CAT], "facts": FACTS, "common": COMMON}
TASK = Task("t", "turtle", "At dawn there is fish on the stairs of the tower.", HIDDEN)


def cast(*grades: Sequence[float], word: str = "Yes", heard: list[Query[Any]] | None = None) -> Cast:
    """A user who always says `word`, and a judge whose grades on the n-th turn are the n-th argument."""

    def answer(query: Query[Any]) -> Word:
        if heard is not None:
            heard.append(query)
        return Word(word=word)  # type: ignore[arg-type]  # one of the three

    def mark(query: Query[Any]) -> Any:
        if heard is not None:
            heard.append(query)
        return query.reply(grades=list(grades[query.turn]))

    return Cast(Scripted({"turtle.question": answer}), Scripted({"turtle.grade": mark}))


def told(*grades: Sequence[float], gym: Turtle | Any = GYM, task: Task = TASK, max_turns: int = 16) -> Episode:
    """An episode of answers that get these grades, one list a turn."""
    episode = Episode(task, max_turns=max_turns)
    for n in range(len(grades)):
        episode = asyncio.run(advance(episode, Action("answer", f"Telling {n}."), cast(*grades), gym))
    return episode


def weighted(*weights: float) -> Task:
    rubric = [{"line": f"Line {i} of the rubric.", "weight": weight} for i, weight in enumerate(weights)]
    return replace(TASK, hidden={"story": STORY, "rubric": rubric})


def scripted(*actions: tuple[str, str], trait: str = "plain", task: Task = TASK) -> Episode:
    """An episode of these actions with the gym's own scripted cast."""
    moves = [Action(kind, text) for kind, text in actions]
    return asyncio.run(play(Episode(task, max_turns=len(moves)), Listed(moves), GYM.cast(trait)))


def replies(*questions: str, trait: str = "plain", task: Task = TASK) -> list[str]:
    return [turn.feedback for turn in scripted(*(("action", q) for q in questions), trait=trait, task=task).turns]


def grades(text: str, task: Task = TASK) -> list[float]:
    """The scripted judge's grades of a telling."""
    [turn] = scripted(("answer", text), task=task).turns
    found: list[float] = turn.facts["grades"]
    return found


# --- reward and end --------------------------------------------------------------------------------------------


def test_an_answer_earns_only_its_gain_over_the_best_answer_before() -> None:
    episode = told([0.5, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 0.5, 0])
    assert episode.rewards == pytest.approx([0.25, 0.0, 0.25, 0.0, 0.15])
    assert [turn.facts["score"] for turn in episode.turns] == pytest.approx([0.25, 0.0, 0.5, 0.5, 0.65])
    assert [turn.label == "better_answer" for turn in episode.turns] == [True, False, True, False, True]


def test_the_best_score_is_read_from_the_turns_and_a_question_between_changes_nothing() -> None:
    episode = told([0.5, 1, 0])
    episode = asyncio.run(advance(episode, Action("action", "Is it far?"), cast(), GYM))
    episode = asyncio.run(advance(episode, Action("answer", "x"), cast([], [], [1, 1, 0]), GYM))
    assert episode.rewards == pytest.approx([0.55, 0.0, 0.25])
    assert dict(episode.turns[1].facts) == {}


def test_the_rewards_of_an_episode_sum_to_its_best_score() -> None:
    episode = told([0, 0, 1], [1, 0, 0.5], [0.5, 0.5, 0], [1, 1, 1])
    assert math.fsum(episode.rewards) == pytest.approx(1.0) == GYM.reachable(TASK, 16)
    assert (episode.stop, GYM.ended(episode), GYM.solved(episode)) == ("done", (True, False), True)


def test_the_feedback_lists_the_lines_fully_covered_and_no_other_and_reveals_them() -> None:
    half, some = told([0.5, 0.5, 0.5], [1, 0.5, 1]).turns
    assert (half.feedback, half.reveals) == (NOTHING_COVERED, ())
    assert some.feedback == "Your story holds:\n- The keeper was asleep.\n- The cat came in."
    assert some.reveals == ("The keeper was asleep.", "The cat came in.")


def test_the_turn_limit_truncates_and_the_whole_story_on_the_last_turn_terminates() -> None:
    missed, hit = told([1, 0, 0], [0, 1, 0], max_turns=2), told([1, 0, 0], [1, 1, 1], max_turns=2)
    assert (missed.stop, GYM.ended(missed), GYM.solved(missed)) == ("turn_limit", (False, True), False)
    assert (hit.stop, GYM.ended(hit), GYM.solved(hit)) == ("done", (True, False), True)


def test_the_threshold_can_be_lowered() -> None:
    low = make("turtle", success_threshold=0.7)
    assert told([1, 0, 1], gym=low).stop == "done"
    assert told([1, 0.5, 0], gym=low).stop == told([1, 0, 1]).stop == "running"


@pytest.mark.parametrize("threshold", [0, -1, 1.1, "1", True, None, math.nan])
def test_a_threshold_that_cannot_be_is_named(threshold: Any) -> None:
    with pytest.raises(ConfigError, match=r"success_threshold is .*; expected a number above 0 and at most 1"):
        make("turtle", success_threshold=threshold)


def test_a_question_earns_nothing_and_is_labeled_by_its_reply_or_as_repeated() -> None:
    episode = Episode(TASK)
    for text, word in (("Is it so?", "Yes"), ("Is it not?", "No"), ("Hm?", "Maybe"), ("is IT so", "Yes")):
        episode = asyncio.run(advance(episode, Action("action", text), cast(word=word), GYM))
    assert [turn.feedback for turn in episode.turns] == ["Yes", "No", "Maybe", "Yes"]
    assert [turn.label for turn in episode.turns] == ["yes", "no", "maybe", "repeated"]
    assert episode.rewards == [0.0] * 4


# --- default against compat: one test per difference -----------------------------------------------------------


FIVE = (0.2, 0.3, 0.2, 0.2, 0.1)
"""Weights whose sum, added in order, is 0.9999999999999999."""


def test_all_lines_covered_end_an_episode_and_under_compat_not_when_the_weights_add_up_inexactly() -> None:
    assert rubric_score([1.0] * 5, FIVE) < 1.0
    for gym, stop in ((GYM, "done"), (COMPAT, "running")):
        episode = told([1] * 5, gym=gym, task=weighted(*FIVE))
        assert episode.rewards == pytest.approx([1.0])
        assert episode.stop == stop
    assert told([1] * 4, gym=COMPAT, task=weighted(0.4, 0.3, 0.2, 0.1)).stop == "running"
    assert told([1] * 2, gym=COMPAT, task=weighted(0.5, 0.5)).stop == "done"


def test_the_tolerance_is_a_millionth() -> None:
    assert told([1, 1], task=weighted(0.5, 0.4999995)).stop == "done"
    assert told([1, 1], task=weighted(0.5, 0.499998)).stop == "running"


def test_text_that_is_no_call_is_a_question_under_compat_only() -> None:
    raw = Action(INVALID, raw="Was it a dream?", problem="Your reply holds no complete <tool_call>.")
    [default] = asyncio.run(advance(Episode(TASK), raw, cast(word="No"), GYM)).turns
    [compat] = asyncio.run(advance(Episode(TASK), raw, cast(word="No"), COMPAT)).turns
    assert (default.label, default.reward) == (INVALID, 0.0)
    assert "no complete <tool_call>" in default.feedback
    assert (compat.action.kind, compat.action.text, compat.feedback) == ("action", "Was it a dream?", "No")


def test_finish_is_offered_under_compat_only_and_ends_with_nothing_told() -> None:
    refused = asyncio.run(advance(Episode(TASK), Action(FINISH), cast(), GYM))
    assert (refused.stop, refused.turns[0].label) == ("running", INVALID)
    episode = asyncio.run(advance(Episode(TASK), Action(FINISH), cast(), COMPAT))
    assert (episode.stop, episode.rewards, episode.turns[0].reveals) == ("done", [0.0], ())
    assert not COMPAT.solved(episode)


def test_the_last_turn_can_both_terminate_and_truncate_under_compat_only() -> None:
    assert GYM.ended(told([1, 1, 1], max_turns=1)) == (True, False)
    assert COMPAT.ended(told([1, 1, 1], max_turns=1, gym=COMPAT, task=weighted(0.5, 0.25, 0.25))) == (True, True)


@pytest.mark.parametrize("gym", [GYM, COMPAT])
@pytest.mark.parametrize("bad", [[2, 1, 1], [-0.5, 0, 0], [0.3, 1, 1], [1, 1], [1, 1, 1, 1], [True, 1, 1], ["1", 1, 1], None])
def test_grades_that_are_no_grades_are_an_error_and_no_reward_under_compat_too(gym: Turtle, bad: Any) -> None:
    def mark(query: Query[Any]) -> Any:
        try:
            return query.reply.model_validate({"grades": bad})
        except ValidationError as error:
            raise ReplyError(str(error)) from error

    judge = Scripted({"turtle.grade": mark})
    episode = asyncio.run(play(Episode(TASK), Listed([Action("answer", "x")]), Cast(judge, judge), gym))
    assert (episode.stop, episode.turns) == ("error", ())
    assert episode.error is not None and episode.error.startswith("judge: ")


@pytest.mark.parametrize("word", ["yes", "Perhaps", "", True, None])
def test_a_word_other_than_the_three_does_not_fit(word: Any) -> None:
    with pytest.raises(ValidationError):
        Word.model_validate({"word": word})


def test_search_is_not_offered() -> None:
    for gym in (GYM, COMPAT):
        [turn] = asyncio.run(advance(Episode(TASK), Action("search", "x"), cast(), gym)).turns
        assert (turn.label, turn.reward) == (INVALID, 0.0)


def test_the_golden_extract_agrees_under_compat() -> None:
    [result] = check([EXTRACT])
    assert (result.compared, result.not_compared, result.failed, result.messages) == (8, 4, 0, ())


# --- queries ---------------------------------------------------------------------------------------------------


def heard_by(cast_of: list[Query[Any]]) -> tuple[Query[Any], Query[Any]]:
    episode = asyncio.run(advance(Episode(TASK), Action("action", "First?"), cast(heard=cast_of), GYM))
    episode = asyncio.run(advance(episode, Action("action", "Second?"), cast(heard=cast_of), GYM))
    asyncio.run(advance(episode, Action("answer", "So it was."), cast([], [], [0, 0, 0], heard=cast_of), GYM))
    return cast_of[1], cast_of[2]


def test_the_user_knows_the_story_and_the_talk_and_not_the_rubric() -> None:
    question, _ = heard_by([])
    assert question.name == "turtle.question"
    assert question.untrusted == {"question", "asked"}
    assert question.facts["asked"] == ["First?"]
    assert question.facts["story"] == STORY
    assert "rubric" not in question.facts and "words" not in question.facts


def test_the_judge_sees_the_numbered_lines_and_neither_weights_nor_the_talk() -> None:
    _, grade = heard_by([])
    assert grade.name == "turtle.grade"
    assert grade.untrusted == {"told"}
    assert grade.facts["rubric"][0] == {"number": "1", "line": "The keeper was asleep."}
    assert "0.5" not in str(grade.facts) and "First?" not in str(grade.facts)
    assert grade.reply is grades_for(3)


def test_the_prompts_hold_what_they_need_and_no_words_of_the_script() -> None:
    question, grade = heard_by([])
    slots = {query.name: set(Template(query.template).get_identifiers()) for query in (question, grade)}
    assert slots == {
        "turtle.question": {"surface", "story", "asked", "question"},
        "turtle.grade": {"surface", "story", "rubric", "told"},
    }
    for query in (question, grade):
        assert "sleep / slept" not in str(render_query(query))
    assert "<agent_text>\nSo it was.\n</agent_text>" in render_query(grade)[1]["content"]


def test_a_model_that_gives_too_few_grades_is_asked_once_more() -> None:
    client = FakeClient(['{"grades": [1, 1]}', '{"grades": [1, 0, 0.5]}'])
    judged = Cast(LLMSeat(FakeClient([]), "user"), LLMSeat(client, "judge"))
    [turn] = asyncio.run(advance(Episode(TASK), Action("answer", "x"), judged, GYM)).turns
    assert (turn.reward, turn.facts["grades"], len(client.calls)) == (0.6, [1.0, 0.0, 0.5], 2)
    schema = client.calls[0]["schema"]["properties"]["grades"]
    assert (schema["minItems"], schema["maxItems"], schema["items"]["enum"]) == (3, 3, [0.0, 0.5, 1.0])


# --- the scripted user -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        ("Was the keeper asleep?", "Yes"),
        ("was somebody SLEEPING", "Yes"),
        ("Was he drunk?", "No"),
        ("Was the cat sleeping?", "No"),
        ("Is there a cat?", "Maybe"),
        ("Is a child involved?", "Yes"),
        ("Did the child feed the cat?", "Maybe"),
        ("Did the keeper die in the storm?", "No"),
        ("Did a child die?", "No"),
        ("Was the child asleep?", "Yes"),
        ("Was he asleep or drunk?", "Maybe"),
        ("Does the weather matter?", "Maybe"),
        ("Was it Tuesday?", "Maybe"),
        ("Why was he asleep?", "Maybe"),
        ("Who slept asleep?", "Maybe"),
        ("Was he not asleep?", "Maybe"),
        ("Wasn't he asleep?", "Maybe"),
        ("Wasn\u2019t he asleep?", "Maybe"),
        ("", "Maybe"),
        ("?!", "Maybe"),
        ("asleep " + "x " * MAX_QUESTION_WORDS, "Maybe"),
    ],
)
def test_the_scripted_user_answers_what_it_understands_and_says_maybe_to_all_else(question: str, reply: str) -> None:
    assert replies(question) == [reply]


def test_the_most_specific_fact_answers_and_own_facts_go_before_common_ones() -> None:
    assert replies("Is the cat asleep?", "Is he asleep?") == ["No", "Yes"]
    assert replies("Is a drunk child important?", "Is a child important?") == ["No", "Yes"]


def test_a_hesitant_user_says_maybe_the_first_time_something_is_asked() -> None:
    asked = ("Was he asleep?", "Did he sleep?", "Was he drunk?", "Tuesday?", "Was he drunk?")
    assert replies(*asked, trait="hesitant") == ["Maybe", "Yes", "Maybe", "Maybe", "No"]
    for trait in ("plain", "terse"):
        assert replies(*asked, trait=trait) == ["Yes", "Yes", "No", "Maybe", "No"]


def test_how_a_user_talks_changes_no_reward() -> None:
    moves = ("action", "Was he asleep?"), ("answer", "The keeper was asleep."), ("answer", STORY)
    assert {tuple(scripted(*moves, trait=trait).rewards) for trait in TRAITS} == {(0.0, 0.5, 0.5)}


def test_an_unknown_trait_is_named() -> None:
    with pytest.raises(UnknownName, match=r"No scripted user trait named 'tense'\. Did you mean 'terse'\?"):
        GYM.cast("tense")


def test_a_story_without_facts_or_words_is_an_error_of_the_scripted_cast_and_not_a_maybe_or_a_zero() -> None:
    for kind, problem in (("action", "user: This story has no facts"), ("answer", "judge: This story's rubric has no words")):
        episode = scripted((kind, "Is it so?"), task=weighted(0.5, 0.5))
        assert episode.stop == "error"
        assert episode.error is not None and episode.error.startswith(problem)


PARAPHRASES = tomllib.loads(Path(__file__).with_name("turtle_paraphrases.toml").read_text("utf-8"))


@pytest.mark.parametrize(("voice", "asked", "floor"), [("first", 84, 0.9), ("second", 60, 0.75)])
def test_most_questions_as_people_put_them_get_the_reply_that_follows(voice: str, asked: int, floor: float) -> None:
    wrong, right = [], 0
    for name, expected in PARAPHRASES[voice].items():
        for question, heard in zip(expected, replies(*expected, task=STORIES[f"turtle-{name}"]), strict=True):
            right += heard == expected[question]
            wrong += [question] if {heard, expected[question]} == {"Yes", "No"} else []
    assert sum(map(len, PARAPHRASES[voice].values())) == asked
    assert wrong == [] and right / asked >= floor, (wrong, right)


def test_no_more_questions_and_words_are_remembered_than_said() -> None:
    for number in range(200):
        replies(*(f"Is it number {number} or {n}?" for n in range(16)))
    for cached in (understood, stem):
        info = cached.cache_info()
        assert info.maxsize is not None and info.currsize <= info.maxsize <= 16_384


# --- the scripted judge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("telling", "expected"),
    [
        (STORY, [1.0, 1.0, 1.0]),
        ("The guard was sleeping in the tower.", [1.0, 0.0, 0.0]),
        ("There was a guard in the tower.", [0.5, 0.0, 0.0]),
        ("A storm was at the window of the tower.", [0.0, 0.5, 0.0]),
        ("There was a storm at the tower.", [0.0, 0.0, 0.0]),
        ("Kittens came up the stairs and the WINDOWS broke in the wind!", [0.0, 1.0, 1.0]),
        ("It was the category of the keepers.", [0.5, 0.0, 0.0]),
        ("", [0.0, 0.0, 0.0]),
        ("and the of", [0.0, 0.0, 0.0]),
    ],
)
def test_a_line_is_covered_when_all_its_concepts_are_told_and_half_when_half_of_them_are(
    telling: str, expected: list[float]
) -> None:
    assert grades(telling) == expected


def test_loose_words_cover_nothing() -> None:
    assert grades("keeper asleep storm window broke cat") == [0.0, 0.0, 0.0]


def test_a_telling_that_is_mostly_about_something_else_covers_nothing() -> None:
    other = "The baker of the village had an apple and a wagon, and his uncle was a sailor with a golden trumpet and a ladder. "
    assert grades(other + "The keeper was asleep.") == [0.0, 0.0, 0.0]
    assert grades("The baker of the village had an apple. The keeper was asleep.")[0] == 1.0


def test_words_beyond_the_limit_are_not_read() -> None:
    filler = "The keeper of the tower is on the stairs. "
    repeats = MAX_TOLD_WORDS // len(words(filler))
    assert grades(filler * (repeats - 1) + "The cat was there.")[2] == 1.0
    assert grades(filler * (repeats + 1) + "The cat was there.")[2] == 0.0


TELLINGS = {
    "wet-umbrella": (
        "They are making a movie. The umbrella the actor carried yesterday has disappeared, and she needs a second "
        "one that looks exactly like it, because otherwise the next shots won't fit together with the ones they "
        "already have."
    ),
    "late-book": (
        "His relative sat in jail for a killing he did not commit. The signed slip in the book has the hour on it, "
        "so it is the proof that he could not have been the killer."
    ),
    "strange-honey": (
        "The bees collected from plants on the other side of the wall. The man next door was secretly growing "
        "poppies for opium, and the honey had a taste that no local flower gives."
    ),
    "empty-seat": ("Valerio does stage magic. From that chair you could look behind the mirror and see how his trick is done."),
    "cold-inn": (
        "The chimney was covered with snow so carbon monoxide came into the house. He realized because the canary "
        "dropped dead, and got everyone out before they suffocated."
    ),
    "wrong-name": (
        "She had run away with her mom from a brutal father. The teacher gave her another name to keep her safe, "
        "and when the dad turned up looking for her, there was no one by that name."
    ),
    "quiet-orchestra": (
        "There was smoke coming from backstage. He didn't want people to stampede to the exits and get hurt, so "
        "the music kept them relaxed."
    ),
    "fast-clock": (
        "The clock runs five minutes ahead so that people going to the station don't miss their train. His little "
        "girl missed hers once and was run over walking home."
    ),
    "rubber-ducks": (
        "Somewhere under the streets the water leaks away. There was no plan of the old pipes left, so he let the ducks drift "
        "and looked where they turned up."
    ),
    "bus-for-nobody": (
        "There is a dog at the crossroads. Its owner was a passenger of this bus but he died. The dog has to check that he "
        "isn't on it, otherwise it won't go home."
    ),
    "goat-first": (
        "The bridge is old and could break. The goat weighs more than any of the kids, so they test with it whether the bridge "
        "will hold them."
    ),
    "worst-grade": (
        "The officers of a dictator take the top boys off to become soldiers and their parents never see them again. With "
        "the bad grade the teacher saved him from that."
    ),
    "false-storm": (
        "Enemy pilots listen to the same radio. When they hear of storms they don't take off to bomb the town, and everybody in "
        "the town realizes he is lying."
    ),
    "loud-alarm": ("Everyone in the family is deaf. The alarm is for the dog, who then goes and gets them up."),
    "harbor-steps": (
        "The steps go down into the harbor and he counts how many are above the water. The sea pulled back, which "
        "means a tsunami, so he rang to warn everybody."
    ),
}
"""Told freely; synonyms that they showed to be missing were then added to the content file."""


@pytest.mark.parametrize("name", TELLINGS)
def test_a_story_told_in_other_words_is_recognized_and_takes_no_other_story(name: str) -> None:
    assert set(grades(TELLINGS[name], STORIES[f"turtle-{name}"])) == {1.0}
    for other, task in STORIES.items():
        if other != f"turtle-{name}":
            assert scripted(("answer", TELLINGS[name]), task=task).rewards[0] <= 0.3, other


@pytest.mark.parametrize(
    "forms",
    [
        "ring rings ringing ringed",
        "bake bakes baked baking",
        "carry carries carried carrying",
        "stop stops stopped stopping",
        "family families family's",
        "house houses housing",
        "dress dresses",
        "secret secretly secrets",
        "save saves saving savings",
        "glass glasses",
        "deny denied",
    ],
)
def test_regular_forms_of_a_word_are_one(forms: str) -> None:
    assert len({stem(word) for word in words(forms)}) == 1


def test_different_words_are_not_one() -> None:
    for several in ("car care cat category", "ring string bus bush", "sea seed see", "bird bride gas glass", "wine wind win"):
        assert len({stem(word) for word in several.split()}) == len(several.split())


def test_concepts_are_read_from_text_and_found_as_whole_words_and_phrases() -> None:
    assert concepts("fire / big flame; stage") == ((" fire ", " big flam "), (" stag ",))
    assert line_grade(stems(words("A big-flame burned.")), "fire / big flame; stage") == 0.5
    assert line_grade(stems(words("A flame so big.")), "big flame") == 0.0


# --- expert and baselines --------------------------------------------------------------------------------------


def shares(agent: Agent, split: str = "test", trait: str = "plain", attempts: int = 4, max_turns: int = 16) -> float:
    episodes = run(starts(GYM.tasks(split), attempts=attempts, max_turns=max_turns), agent, GYM.cast(trait))
    assert not [episode.error for episode in episodes if episode.error]
    return sum(map(share, episodes)) / len(episodes)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("trait", TRAITS)
def test_the_expert_earns_nearly_all_there_is_with_every_user(split: str, trait: str) -> None:
    assert shares(GYM.expert(1.0), split, trait, attempts=1) >= 0.9


def test_more_skill_earns_more() -> None:
    dial = [shares(GYM.expert(skill), "train") for skill in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert dial == sorted(dial)
    assert dial[0] < 0.1 and 0.4 < dial[2] < 0.7


def test_agents_without_skill_earn_little_and_a_salad_of_words_nothing() -> None:
    for agents in (GYM.baselines(), GYM.baselines(GYM.tasks("train"))):
        assert agents.keys() == {"random", "blind_answer", "word_salad", "known_stories"}
        earned = {name: {split: shares(agent, split) for split in ("train", "test")} for name, agent in agents.items()}
        assert max(earned["random"].values()) <= 0.1, earned
        assert max(earned["blind_answer"].values()) <= 0.1, earned
        assert max(earned["word_salad"].values()) == 0.0, earned


def test_random_says_anything_of_a_fixed_vocabulary_that_is_taken_from_no_story() -> None:
    turns = [turn for e in run(starts(GYM.tasks("test"), attempts=2), GYM.baselines()["random"], GYM.cast()) for turn in e.turns]
    assert {turn.action.kind for turn in turns} == set(GYM.actions)
    assert {turn.action.text for turn in turns} == set(VOCABULARY)
    known = {text for leads in bank().values() for lead in leads for text in (lead.question, lead.sentence)}
    assert not known & set(VOCABULARY)


def test_who_knows_the_training_stories_by_heart_earns_much_there_and_nothing_on_unseen_ones() -> None:
    agent = GYM.baselines()["known_stories"]
    assert shares(agent, "train", attempts=1) >= 0.5
    assert shares(agent, "test", attempts=1) <= 0.1


def test_the_salad_holds_every_concept_of_the_tasks_given() -> None:
    every_word, one_each = salad([TASK])
    assert every_word == "keeper guard asleep sleep slept storm wind window pane broke break cat kitten"
    assert one_each == ["keeper", "asleep", "storm", "window", "broke", "cat"]
    [first, second] = run(starts([TASK], max_turns=2), GYM.baselines([TASK])["word_salad"], GYM.cast())[0].turns
    assert (first.action.text, second.action.text) == (every_word, " ".join(one_each))


@pytest.mark.parametrize("name", ["expert 1.0", "expert 0.4", "random", "blind_answer", "word_salad", "known_stories"])
def test_an_agent_acts_on_what_a_model_sees_and_not_on_hidden_parts(name: str) -> None:
    agent = GYM.expert(float(name.split()[1])) if name.startswith("expert") else GYM.baselines()[name]
    for episode in run(starts(GYM.tasks("test"), seed=4), agent, GYM.cast("hesitant")):
        for count in range(len(episode.turns)):
            turns = tuple(replace(t, facts={}, label="", reveals=()) for t in episode.turns[:count])
            blind = replace(episode, task=replace(episode.task, id=episode.task.id, hidden={}), turns=turns, stop="running")
            assert asyncio.run(agent.act(blind)) == episode.turns[count].action


def test_the_expert_tells_only_what_was_confirmed() -> None:
    episode = Episode(STORIES["turtle-cold-inn"])
    leads = bank()[episode.task.prompt]
    denied = tuple(Turn(Action("action", lead.question), "Yes" if lead == leads[0] else "No") for lead in leads)
    action = asyncio.run(GYM.expert().act(replace(episode, turns=denied)))
    assert action == Action("answer", leads[0].sentence)


def test_the_expert_plays_an_unknown_story_to_its_end_and_then_retells_the_surface() -> None:
    episode = asyncio.run(play(Episode(TASK), GYM.expert(), GYM.cast()))
    assert [turn.action.kind for turn in episode.turns] == ["action"] * 15 + ["answer"]
    assert episode.turns[-1].action.text == TASK.prompt
    assert len({turn.action.text for turn in episode.turns}) == 16


# --- stories ---------------------------------------------------------------------------------------------------

every_story = pytest.mark.parametrize("story", content()["story"], ids=lambda story: story["id"])


def test_the_stories_have_different_ids_and_surfaces_and_are_as_many_as_the_data_sheet_says() -> None:
    assert len(STORIES) == len(content()["story"]) == len({task.prompt for task in STORIES.values()}) == 69
    assert [len(GYM.tasks(split)) for split in ("train", "validation", "test")] == [52, 5, 12]


def test_the_content_file_is_ascii() -> None:
    text = resources.files("userrl.gyms.turtle").joinpath("content", "stories.toml").read_text("utf-8")
    assert not (odd := sorted({c for c in text if not c.isascii()})), f"stories.toml holds {odd}; write plain ASCII."


def test_the_splits_are_fixed_by_the_id_and_share_no_story() -> None:
    seen = Counter(task.id for split in ("train", "validation", "test") for task in GYM.tasks(split))
    assert seen.keys() == STORIES.keys() and set(seen.values()) == {1}
    for split in ("train", "validation", "test"):
        assert len(GYM.tasks(split)) >= 2
        assert {split_of(task.id) for task in GYM.tasks(split)} == {split}


@every_story
def test_a_story_has_the_agreed_fields_and_counts(story: dict[str, Any]) -> None:
    assert story.keys() == {"id", "surface", "story", "lines", "leads", "facts", "common"}
    assert 3 <= len(story["lines"]) <= 5
    assert math.fsum(weight for weight, _, _ in story["lines"]) == pytest.approx(1.0, abs=1e-9)
    assert all(weight >= 0.1 for weight, _, _ in story["lines"])
    said = Counter(reply for _, reply, _, _ in story["leads"])
    assert said["Yes"] >= 3 and said["No"] >= 1 and said.total() <= 7
    assert len(story["facts"]) >= 4 and len(story["common"]) >= 8
    assert set(story["common"]) <= content()["common"].keys()


@every_story
def test_a_surface_is_short_and_gives_little_away(story: dict[str, Any]) -> None:
    assert 20 <= len(words(story["surface"])) <= 60
    assert len(words(story["story"])) <= 100
    [turn] = scripted(("answer", story["surface"]), task=STORIES[f"turtle-{story['id']}"]).turns
    assert turn.reward <= 0.2 and turn.reveals == ()


@every_story
def test_the_story_the_rubric_and_the_right_leads_cover_every_line_and_the_wrong_leads_none(story: dict[str, Any]) -> None:
    task = STORIES[f"turtle-{story['id']}"]
    right = " ".join(sentence for _, reply, _, sentence in story["leads"] if reply == "Yes")
    for text in (story["story"], " ".join(line for _, line, _ in story["lines"]), right):
        assert set(grades(text, task)) == {1.0}, text
    wrong = " ".join(sentence for _, reply, _, sentence in story["leads"] if reply == "No")
    assert max(grades(wrong, task)) < 1.0


@every_story
def test_every_right_lead_is_needed_for_the_whole_reward(story: dict[str, Any]) -> None:
    task = STORIES[f"turtle-{story['id']}"]
    right = [sentence for _, reply, _, sentence in story["leads"] if reply == "Yes"]
    for left_out in right:
        assert min(grades(" ".join(s for s in right if s != left_out), task)) < 1.0, left_out


def known(task: Task) -> Iterator[tuple[str, str]]:
    for fact in task.hidden["facts"]:
        yield fact["question"], fact["reply"]
    for key, reply in task.hidden["common"].items():
        yield content()["common"][key][0], reply


@every_story
def test_each_known_question_gets_its_reply(story: dict[str, Any]) -> None:
    task = STORIES[f"turtle-{story['id']}"]
    questions, expected = zip(*known(task), strict=True)
    assert dict(zip(questions, replies(*questions, task=task), strict=True)) == dict(zip(questions, expected, strict=True))
    assert set(expected) <= {"Yes", "No", "Maybe"}
    assert all(question.endswith("?") and len(words(question)) <= 14 for question in questions)


def test_the_sentences_of_the_leads_are_not_in_the_tasks() -> None:
    for story in content()["story"]:
        hidden = STORIES[f"turtle-{story['id']}"].hidden
        for _, reply, _, sentence in story["leads"]:
            assert reply == "Yes" or sentence not in str(hidden["facts"])


def test_a_built_in_set_is_the_one_that_the_manifest_names() -> None:
    for split in ("train", "validation", "test"):
        task_set = GYM.built_in_sets()[split]
        assert (task_set.license, task_set.recipe) == ("Apache-2.0", {"split": split})
        assert len(task_set.check()) == task_set.count
