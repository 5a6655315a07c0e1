"""Running the command line as a person would: in this process, or in one of its own where it is to be interrupted."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import pytest

from userrl.cli import main
from userrl.gyms.base import find, known
from userrl.llm.fake import Answer, Request, fake_server

KEYS = ("USERRL_API_KEY", "USERRL_AGENT_API_KEY", "USERRL_USER_API_KEY", "USERRL_JUDGE_API_KEY", "OPENAI_API_KEY")
Handler = Callable[[Request], Answer]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs a command in an empty folder, without keys; `stdin` is what a person types."""
    monkeypatch.chdir(tmp_path)
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)

    def run(*args: str | Path, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(arg) for arg in args])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Done(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def refused(cli: Cli) -> Callable[..., str]:
    """Runs a command that must end with one error message, and returns it."""

    def run(*args: str | Path, stdin: str = "") -> str:
        done = cli(*args, stdin=stdin)
        assert done.code == 1, done
        said = done.err[done.err.index("Error: ") :]
        assert said.count("Error: ") == 1
        return said.strip()

    return run


GYM = """
from userrl.core import Cast, Turn
from userrl.gyms.base import Gym
from userrl.scripted import Acting, Scripted


class Own(Gym):
    name = "own"
    summary = "say anything"
    actions = {"action": "say it"}

    async def step(self, episode, action, cast):
        return Turn(action, "Yes.")

    @classmethod
    def cast(cls, trait="plain"):
        return Cast(Scripted({}), Scripted({}))

    @classmethod
    def expert(cls, skill=1.0):
        return Acting(lambda episode: None)
"""


@pytest.fixture
def own_gym(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Installs a gym "own" whose test split holds the given lines, in no accord with its manifest; returns its task folder."""

    def install(*rows: str) -> Path:
        tasks = tmp_path / "own_gym" / "tasks"
        tasks.mkdir(parents=True)
        (tasks / "test.jsonl").write_text("\n".join(rows), "utf-8")
        entry = {"count": 0, "sha256": "0" * 64, "license": "CC0-1.0", "source": "here"}
        (tasks / "manifest.json").write_text(json.dumps({"sets": {"test": entry}}), "utf-8")
        (tasks.parent / "__init__.py").write_text(GYM, "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(known(), "own", "own_gym")
        return tasks

    yield install
    sys.modules.pop("own_gym", None)
    find.cache_clear()


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], str]]:
    """Starts a chat endpoint on loopback and returns its URL."""
    with ExitStack() as stack:
        yield lambda handler: stack.enter_context(_server(handler))


@contextmanager
def _server(handler: Handler) -> Iterator[str]:
    started: Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Queue()

    async def live() -> None:
        async with fake_server(handler) as url:
            stop = asyncio.Event()
            started.put((url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    url, loop, stop = started.get(timeout=30)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command in a process of its own; whatever still runs at the end of the test is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(*args: str | Path) -> subprocess.Popen[str]:
        # a test run in the background of a shell inherits an ignored SIGINT, which a person's terminal never has
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from userrl.cli import main; main()"
        command = [sys.executable, "-u", "-c", code, *map(str, args)]
        environment = {name: value for name, value in os.environ.items() if name not in KEYS}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8"
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
