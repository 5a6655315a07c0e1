"""`userrl models`: what there is, and an error for what there is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from userrl.pipeline import models

Cli = Callable[..., Any]


def test_the_list_names_each_model_and_where_it_is(cli: Cli, tmp_path: Path) -> None:
    done = cli("models")
    assert done.code == 0
    assert "smollm2" in done.out and "Apache-2.0" in done.out and "135M" in done.out
    assert "Get it: userrl models get smollm2" in done.out
    folder = tmp_path / "runs" / "smollm2"
    folder.mkdir(parents=True)
    (folder / models.RECORD).write_text("{}", "utf-8")
    assert "smollm2 is in runs/smollm2" in cli("models").out


def test_a_model_that_is_there_is_not_made_again(cli: Cli, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "held", lambda name, folder: name == "smollm2" and folder == Path("mine"))
    done = cli("models", "get", "smollm2", "--out", "mine")
    assert done.code == 0
    assert done.out.startswith("Model: mine (was there already, whole)\n")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_is_an_error_that_names_the_near_ones(refused: Callable[..., str]) -> None:
    assert refused("models", "get", "smolm2") == (
        "Error: No model named 'smolm2'. Did you mean 'smollm2'? `userrl models` lists them."
    )


def test_a_folder_in_use_is_not_written_over(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it", "utf-8")
    assert "choose another folder with --out" in refused("models", "get", "smollm2", "--out", "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text("utf-8") == "all of it"
