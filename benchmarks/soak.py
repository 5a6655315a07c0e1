"""Ten thousand episodes against a server that fails: none is lost, none is doubled, and memory stays flat.

    python benchmarks/soak.py [--quick]

A chat endpoint in a process of its own answers 5 % of the requests by a fault, of every kind in `userrl.llm.faults`
(docs/faults.md says what each does). Agent, user and judge are models there, in the gyms function and intention. Kinds
that stop a run come in, too, 50 times rarer than the others; the run is then gone on with, as `--resume` does. In the end
every episode must be scored or hold the cause of its failure. Exits with 1 where one is lost or doubled, an error has no
cause, or memory has grown by more than 48 MiB between a tenth of the run and its end: huge bodies in flight take twice
their 16 MiB until they are refused.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import multiprocessing as mp
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from userrl.calls import Calls
from userrl.core import Episode
from userrl.errors import EndpointRefused
from userrl.evaluate.run import EvalJob, evaluate, plan, planned
from userrl.llm.fake import Request, Response, completion, fake_server
from userrl.llm.faults import FAULTS, faulty
from userrl.pipeline import seats
from userrl.store import read

SHARE = 0.05
STOPPING = ("HTTP 429, no quota left", "HTTP 401", "HTTP 404", "HTTP 307")
RARER = 50
GROWTH_MIB = 48.0
"""Bound of memory at the end less memory at a tenth of the run."""


# --- the server ------------------------------------------------------------------------------------------------


def replies() -> Iterator[dict[str, Any]]:
    """Moves of an agent: some that a gym can use, some that it cannot."""
    rng = random.Random(0)
    for question in ("Where do you want to go?", "On what date?", "What is your budget?", "How many people are you?"):
        yield completion(calls=[("interact_with_env", {"choice": "action", "content": question})])
        numbers = " ".join(str(rng.randrange(-9, 10)) for _ in range(4))
        yield completion(calls=[("interact_with_env", {"choice": "action", "content": numbers})])


def serve(port: Any) -> None:
    rng, moves, met = random.Random(1), list(replies()), Counter[str]()

    def answer(request: Request) -> Response:
        if request.body["model"] == "agent":
            return Response(rng.choice(moves))
        if request.body["model"] == "user":
            return Response(completion('{"words": "Let me think: the first one."}'))
        return Response(completion(json.dumps({"addressed": rng.sample(range(2), rng.randrange(3)), "on_task": True})))

    kinds = [name for name in FAULTS for _ in range(1 if name in STOPPING else RARER)]
    faulting = faulty(answer, SHARE, 2, kinds, met)
    asked = 0

    def handler(request: Request) -> Response:
        nonlocal asked
        asked += 1
        return faulting(request)

    async def main() -> None:
        async with fake_server(handler) as url:
            port.send(url)
            while not port.poll():  # noqa: ASYNC110 - the other end is another process
                await asyncio.sleep(0.1)
        port.send((asked, met))

    asyncio.run(main())


# --- the run ---------------------------------------------------------------------------------------------------


def resident_mib() -> float:
    """Memory in use: without what is garbage, or held for reuse by the C library (glibc's) after a huge body."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Progress:
    """Episodes that have ended, and memory at each tenth of them."""

    def __init__(self, total: int) -> None:
        self.total, self.seen, self.memory = total, set[tuple[str, str, int]](), dict[int, float]()

    def note(self, episode: Episode) -> None:
        self.seen.add(episode.key)
        tenth = 10 * len(self.seen) // self.total
        if tenth and tenth not in self.memory:
            self.memory[tenth] = resident_mib()


async def sit(job: EvalJob, folder: Path, progress: Progress) -> Calls:
    """One sitting of the run."""
    calls = Calls()
    async with AsyncExitStack() as stack:
        cast = await seats.cast(job.user, job.judge, stack, endpoints=job.endpoints, calls=calls)
        agent = await seats.agent(job.agent, stack, gyms=job.gyms, endpoints=job.endpoints, calls=calls)
        options = {"resume": True, "max_errors": planned(job), "on_end": progress.note}
        await evaluate(job, agent, cast, folder, calls=calls, **options)
    return calls


def cause(error: str) -> str:
    """An error without what is particular to one episode."""
    error = re.sub(r"(?:from )?http://\S+ \(model '\w+'\) ?", "", error)
    error = re.sub(r"\S*\{\S*.*?(?=, which)", "something", error).partition("; tried")[0]
    return re.split(r"[.;] | \(finish", error)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="500 episodes instead of 10,000")
    tasks, attempts = (50, 5) if parser.parse_args().quick else (200, 25)
    here, there = mp.Pipe()
    server = mp.Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = here.recv()
    patience = {"backoff_s": 0.02, "timeout_s": 5.0, "max_retries": 4}
    job = EvalJob(
        f"agent@{url}",
        gyms=("function", "intention"),
        split="train",
        tasks=tasks,
        attempts=attempts,
        max_turns=3,
        user=f"user@{url}",
        judge=f"judge@{url}",
        endpoints=dict.fromkeys(("agent", "user", "judge"), patience),
    )
    progress, stops, began = Progress(planned(job)), 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                calls = asyncio.run(sit(job, Path(folder), progress))
                break
            except EndpointRefused:
                stops += 1
        took = time.perf_counter() - began
        here.send("done")
        asked, met = here.recv()
        records: dict[Any, list[Episode]] = {}
        for episode in read(Path(folder) / "episodes.jsonl"):
            records.setdefault(episode.key, []).append(episode)
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 2**20

    keys = {episode.key for episode in plan(job)}
    ended = [played[-1] for played in records.values()]
    errors = Counter(cause(e.error or "") for e in ended if e.stop == "error")
    lost = len(keys - set(records))
    # After a record with a score there must be no other; after a failure, which a later sitting plays anew, there may.
    doubled = sum(any(e.stop != "error" for e in played[:-1]) for played in records.values()) + len(set(records) - keys)
    nameless = sum(not (e.error or "").startswith(("agent: ", "user: ", "judge: ")) for e in ended if e.stop == "error")
    early, late = progress.memory[1], progress.memory[10]

    print(f"{len(keys):,} episodes in {took:.0f} s; {asked:,} requests, {sum(met.values()):,} answered by a fault")
    print(f"kinds of faults met: {len(met)} of {len(FAULTS)}; run stopped and gone on with: {stops} times")
    print(f"calls: {calls.ledger.total.calls:,}, failed {calls.ledger.total.failed:,}; record {size:.0f} MiB")
    print(f"scored {len(ended) - sum(errors.values()):,}, errors {sum(errors.values()):,}, lost {lost}, doubled {doubled}")
    memory = ", ".join(f"{10 * tenth} % {progress.memory[tenth]:.0f}" for tenth in (1, 4, 7, 10))
    print(f"memory in MiB at {memory}; growth {late - early:.0f}, bound {GROWTH_MIB:g}")
    print("errors by cause")
    for text, times in errors.most_common():
        print(f"{times:7,}  {text or '(no cause)'}")
    return int(bool(lost or doubled or nameless) or late - early > GROWTH_MIB)


if __name__ == "__main__":
    sys.exit(main())
