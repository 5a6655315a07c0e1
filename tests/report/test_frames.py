from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import userrl
from userrl.core import Action, Episode, Task, Tokens, Turn
from userrl.errors import DataError
from userrl.evaluate.metrics import summarize
from userrl.gyms.base import make
from userrl.report.frames import columns, flat, run_names, runs_in, schema
from userrl.rollout import run, starts
from userrl.store import Store, dump


@pytest.fixture(scope="module")
def played() -> list[Episode]:
    gym = make("intention")
    return run(starts(gym.tasks("test")[:6], attempts=2), gym.expert(0.5), gym.cast())


def test_a_row_for_each_episode_and_each_turn(played: list[Episode], tmp_path: Path) -> None:
    loaded = userrl.load(dump(tmp_path / "episodes.jsonl", played))
    assert loaded.episodes.num_rows == len(played)
    assert loaded.turns.num_rows == sum(len(e.turns) for e in played)
    assert loaded.episodes["turns"].to_pylist() == [len(e.turns) for e in played]
    rewards = [turn.reward for e in played for turn in e.turns]
    assert loaded.turns["reward"].to_pylist() == rewards
    last = {row["episode"]: row["reward_so_far"] for row in loaded.turns.to_pylist()}
    assert list(last.values()) == pytest.approx(loaded.episodes["reward"].to_pylist())
    assert json.loads(loaded.turns["facts"][0].as_py()) == played[0].turns[0].facts


def test_the_means_of_the_columns_are_those_of_the_tables(played: list[Episode], tmp_path: Path) -> None:
    frame = userrl.load(dump(tmp_path / "episodes.jsonl", played)).episodes.to_pandas()
    [summary] = summarize(played)
    assert summary.effort is not None
    for column, value in {
        "score": summary.score.mean,
        "share": summary.share.mean,
        "solved": summary.solved.mean,
        "weighted_reward": summary.time_weighted,
        "effective_turns": summary.effective_turns,
        "questions": summary.effort.questions,
        "read_tokens": summary.effort.read,
        "typed_tokens": summary.effort.typed,
        "repeats": summary.effort.repeats,
    }.items():
        assert frame[column].mean() == pytest.approx(value), column
    assert frame.user_turns.sum() / frame.turns.sum() == pytest.approx(summary.effort.rate)


def test_a_failed_episode_has_no_figures(played: list[Episode], tmp_path: Path) -> None:
    row = userrl.load(dump(tmp_path / "e.jsonl", [played[0].fail("user: gone")])).episodes.to_pylist()[0]
    assert (row["stop"], row["error"], row["turns"]) == ("error", "user: gone", len(played[0].turns))
    assert {row[name] for name in ("score", "share", "solved", "reward", "questions")} == {None}


def test_an_episode_that_was_played_anew_counts_once_and_steps_of_training_apart(played: list[Episode], tmp_path: Path) -> None:
    with Store(tmp_path / "e.jsonl") as store:
        for episode in (played[0].fail("down"), played[0], replace(played[0], seed=1)):
            store.append(episode)
    found = userrl.load(tmp_path / "e.jsonl").episodes
    assert found["stop"].to_pylist() == [played[0].stop] * 2
    assert found["seed"].to_pylist() == [0, 1]


def test_tokens_of_a_local_policy_are_counted(tmp_path: Path) -> None:
    task = make("intention").tasks("test")[0]
    action = Action("action", "Where?", raw="raw", tokens=Tokens((1, 2, 3), (4, 5), (-0.1, -0.2)))
    episode = Episode(task, (Turn(action, "There."),), "turn_limit")
    row = userrl.load(dump(tmp_path / "e.jsonl", [episode])).turns.to_pylist()[0]
    assert (row["context_tokens"], row["sampled_tokens"], row["raw"]) == (3, 2, "raw")


@pytest.mark.parametrize("table", ["episodes", "turns", "calls"])
def test_the_schema_is_the_same_with_and_without_rows(table: str, tmp_path: Path) -> None:
    empty = getattr(userrl.load(dump(tmp_path / "none.jsonl", [])), table)
    assert empty.schema.names == schema(table).names == list(columns(table))
    assert empty.schema.equals(schema(table))


def test_every_column_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text("utf-8")
    for table in ("episodes", "turns", "calls"):
        assert all(f"`{name}`" in page for name in columns(table)), table


