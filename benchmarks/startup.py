"""How long until the first thing happens: `import userrl` and `userrl --help`, beside a bare Python.

    python benchmarks/startup.py

Prints the median wall time of each over several processes, its ratio to `python -c pass` in the same run, and
whether torch was imported. Exits with 1 when the import takes 0.2 s or help 0.5 s or more.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 9
COMMANDS = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "import userrl": ([sys.executable, "-c", "import userrl, sys; assert 'torch' not in sys.modules"], 0.2),
    "userrl --help": ([str(Path(sys.executable).parent / "userrl"), "--help"], 0.5),
}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS + 1):  # in turn, so that a busy moment hits all alike; the first round warms the disk
        for name, (command, _limit) in COMMANDS.items():
            times[name].append(seconds(command))
    bare = statistics.median(times["python -c pass"][1:])
    late = False
    for name, (_, limit) in COMMANDS.items():
        median = statistics.median(times[name][1:])
        late |= limit is not None and median >= limit
        bound = f"   (must be under {limit} s)" if limit else ""
        print(f"{name:16s} {median:.3f} s   {median / bare:4.1f} x bare Python{bound}")
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    main()
