from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from userrl.core import Action, Cast, Episode, Query
from userrl.errors import ConfigError, DataError, EndpointRefused, ReplyError, RunStopped, StoreError
from userrl.evaluate.rescore import MARKS, Mark, Rescored, RescoreJob, mark, rescore, rescored
from userrl.evaluate.run import EvalJob, evaluate
from userrl.gyms.base import find, gym_of, make
from userrl.gyms.persuade import STANCES
from userrl.pipeline.seats import PerGym
from userrl.rollout import run, starts
from userrl.scripted import Listed, Scripted
from userrl.store import read, settings

GYMS = ("intention", "turtle", "telepathy", "travel", "persuade", "search", "function", "tau")


def answers(gym: str, **changed: Callable[[Query[Any]], Any]) -> Cast:
    """A gym's scripted cast, of which the judge answers some queries otherwise."""
    cast = find(gym).cast()
    assert isinstance(cast.judge, Scripted)
    return Cast(cast.user, Scripted({**cast.judge.answers, **{f"{gym}.{name}": of for name, of in changed.items()}}))


def marked(episode: Episode, cast: Cast, rules: Mapping[str, Any] | None = None) -> tuple[Episode, Mark]:
    return asyncio.run(mark(episode, cast, episode.rules if rules is None else rules))


def play(gym: str, *actions: Action, task: int = 0, max_turns: int = 16, cast: Cast | None = None) -> Episode:
    [episode] = run(starts([make(gym).tasks("test")[task]], max_turns=max_turns), Listed(actions), cast or find(gym).cast())
    return episode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    job = EvalJob(agent="expert:0.5", gyms=("intention", "turtle", "telepathy"), tasks=4, attempts=2)
    agent = PerGym(lambda gym: find(gym).expert(0.5))
    asyncio.run(evaluate(job, agent, lambda gym: find(gym).cast(), folder))
    return folder


MARK = (
    '{"schema": 1, "gym": "turtle", "task": "t", "attempt": 0, "before": 0.5, "after": 0.25, "differs": null, "end": "same", '
    '"turns": 3}'
)
"""A line of marks, as the first version wrote it."""


def again(run: Path, out: Path, cast: Callable[[str], Cast] = lambda gym: find(gym).cast(), **options: Any) -> Rescored:
    job = RescoreJob(str(run), options.pop("judge", "scripted"), options.pop("rules", {}))
    return asyncio.run(rescore(job, cast, out, **options))


# --- one episode ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gym", GYMS)
@pytest.mark.parametrize("trait", ["plain", "hesitant"])
def test_the_same_judge_gives_the_same_marks_in_every_gym(gym: str, trait: str) -> None:
    cast = find(gym).cast(trait)
    for episode in run(starts(find(gym).tasks("test")[:4]), find(gym).expert(0.5), cast):
        now, how = marked(episode, cast)
        assert now == episode
        assert how == Mark(None, "same", len(episode.turns))
        assert how.holds


def test_what_was_said_stays_and_what_it_earned_is_new() -> None:
    gym, task = make("turtle"), make("turtle").tasks("test")[0]
    story = Action("answer", task.hidden["story"])
    before = play("turtle", Action("action", "Is it day?"), Action("answer", "No idea."), story)
    harsh = answers("turtle", grade=lambda q: q.reply(grades=[0.0] * len(q.facts["rubric"])))
    now, how = marked(before, harsh)
    assert [t.feedback for t in now.turns] == [t.feedback for t in before.turns]
    assert [t.action for t in now.turns] == [t.action for t in before.turns]
    assert sum(before.rewards) == pytest.approx(1.0)
    assert now.rewards == [0.0, 0.0, 0.0]
    assert (how.end, now.stop) == ("open", "running")
    assert not how.holds
    assert not gym.solved(now)


def test_a_talk_that_a_milder_judge_would_have_ended_ends_there() -> None:
    guesses = [Action("answer", word) for word in ("a spoon", "a chair", "a table")]
    before = play("telepathy", *guesses, max_turns=3)
    mild = answers("telepathy", guess=lambda q: q.reply(same=q.facts["guess"] == "a chair"))
    now, how = marked(before, mild)
    assert (how, now.stop, now.rewards) == (Mark(2, "earlier", 2), "done", [0.0, 1.0])
    assert how.holds, "up to the end the agent saw the same"


def test_an_answer_that_would_have_been_another_before_the_last_action_makes_the_rest_uncertain() -> None:
    lines = len(make("turtle").tasks("test")[0].hidden["rubric"])
    before = play("turtle", Action("answer", "a"), Action("answer", "b"), max_turns=2)

    def first_line_for(text: str) -> Cast:
        return answers("turtle", grade=lambda q: q.reply(grades=[float(q.facts["told"] == text)] + [0.0] * (lines - 1)))

    now, how = marked(before, first_line_for("a"))
    assert (how.differs, how.end, how.holds) == (1, "same", False)
    assert now.turns[0].feedback == before.turns[0].feedback
    late = marked(before, first_line_for("b"))[1]
    assert late == Mark(2, "same", 2)
    assert late.holds, "nothing was done after the last answer"


