"""How long a report and a data frame take, and how large a page gets, on episodes of scripted play.

    python benchmarks/report.py

Plays 5,000 episodes of all gyms and as many of intention as give 100,000 turns, in a temporary folder, then measures in
fresh processes: the report of the 5,000 (under 10 s and under 25 MB) and the data frame of the 100,000 turns (under 3 s).
Prints wall and CPU seconds, beside those of a pass that only parses the same lines with `json`, in the same run.
Exits with 1 when a limit is passed in CPU seconds: on a machine that does other things, too, wall time tells of these.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from userrl.core import Episode
from userrl.gyms.base import find, known
from userrl.rollout import play_each, starts
from userrl.store import Store

EPISODES, TURNS = 5_000, 100_000
REPORT_S, REPORT_MB, FRAME_S = 10.0, 25.0, 3.0
ROUNDS = 3

MEASURED = """
import json, resource, sys, time
from pathlib import Path
began = time.perf_counter()
{code}
usage = resource.getrusage(resource.RUSAGE_SELF)
figures = [time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]
print(json.dumps([*figures, size]))
"""
PARSE = "size = sum(bool(json.loads(line)) for line in Path(sys.argv[1], 'episodes.jsonl').open('rb'))"
REPORT = """
from userrl.report.content import report
from userrl.report.page import write
size = write(report([Path(sys.argv[1])]), Path(sys.argv[1], "report.html")).stat().st_size
"""
FRAME = """
import userrl
run = userrl.load(sys.argv[1])
size = run.turns.num_rows + 0 * run.episodes.num_rows
"""


def plan(gym: str, count: int) -> Iterator[Episode]:
    """So many episodes of a gym: its test tasks, again and again as further attempts."""
    tasks = find(gym).tasks("test")
    attempts = -(-count // len(tasks))
    return islice(starts(tasks, attempts=attempts), count)


def play(folder: Path, gyms: list[str], episodes: int = 0, turns: int = 0) -> None:
    """Play so many episodes of the gyms in all, or until there are so many turns."""
    played = 0
    with Store(folder / "episodes.jsonl") as store:

        def keep(_: int, episode: Episode) -> None:
            nonlocal played
            played += len(episode.turns)
            store.append(episode)

        for number, gym in enumerate(cycle(gyms)):
            if (number == len(gyms) and not turns) or (turns and played >= turns):
                return
            share = episodes // len(gyms) + (number < episodes % len(gyms)) if episodes else 2_000
            fresh = plan(gym, share)
            if number >= len(gyms):  # further rounds, for the turns
                fresh = starts(find(gym).tasks("test"), attempts=4, seed=number)
            asyncio.run(play_each(fresh, find(gym).expert(0.5), find(gym).cast("hesitant"), keep))


def measured(code: str, folder: Path) -> tuple[float, float, float, float]:
    """(wall s, CPU s, MB of memory at most, what the code found) of a fresh process, the quickest of `ROUNDS`."""
    command = [sys.executable, "-c", MEASURED.format(code=code), str(folder)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as libraries are used
    rounds = [subprocess.run(command, check=True, capture_output=True, text=True, env=kept) for _ in range(ROUNDS)]
    wall, cpu, memory, size = min((json.loads(done.stdout.splitlines()[-1]) for done in rounds), key=lambda r: r[1])
    return wall, cpu, memory, size


def main() -> None:
    late = False
    with tempfile.TemporaryDirectory() as name:
        mixed, long = Path(name, "mixed"), Path(name, "long")
        play(mixed, sorted(known()), episodes=EPISODES)
        play(long, ["intention"], turns=TURNS)
        for folder, code, what, limit in ((mixed, REPORT, "report", REPORT_S), (long, FRAME, "data frame", FRAME_S)):
            lines = (folder / "episodes.jsonl").stat().st_size / 1e6
            parse = measured(PARSE, folder)
            wall, cpu, memory, size = measured(code, folder)
            of = f"{parse[3]:,.0f} episodes, {lines:.0f} MB of records"
            print(f"{what} of {of}: {cpu:.1f} s of CPU, {wall:.1f} s (must be under {limit:g}), {memory:.0f} MB of memory")
            print(f"  {cpu / parse[1]:.1f} times a pass that only parses them ({parse[1]:.1f} s of CPU)")
            if code is REPORT:
                print(f"  page: {size / 1e6:.2f} MB (must be under {REPORT_MB:g})")
                late |= size / 1e6 >= REPORT_MB
            else:
                print(f"  {size:,.0f} turns, {size / cpu:,.0f} a second")
            late |= cpu >= limit
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    main()
