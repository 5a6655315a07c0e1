from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from userrl import store
from userrl.core import Action, Episode, Turn
from userrl.errors import DataError
from userrl.evaluate import outlines, paper
from userrl.evaluate.front import front
from userrl.evaluate.hacks import Example, Finding
from userrl.evaluate.metrics import figures
from userrl.evaluate.results import document, eval_document
from userrl.evaluate.results import measure as measure_run
from userrl.evaluate.results import write as write_results
from userrl.evaluate.run import recorded_job
from userrl.evaluate.statistics import Interval
from userrl.evaluate.users import Factor, Figure, Ranks
from userrl.gyms.base import make
from userrl.report.content import report
from userrl.report.episodes import LONGEST, cut
from userrl.report.exports import export
from userrl.report.frames import load
from userrl.report.page import html, write
from userrl.report.runs import BINS, measure, read
from userrl.store import dump

SCRIPT = "<script>alert(1)</script>"
HARMLESS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "ul", "li", "span", "nav", "a", "main", "section",
    "p", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "details", "summary", "dl", "dt", "dd",
    "footer",
    "svg", "g", "path", "defs", "text", "use", "clippath", "rect", "tspan",
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.style = "", ""
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._in:
            self.style += data
        else:
            self.text += data


@cache
def page(*runs: Path) -> Page:
    return Page(html(report(runs)))


def test_a_page_tells_what_the_table_of_an_evaluation_does(strong: Path) -> None:
    found = page(strong)
    for summary in (*figures(load(strong).records).gyms, *figures(load(strong).records).averages):
        assert f"{summary.score.mean:.2f}[{summary.score.low:.2f}, {summary.score.high:.2f}] n {summary.score.n}" in found.text
    for section in ("Scores", "User effort", "Actions", "Reward by turn", "Distributions", "Several attempts", "Sample episodes"):
        assert section in found.text
    assert "Compared with" not in found.text
    assert "Learning curves" not in found.text