def test_in_intention_only_the_end_hangs_on_the_judge() -> None:
    gym = find("intention")
    [before] = run(starts(gym.tasks("test")[:1], max_turns=4), gym.expert(1.0), gym.cast())
    blind = answers("intention", addressed=lambda q: q.reply(on_task=False, addressed=[]))
    now, how = marked(before, blind)
    assert (how.differs, sum(now.rewards)) == (None, 0.0)
    assert how.holds is (before.stop == "turn_limit")


def test_the_users_words_are_those_of_the_record_where_the_new_verdict_leads_elsewhere() -> None:
    before = play("persuade", *[Action("action", f"One more reason, number {i}.") for i in range(2)], max_turns=2)
    now, how = marked(before, answers("persuade", stance=lambda q: q.reply(stance=STANCES[-2])))
    assert [t.feedback for t in now.turns] == [t.feedback for t in before.turns]
    assert (how.differs, how.holds) == (1, False)
    assert now.rewards[0] > before.rewards[0]


def test_a_user_that_is_not_on_record_is_held_to_what_the_agent_was_told() -> None:
    before = play("persuade", *[Action("action", f"One more reason, number {i}.") for i in range(3)], max_turns=3)

    class Gone:
        async def answer(self, query: Query[Any]) -> Any:
            raise DataError("The recorded run has no reply of the user.")

    now, how = marked(before, Cast(Gone(), find("persuade").cast().judge))
    assert how.differs == 1
    assert [t.feedback for t in now.turns] == [t.feedback for t in before.turns]
    assert now.rewards == before.rewards
    assert before.turns[0].feedback in now.turns[0].facts["words"]


def test_a_reply_that_words_cannot_stand_for_ends_the_episode_as_a_failure() -> None:
    before = play("telepathy", Action("action", "Is it big?"), max_turns=1)
    word = before.turns[0].feedback

    class Gone:
        async def answer(self, query: Query[Any]) -> Any:
            raise DataError("gone")

    assert marked(before, Cast(Gone(), find("telepathy").cast().judge))[0].turns[0].feedback == word
    other = Episode(before.task, tuple(type(t)(t.action, "Something else.") for t in before.turns), "turn_limit", max_turns=1)
    now, how = marked(other, Cast(Gone(), find("telepathy").cast().judge))
    assert now.stop == "error"
    assert "none can be made of what the agent was told" in str(now.error)
    assert how.turns == 1


def test_a_failing_judge_is_a_failure_and_no_reward() -> None:
    before = play("telepathy", Action("answer", "a spoon"), max_turns=1)

    def broken(query: Query[Any]) -> Any:
        raise ReplyError("nonsense")

    now, _ = marked(before, answers("telepathy", guess=broken))
    assert (now.stop, now.error) == ("error", "judge: nonsense")


def test_rules_change_without_another_judge() -> None:
    [before] = run(starts(make("turtle").tasks("test")[:1]), make("turtle").expert(0.4), find("turtle").cast())
    now, _ = marked(before, find("turtle").cast(), {"success_threshold": 0.01})
    assert gym_of(now).config["success_threshold"] == 0.01
    assert len(now.turns) <= len(before.turns)


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_marked_anew_names_its_origin_and_leaves_it_as_it_was(folder: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    result = again(folder, tmp_path / "new")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert settings(tmp_path / "new")["rescore_of"] == str(folder)
    assert list(read(tmp_path / "new" / "episodes.jsonl")) == list(read(folder / "episodes.jsonl"))
    assert (result.marked, result.changed, result.earlier, result.failed) == (24, 0, 0, 0)
    assert {d.of for d in result.figures} == {"all", "same talk"}
    assert all(d.difference.mean == 0 for d in result.figures)
    kept = json.loads((tmp_path / "new" / "rescored.json").read_text("utf-8"))
    assert kept["marked"] == 24
    assert "24 episodes were marked anew" in kept["note"]


def test_verdicts_that_all_stay_leave_open_what_other_tasks_may_bring(folder: Path, tmp_path: Path) -> None:
    result = again(folder, tmp_path / "new")
    [found] = [d for d in result.figures if (d.gym, d.of) == ("telepathy", "all")]
    assert (found.difference.low, found.difference.high) == pytest.approx((0.025**0.25 - 1, 1 - 0.025**0.25))
    kept = again(folder, tmp_path / "kept", judge=None, rules={"turtle": {"success_threshold": 1.0}})
    width = {d.gym: d.difference.high - d.difference.low for d in kept.figures if d.of == "all"}
    assert width["turtle"] > 0 and width["telepathy"] == width["intention"] == 0, "of which neither judge nor rules are new"
    marks = tmp_path / "new" / MARKS
    lines = [json.loads(line) for line in marks.read_text("utf-8").splitlines()]
    assert {line.pop("best") for line in lines if line["gym"] == "telepathy"} == {1.0}
    marks.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    [found] = [d for d in rescored(tmp_path / "new").figures if (d.gym, d.of) == ("telepathy", "all")]
    assert (found.difference.low, found.difference.high) == (0.0, 0.0), "marks of earlier versions do not say how much there was"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not a mark of an episode: "),
        ("[1]", "not a mark of an episode: "),
        ("{}", "field 'schema' is missing"),
        ('{"schema": 9}', "this version of userrl reads up to 1"),
        ('{"schema": 1, "gym": "turtle"}', "field 'task' is missing"),
        (MARK.replace("0.5", '"much"'), "field 'before' is 'much'; expected a valid number"),
        (MARK.replace('"same"', '"late"'), "field 'end' is 'late'; expected 'same', 'earlier' or 'open'"),
        (MARK.replace("null", "1.5"), "field 'differs' is 1.5; expected a valid integer"),
    ],
)
def test_a_mark_that_does_not_fit_is_named_with_its_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / MARKS).write_text(f"{MARK}\n{line}\n", "utf-8")
    with pytest.raises(DataError) as error:
        rescored(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / MARKS}, line 2: not a mark of an episode: ")
    assert said in str(error.value)
    assert str(error.value).endswith("Nothing was changed; mend or remove the line.")


