from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pyarrow import parquet

from userrl.collect.export import conversation
from userrl.core import Episode
from userrl.errors import DataError, UnknownName
from userrl.gyms.base import make
from userrl.report.exports import FORMATS, chat, export
from userrl.report.frames import load
from userrl.report.plots import Line, Plot, png, svg
from userrl.store import dump

LINES = (Line("A", 0, [1, 2], [0, 1], [0, 0.5], [0.5, 1]), Line("B", 7, [1], [1]))
PLOT = Plot("p", "Title $x$ <&>", "alt", "turn", "reward", LINES)


def test_messages_hold_what_the_agent_saw_and_nothing_hidden(strong: Path, tmp_path: Path) -> None:
    [file] = export([strong], "messages", tmp_path)
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    episodes = list(load(strong).records)
    assert len(lines) == len(episodes)
    for line, episode in zip(lines, episodes, strict=True):
        roles = [m["role"] for m in line["messages"]]
        assert roles[:2] == ["system", "user"]
        assert roles[2:] == ["assistant", "tool"] * len(episode.turns)
        call = line["messages"][2]["tool_calls"][0]["function"]
        assert json.loads(call["arguments"])["content"] == episode.turns[0].action.text
        assert line["tools"][0]["function"]["name"] == call["name"]
        assert (line["task"], line["rewards"]) == (episode.task.id, episode.rewards)
        assert episode.task.hidden.get("story", "no such text") not in json.dumps(line)
        assert not {"hidden", "facts", "reveals"} & set(line)


def test_messages_are_those_that_sft_exports(strong: Path) -> None:
    for episode in load(strong).records:
        line = chat(episode)
        assert conversation(episode).items() <= line.items()


def test_a_failed_episode_is_exported_without_a_score() -> None:
    task = make("turtle").tasks("test")[0]
    line = chat(Episode(task).fail("judge: down"))
    assert (line["score"], line["solved"], line["error"]) == (None, None, "judge: down")


def test_parquet_holds_the_data_frames(strong: Path, tmp_path: Path) -> None:
    files = export([strong], "parquet", tmp_path)
    assert [file.name for file in files] == ["episodes.parquet", "turns.parquet"]
    assert parquet.read_table(files[1]).equals(load(strong).turns)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["episodes.parquet", "turns.parquet"]


def test_several_runs_go_to_folders_of_their_names(strong: Path, weak: Path, tmp_path: Path) -> None:
    files = export([strong, weak, strong], "messages", tmp_path)
    assert [file.parent.name for file in files] == ["strong", "weak", "strong-2"]


@pytest.mark.parametrize(("form", "ending"), [("csv", "csv"), ("latex", "tex"), ("svg", "svg"), ("png", "png")])
def test_the_tables_and_plots_of_the_report_become_files(strong: Path, tmp_path: Path, form: str, ending: str) -> None:
    files = export([strong], form, tmp_path)
    assert {file.suffix for file in files} == {f".{ending}"}
    names = {file.stem for file in files}
    assert len(names) == len(files)
    assert {"scores", "effort", "actions-turtle"} <= names if form in ("csv", "latex") else {"share", "by-turn-turtle"} <= names
    assert all(file.stat().st_size > 50 for file in files)


def test_an_unknown_format_names_those_there_are(strong: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'parquet'"):
        export([strong], "parquett", tmp_path)
    assert set(FORMATS) == {"messages", "parquet", "inspect", "csv", "latex", "svg", "png"}


def test_a_run_without_episodes_cannot_be_exported(tmp_path: Path) -> None:
    dump(tmp_path / "run" / "episodes.jsonl", [])
    with pytest.raises(DataError, match="holds no episodes"):
        export([tmp_path / "run"], "messages", tmp_path)


def test_a_plot_is_the_same_each_time_and_its_text_is_text() -> None:
    assert svg(PLOT) == svg(PLOT)
    assert "Title $x$ &lt;&amp;&gt;" in svg(PLOT)
    assert "<metadata" not in svg(PLOT, themed=True)
    assert not re.search(r"Date|\d{4}-\d\d-\d\d", svg(PLOT, themed=True))
    assert png(PLOT).startswith(b"\x89PNG")


def test_a_log_of_inspect_ai_is_read_back_by_it(strong: Path, tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log", reason="the extra 'inspect' is not installed")
    files = export([strong], "inspect", tmp_path)
    assert [file.name for file in files] == ["intention.eval", "turtle.eval"]
    for file in files:
        read = log.read_eval_log(str(file))
        episodes = [e for e in load(strong).records if e.task.gym == file.stem]
        assert (read.status, read.eval.task) == ("success", f"userrl/{file.stem}")
        assert len(read.samples) == len(episodes)
        by_place = {(s.id, s.epoch): s for s in read.samples}
        for episode in episodes:
            sample = by_place[episode.task.id, episode.attempt + 1]
            assert sample.messages[3].text == episode.turns[0].feedback
            assert [event.data["reward"] for event in sample.events] == episode.rewards
        assert {score.name for score in read.results.scores} == {"score", "share", "solved"}
