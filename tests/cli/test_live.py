"""The live view: curves on a terminal, plain lines anywhere else."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from userrl.cli import live, show
from userrl.cli.live import braille, figure, flat, joined, levels, spark, training
from userrl.train.monitors import Alarm

LEVELS = {"random": 0.02, "fixed_list": 0.31, "expert": 0.95}
ALARM = Alarm(3, "entropy", "warn", 0.05, 0.1, "The entropy collapsed.")


def line(step: int) -> dict[str, Any]:
    tested = {"validation": {"share": {"mean": 0.62, "low": 0.55, "high": 0.70}}} if step % 5 == 0 else {}
    return {"step": step, "share": 0.5, "skipped_groups": 1, "entropy": 1 / step, "invalid": 0.01, "grad_norm": 0.3} | tested


def drawn(lines: list[dict[str, Any]], width: int, height: int = 8) -> list[str]:
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(figure(lines, LEVELS, width, height))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [40, 76, 116])
def test_curves_levels_and_figures_fit_the_width(width: int) -> None:
    rows = drawn([{"step": 0, **line(5)} | {"step": 0}, *(line(step) for step in range(1, 41))], width)
    assert all(len(row) <= width for row in rows)
    text = "\n".join(rows)
    if width > 40:
        assert "training share 0.500" in text and "validation 0.620 [0.550, 0.700] at step 40" in text
    assert "expert" in rows[0] and "fixed list" in rows[5] and "random" in rows[7]
    assert "invalid calls" in text and "1.0%" in text and "0.025" in text


def test_a_figure_that_is_no_number_spoils_no_view() -> None:
    assert "gradient" in "\n".join(drawn([line(1), {**line(2), "grad_norm": float("nan"), "entropy": None}], 80))
    assert "loss 0.500" in "\n".join(drawn([{"step": 1, "loss": 0.5}, {"step": 2, "loss": float("inf")}], 80))


def test_dots_stand_where_their_points_are() -> None:
    assert [str(row) for row in braille([([(0, 1.0), (10, 0.0)], "")], 2, 2, 10, 1.0)] == ["⠁⠀", "⠀⢀"]
    [row] = braille([(flat(0.0, 10, 4), ""), (joined([(0, 1.0), (10, 1.0)], 4), "red")], 4, 1, 10, 1.0)
    assert str(row).replace("⠉", "") != str(row) and row.spans[0].style == "red"
    assert [str(row) for row in braille([([(5, 3.0), (5, -1.0)], "")], 1, 1, 10, 1.0)] == ["⠀"], "outside of the chart"


def test_blocks_run_from_nothing_to_the_greatest() -> None:
    assert spark([0, 1, 2, 4, 8], 10) == "▁▂▃▅█"
    assert spark([1.0] * 4 + [3.0] * 4, 2) == "▃█"
    assert spark([0.0, 0.01], 5, least=0.2) == "▁▁"


def test_levels_of_several_gyms_are_those_of_the_agents_they_share(tmp_path: Path) -> None:
    assert levels(tmp_path) == {}
    found = {"a": {"random": 0.1, "fixed_list": 0.4, "expert": 1.0}, "b": {"random": 0.3, "expert": 0.8}}
    (tmp_path / "baselines.json").write_text(json.dumps(found), "utf-8")
    assert levels(tmp_path) == pytest.approx({"random": 0.2, "expert": 0.9})


# --- where it is shown --------------------------------------------------------------------------------------------


@pytest.fixture
def error_stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., StringIO]]:
    """Puts a console that thinks it is a terminal, or is none, in the place of standard error."""

    def put(terminal: bool, **options: Any) -> StringIO:
        stream = StringIO()
        console = Console(file=stream, force_terminal=terminal, width=80, height=30, color_system=None, **options)
        monkeypatch.setattr(live, "err", console)
        monkeypatch.setattr(show, "err", console)
        return stream

    yield put


def test_without_a_terminal_there_are_plain_lines(
    error_stream: Callable[..., StringIO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "PLAIN_EVERY_S", 0.0)
    said = error_stream(False)
    with training("GRPO", 5, tmp_path) as view:
        assert said.getvalue() == "", "what is refused before it begins stands under no progress"
        view.begin()
        view.line(line(1))
        view.alarm(ALARM)
        view.line(line(5))
    assert said.getvalue().splitlines() == [
        "GRPO  0/5",
        "GRPO  1/5  share 0.500, skipped 1",
        "Warning: step 3, monitor entropy: The entropy collapsed.",
        "GRPO  5/5  share 0.500, validation 0.620 [0.550, 0.700], skipped 1",
    ]


def test_a_terminal_that_cannot_show_curves_gets_a_bar(error_stream: Callable[..., StringIO], tmp_path: Path) -> None:
    said = error_stream(True, _environ={"TERM": "dumb"})
    with training("SFT", 2, tmp_path) as view:
        view.begin()
        view.line({"step": 2, "loss": 0.25})
    assert "╭" not in said.getvalue()


def test_a_resumed_run_shows_what_was_done_before_and_drops_what_is_done_again(
    error_stream: Callable[..., StringIO], tmp_path: Path
) -> None:
    said = error_stream(True)
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line(step)) + "\n" for step in (1, 2, 3, 4)), "utf-8")
    with training("GRPO", 9, tmp_path) as view:
        assert isinstance(view, live.Curves)
        view.begin()
        view.line(line(3))
        assert [entry["step"] for entry in view.lines] == [1, 2, 3]
        view.alarm(ALARM)
    text = said.getvalue()
    assert "3/9" in text and "Warning: step 3, monitor entropy: The entropy collapsed." in text
    assert "alarms: entropy (step 3)" in text


SCRIPT = """
import sys
from pathlib import Path
from userrl.cli.live import training
with training("GRPO", 40, Path(sys.argv[1])) as view:
    view.begin()
    for step in range(1, 41):
        tested = {"validation": {"share": {"mean": 0.62, "low": 0.55, "high": 0.70}}} if step % 5 == 0 else {}
        view.line({"step": step, "share": 0.5, "skipped_groups": 1, "entropy": 1 / step, "invalid": 0.0, **tested})
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_in_a_real_terminal_the_panel_is_as_wide_as_the_terminal(columns: int, tmp_path: Path) -> None:
    (tmp_path / "baselines.json").write_text(json.dumps({"intention": LEVELS}), "utf-8")
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, env=environment) as process:
        os.close(inner)
        said = b""
        while True:
            try:
                part = os.read(outer, 65536)
            except OSError:  # the terminal was closed from the other side
                break
            if not part:
                break
            said += part
        os.close(outer)
    assert process.returncode == 0, said.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert text.count("╰" + "─" * (columns - 2) + "╯") >= 1
    assert "40/40" in text and "expert" in text and "validation 0.620 [0.550, 0.700] at step 40" in text


def test_a_curve_is_drawn_anew_on_demand(cli: Callable[..., Any], refused: Callable[..., str], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "rl"
    run.mkdir(parents=True)
    (run / "train.jsonl").write_text("".join(json.dumps({**line(step), "mix": {}}) + "\n" for step in (1, 5)), "utf-8")
    settings = {"schema": 1, "kind": "rl", "gyms": ["intention"], "grpo": {"temperature": 1.0}}
    (run / "config.json").write_text(json.dumps(settings), "utf-8")
    done = cli("rl", "curve")
    assert (done.code, done.out) == (0, "Learning curve: runs/rl/curve.png\n") and (run / "curve.png").is_file()
    assert "holds no figures of `userrl rl train`" in refused("rl", "curve", "elsewhere")