def test_a_mark_that_a_crash_tore_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / MARKS).write_text(f"{MARK}\n{MARK[:40]}", "utf-8")
    assert rescored(tmp_path).marked == 1


def test_both_figures_are_given_where_the_agent_would_have_been_told_something_else(folder: Path, tmp_path: Path) -> None:
    never = answers("telepathy", guess=lambda q: q.reply(same=False))
    result = again(folder, tmp_path / "new", lambda gym: never if gym == "telepathy" else find(gym).cast())
    by = {(d.gym, d.of): d for d in result.figures}
    assert by["telepathy", "all"].after.mean == 0.0
    assert by["telepathy", "all"].episodes == 8
    assert by["telepathy", "same talk"].episodes == 8 - result.changed < 8
    assert by["turtle", "all"].difference.mean == 0.0
    marks = [json.loads(line) for line in (tmp_path / "new" / MARKS).read_text("utf-8").splitlines()]
    assert sum(line["end"] == "open" for line in marks) == result.changed > 0


def test_a_run_that_was_stopped_goes_on_and_asks_nothing_twice(folder: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def refusing(gym: str) -> Cast:
        def guess(query: Query[Any]) -> Any:
            asked.append(query.place.task)
            if len(asked) == 3:
                raise EndpointRefused("wrong key")
            return find("telepathy").cast().judge.answers["telepathy.guess"](query)  # type: ignore[attr-defined]

        return answers("telepathy", guess=guess) if gym == "telepathy" else find(gym).cast()

    with pytest.raises(EndpointRefused):
        again(folder, tmp_path / "new", refusing, at_once=1)
    done = len(list(read(tmp_path / "new" / "episodes.jsonl")))
    assert 0 < done < 24
    with pytest.raises(StoreError, match="already holds a run"):
        again(folder, tmp_path / "new")
    result = again(folder, tmp_path / "new", resume=True)
    assert result.marked == 24
    assert len((tmp_path / "new" / "episodes.jsonl").read_bytes().splitlines()) == 24


def test_too_many_failures_stop_it(folder: Path, tmp_path: Path) -> None:
    def broken(query: Query[Any]) -> Any:
        raise ReplyError("nonsense")

    def cast(gym: str) -> Cast:
        return answers("turtle", grade=broken) if gym == "turtle" else find(gym).cast()

    with pytest.raises(RunStopped, match="2 episodes could not be marked"):
        again(folder, tmp_path / "new", cast, at_once=1, max_errors=1)
    assert rescored(tmp_path / "new").failed == 2


def test_what_has_no_score_is_left_out_and_kept(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_bytes((folder / "config.json").read_bytes())
    lines = (folder / "episodes.jsonl").read_text("utf-8").splitlines()
    failed = {**json.loads(lines[0]), "stop": "error", "error": "agent: down"}
    (run / "episodes.jsonl").write_text("\n".join([json.dumps(failed), *lines[1:]]) + "\n", "utf-8")
    result = again(run, tmp_path / "new")
    assert (result.marked, result.left_out, result.failed) == (23, 1, 0)
    assert next(iter(read(tmp_path / "new" / "episodes.jsonl"))).error == "agent: down"


def test_mistakes_are_told_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no episodes of an evaluation"):
        again(tmp_path, tmp_path / "new")
    with pytest.raises(DataError, match="is the run itself"):
        again(folder, folder, resume=True)
    with pytest.raises(ConfigError, match="success_threshold is 7"):
        again(folder, tmp_path / "new", rules={"turtle": {"success_threshold": 7}})
    assert not (tmp_path / "new").exists()
