"""CPU seconds for travel tasks, generated and proven, beside the time that is allowed.

    python benchmarks/travel_tasks.py

Makes 3,000 tasks of all families in the official proportions and proves each of them. Exits with 1 when it takes longer
than allowed, or when a task cannot be proven.
"""

from __future__ import annotations

import sys
import time
import tracemalloc

from userrl.data.made import Made
from userrl.gyms.travel.generate import ids, shares, task
from userrl.gyms.travel.proof import prove

TASKS = 3_000
ALLOWED_S = 20.0


def main() -> None:
    names = ids(seed=0, families=shares(TASKS))
    making = proving = 0.0
    for name in names:
        start = time.process_time()
        made = task(name)
        between = time.process_time()
        prove(made)
        making, proving = making + between - start, proving + time.process_time() - between
    share = (making + proving) / ALLOWED_S
    sys.stdout.write(
        f"{TASKS:,} tasks: {making:.1f} s to generate, {proving:.1f} s to prove\n"
        f"{share:.2f} of the {ALLOWED_S:g} s of CPU time that are allowed\n"
    )
    tracemalloc.start()
    for _ in Made(names[:500], task):
        pass
    sys.stdout.write(f"looking at 500 of them one after the other takes {tracemalloc.get_traced_memory()[1] / 2**20:.0f} MiB\n")
    if share > 1:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
