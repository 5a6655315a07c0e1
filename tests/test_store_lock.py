"""Two processes never work on the same run at once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from userrl.cli import main
from userrl.errors import RunBusy
from userrl.store import RunFolder

HOLD = """
import sys
from pathlib import Path
from userrl.store import RunFolder
Path(sys.argv[1]).mkdir()
run = RunFolder(Path(sys.argv[1]), {"a": 1}, resume=True)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process at work in a run's folder, until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate("")


def test_a_run_that_another_process_is_at_work_on_cannot_be_resumed(other: subprocess.Popen[str], tmp_path: Path) -> None:
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    with pytest.raises(RunBusy, match=r"Another process is at work on the run in .*run\. Wait for its end"):
        RunFolder(tmp_path / "run", {"a": 1}, resume=True)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before == ["config.json"]
    other.communicate("")
    RunFolder(tmp_path / "run", {"a": 1}, resume=True)


def test_a_process_that_was_killed_leaves_no_lock(other: subprocess.Popen[str], tmp_path: Path) -> None:
    other.kill()
    other.communicate()
    RunFolder(tmp_path / "run", {"a": 1}, resume=True)


def test_the_same_process_may_open_its_run_again(tmp_path: Path) -> None:
    first = RunFolder(tmp_path / "run", {}, resume=False)
    second = RunFolder(tmp_path / "run", {}, resume=True)
    assert first.path == second.path


def test_a_command_that_finds_a_folder_taken_leaves_it_as_it_is(
    other: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "config.json").unlink()  # as the other one has only just begun
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["eval", "function", "--tasks", "1", "--out", "run"])
    assert left.value.code == 1
    assert "Another process is at work on the run in run." in capsys.readouterr().err
    assert (tmp_path / "run").is_dir() and not list((tmp_path / "run").iterdir())
