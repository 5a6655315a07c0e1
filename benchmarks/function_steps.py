"""Steps per CPU second of the function gym, beside the floor that Python itself sets.

    python benchmarks/function_steps.py

Plays full episodes of the train split once, then calls `Function.step` on every (episode, action) of them, from the
first turn to the sixteenth, in one coroutine. The reference, in the same process: as many bare probes, which split a
text, make four floats of it, do Python's own arithmetic and round. Exits with 1 when the gym is slower than required.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace

from userrl.core import Action, Cast, Episode
from userrl.gyms.base import Gym, make

REQUIRED = 50_000
"""Steps per CPU second."""
REPEATS = 5
PROBES = [Action("action", f"{i} {i % 3 - 5} {7 - i} {2 * i + 1}") for i in range(1, 14)]
ACTIONS = [*PROBES, Action("search", "test"), Action("answer", "-1234.5"), Action("answer", "99/7")]

Moment = tuple[Episode, Action]


async def moments(gym: Gym, cast: Cast) -> list[Moment]:
    """Every turn of one episode of each train task: the episode so far, and the action."""
    found: list[Moment] = []
    for task in gym.tasks("train"):
        episode = Episode(task)
        for action in ACTIONS:
            found.append((episode, action))
            episode = episode.play(replace(await gym.step(episode, action, cast), done=False))
    return found


async def steps_per_second(gym: Gym, cast: Cast, found: list[Moment]) -> float:
    start = time.process_time()
    for episode, action in found:
        await gym.step(episode, action, cast)
    return len(found) / (time.process_time() - start)


def bare_per_second(texts: list[str]) -> float:
    start = time.process_time()
    for text in texts:
        a, b, c, d = map(float, text.split())
        str(round((d + a) ** 2 - b * c, 4))
    return len(texts) / (time.process_time() - start)


def main() -> None:
    gym = make("function")
    cast = gym.cast()
    found = asyncio.run(moments(gym, cast))
    texts = [PROBES[i % len(PROBES)].text for i in range(len(found))]
    steps = sorted(asyncio.run(steps_per_second(gym, cast, found)) for _ in range(REPEATS))
    bare = sorted(bare_per_second(texts) for _ in range(REPEATS))
    sys.stdout.write(
        f"{REPEATS} runs of {len(found):,} steps; slowest, median and fastest per CPU second (required: {REQUIRED:,})\n"
        f"step        {steps[0]:>10,.0f} {steps[REPEATS // 2]:>10,.0f} {steps[-1]:>10,.0f}\n"
        f"bare probe  {bare[0]:>10,.0f} {bare[REPEATS // 2]:>10,.0f} {bare[-1]:>10,.0f}\n"
        f"a step costs {bare[REPEATS // 2] / steps[REPEATS // 2]:.1f} bare probes (medians)\n"
    )
    if steps[REPEATS // 2] < REQUIRED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
