"""Travel as people play it: option lists to be read, and a score that is not the sum of the rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from userrl.evaluate.talk import readable
from userrl.gyms.base import find

TASK = find("travel").tasks("test")[0]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"id": "F3", "path": ["Oslo", "Porto"], "cost": 210}', "F3: path Oslo, Porto; cost 210"),
        ('{"id": "R1", "reviews": {"5_star": 9, "1_star": 2}, "tags": []}', "R1: reviews 5_star 9, 1_star 2"),
        ('{"id": "R1"}', "R1"),
        ("{}", "{}"),
        ("{no JSON", "{no JSON"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_a_line_that_is_an_object_is_shown_as_its_values(line: str, shown: str) -> None:
    assert readable(f"2 flights:\n{line}") == f"2 flights:\n{shown}"


def test_a_person_as_the_agent_reads_lists_without_braces_and_sees_the_score_at_the_end(cli: Callable[..., Any]) -> None:
    aspect, part = next(iter(TASK.hidden["aspects"].items()))
    name = aspect.replace("_", " ")
    typed = f"search {name}: {' '.join(TASK.prompt.split())}\nanswer {part['best']}\n"
    done = cli("play", "travel", "--task", TASK.id, stdin=typed)
    assert done.code == 0
    assert f"19 {name}s" in done.out
    assert f"{part['best']}: " in done.out
    assert '{"id"' not in done.out
    aspects = len(TASK.hidden["aspects"])
    ending = f"left before the end; earned 1.20; score {1 / aspects:.2f}, {1 / aspects:.0%} of what was within reach"
    assert ending in " ".join(done.out.split())


def test_a_person_as_the_user_is_told_what_to_hint_at_and_then_asked(cli: Callable[..., Any]) -> None:
    done = cli("play", "travel", "--as", "user", "--task", TASK.id, stdin="I have my reasons.\n" * 16)
    assert done.code == 0
    wishes = [p["text"] for part in TASK.hidden["aspects"].values() for p in part["preferences"]]
    shown = done.out.split("The game, with the reward")[0]
    first = min(shown.index(text) for text in wishes if text in shown)
    assert first < shown.index("\nagent ") < shown.index("I have my reasons.")
    assert "elicited +0.20" in done.out
