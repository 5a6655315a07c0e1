"""What a report says of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from userrl.collect import Left, Selection, report, select
from userrl.core import Episode
from userrl.errors import DataError
from userrl.evaluate.metrics import share
from userrl.gyms.base import make
from userrl.render import written
from userrl.rollout import run, starts


def played(gym: str, skill: float = 0.6, count: int = 6) -> list[Episode]:
    rules = make(gym)
    return list(run(starts(rules.tasks("train")[:count], attempts=2, max_turns=5), rules.expert(skill), rules.cast()))


def test_a_gym_has_a_line_with_counts_that_add_up() -> None:
    episodes = [*played("intention"), *played("function")]
    selection = select(episodes, top_k=4, near=0.9)
    rows = report.quality_of(selection)
    assert [row.gym for row in rows] == list(dict.fromkeys(e.task.gym for e in [*selection.kept])) and len(rows) == 2
    for row in rows:
        kept = [e for e in selection.kept if e.task.gym == row.gym]
        assert row.kept == len(kept) == 4 and row.episodes == 12 == row.kept + sum(row.left.values())
        assert row.tasks == len({e.task.id for e in kept})
        assert row.share["0"] == min(map(share, kept)) and row.share["1"] == max(map(share, kept))
        assert row.turns["1"] == max(len(e.turns) for e in kept)
        assert row.agent_chars == sum(len(written(t.action)) for e in kept for t in e.turns) < row.chars
        assert sum(row.mix.values()) == pytest.approx(1) == sum(row.choices.values())
        assert row.tokens is None


def test_a_gym_of_which_nothing_was_kept_has_its_line_too() -> None:
    [row] = report.quality_of(Selection([], [Left("turtle", "a", 0, "failed"), Left("turtle", "b", 0, "failed")]))
    assert (row.gym, row.episodes, row.kept, row.left, row.share) == ("turtle", 2, 0, {"failed": 2}, {})


def test_tokens_are_counted_where_a_tokenizer_is_given() -> None:
    [row] = report.quality_of(Selection(played("intention")), lambda e: (len(e.turns), 10))
    assert (row.agent_tokens, row.tokens) == (int(sum(len(e.turns) for e in played("intention"))), 120)


def test_a_report_is_read_back_and_a_folder_without_one_is_a_data_error(tmp_path: Path) -> None:
    rows = report.quality_of(select([*played("intention"), replace(played("function")[0], stop="error", error="x")]))
    report.write(tmp_path, rows)
    assert report.read(tmp_path) == rows
    with pytest.raises(DataError, match=r"quality\.json holds no report that can be read: No such file"):
        report.read(tmp_path / "none")
    (tmp_path / "quality.json").write_text("[{}]", "utf-8")
    with pytest.raises(DataError, match="Field required"):
        report.read(tmp_path)
