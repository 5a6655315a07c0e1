"""CPU time of a scripted step, and of loading and starting an episode, for every gym.

    python benchmarks/steps.py [GYM ...]

Plays test tasks by the expert, a middling expert and the random agent with the scripted cast, and times each step when it is
first taken, so nothing said in it is known yet: the rules with the user's and the judge's answers, not the agent's thinking.
Starting is what comes before the first step: the task by its place in the split, the gym with its settings, the cast, the
episode and the first messages. Prints the median and the 99th percentile as ratios to the limit of 1 ms (each the median of
three rounds over other tasks, so that a busy moment does not decide), and how long the first load of the split took, once in
a process (with the imports). Exits with 1 where a 99th percentile is above the limit, or the function gym, whose rules alone
answer, takes fewer than 50,000 steps per CPU second, the same ones taken once more.

Travel's tasks are made one by one and kept on disk. The benchmark has a cache of its own, empty at first: "new" is the start
of tasks that were never made on a machine, which is paid once and has no limit, "start" that of the same tasks later.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from userrl.core import Action, Agent, Episode
from userrl.data.home import CACHE_VARIABLE
from userrl.gyms.base import find, known, make
from userrl.render import messages
from userrl.rollout import advance, starts

LIMIT_S = 0.001
SPLIT = "test"
ROUNDS = 3
TASKS = 60
SEEDS = (0, 1)
STARTS = 600
STEPS_PER_S = {"function": 50_000}
"""Gym -> steps per CPU second that its rules must take."""


async def step_times(episode: Episode, agent: Agent, times: list[float], moments: list[tuple[Episode, Action]]) -> None:
    """Play an episode, adding the CPU seconds of each step, and what it was about."""
    gym = make(episode.task.gym)
    cast = gym.cast()
    while episode.stop == "running":
        action = await agent.act(episode)
        if gym.offers(action.kind):
            moments.append((episode, action))
        began = time.process_time()
        episode = await advance(episode, action, cast, gym)
        times.append(time.process_time() - began)


async def step_round(name: str, number: int) -> tuple[list[float], float]:
    """CPU seconds of each step, and how many steps a CPU second holds when all of them are taken once more by the rules alone."""
    gym, times, moments = make(name), list[float](), list[tuple[Episode, Action]]()
    tasks = list(gym.tasks(SPLIT)[:TASKS])[number::ROUNDS]
    agents = [gym.expert(), gym.expert(0.5), gym.baselines()["random"]]
    for seed in SEEDS:
        for agent in agents:
            for episode in starts(tasks, seed=seed):
                await step_times(episode, agent, times, moments)
    cast, began = gym.cast(), time.process_time()
    for episode, action in moments:
        await gym.step(episode, action, cast)
    return times, len(moments) / (time.process_time() - began)


def start_round(name: str) -> list[float]:
    count, times = len(make(name).tasks(SPLIT)), list[float]()
    for number in range(STARTS // ROUNDS + 1):
        began = time.process_time()
        gym = make(name)
        gym.cast()
        [episode] = starts([gym.tasks(SPLIT)[number % count]])
        messages(episode, gym.system(episode.task))
        times.append(time.process_time() - began)
    return times[1:]  # the first one reads prompts and modules that stay


def ratios(rounds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Median and 99th percentile in units of the limit."""
    middle = statistics.median(statistics.median(times) for times in rounds)
    high = statistics.median(statistics.quantiles(times, n=100)[98] for times in rounds)
    return middle / LIMIT_S, high / LIMIT_S


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        sys.exit(1 if measure(sys.argv[1:] or sorted(known())) else 0)


def measure(names: Sequence[str]) -> bool:
    """Whether one is too slow."""
    late = False
    print("CPU time / 1 ms      step p50  step p99   start p50 start p99   new p50  new p99   steps   per CPU s   first load")
    for name in names:
        if SPLIT not in find(name).built_in_sets():
            late = True
            print(f"{name:20s} has no split {SPLIT!r} to be measured on")
            continue
        began = time.process_time()
        make(name).tasks(SPLIT)
        loaded = time.process_time() - began
        new, new_99 = ratios([start_round(name)])
        start, start_99 = ratios([start_round(name) for _ in range(ROUNDS)])
        rounds = [asyncio.run(step_round(name, number)) for number in range(ROUNDS)]
        step, step_99 = ratios([times for times, _ in rounds])
        per_s = statistics.median(rate for _, rate in rounds)
        count = sum(len(times) for times, _ in rounds)
        broken = step_99 > 1 or start_99 > 1 or per_s < STEPS_PER_S.get(name, 0)
        late |= broken
        print(
            f"{name:20s} {step:8.3f} {step_99:9.3f}   {start:9.3f} {start_99:9.3f} {new:9.3f} {new_99:8.3f}"
            f" {count:7,d} {per_s:11,.0f} {loaded * 1000:9.0f} ms{'   TOO SLOW' if broken else ''}"
        )
    return late


if __name__ == "__main__":
    main()
