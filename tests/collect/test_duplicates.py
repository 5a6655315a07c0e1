"""Which episodes say the same, found exactly."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import pytest

from userrl.collect.duplicates import ANSWER, Alike, Match, ngrams, words
from userrl.core import Action, Episode, Task, Turn

WORDS = [f"word{i}" for i in range(40)]


def episode(*said: str, prompt: str = "I need help with a party in my garden.", task: str = "t", told: str = "Yes.") -> Episode:
    turns = tuple(Turn(Action("action", text), told, reward=0.5) for text in said)
    return Episode(Task(task, "intention", prompt), turns, "done")


def matches(*episodes: Episode, near: float = 0.9) -> list[Match | None]:
    alike = Alike(episodes, near)
    return [alike.match(e) for e in episodes]


LONG = " ".join(f"word{i}" for i in range(100))


def test_case_and_spacing_do_not_hide_a_duplicate_and_a_sign_does_part_two() -> None:
    found = matches(
        episode("What is a - b?", task="first"),
        episode("what  is\na - B?"),
        episode("What is a + b?"),
    )
    assert found == [None, Match("duplicate", "first"), None]


def test_half_a_character_that_a_model_wrote_parts_two_episodes() -> None:
    assert matches(episode("What?", told="\ud83d"), episode("What?", told="\ude00")) == [None, None]


def test_the_same_talk_on_another_prompt_is_no_duplicate() -> None:
    assert matches(episode(LONG), episode(LONG, prompt="Please plan a long journey by train.")) == [None, None]


def test_one_word_changed_in_a_long_talk_is_a_near_duplicate_and_many_are_not() -> None:
    near, far = LONG.replace("word5 ", "other "), LONG.replace("word1", "other")
    assert matches(episode(LONG, task="first"), episode(near), episode(far)) == [None, Match("near-duplicate", "first"), None]
    assert matches(episode(LONG), episode(near), near=1.0) == [None, None]


def test_another_choice_or_answer_counts_as_much_as_words_do() -> None:
    asked = episode("Is it red?", "Is it big?")
    told = replace(asked, turns=tuple(replace(t, feedback="No.") for t in asked.turns))
    chose = replace(asked, turns=tuple(replace(t, action=Action("answer", t.action.text)) for t in asked.turns))
    assert matches(asked, told, chose) == [None, None, None]


def test_of_a_long_answer_only_the_beginning_counts_for_likeness_and_all_of_it_for_equality() -> None:
    results = "many results " * ANSWER
    one, other = episode(LONG, told=results + "first"), episode(LONG, told=results + "second")
    assert [m and m.why for m in matches(one, other)] == [None, "near-duplicate"]
    assert matches(one, other, near=1.0) != matches(one, one, near=1.0)


def test_gyms_are_looked_at_apart_and_an_episode_without_turns_is_like_its_equal_only() -> None:
    one, empty = episode(LONG), episode()
    other = replace(one, task=replace(one.task, gym="turtle"))
    assert matches(one, other, empty, empty) == [None, None, None, Match("duplicate", "t")]


@pytest.mark.parametrize("near", [0.5, 0.7, 0.9])
def test_the_filter_finds_what_comparing_all_pairs_finds(near: float) -> None:
    draw = random.Random(5)
    episodes: list[Episode] = []
    for i in range(120):
        base = list(draw.choice(episodes).turns[0].action.text.split()) if episodes and i % 3 else draw.choices(WORDS, k=25)
        for _ in range(draw.randrange(6)):
            base[draw.randrange(len(base))] = draw.choice(WORDS)
        episodes.append(episode(" ".join(base), task=str(i)))
    grams = [set(ngrams(["action", *words(e.turns[0].action.text), *words("Yes.")])) for e in episodes]
    slow: list[bool] = []
    for i, mine in enumerate(grams):
        before = [grams[j] for j in range(i) if not slow[j]]
        slow.append(any(len(mine & other) >= near * len(mine | other) - 1e-9 for other in before))
    assert 0 < sum(slow) < 119
    assert [m is not None for m in matches(*episodes, near=near)] == slow
    kept = [g for g, gone in zip(grams, slow, strict=True) if not gone]
    assert all(len(a & b) < near * len(a | b) for a, b in combinations(kept, 2))
