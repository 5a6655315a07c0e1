"""Collecting: play, keep the best, and have them ready for training."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from userrl.collect import Selection, rank
from userrl.collect.run import CollectJob, collect, load
from userrl.core import Agent
from userrl.errors import ResumeError, StoreError
from userrl.gyms.base import make
from userrl.scripted import Listed

GYM = make("intention")
JOB = CollectJob("expert:0.5", tasks=6, attempts=2, max_turns=5, top_k=4)


def collected(folder: Path, job: CollectJob = JOB, agent: Agent | None = None, *, resume: bool = False) -> Selection:
    return asyncio.run(collect(job, agent or GYM.expert(0.5), GYM.cast(), folder, resume=resume))


def test_the_selection_is_written_best_first_and_read_back(tmp_path: Path) -> None:
    selection = collected(tmp_path / "run")
    assert len(selection.kept) == 4 and selection.beaten == 8
    assert load(tmp_path / "run") == list(selection.kept) == rank(selection.kept)
    everything = load(tmp_path / "run" / "episodes.jsonl")
    assert len(everything) == 12 and {e.task.id for e in everything} == {t.id for t in GYM.tasks("train")[:6]}
    assert rank(everything)[0] == selection.kept[0]
    assert json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))["top_k"] == 4


def test_a_resumed_collection_plays_nothing_twice_and_selects_the_same(tmp_path: Path) -> None:
    first = collected(tmp_path / "run")
    (tmp_path / "run" / "selected.jsonl").unlink()
    nobody = Listed([])
    assert collected(tmp_path / "run", agent=nobody, resume=True) == first
    assert load(tmp_path / "run") == list(first.kept)


def test_a_collection_is_gone_on_with_only_under_the_same_settings(tmp_path: Path) -> None:
    collected(tmp_path / "run")
    with pytest.raises(StoreError, match="already holds a run"):
        collected(tmp_path / "run")
    with pytest.raises(ResumeError, match="top_k was 4, now 9"):
        collected(tmp_path / "run", CollectJob("expert:0.5", tasks=6, attempts=2, max_turns=5, top_k=9), resume=True)


def test_a_folder_without_a_selection_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"Cannot read .*selected\.jsonl"):
        load(tmp_path)
