"""A person as the agent: what is typed becomes an action, or is asked for again."""

import asyncio

import pytest

from userrl.agents.human import HumanAgent, read_line
from userrl.core import Action, Episode, Task, Turn
from userrl.gyms.base import gym_of

ONE, SEVERAL = ("action",), ("action", "answer", "search")


@pytest.mark.parametrize(
    ("typed", "choices", "action"),
    [
        ("When do you leave?", ONE, Action("action", "When do you leave?")),
        ("answer me", ONE, Action("action", "answer me")),
        ("answer 24", SEVERAL, Action("answer", "24")),
        ("ANSWER   7/2", SEVERAL, Action("answer", "7/2")),
        ("answer: 24", SEVERAL, Action("answer", "24")),
        ("answer:24", SEVERAL, Action("answer", "24")),
        ("answer:", SEVERAL, None),
        ("search", SEVERAL, None),
        ("1 2 3 4", SEVERAL, None),
        ("answer24", SEVERAL, None),
        ("", ONE, None),
        ("", SEVERAL, None),
    ],
)
def test_a_line_is_read_as_a_move(typed: str, choices: tuple[str, ...], action: Action | None) -> None:
    assert read_line(typed, choices) == action


def test_a_line_that_is_no_move_is_asked_for_again_with_a_hint() -> None:
    lines, shown, hints, prompts = iter(["", "  ", "24", "Answer", " answer 24 "]), [], [], []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return next(lines)

    agent = HumanAgent(ask, shown.append, hints.append)
    action = asyncio.run(agent.act(Episode(Task("t", "function", "Find f."), max_turns=5)))
    assert action == Action("answer", "24")
    assert shown == ["Find f."]
    assert prompts == ["1/5"] * 5
    assert hints == [
        "Begin with a choice (action, answer, search), then its text, as in: action 24",
        "Go on in the same line: answer, and then what you want to say with it.",
    ]


def test_later_turns_show_the_last_feedback() -> None:
    shown: list[str] = []
    episode = Episode(Task("t", "intention", "Help me.")).play(Turn(Action("action", "When?"), "Now."))
    asyncio.run(HumanAgent(lambda prompt: prompt, shown.append, shown.append).act(episode))
    assert shown == ["Now."]


@pytest.mark.parametrize("asked", ["?", "/help"])
def test_a_person_who_asks_for_help_is_told_what_a_model_is_told(asked: str) -> None:
    lines, hints = iter([asked, "answer: 24"]), []
    episode = Episode(Task("t", "function", "Find f."))
    action = asyncio.run(HumanAgent(lambda prompt: next(lines), lambda text: None, hints.append).act(episode))
    assert action == Action("answer", "24")
    [told] = hints
    assert gym_of(episode).system(episode.task) in told
    assert "search: see the test case" in told
