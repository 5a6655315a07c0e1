"""Which training tasks are too much like a held-out one."""

from __future__ import annotations

from typing import Any

import pytest

from userrl.collect.contamination import Found, HeldOut, held_out
from userrl.core import Task
from userrl.gyms.base import find

STORY = "A man orders soup in a restaurant by the sea, tastes it once, pays, goes home and never sails again."
OPENING = "Good afternoon, I would like to send something back that I got from your shop last week."
OTHER = "Two sisters inherit a clock that runs backwards, and only the younger one is glad about it."


def task(id: str, prompt: str = "Guess.", hidden: Any = None) -> Task:
    return Task(id, "turtle", prompt, hidden if hidden is not None else {"number": id})


REST = [
    task("y", "Why did the lamp of the lighthouse stay dark that night?"),
    task("z", "Where did all the birds of the village go?"),
]


def test_the_same_id_is_found_first() -> None:
    assert HeldOut([task("a")]).match(task("a", STORY)) == Found("held-out id", "a")
    assert HeldOut([task("a")]).match(task("b")) is None


@pytest.mark.parametrize("prompt", [STORY, STORY.upper(), STORY.replace(" once,", " twice,"), f"Hello. {STORY}"])
def test_an_equal_or_nearly_equal_prompt_is_found(prompt: str) -> None:
    held = HeldOut([task("x", OTHER), task("a", STORY)])
    expected = Found("held-out prompt", "a") if prompt.upper() == STORY.upper() or "Hello" in prompt else None
    assert held.match(task("b", prompt)) == expected


def test_nearly_equal_means_four_fifths_of_a_long_text() -> None:
    long = " ".join(f"w{i}" for i in range(100))
    held = HeldOut([task("a", long), *REST])
    assert held.match(task("b", long.replace("w50", "x"))) == Found("held-out prompt", "a")
    assert held.match(task("b", long.replace("w5", "x"))) is None
    assert held.match(task("b", f"{long} {' '.join(f'z{i}' for i in range(100))}")) is None


def test_a_prompt_that_is_a_template_or_a_greeting_proves_nothing() -> None:
    same = HeldOut([task(id, STORY) for id in "abc"])
    assert same.match(task("d", STORY)) is None
    assert HeldOut([task("a", "Hello, I need help."), *REST]).match(task("b", "Hello, I need help.")) is None


def test_an_equal_hidden_part_is_found_whatever_the_prompt_unless_many_have_it() -> None:
    held = HeldOut([task("a", STORY, {"word": "lamp"})])
    assert held.match(task("b", OTHER, {"word": "lamp"})) == Found("held-out hidden", "a")
    assert held.match(task("b", OTHER, {"word": "sun"})) is None
    assert HeldOut([task(id, str(id), {"level": "easy"}) for id in "abc"]).match(task("d", OTHER, {"level": "easy"})) is None


def test_nearly_equal_hidden_texts_are_found_at_any_depth_and_numbers_are_no_texts() -> None:
    held = HeldOut([task("a", hidden={"n": 1, "story": [{"line": STORY}]}), *REST])
    assert held.match(task("b", hidden={"n": 2, "story": [{"line": STORY}]})) == Found("held-out hidden", "a")
    assert held.match(task("b", hidden={"n": 2, "story": [{"line": OTHER}]})) is None


def test_a_task_of_two_splits_counts_once() -> None:
    held = HeldOut([*REST, *[task("a", STORY)] * 3])
    assert held.match(task("b", STORY)) == Found("held-out prompt", "a")


def test_one_or_two_held_out_tasks_cannot_tell_a_template_and_leave_out_no_whole_gym() -> None:
    for few in ("a", "ab"):
        held = HeldOut([task(id, STORY) for id in few])
        assert held.match(task("c", STORY)) is None
        assert held.match(task("c", OTHER, {"number": "a"})) == Found("held-out hidden", "a")


def errand(id: str, order: str | None, instruction: str, prompt: str = OPENING) -> Task:
    """A task of tau; without an order, one in which nothing is to be done."""
    calls = [{"name": "return_delivered_order_items", "arguments": {"order_id": order, "item_ids": ["1", "2"]}}]
    hidden = {"database": "retail", "instruction": instruction, "actions": calls if order else [], "outputs": []}
    return Task(id, "tau", prompt, hidden)


def test_a_task_of_tau_is_its_errand_and_not_how_the_talk_opens() -> None:
    held = HeldOut([errand("a", "#W1", "You are Ann and want to return a cup."), errand("n", None, "Ask for a pony, in vain.")])
    assert held.match(errand("b", "#W2", "You are Bo and want to return a lamp.")) is None, "the same opening, another errand"
    again = errand("b", "#W1", "Bring back the cup. You are grumpy.", "Good evening, it's about an order.")
    assert held.match(again) == Found("held-out errand", "a")
    assert held.match(errand("b", None, "Ask for two ponies, in vain.")) is None, "doing nothing is no errand"
    assert held.match(errand("b", None, "Ask for a pony, in vain.", "Hi!")) == Found("held-out hidden", "n")


def test_an_errand_of_several_splits_counts_once_whatever_its_opening() -> None:
    """tau-bench's own task lists have the tasks of UserRL's with another first message."""
    held = HeldOut([errand("a", "#W1", "Return it.", prompt) for prompt in ("Hi!", "Hello.", "Hey.", "Well.")])
    assert held.match(errand("b", "#W1", "Send it back.")) == Found("held-out errand", "a")


FEW = {"intention": 1, "telepathy": 19, "tau": 4}
"""Training tasks that are too much like a held-out one: twins in telepathy, the same returns in tau."""


@pytest.mark.parametrize("gym", ["function", "intention", "persuade", "search", "tau", "telepathy", "turtle"])
def test_few_built_in_training_tasks_are_like_held_out_ones(gym: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("USERRL_DATA", str(tmp_path))
    held = held_out(gym)
    tasks = find(gym).tasks("train")
    assert sum(held.match(task) is not None for task in tasks) == FEW.get(gym, 0)
    for split in ("test", "validation"):
        assert all(held.match(task) == Found("held-out id", task.id) for task in find(gym).tasks(split))
