"""No test here may pick up a key of whoever runs it, and none need wait."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERRL_API_KEY", "USERRL_AGENT_API_KEY", "USERRL_USER_API_KEY", "USERRL_JUDGE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


class _Clock(asyncio.SelectorEventLoop):
    """A loop in which nothing takes time but waiting, and waiting is over at once."""

    now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        self.now += 1e-7  # as a timer that is off by a rounding error waits for the next tick
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


@pytest.fixture
def in_no_time() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs what sleeps, but reads and writes nothing, on a clock of its own that begins at 0."""

    def run(main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=_Clock) as runner:
            return runner.run(main)

    return run
