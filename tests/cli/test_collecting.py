"""`userrl sft collect`, `select`, `report` and `export`, as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import templates
from userrl.store import read

Cli = Callable[..., Any]
COLLECT = ("sft", "collect", "intention", "function", "--agent", "expert:0.5", "--user", "scripted:terse", "--tasks", 4)


@pytest.fixture
def collected(cli: Cli) -> Any:
    done = cli(*COLLECT, "--attempts", 3, "--per-task", 1, "--max-turns", 4)
    assert done.code == 0, done.err
    return done


def test_the_best_of_three_is_kept_with_a_report(collected: Any, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "experts"
    assert "Kept 8; left out 16 beaten by better ones, 0 with an invalid action, 0 failed" in collected.out
    assert max(map(len, collected.out.split("Kept 8")[0].splitlines())) <= 80
    assert len({e.task.id for e in read(run / "selected.jsonl")}) == 8
    assert len((run / "left_out.jsonl").read_text("utf-8").splitlines()) == 16
    assert [row["gym"] for row in json.loads((run / "quality.json").read_text("utf-8"))] == ["intention", "function"]
    shown = cli("sft", "report", "runs/experts")
    assert shown.code == 0 and "The kept episodes" in shown.out and "beaten by" in shown.out


def test_a_collection_is_resumed_with_its_selection(collected: Any, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "runs" / "experts" / "selected.jsonl"
    before = file.read_bytes()
    file.unlink()
    assert cli(*COLLECT, "--attempts", 3, "--per-task", 1, "--max-turns", 4, "--resume").code == 0
    assert file.read_bytes() == before


def test_another_choice_is_made_of_the_same_episodes_in_a_mixture(collected: Any, cli: Cli, tmp_path: Path) -> None:
    mix = ("--mix", "intention=1", "--mix", "function=2")
    done = cli("sft", "select", "runs/experts", "runs/experts/selected.jsonl", "--near", 1, *mix, "--out", "runs/best")
    assert done.code == 0 and "duplicates" in done.out and "beyond the mixture" in done.out
    gyms = [e.task.gym for e in read(tmp_path / "runs" / "best" / "selected.jsonl")]
    assert gyms.count("function") == 2 * gyms.count("intention") > 0
    assert done.out.splitlines()[-1] == "Next: userrl sft train --data runs/best"


def test_where_most_episodes_were_duplicates_the_actions_are_shown_before_and_after(cli: Cli) -> None:
    command = ("sft", "collect", "intention", "--tasks", 6, "--attempts", 4, "--max-turns", 3)
    done = cli(*command, "--near", 0.3)
    assert done.code == 0 and "Most episodes were left out as duplicates" in done.out
    assert "intention, all" in done.out and "intention, kept" in done.out and "--near 0 keeps duplicates" in done.err
    again = cli(*command, "--near", 0, "--out", "runs/all")
    assert again.code == 0 and "intention, kept" not in again.out


def test_a_mixture_that_cannot_be_read_is_one_error(collected: Any, refused: Callable[..., str]) -> None:
    assert refused("sft", "select", "--mix", "intention").startswith("Error: --mix is 'intention'; expected GYM=WEIGHT")
    assert "Did you mean" not in refused("sft", "select", "--mix", "turtle=1")
    assert "mix.intention is inf" in refused("sft", "select", "--mix", "intention=inf")
    twice = refused("sft", "select", "--mix", "intention=1", "--mix", "intention=2")
    assert twice.startswith("Error: --mix is given twice for 'intention': intention=1 and intention=2.")


def test_where_nothing_is_kept_training_is_not_proposed(cli: Cli) -> None:
    done = cli("sft", "collect", "intention", "--tasks", 1, "--split", "test", "--play-held-out", "--out", "runs/test")
    assert done.code == 0 and "Kept 0" in done.out and "1 on held-out tasks" in done.out and "Next" not in done.out


def test_tasks_like_held_out_ones_are_told_of_before_play_and_not_played(cli: Cli, tmp_path: Path) -> None:
    """The second training task of telepathy is like a held-out one."""
    command = ("sft", "collect", "telepathy", "--tasks", 4, "--attempts", 2, "--max-turns", 2)
    done = cli(*command, "--out", "runs/a")
    assert done.code == 0
    first, *later = done.err.splitlines()
    assert first.startswith("Not played: 1 task of telepathy, held out or like a held-out one (such as telepathy-")
    assert first.endswith("; --play-held-out plays them all the same.") and any("  6/6" in line for line in later)
    [line] = (tmp_path / "runs" / "a" / "not_played.jsonl").read_text("utf-8").splitlines()
    one = json.loads(line)
    assert one["gym"] == "telepathy" and one["why"] == "held-out hidden" and one["like"] != one["task"]
    assert "; not played 1 task, held out or like one that is" in done.out
    assert one["task"] not in {e.task.id for e in read(tmp_path / "runs" / "a" / "episodes.jsonl")}
    assert "tasks not" in cli("sft", "report", "runs/a").out
    kept = (tmp_path / "runs" / "a" / "selected.jsonl").read_bytes()

    done = cli(*command, "--play-held-out", "--out", "runs/b")
    assert "Not played" not in done.err and any("  8/8" in line for line in done.err.splitlines())
    assert "2 on held-out tasks" in done.out and not (tmp_path / "runs" / "b" / "not_played.jsonl").exists()
    assert (tmp_path / "runs" / "b" / "selected.jsonl").read_bytes() == kept, "the same data, for fewer episodes"


@pytest.mark.filterwarnings("default")  # torch's and transformers' own
def test_files_are_exported_for_a_model_as_its_template_needs_them(collected: Any, cli: Cli, tmp_path: Path) -> None:
    templates.policy(templates.CHATML).save(tmp_path / "model")
    done = cli("sft", "export", "--out", "data/a.jsonl")
    assert done.out == "8 episodes, calls native, the tool in the column `tools`: data/a.jsonl\n"
    done = cli("sft", "export", "runs/experts", "--model", "model", "--out", "data/b.jsonl")
    assert "8 episodes, calls as text, the tool in the system message: data/b.jsonl" in done.out
    assert "its tokens are those of `userrl sft train`" in done.out
    rows = [[json.loads(line) for line in (tmp_path / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()] for name in "ab"]
    assert all("tools" in row for row in rows[0]) and not any("tools" in row for row in rows[1])
    done = cli("sft", "export", "--format", "sharegpt", "--out", "data/c.jsonl")
    assert done.out.endswith("data/c.jsonl, data/dataset_info.json\n")


@pytest.mark.filterwarnings("default")  # torch's and transformers' own
def test_a_style_that_a_models_template_does_not_write_is_refused(
    collected: Any, refused: Callable[..., str], tmp_path: Path
) -> None:
    templates.policy(templates.CHATML).save(tmp_path / "model")
    said = refused("sft", "export", "--model", "model", "--calls", "native", "--out", "a.jsonl")
    assert "writes a whole conversation otherwise than turn by turn: it cannot write a talk with native calls" in said
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.filterwarnings("default")  # torch's and transformers' own
def test_training_refuses_a_template_that_play_would_read_otherwise(
    collected: Any, refused: Callable[..., str], tmp_path: Path
) -> None:
    templates.policy(templates.LATE_END).save(tmp_path / "model")
    said = refused("sft", "train", "--data", "runs/experts", "--data", "runs/experts", "--model", "model", "--steps", 1)
    assert "Mend the template in the model's folder" in said
    assert not (tmp_path / "runs" / "sft").exists()


def test_a_folder_that_holds_no_data_is_one_error_that_says_what_to_name(cli: Cli, refused: Callable[..., str]) -> None:
    assert "holds no report that can be read" in refused("sft", "report", "runs/none")
    assert "Cannot read runs/none" in refused("sft", "select", "runs/none")
    assert "Cannot read runs/none" in refused("sft", "export", "runs/none")
