"""The nouns: an episode holds the whole state of a game; errors say what happened and what to do."""

import dataclasses

import pytest

from userrl.core import Action, Episode, Task, Turn
from userrl.errors import EndpointError, MissingExtra, ReplyError, SeatError, UnknownName, boundary, needs

TASK = Task("t1", "toy", "Hello.", {"secret": "x"})


def turn(reward: float = 0.0, done: bool = False, **facts: object) -> Turn:
    return Turn(Action("action", "a"), "ok", reward, done, facts=facts)


def test_an_episode_goes_on_until_the_rules_or_the_turn_limit_end_it() -> None:
    episode = Episode(TASK, max_turns=2)
    assert episode.play(turn()).stop == "running"
    assert episode.play(turn()).play(turn()).stop == "turn_limit"
    assert episode.play(turn(done=True)).stop == "done"


def test_an_end_by_the_rules_in_the_last_turn_is_no_turn_limit() -> None:
    assert Episode(TASK, max_turns=1).play(turn(done=True)).stop == "done"


def test_playing_makes_a_new_episode_and_leaves_the_old_one() -> None:
    before = Episode(TASK)
    after = before.play(turn(0.5))
    assert (before.turns, after.rewards) == ((), [0.5])
    with pytest.raises(dataclasses.FrozenInstanceError):
        after.stop = "done"  # type: ignore[misc]


def test_a_failed_episode_keeps_its_turns_and_says_why() -> None:
    episode = Episode(TASK).play(turn(0.5)).fail("judge: no reply")
    assert (episode.stop, episode.error, episode.rewards) == ("error", "judge: no reply", [0.5])


def test_the_best_of_a_fact_passes_over_turns_without_it() -> None:
    episode = Episode(TASK).play(turn(score=0.2)).play(turn()).play(turn(score=0.1))
    assert episode.best("score") == 0.2
    assert episode.best("other", default=-1.0) == -1.0


def test_an_episode_is_known_by_gym_task_and_attempt() -> None:
    assert Episode(TASK, attempt=3, seed=9).key == ("toy", "t1", 3)


def test_draws_depend_on_seed_task_attempt_turn_and_salt_alone() -> None:
    start = Episode(TASK, seed=1, attempt=0)
    first = start.rng("pick").random()
    assert Episode(Task("t1", "toy", "Another prompt."), seed=1).rng("pick").random() == first
    others = [
        dataclasses.replace(start, seed=2),
        dataclasses.replace(start, attempt=1),
        dataclasses.replace(start, task=Task("t2", "toy", "")),
        dataclasses.replace(start, task=Task("t1", "other", "")),
        start.play(turn()),
    ]
    assert all(other.rng("pick").random() != first for other in others)
    assert start.rng("other").random() != first


def test_an_unknown_name_is_answered_with_its_near_misses() -> None:
    error = UnknownName("gym", "turtel", ["turtle", "travel", "tau"], "`userrl gyms` lists them.")
    assert str(error).startswith("No gym named 'turtel'. Did you mean 'turtle'")
    assert str(error).endswith("`userrl gyms` lists them.")


def test_an_unknown_name_without_near_misses_lists_what_there_is() -> None:
    assert str(UnknownName("split", "zzz", ["train", "test"])) == "No split named 'zzz'. Known: test, train."
    assert str(UnknownName("split", "zzz", [])) == "No split named 'zzz'. Known: none."
    many = str(UnknownName("task", "zzz", [f"name{i:03}" for i in range(200)]))
    assert many == "No task named 'zzz'. There are 200, e.g. name000, name001, name002."


@pytest.mark.parametrize("kind", [ReplyError, EndpointError, SeatError])
def test_a_boundary_names_the_role_once_and_keeps_the_kind_of_error(kind: type[SeatError]) -> None:
    with pytest.raises(kind, match=r"^judge: no reply$"), boundary("judge"), boundary("judge"):
        raise kind("no reply")


def test_a_boundary_lets_a_bug_pass_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError, match=r"^division by zero$"), boundary("judge"):
        _ = 1 / 0


def test_a_missing_optional_package_is_answered_with_the_pip_line() -> None:
    line = r"Training needs the package 'no_such_package'.*pip install 'userrl\[local\]'"
    with pytest.raises(MissingExtra, match=line), needs("local", "Training"):
        import no_such_package.part  # type: ignore[import-not-found]  # noqa: F401


def test_a_missing_module_of_our_own_is_a_bug_and_not_a_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"userrl\.no_such_module") as caught, needs("local", "Training"):
        import userrl.no_such_module  # noqa: F401
    assert not isinstance(caught.value, MissingExtra)
