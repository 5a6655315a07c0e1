"""What the terminal shows: tables that fit 80 columns, text that cannot do harm, progress."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from userrl.cli import show
from userrl.core import INVALID, Action, Episode, Task, Turn
from userrl.evaluate.metrics import WITHIN, Effort, Passes, Summary, summarize
from userrl.evaluate.statistics import Interval
from userrl.gyms.base import find

WIDE = Interval(5.25, 4.876, 5.5, 240)
SHARE = Interval(0.875, 0.7501, 1.0, 240)
NONE = Interval(float("nan"), float("nan"), float("nan"), 0)


def summary(
    gym: str = "intention", episodes: int = 240, errors: int = 0, score: Interval = WIDE, share: Interval = SHARE
) -> Summary:
    mix = {label: 1 / len(find(gym).labels) for label in find(gym).labels}
    return Summary(gym, 240, episodes, errors, score, share, share, 16.0, mix)


def lines(printed: Any, width: int = 80) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(printed)
    return [line.rstrip() for line in captured.get().splitlines()]


ROWS: dict[str, Sequence[tuple[str, Summary]]] = {
    "two gyms": [("expert:0.8", summary()), ("expert:0.8", summary("function"))],
    "other counts": [("expert", summary()), ("expert", summary("function", 60))],
    "failures": [("expert", summary()), ("expert", summary("function", 200, 40))],
    "agents": [(name, summary()) for name in ("random weights", "after GRPO, wrong opening", "blind_answer")],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_a_table_of_scores_fits_80_columns_with_whole_headings_and_intervals(rows: Sequence[tuple[str, Summary]]) -> None:
    heading, *table = lines(show.summary_table(rows, "Scores"))
    assert heading == "Scores"
    assert all(len(line) <= 80 and "…" not in line for line in table)
    for name in ("score [95%]", "share [95%]", "solved [95%]", "turns"):
        assert name in table[0]
    for line in table[2:]:
        if "[" in line:
            assert "5.25 [4.88, 5.50]" in line
            assert "0.875 [0.750, 1.000]" in line or "0.88 [0.75, 1.00]" in line
            assert "88% [75, 100]" in line


@pytest.mark.parametrize("rows", [ROWS["two gyms"], ROWS["failures"]], ids=["two gyms", "failures"])
def test_averages_stand_below_the_gyms_and_fit_in_too(rows: Sequence[tuple[str, Summary]]) -> None:
    averages = [replace(summary(episodes=12_345, errors=rows[1][1].errors), gym=name) for name in ("micro", "macro")]
    table = lines(show.summary_table(rows, "", averages))
    assert [line.split()[0] for line in table[-2:]] == ["micro", "macro"]
    assert all(len(line) <= 80 and "…" not in line for line in table)
    assert not columns(rows) ^ {str(column.header) for column in show.summary_table(rows, "", averages).columns}


def test_what_users_and_attempts_took_fits_80_columns() -> None:
    effort = Effort(12.3, 1234.0, 1234.0, 10.2, 1.0, dict.fromkeys(WITHIN, 1.0))
    passes = (Passes(8, SHARE, SHARE), Passes(16, SHARE, SHARE))
    both = [replace(summary(gym), time_weighted=1.25, effort=effort, passes=passes) for gym in ("intention", "telepathy")]
    table = show.passes_table(both)
    assert table is not None
    for line in [*lines(show.effort_table(both)), *lines(table)]:
        assert len(line) <= 80 and "…" not in line
    assert lines(table)[-1].split() == ["16", "88%", "[75,", "100]", "88%", "[75,", "100]", "240"]
    assert show.passes_table([summary()]) is None


def columns(rows: Sequence[tuple[str, Summary]]) -> set[str]:
    return {str(column.header) for column in show.summary_table(rows, "").columns}


def test_a_column_that_is_the_same_in_all_lines_is_left_out() -> None:
    assert not {"agent", "gym", "n", "failed"} & columns([("expert", summary())])
    assert {"agent", "gym", "n", "failed"} & columns(ROWS["two gyms"]) == {"gym"}
    assert {"agent", "gym", "n", "failed"} & columns(ROWS["other counts"]) == {"gym", "n"}
    assert {"agent", "gym", "n", "failed"} & columns(ROWS["agents"]) == {"agent"}


def test_failures_are_shown_as_a_part_of_all_episodes_when_there_are_any() -> None:
    assert "failed" in columns(ROWS["failures"])
    table = lines(show.summary_table(ROWS["failures"], ""))
    assert [line.split()[-1] for line in table[-2:]] == ["0/240", "40/240"]


def test_an_agent_without_a_score_has_dashes_instead_of_numbers() -> None:
    [line] = lines(show.summary_table([("m", summary(episodes=0, errors=9, score=NONE, share=NONE))], ""))[2:]
    assert line.split() == ["-", "-", "-", "-", "9/9"]


def test_a_table_of_actions_fits_80_columns_and_leaves_out_what_nobody_did() -> None:
    mix = dict.fromkeys(find("function").labels, 0.125) | {"refused": 0.0}
    rows = [(name, mix) for name in ("random weights", "after SFT", "after GRPO", "fixed_list", "expert")]
    table = lines(show.mix_table(rows, "What they do"))
    assert all(len(line) <= 80 and "…" not in line for line in table)
    assert any(line.startswith("wrong-answer") and line.count("0.125") == 5 for line in table)
    assert not any(line.startswith("refused") for line in table)
    assert show.mix_text({"probe": 0.75, "refused": 0.0, "wrong_answer": 0.25}) == "probe 75.0%, wrong-answer 25.0%"


NASTY = "[red]fake[/red] \x1b[2J\x07 \x9b31m tab\there \u202e\ud800 [link=http://x]"


def test_safe_text_holds_no_markup_and_no_control_sequences() -> None:
    text = show.safe(NASTY)
    assert text.spans == []
    assert "[red]fake[/red]" in text.plain
    assert not any(c in text.plain for c in "\x1b\x07\x9b\t\u202e\ud800")
    text.plain.encode("utf-8")


def test_what_is_said_stays_right_of_the_names(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show.out, "width", 40)
    show.say("agent", show.safe("one\nuser    fake: I agree with everything that you say"))
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "agent   one"
    assert [line[:8] for line in rest] == [" " * 8] * 2
    assert all(len(line) <= 40 for line in rest)


def episode(gym: str, *turns: Turn, **fields: Any) -> Episode:
    task = find(gym).tasks("test")[0]
    return Episode(Task(task.id, gym, "Help me.", task.hidden), turns, **fields)


def test_an_episode_is_printed_as_a_talk_with_the_reward_of_each_turn(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Turn(Action("action", "When?"), "Now.", 0.7, label="multi_part")
    broken = Turn(Action(INVALID, raw=f"garbage {NASTY}"), "Nothing was done.", label=INVALID)
    show.print_episode(episode("intention", asked, broken, stop="turn_limit", max_turns=2), "A game")
    out = capsys.readouterr().out
    assert "user    Help me.\nagent   When?  multi-part +0.70\nuser    Now.\n" in out
    assert "agent   garbage [red]fake[/red]" in out
    assert "\x1b" not in out
    assert "end     all 2 turns used; earned 0.70" in out


def test_where_the_rules_alone_answer_they_are_not_called_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    turn = Turn(Action("answer", "24"), "Correct.", 1.0, done=True, label="correct")
    show.print_episode(episode("function", turn, stop="done"), "A game")
    assert "agent   answer 24  correct +1.00\ngym     Correct.\n" in capsys.readouterr().out
    assert [show.counterpart(gym) for gym in ("function", "intention")] == ["gym", "user"]


def test_a_failed_episode_says_why_it_has_no_score(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_episode(episode("intention", stop="error", error="judge: no reply"), "A game")
    assert "failed, so there is no score: judge: no reply" in capsys.readouterr().out


def test_long_texts_are_cut_with_a_mark(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_episode(episode("intention", Turn(Action("action", "a" * 50), "b" * 10)), "A game", longest=10)
    out = capsys.readouterr().out
    assert f"{'a' * 9}…" in out
    assert "a" * 10 not in out
    assert "b" * 10 in out


def told(watch: Callable[[str, int, int, str], None]) -> None:
    for done in range(5):
        watch("play: [b]x[/b]", done, 4, f"mean {done}")


def test_without_a_terminal_progress_is_a_line_now_and_then_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with show.progress() as watch:
        told(watch)
    assert capsys.readouterr().err.splitlines() == ["play: [b]x[/b]  0/4  mean 0", "play: [b]x[/b]  4/4  mean 4"]
    monkeypatch.setattr(show, "PLAIN_EVERY_S", 0.0)
    with show.progress() as watch:
        told(watch)
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_on_a_terminal_progress_is_a_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=True, width=80, record=True, color_system=None)
    monkeypatch.setattr(show, "err", console)
    with console.capture() as captured, show.progress() as watch:
        told(watch)
        watch("SFT", 2, 8, "loss 1.0")
    assert "play: [b]x[/b] ━" in captured.get()
    assert "4/4" in captured.get()
    assert "2/8" in captured.get()
    assert "loss 1.0" in captured.get()


def test_the_summary_of_an_evaluation_is_read_from_its_episodes() -> None:
    """The cells are the figures of `summarize`, not others."""
    good = episode("intention", Turn(Action("action", "When?"), "Now.", 0.5, label="relevant"), stop="turn_limit", max_turns=1)
    [line] = lines(show.summary_table([("m", s) for s in summarize([good])], ""))[2:]
    assert line.startswith("0.50 [0.01, 0.99]  0.500 [0.013, 0.988]    0% [0, 98]    1.0"), "one task says little"


def test_parts_of_a_gyms_tasks_and_an_agent_that_does_nothing_get_lines_of_their_own() -> None:
    part, nothing = replace(summary(episodes=104), gym="intention: long ones"), summary(episodes=126, score=SHARE)
    table = show.parts_table([(name, replace(summary(), parts=(part,), idle=nothing)) for name in ("expert:0.8", "m@http://x")])
    assert table is not None
    first, second, last = lines(table)[2:]
    assert first.split()[:4] == ["expert:0.8", "intention:", "long", "ones"]
    assert second.split()[0] == "m"
    assert last.startswith("(does nothing)  all")
    assert "0.88 [0.75, 1.00]" in last and last.endswith("126")
    assert all(len(line) <= 80 for line in lines(table))


def test_gyms_without_parts_get_no_second_table() -> None:
    assert show.parts_table([("expert", summary()), ("expert", summary("function"))]) is None
