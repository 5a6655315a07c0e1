"""What every gym has, how one is found by name, and how settings and names are checked."""

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from userrl.core import INVALID, Action, Cast, Episode, Task, Turn
from userrl.data import digest, write_tasks
from userrl.errors import ConfigError, DataError, UnknownName
from userrl.gyms import base
from userrl.gyms.base import GLANCE, Gym, find, gym_of, held, known, make, repeats

TASK = Task("t1", "toy", "Hello.")


class Reply(BaseModel):
    word: str


class Toy(Gym):
    name = "toy"
    summary = "play"
    actions: ClassVar[Mapping[str, str]] = {"action": "do", "answer": "tell"}
    settings: ClassVar[Mapping[str, Any]] = {"threshold": 0.9}

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        return Turn(action, "ok")


PACKAGE = """
from userrl.core import Turn
from userrl.gyms.base import Gym


class Foreign(Gym):
    name, summary, actions = "foreign", "play", {"action": "do"}

    async def step(self, episode, action, cast):
        return Turn(action, "ok")
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A gym package outside of ours, found by its entry point."""
    package = tmp_path / "foreign_gym"
    (package / "prompts").mkdir(parents=True)
    (package / "tasks").mkdir()
    (package / "__init__.py").write_text(PACKAGE, "utf-8")
    (package / "prompts" / "system.md").write_text("Play well.\n", "utf-8")
    (package / "prompts" / "ask.md").write_text("Say $what.", "utf-8")
    tasks = [Task("f1", "foreign", "One."), Task("f2", "foreign", "Two.")]
    write_tasks(package / "tasks" / "test.jsonl", tasks)
    entry = f'{{"count": 2, "sha256": "{digest(tasks)}", "license": "Apache-2.0", "source": "ours"}}'
    (package / "tasks" / "manifest.json").write_text(f'{{"sets": {{"test": {entry}}}}}', "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [metadata.EntryPoint(name, value, "userrl.gyms") for name, value in (("foreign", "foreign_gym"), ("function", "x"))]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    known.cache_clear()
    find.cache_clear()
    yield package
    known.cache_clear()
    find.cache_clear()
    base._made.cache_clear()
    sys.modules.pop("foreign_gym", None)


# --- found by name -------------------------------------------------------------------------------------------


def test_a_gym_that_is_not_there_is_answered_with_its_near_miss_and_where_to_look() -> None:
    with pytest.raises(UnknownName, match=r"No gym named 'functoin'\. Did you mean 'function'.*`userrl gyms` lists them"):
        make("functoin")


def test_a_gym_of_another_package_is_found_by_its_entry_point(foreign: Path) -> None:
    gym = make("foreign")
    assert (gym.name, type(gym).__module__) == ("foreign", "foreign_gym")
    assert gym.system(TASK) == "Play well."


def test_a_built_in_gym_is_not_replaced_by_an_entry_point_of_the_same_name(foreign: Path) -> None:
    assert known()["function"] == "userrl.gyms.function"


def test_a_package_with_two_gyms_must_name_one_in_its_entry_point(foreign: Path) -> None:
    (foreign / "__init__.py").write_text(PACKAGE + "\n\nclass Second(Foreign):\n    name = 'second'\n", "utf-8")
    with pytest.raises(ConfigError, match=r"foreign_gym defines 2 Gym subclasses; expected one.*'foreign_gym:Class'"):
        make("foreign")


def test_the_gym_of_an_episode_is_made_once_with_its_rules(foreign: Path) -> None:
    episode = Episode(Task("f1", "foreign", ""), rules={"compat": "userrl"})
    assert gym_of(episode).compat
    assert gym_of(episode) is gym_of(episode.play(Turn(Action("action"), "")))
    assert not gym_of(Episode(episode.task)).compat


# --- settings ------------------------------------------------------------------------------------------------


def test_settings_have_defaults_and_can_be_changed() -> None:
    assert Toy().config == {"threshold": 0.9}
    assert Toy(threshold=1.0).config == {"threshold": 1.0}
    assert Toy.settings == {"threshold": 0.9}


def test_a_setting_that_a_gym_does_not_have_is_answered_with_its_near_miss() -> None:
    with pytest.raises(UnknownName, match=r"No setting of gym 'toy' named 'treshold'\. Did you mean 'threshold'"):
        Toy(treshold=1.0)


def test_compat_has_one_mode_and_is_off_by_default() -> None:
    assert not Toy().compat
    assert Toy(compat="userrl").compat
    with pytest.raises(ConfigError, match="no compat mode 'verl'; the only one is 'userrl'"):
        Toy(compat="verl")


# --- actions and ends ----------------------------------------------------------------------------------------


def test_finish_is_offered_only_under_compat() -> None:
    assert [Toy().offers(kind) for kind in ("action", "answer", "search", "finish", INVALID)] == [True, True, False, False, False]
    assert Toy(compat="userrl").offers("finish")


def test_a_refused_action_earns_nothing_ends_nothing_and_is_told_the_choices() -> None:
    turn = Toy().refuse(Action("jump" * 50, "x"))
    assert (turn.reward, turn.done, turn.label) == (0.0, False, INVALID)
    assert len(turn.feedback) < 300
    assert '"action" to do; "answer" to tell' in turn.feedback
    assert "Not JSON." in Toy().refuse(Action(INVALID, problem="Not JSON.")).feedback


def test_an_episode_is_terminated_or_truncated_and_both_only_under_compat() -> None:
    start = Episode(TASK, max_turns=1)
    by_rules, by_limit = start.play(Turn(Action("action"), "", done=True)), start.play(Turn(Action("action"), ""))
    assert Toy().ended(start) == Toy(compat="userrl").ended(start) == (False, False)
    assert (Toy().ended(by_rules), Toy().ended(by_limit)) == ((True, False), (False, True))
    assert (Toy(compat="userrl").ended(by_rules), Toy(compat="userrl").ended(by_limit)) == ((True, True), (False, True))


def test_solved_means_ended_by_the_rules_unless_a_gym_says_otherwise() -> None:
    start = Episode(TASK, max_turns=1)
    assert Toy().solved(start.play(Turn(Action("action"), "", done=True)))
    assert not Toy().solved(start.play(Turn(Action("action"), "", reward=1.0)))


# --- tasks, queries, seats -----------------------------------------------------------------------------------


def test_tasks_are_found_by_split_and_by_id(foreign: Path) -> None:
    gym = find("foreign")
    assert [task.id for task in gym.tasks("test")] == ["f1", "f2"]
    assert gym.task("f2").prompt == "Two."


def test_a_split_or_task_that_a_gym_does_not_have_is_answered_with_its_near_misses(foreign: Path) -> None:
    gym = find("foreign")
    with pytest.raises(UnknownName, match=r"No split of gym 'foreign' named 'tset'\. Did you mean 'test'"):
        gym.tasks("tset")
    with pytest.raises(UnknownName, match=r"No task of gym 'foreign' named 'f9'\. Did you mean 'f[12]'"):
        gym.task("f9")


def test_broken_imported_tasks_leave_the_built_in_ones_in_use(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERRL_DATA", str(tmp_path))
    folder = tmp_path / "official" / "foreign"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{", "utf-8")
    gym = find("foreign")
    assert gym.task("f2") == gym.tasks("test")[1]
    with pytest.raises(UnknownName, match="Did you mean 'test'"):
        gym.tasks("tset")
    mend = rf"`userrl data import userrl PATH`\), or delete the folder {re.escape(str(folder))}\."
    for use in (gym.sets, lambda: gym.tasks("official-test"), lambda: gym.task("func-1")):
        with pytest.raises(DataError, match=mend):
            use()


def test_texts_are_held_by_a_feedback_whatever_case_and_spacing() -> None:
    assert held(["Next Friday.", "on Monday", "green"], "It is NEXT\n Friday. Not on  monday?") == ("Next Friday.", "on Monday")


PIECES = st.sampled_from([*"aAb1éßİıΣς _-?'\n", "\u0301", "word ", "Word, "])
UNTIMED = settings(deadline=None)


def words_of(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


@UNTIMED
@given(st.lists(PIECES, max_size=6), st.lists(PIECES, max_size=6), st.sampled_from([0, GLANCE - 3, GLANCE, 3 * GLANCE]))
def test_a_text_repeats_another_that_has_the_same_words_however_long(one: list[str], other: list[str], more: int) -> None:
    for before, between, after in (("a" * more, "", ""), ("b " * (more // 2), " ", ""), ("", " ", " . " * more)):
        text, earlier = (before + between.join(pieces) + after for pieces in (one, other))
        assert repeats(text, ["no", earlier]) is (words_of(text) == words_of(earlier) or words_of(text) == ["no"])


@pytest.mark.parametrize("end", ["", " and more", "!", " ?"])
def test_long_texts_that_begin_alike_are_read_to_their_end(end: str) -> None:
    begin = "the same words, " * GLANCE
    assert repeats(begin, [begin.upper().replace(",", ";") + end]) is (end != " and more")
    assert not repeats(begin, [])


def test_a_query_carries_the_gyms_own_template_its_facts_and_the_turn(foreign: Path) -> None:
    episode = Episode(TASK).play(Turn(Action("action"), ""))
    query = make("foreign").query(episode, "ask", Reply, untrusted=["what"], what="hi")
    assert (query.name, query.template, query.facts, query.turn) == ("foreign.ask", "Say $what.", {"what": "hi"}, 1)
    assert (query.reply, query.untrusted) == (Reply, frozenset({"what"}))


@pytest.mark.parametrize("skill", [-0.1, 1.5])
def test_the_skill_of_an_expert_is_a_number_from_0_to_1(skill: float) -> None:
    with pytest.raises(ConfigError, match="expected a number from 0 to 1"):
        Toy.expert(skill)


def test_an_unknown_trait_of_the_scripted_user_is_answered_with_its_near_miss() -> None:
    with pytest.raises(UnknownName, match=r"No scripted user trait named 'ters'\. Did you mean 'terse'"):
        Toy.cast("ters")