def test_a_page_needs_nothing_else_and_runs_nothing(strong: Path, weak: Path) -> None:
    found = page(strong, weak)
    assert {tag for tag, _ in found.tags} <= HARMLESS
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action", "formaction")]
        for name in ("href", "xlink:href"):
            if name in attributes:
                assert str(attributes[name]).startswith("#"), (tag, attributes)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", found.style)
    assert "@import" not in found.style
    [policy] = [a["content"] for tag, a in found.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_texts_of_models_and_files_cannot_break_out(nasty: Path) -> None:
    found = page(nasty)
    assert {tag for tag, _ in found.tags} <= HARMLESS
    assert "<script>alert(1)</script>" in found.text
    assert "{{7*7}}" in found.text
    for tag, attributes in found.tags:
        assert not {name for name in attributes if name.startswith("on") or name == "src"}, tag
    assert "judge: <script>" in found.text
    assert "failed, so there is no score" in found.text


def test_all_ids_of_a_page_differ_and_all_links_lead_somewhere(strong: Path, weak: Path, trained: Path) -> None:
    tags = page(strong, weak, trained).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags:
        for name in ("href", "xlink:href"):
            assert name not in attributes or str(attributes[name])[1:] in ids
        for name in re.findall(r"url\(#(\w+)\)", str(attributes.get("clip-path", ""))):
            assert name in ids


def test_tables_and_pictures_can_be_read_aloud(strong: Path, weak: Path) -> None:
    tags = page(strong, weak).tags
    count = sum(tag == "table" for tag, _ in tags)
    assert count == sum(tag == "caption" for tag, _ in tags) > 5
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")
    pictures = [attributes for _, attributes in tags if attributes.get("role") == "img"]
    assert len(pictures) == sum(tag == "svg" for tag, _ in tags) > 3
    assert all(len(str(attributes["aria-label"])) > 30 for attributes in pictures)
    assert ("html", {"lang": "en"}) in tags


def contrast(first: str, second: str) -> float:
    """WCAG's ratio of two colors, written as #rrggbb."""

    def light(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("which", [0, 1])
def test_text_stands_out_in_light_and_dark(strong: Path, which: int) -> None:
    root = re.findall(r":root \{(.*?)\}", page(strong).style, re.DOTALL)[which]
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", root))
    for ground in ("page", "panel"):
        for text in ("ink", "muted", "link", "good"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        for line in (f"s{i}" for i in range(6)):
            assert contrast(colors[line], colors[ground]) >= 3, (line, ground)


def test_plots_take_the_colors_of_the_page(strong: Path) -> None:
    text = html(report([strong]))
    drawn = text[text.index("<svg") :]
    assert "var(--s0)" in drawn
    assert "var(--ink)" in drawn
    assert not re.search(r"(?:fill|stroke): #(?!ffffff|none)", drawn)


def test_two_runs_are_compared_by_the_paired_test(strong: Path, weak: Path) -> None:
    found = report([strong, weak])
    [section] = [s for s in found.sections if s.name == "comparison"]
    assert [table.name for table in section.tables] == [f"difference-{m}-a-b" for m in ("score", "solved", "user-turns")]
    assert section.tables[0].rows[1][4].mean < 0  # type: ignore[union-attr]


def test_success_against_turns_is_the_front_of_the_runs(strong: Path, weak: Path) -> None:
    [section] = [s for s in report([weak, strong]).sections if s.name == "front"]
    assert [plot.name for plot, _ in section.plots] == ["front-intention", "front-turtle"]
    for gym in ("intention", "turtle"):
        found = front([weak, strong], "solved", "user-turns", gym)
        [table] = [table for _, table in section.plots if table is not None and table.name == f"front-{gym}"]
        letters = {str(weak): "A", str(strong): "B"}
        assert [row[:3] for row in table.rows] == [(letters[p.run], p.turns, p.success) for p in found.points]
        assert [row[3] for row in table.rows] == ["yes" if p.on_front else "no" for p in found.points]


def test_a_folder_of_runs_stands_for_all_below_it(strong: Path, tmp_path: Path) -> None:
    for cell in ("weak/plain/scripted", "able/plain/scripted"):
        shutil.copytree(strong, tmp_path / "grid" / cell)
    (tmp_path / "grid" / "weak" / "plain" / "scripted" / "old").mkdir()
    shutil.copy(strong / "episodes.jsonl", tmp_path / "grid" / "weak" / "plain" / "scripted" / "old")
    found = report([tmp_path / "grid"])
    assert (found.title, found.runs) == ("able and weak", (("A", "able", 0), ("B", "weak", 1)))
    shutil.copytree(strong, tmp_path / "grid" / "xeno" / "plain" / "scripted")
    assert report([tmp_path / "grid"]).title == "grid"


def test_the_table_of_agents_and_users_is_that_of_the_grid(grid: tuple[Path, Factor]) -> None:
    folder, found = grid
    told = report([folder])
    [section] = [s for s in told.sections if s.name == "users"]
    tables = {table.name: table for table in section.tables}
    assert list(tables) == ["users", "users-macro", "users-intention", "users-turtle", "users-spread", "users-ranks"]
    heads = ["agent", "plain / j", "plain / k", "terse / j", "terse / k"]
    means: dict[str, Callable[[Figure], Interval]] = {
        "users": lambda f: f.mean,
        "users-macro": lambda f: f.macro,
        "users-turtle": lambda f: f.gyms["turtle"],
    }
    for name, of in means.items():
        assert [column.head for column in tables[name].columns] == heads
        assert [row[0] for row in tables[name].rows] == ["able", "weak"]
        assert [cell for row in tables[name].rows for cell in row[1:]] == [of(f) for f in found.figures]
    for spread, row in zip(found.spreads, tables["users-spread"].rows, strict=True):
        worst = (spread.worst, spread.worst_mean, spread.worst_share) if spread.differs else (None, None, None)
        assert row[:5] == (spread.agent, spread.mean, *worst)
    spread = found.spreads[1]
    assert tables["users-spread"].rows[1][5] == pytest.approx(spread.between**0.5)
    assert [row[:2] for row in tables["users-ranks"].rows] == [(r.first, r.second) for r in found.ranks]
    assert [row[2] for row in tables["users-ranks"].rows] == [r.tau for r in found.ranks]
    assert {"users.csv", "users-spread.csv"} <= {f.name for f in export([folder], "csv", folder.parent / "csv")}
    assert {tag for tag, _ in Page(html(told)).tags} <= HARMLESS
    assert "users" not in {s.name for s in report([folder / "able"]).sections}, "a part of a grid has no table of its own"


def test_two_grids_have_a_section_each(grid: tuple[Path, Factor]) -> None:
    folder, _ = grid
    shutil.copytree(folder, folder.parent / "other")
    told = report([folder, folder.parent / "other"])
    assert [(s.name, s.title) for s in told.sections if s.name.startswith("users")] == [
        ("users-1", "Agents and users: grid"),
        ("users-2", "Agents and users: other"),
    ]
    names = [table.name for table in told.tables if table.name.startswith("users")]
    assert len(names) == len(set(names))


def test_models_are_named_without_urls_where_that_tells_them_apart(grid: tuple[Path, Factor]) -> None:
    folder, found = grid
    for urls, heads in ((("http://a/v1", "http://b/v1"), ["m@http://a/v1", "m@http://b/v1"]), (("", "http://b/v1"), ["m@", "m"])):
        first, second = (f"m@{url}" for url in urls)
        named = {"plain": first, "terse": second}
        figures = tuple(replace(f, user=named[f.user]) for f in found.figures if f.judge == "j")
        ranks = (replace(found.ranks[0], first=first, second=second),)
        write_results(folder, document("users", {"factor": replace(found, figures=figures, ranks=ranks)}))
        [section] = [s for s in report([folder]).sections if s.name == "users"]
        assert [column.head for column in section.tables[0].columns] == ["agent", *heads]
        assert section.tables[-1].rows[0][:2] == tuple(heads)


def test_variances_below_zero_are_refused(grid: tuple[Path, Factor]) -> None:
    folder, found = grid
    write_results(folder, document("users", {"factor": replace(found, spreads=(replace(found.spreads[0], between=-1.0),))}))
    with pytest.raises(DataError, match=r"results\.json holds no grid .*none is below 0"):
        report([folder])


def test_a_user_that_cannot_tell_agents_apart_gets_a_dash(grid: tuple[Path, Factor]) -> None:
    folder, found = grid
    alike = replace(found, ranks=(Ranks("plain", "terse", Interval(float("nan"), float("nan"), float("nan"), 2)),), spreads=())
    write_results(folder, document("users", {"factor": alike}))
    [section] = [s for s in report([folder]).sections if s.name == "users"]
    assert section.tables[-1].rows == (("plain", "terse", None),)
    assert "users-spread" not in {table.name for table in section.tables}


@pytest.mark.parametrize("name", ["figures", "spreads", "ranks", "tasks", "metric"])
def test_a_grid_whose_results_do_not_fit_is_named(grid: tuple[Path, Factor], name: str) -> None:
    folder, _ = grid
    whole = json.loads((folder / "results.json").read_text("utf-8"))
    for broken in ({k: v for k, v in whole["factor"].items() if k != name}, {**whole["factor"], name: [7]}):
        if name == "metric" and name in broken:
            continue
        (folder / "results.json").write_text(json.dumps({**whole, "factor": broken}), "utf-8")
        with pytest.raises(DataError, match=r"results\.json holds no grid of agents and users: .*Mend or remove the file"):
            report([folder])


def test_each_run_is_read_once_however_many_it_is_compared_with(
    strong: Path, weak: Path, nasty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    inner = store.from_record

    def counted(record: store.Record) -> Episode:
        read[str(record["task"]["gym"])] += 1
        return inner(record)

    def index(path: Path) -> object:
        raise AssertionError(f"{path} is gone through again")

    monkeypatch.setattr(store, "from_record", counted)
    monkeypatch.setattr(outlines, "index", index)
    alone = [0, 0]
    for i, run in enumerate((strong, weak)):
        read.clear()
        report([run])
        alone[i] = read.total()
    read.clear()
    together = report([strong, weak, strong])
    assert read.total() == 2 * alone[0] + alone[1]
    assert {s.name for s in together.sections} >= {"comparison", "front"}


def test_rates_of_hack_checks_are_those_of_results_json(strong: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(strong, folder)
    assert not [s for s in report([folder]).sections if s.name == "hacks"]
    found = measure_run(recorded_job(folder), load(folder).records)
    example = Example(f"id{SCRIPT}", 0, Finding("long", 2, SCRIPT))
    write_results(folder, eval_document(replace(found, hacks=(replace(found.hacks[0], examples=(example,)), *found.hacks[1:]))))
    told = report([folder])
    [section] = [s for s in told.sections if s.name == "hacks"]
    assert [row[:2] for row in section.tables[0].rows] == [("A", "intention"), ("A", "turtle")]
    heads = [column.head for column in section.tables[0].columns]
    assert section.tables[0].rows[1][heads.index("attack")] == found.hacks[1].rates["attack"]
    assert section.tables[1].rows[0][:6] == ("A", "intention", "long", f"id{SCRIPT}", 1, 2)
    assert {tag for tag, _ in Page(html(told)).tags} <= HARMLESS


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}', '{"schema": 1, "hacks": [{"gym": "turtle"}]}'])
def test_results_that_cannot_be_read_are_named(strong: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(strong, tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"results\.json"):
        report([tmp_path / "run"])


def test_a_ledger_that_cannot_be_read_is_named(strong: Path, tmp_path: Path) -> None:
    shutil.copytree(strong, tmp_path / "run")
    (tmp_path / "run" / "cost.json").write_text('[{"role": "user"}]', "utf-8")
    with pytest.raises(DataError, match=r"cost\.json: KeyError\('gym'\)"):
        report([tmp_path / "run"])


def test_a_run_of_the_papers_protocol_stands_beside_the_papers_table(strong: Path, tmp_path: Path) -> None:
    assert not [s for s in report([strong]).sections if s.name.startswith("paper")]
    folder = tmp_path / "run"
    shutil.copytree(strong, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "preset": "paper"}), "utf-8")
    [section] = [s for s in report([folder]).sections if s.name == "paper-a"]
    [table] = section.tables
    assert len(table.rows) == len(paper.TABLE) + 1
    assert table.rows[0][:2] == (paper.TABLE[0].name, paper.TABLE[0].scores[0])
    ours = dict(zip([column.head for column in table.columns], table.rows[-1], strict=True))
    scores = {s.gym: s.score for s in figures(load(folder).records).gyms}
    assert (ours["model"], ours["turtle"], ours["travel"], ours["micro"]) == ("A: expert:1.0", scores["turtle"], None, None)
    assert "Another user than the paper's gpt-4o" in table.note


def test_the_episodes_of_a_file_take_nothing_from_the_folder_that_it_lies_in(nasty: Path) -> None:
    found = report([(nasty / "episodes.jsonl").rename(nasty / "chosen.jsonl")])
    assert found.runs == (("A", "chosen.jsonl", 0),)
    assert "cost" not in {section.name for section in found.sections}


def test_what_no_utf8_can_hold_and_what_is_nested_without_end_are_still_shown(tmp_path: Path) -> None:
    task = make("turtle").tasks("test")[0]
    for i, text in enumerate(("lone \ud800", "[" * 600 + "]" * 600)):
        turn = Turn(Action("action", text), text, label="no", facts={"said": text[:8]}, reveals=(text,))
        dump(tmp_path / str(i) / "episodes.jsonl", [Episode(task, (turn,), "turn_limit")])
    assert "lone ?" in html(report([tmp_path / "0"])).encode("utf-8", "replace").decode()
    assert "[[[[[[" in html(report([tmp_path / "1"]))


def test_runs_without_a_task_in_common_are_still_reported(strong: Path, nasty: Path) -> None:
    [section] = [s for s in report([strong, nasty]).sections if s.name == "comparison"]
    assert "no task with a score in common" in section.about
    assert section.tables == ()


def test_a_training_run_shows_its_curves_and_the_episodes_of_its_last_step(trained: Path) -> None:
    found = report([trained])
    [learning] = [s for s in found.sections if s.name == "learning"]
    curve = learning.plots[0][0]
    assert [(line.name, list(line.x), list(line.y)) for line in curve.lines] == [
        ("A training", [1, 2], [0.25, 0.5]),
        ("A validation", [2], [0.375]),
    ]
    assert (curve.lines[1].low, curve.lines[1].high) == ([0.25], [0.5])
    assert [plot.name for plot, _ in learning.plots[1:]] == ["training-reward", "training-loss", "training-actions-a"]
    told = read(load(trained), "trained", "A", 0)
    assert [e.seed for e in told.records] == [2, 2]
    assert "training episodes" in html(found)


def test_the_figures_of_a_page_are_those_of_the_data(weak: Path) -> None:
    run = load(weak)
    frame = run.episodes.to_pandas()
    for gym, found in measure(run.episodes, run.turns).items():
        own = frame[frame.gym == gym]
        assert found.means["read_tokens"].mean == pytest.approx(own.read_tokens.mean())
        assert found.means["user_rate"].mean == pytest.approx(own.user_turns.sum() / own.turns.sum())
        assert found.means["within_4"].mean == pytest.approx((own.solved & (own.user_turns <= 4)).mean())
        assert found.so_far[-1].mean == pytest.approx(own.reward.mean())
        assert sum(v.mean for v in found.shares) == pytest.approx(1)
        assert sum(v.mean for v in found.turns) == pytest.approx(1)
        assert sum(v.mean for v in found.mix.values()) == pytest.approx(1)
        assert len(found.shares) == BINS
        assert found.by_turn[0].n == len(own)


def test_samples_go_from_the_worst_to_the_best(weak: Path) -> None:
    [section] = [s for s in report([weak]).sections if s.name == "samples"]
    worth = [float(s.title.rpartition("share ")[2]) for s in section.samples if "intention" in s.title]
    assert worth == sorted(worth)
    assert section.samples[0].turns[0].said


def test_a_long_text_is_cut_and_says_so() -> None:
    assert cut("x" * LONGEST) == "x" * LONGEST
    assert cut("x" * (LONGEST + 1500)).endswith("… (1,500 more characters)")


def test_two_pages_of_a_run_are_the_same(strong: Path) -> None:
    assert html(report([strong])) == html(report([strong]))


def test_a_folder_without_anything_played_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"kind": "eval"}', "utf-8")
    with pytest.raises(DataError, match="no episode and no step of training is recorded"):
        report([tmp_path])


def test_a_page_is_written_whole(strong: Path, tmp_path: Path) -> None:
    file = write(report([strong], title="A <title>"), tmp_path / "new" / "page.html")
    text = file.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert "<title>A &lt;title&gt; – userrl</title>" in text
    assert [f.name for f in file.parent.iterdir()] == ["page.html"]