def test_steps_of_training_are_rows_with_flat_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"kind": "rl"}', "utf-8")
    lines = [
        {"step": 2, "loss": 0.5},
        {"step": 1, "mix": {"relevant": 0.25}, "validation": {"share": {"mean": 0.5, "low": 0.4, "high": 0.6}}},
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    steps = userrl.load(tmp_path).steps
    assert steps["step"].to_pylist() == [1, 2]
    assert set(steps.schema.names) == {
        "step",
        "loss",
        "mix.relevant",
        *(f"validation.share.{end}" for end in ("mean", "low", "high")),
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not a line of training figures: "),
        ("7", "line 2: not a line of training figures: it is 7; expected a JSON object"),
        ('{"loss": 0.5}', "line 2: not a line of training figures: field 'step' is missing"),
        ('{"step": "2"}', "line 2: not a line of training figures: field 'step' is '2'; expected a valid integer"),
        (
            '{"step": 2, "share": "half"}',
            "line 2: not a line of training figures: field 'share' is 'half'; expected a valid number",
        ),
        ('{"step": 2, "mix": {"relevant": []}}', "line 2: not a line of training figures: field 'mix.relevant' is []"),
        ('{"step": 2, "validation": {"share": {"mean": 0.5}}}', "field 'validation.share.low' is missing"),
        ('{"step": 2, "loss": "0.5"}', "line of step 2: loss is '0.5', which does not go into a column"),
        ('{"step": 2, "loss": [0.5]}', "line of step 2: loss is [0.5], which does not go into a column"),
        ('{"step": 2, "extra": 123456789012345678901234567890}', "line of step 2: extra is 1234567890"),
    ],
)
def test_a_line_of_training_that_does_not_fit_is_named_with_its_file(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text(f'{{"step": 1, "loss": 0.1}}\n{line}\n{{"step": 3, "loss": 0.1}}\n', "utf-8")
    (tmp_path / "config.json").write_text('{"kind": "rl"}', "utf-8")
    with pytest.raises(DataError) as error:
        _ = userrl.load(tmp_path).steps
    assert str(error.value).startswith(f"{file}, {said.partition(':')[0] if said.startswith('line') else 'line 2'}")
    assert said in str(error.value)
    assert str(error.value).endswith("Nothing was changed; mend or remove the line.")


def test_a_figure_that_no_utf8_can_hold_is_still_a_column(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"step": 1, "note": "a\\ud800"}\n{"step": 2, "loss": NaN}\n', "utf-8")
    (tmp_path / "config.json").write_text('{"kind": "rl"}', "utf-8")
    assert userrl.load(tmp_path).steps["note"].to_pylist() == ["a?", None]


def test_flat_joins_names_by_points() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        userrl.load(tmp_path)
    (tmp_path / "config.json").write_text("[]", "utf-8")
    with pytest.raises(DataError, match="holds no JSON object"):
        userrl.load(tmp_path)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").write_text('{"schema": 1}\n', "utf-8")
    with pytest.raises(DataError, match="byte 0: not a record of this file: field 'task' is missing"):
        len(userrl.load(tmp_path).records)


def test_a_broken_turn_is_named(played: list[Episode], tmp_path: Path) -> None:
    file = dump(tmp_path / "episodes.jsonl", played[:1])
    file.write_text(file.read_text("utf-8").replace('"feedback"', '"feedbag"', 1), "utf-8")
    with pytest.raises(DataError, match=r"byte 0: not an episode record: .*feedbag"):
        assert userrl.load(tmp_path).turns


def test_a_table_has_a_question_mark_where_no_utf8_can_be(tmp_path: Path) -> None:
    task = make("turtle").tasks("test")[0]
    turn = Turn(Action("action", "a\ud800"), "b\udc00", facts={"x": "c\ud800"}, reveals=("d\ud800",))
    row = userrl.load(dump(tmp_path / "e.jsonl", [Episode(task, (turn,), "turn_limit")])).turns.to_pylist()[0]
    assert (row["text"], row["feedback"], row["reveals"]) == ("a?", "b?", ["d?"])
    assert json.loads(row["facts"]) == {"x": "c\ud800"}


def test_runs_are_found_below_a_folder_and_not_below_a_run(tmp_path: Path) -> None:
    for name in ("grid/b/x", "grid/a/x", "grid/a/x/inner", "other"):
        dump(tmp_path / name / "episodes.jsonl", [])
    (tmp_path / "grid" / "model").mkdir()
    (tmp_path / "grid" / "model" / "config.json").write_text("{}", "utf-8")
    assert runs_in(tmp_path / "grid") == [tmp_path / "grid/a/x", tmp_path / "grid/b/x"]
    assert runs_in(tmp_path / "other") == [tmp_path / "other"]
    with pytest.raises(DataError, match="holds no run"):
        runs_in(tmp_path / "grid" / "nowhere")


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["grid/strong/terse/scripted", "grid/weak/terse/scripted"], ["strong", "weak"]),
        (["a/1/x", "b/1/x", "a/2/x"], ["a/1", "b/1", "a/2"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["/a", "/x/a"], ["a", "x/a"]),
        (["/", "/b"], ["run", "b"]),
    ],
)
def test_names_of_runs_tell_them_apart_and_lead_out_of_no_folder(runs: list[str], names: list[str]) -> None:
    assert run_names([Path(run) for run in runs]) == names


def test_a_custom_task_is_no_hindrance(tmp_path: Path) -> None:
    hidden = make("turtle").tasks("test")[0].hidden
    episode = Episode(Task("mine", "turtle", "Why?", hidden), (Turn(Action("action", "Is it?"), "No", label="no"),), "turn_limit")
    assert userrl.load(dump(tmp_path / "e.jsonl", [episode])).episodes["task"].to_pylist() == ["mine"]
