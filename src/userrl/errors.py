"""Everything that userrl raises on purpose.

    UserRLError
    ├── UnknownName          no gym, task, agent or split of that name (near misses are named)
    ├── ConfigError          a setting is unknown or out of range
    ├── ResumeError          the run on disk was made with other settings
    ├── DataError            a task file or record does not fit (file, line, field)
    ├── StoreError           records cannot be written or read (full disk, read-only folder)
    │   └── RunBusy          another process is at work on the run in a folder
    ├── MissingExtra         an optional package is needed; carries the pip line
    ├── GymError             the code of a gym raises something of its own: a bug, never an episode's failure
    ├── EpisodeOver          a turn was asked of an episode that has ended
    ├── WindowFull           the agent's own window is full: ends the episode, which keeps what it has earned
    ├── RunStopped           a run gave up; says what is kept and how to go on
    │   └── BudgetSpent      the next call could go beyond --max-usd or --max-tokens
    └── SeatError            agent, user or judge failed: ends the episode as an error, never as a reward
        ├── ReplyError       a reply did not fit what was asked, also after one repair turn
        ├── DeadlinePassed   a turn or an episode took longer than it may
        └── EndpointError    no usable answer from a model endpoint after the retries
            └── EndpointRefused   retrying cannot help (unreachable, wrong key, no such model): stops the run

A message says what happened with the value, what was expected, and what to do. No message holds a key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any


class UserRLError(Exception):
    """Base of all errors raised on purpose."""


class UnknownName(UserRLError, LookupError):
    """No thing of that name."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if hint and not names:
            tail = ""
        elif near:
            tail = f" Did you mean {' or '.join(repr(n) for n in near)}?"
        elif len(names) <= 12:
            tail = f" Known: {', '.join(names) or 'none'}."
        else:
            tail = f" There are {len(names)}, e.g. {', '.join(names[:3])}."
        super().__init__(f"No {what} named {name!r}.{tail}{' ' + hint if hint else ''}")


class ConfigError(UserRLError, ValueError):
    """A setting is unknown or out of range."""


class ResumeError(UserRLError):
    """The run on disk was made with other settings."""


class DataError(UserRLError, ValueError):
    """A task file or record does not fit its schema or its hash."""


class StoreError(UserRLError):
    """Records cannot be written or read."""


class RunBusy(StoreError):
    """Another process is at work on the run in a folder."""


class MissingExtra(UserRLError, ImportError):
    """An optional package is needed for this."""

    def __init__(self, need: str, package: str, extra: str) -> None:
        super().__init__(
            f"{need} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'userrl[{extra}]' "
            f"(in a checkout: pip install -c constraints.txt -e '.[{extra}]')"
        )


class GymError(UserRLError):
    """The code of a gym cannot be loaded or crashed: a bug of the gym, which no episode records."""


class EpisodeOver(UserRLError):
    """A turn was asked of an episode that has ended."""


class WindowFull(UserRLError):
    """An episode fills the context window of the agent that plays it: a limit of the agent, not a failure of a part."""


class RunStopped(UserRLError):
    """A run gave up before its end; what was written is kept."""


class BudgetSpent(RunStopped):
    """The next call could go beyond a run's budget of money or tokens."""


class SeatError(UserRLError):
    """Agent, user or judge failed."""


class ReplyError(SeatError):
    """A reply did not fit what was asked for."""


class DeadlinePassed(SeatError):
    """A turn or an episode took longer than it may."""


class EndpointError(SeatError):
    """No usable answer from a model endpoint after the retries."""

    usage: Any = None
    """An `llm.Usage` where an answer came that took tokens and could not be used."""
    lost = 0
    """Tries whose answer broke off or came too late, which may have been paid for."""
    shared = False
    """The call was another one's, which counts it."""


class EndpointRefused(EndpointError):
    """An endpoint's answer that no retry will change."""


def crash(error: BaseException, module: str) -> str:
    """An exception and where it came out of a package: the last line there that was being run, and in which function.

    As in: ZeroDivisionError: division by zero (FILE, line 50, in step). Without a place where no line there was run.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    said = f"{type(error).__name__}: {error}"[:300]
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        if f"{frame.f_globals.get('__name__')}.".startswith(f"{module}."):
            return f"{said} ({frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name})"
    return said


@contextmanager
def boundary(role: str) -> Iterator[None]:
    """Name the role in which a failure happened: `SeatError`s pass with the role, once, in front of their text.

    A deadline is nobody's failure and passes unchanged. Other exceptions are bugs and pass unchanged.
    """
    try:
        yield
    except SeatError as error:
        if not isinstance(error, DeadlinePassed) and not str(error).startswith(f"{role}: "):
            error.args = (f"{role}: {error}",)
        raise


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Turn a failed import of an optional package into the pip line that mends it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "userrl":
            raise
        raise MissingExtra(what, error.name.partition(".")[0], extra) from error
