"""What the rollout engine costs, against a bare asyncio + aiohttp loop that makes the same calls in the same run.

    python benchmarks/engine.py [--quick]

A fake chat endpoint runs on one core, what is measured on another. Agent, user and judge of the gym intention are
models there, so a turn takes three calls: rules, prompts, parsing, recording and accounting are all included. Prints
ratios and ends with exit code 1 where one misses its bound. Reference, measured elsewhere against the same kind of
endpoint: the original opens a client for each call and takes 24-34 ms CPU per call.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing as mp
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import Any

import aiohttp

from userrl.agents.llm import LLMAgent
from userrl.calls import Calls
from userrl.core import Cast, Episode
from userrl.gyms.base import find
from userrl.llm import ChatClient, Endpoint, record
from userrl.llm.prices import price_of
from userrl.llm.record import Replies
from userrl.rollout import play_each, play_recorded, starts
from userrl.store import RunFolder, Store
from userrl.users.llm import LLMSeat

GYM = "intention"
CALLS_A_TURN = 3


# --- the endpoint ----------------------------------------------------------------------------------------------


def reply_to(body: bytes) -> bytes:
    """A move for the agent; words that fit for the user; nothing covered for the judge, so that no episode ends early."""
    if b'"tools"' in body:
        call = {"name": "interact_with_env", "arguments": json.dumps({"choice": "action", "content": "When should it be?"})}
        message: dict[str, Any] = {"content": None, "tool_calls": [{"id": "c", "type": "function", "function": call}]}
    else:
        schema = json.loads(body)["response_format"]["json_schema"]["schema"]
        message = {"content": json.dumps({name: _fitting(part) for name, part in schema["properties"].items()})}
    usage = {"prompt_tokens": len(body) // 4, "completion_tokens": 20}
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def _fitting(schema: dict[str, Any]) -> Any:
    return {"array": [], "string": "On a Friday.", "boolean": False}[schema["type"]]


class Server(asyncio.Protocol):
    """HTTP/1.1 with as little work as possible, so that one core of it keeps up with one core of clients."""

    def __init__(self, delay_s: float, known: dict[bytes, bytes]) -> None:
        self.delay_s, self.known, self.buffer = delay_s, known, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < size:
            return
        self.buffer = b""
        kind = b"tools" if b'"tools"' in rest else rest.rpartition(b'"response_format"')[2]
        if kind not in self.known:
            body = reply_to(rest)
            self.known[kind] = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
        asyncio.get_running_loop().call_later(self.delay_s, self._send, self.known[kind])

    def _send(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


def serve(delay_s: float, port: Any, core: int) -> None:
    _pin(core)

    async def main() -> None:
        known: dict[bytes, bytes] = {}
        server = await asyncio.get_running_loop().create_server(lambda: Server(delay_s, known), "127.0.0.1", 0, backlog=4096)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


# --- what is measured, each in a process of its own ---------------------------------------------------------------


def rss_kb() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


class Holds:
    """How long callbacks hold the event loop, in CPU seconds of its thread: the longest one, the garbage collector's apart."""

    longest_s = collecting_s = _collected_s = 0.0
    over = False
    """Play has ended; what follows takes connections down."""

    @classmethod
    def watch(cls) -> None:
        run, began = asyncio.Handle._run, 0.0

        def collecting(phase: str, _: Any) -> None:
            nonlocal began
            if phase == "start":
                began = time.thread_time()
            else:
                cls._collected_s = time.thread_time() - began
                cls.collecting_s = max(cls.collecting_s, cls._collected_s)

        def timed(handle: asyncio.Handle) -> None:
            cls._collected_s, before = 0.0, time.thread_time()
            run(handle)
            if not cls.over:
                cls.longest_s = max(cls.longest_s, time.thread_time() - before - cls._collected_s)

        gc.callbacks.append(collecting)
        asyncio.Handle._run = timed  # type: ignore[method-assign]


def holding(url: str, out: Any, **options: Any) -> None:
    _pin(1)
    find(GYM).tasks("train")  # read once in a process, before anything waits
    price_of(Endpoint("m", url))
    Holds.watch()
    figures = asyncio.run(_ours(url, **options))
    out.send({**figures, "longest_s": Holds.longest_s, "collecting_s": Holds.collecting_s})


def recording(url: str, out: Any, **options: Any) -> None:
    """With the time taken by writing replies and episodes: two runs to compare would differ more by other causes."""
    _pin(1)
    spent_s, times = 0.0, 0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            nonlocal spent_s, times
            before = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                spent_s, times = spent_s + time.thread_time() - before, times + 1

        return wrapper

    for owner, name in ((Replies, "put"), (Replies, "take"), (Store, "append"), (record, "asked"), (record, "_line")):
        setattr(owner, name, timed(getattr(owner, name)))
    figures = asyncio.run(_ours(url, **options))
    taken_s, took, nothing = spent_s, times, timed(lambda: None)
    spent_s = 0.0
    for _ in range(10_000):
        nothing()
    watch_s = took * spent_s / 10_000  # what the watch itself took of what it showed
    out.send({**figures, "recording_s": taken_s - watch_s})


def ours(url: str, out: Any, episodes: int, at_once: int, turns: int, record: bool) -> None:
    _pin(1)
    out.send(asyncio.run(_ours(url, episodes, at_once, turns, record)))


async def _ours(url: str, episodes: int, at_once: int, turns: int, record: bool) -> dict[str, float]:
    calls, client = Calls(), ChatClient(Endpoint("m", url))
    agent = LLMAgent(calls.door(client, "agent"))
    cast = Cast(LLMSeat(calls.door(client, "user"), "user"), LLMSeat(calls.door(client, "judge"), "judge"))
    tasks = find(GYM).tasks("train")
    plan = islice((e for k in count() for e in _attempt(tasks, k, turns)), episodes)
    memory: list[float] = []
    ended = 0

    def note(*_: object) -> None:
        nonlocal ended
        ended += 1
        Holds.over = ended == episodes
        if ended % max(1, episodes // 10) == 0:
            memory.append(rss_kb())

    async with client:
        gc.collect()
        start_kb = rss_kb()
        midway = asyncio.create_task(_peak())
        cpu, wall = time.process_time(), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            if record:
                await play_recorded(
                    plan, agent, cast, RunFolder(Path(folder), {}, resume=False), on_end=note, calls=calls, at_once=at_once
                )
            else:
                await play_each(plan, agent, cast, note, at_once=at_once)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        midway.cancel()
    made = calls.ledger.total.calls
    assert calls.ledger.total.failed == 0 and made == episodes * turns * CALLS_A_TURN, calls.ledger.total
    return {
        "calls": made,
        "cpu_s": cpu,
        "wall_s": wall,
        "start_kb": start_kb,
        "peak_kb": _peak.kb,
        "early_kb": memory[1],
        "late_kb": memory[-1],
    }  # type: ignore[attr-defined]


async def _peak() -> None:
    _peak.kb = 0.0  # type: ignore[attr-defined]
    while True:
        _peak.kb = max(_peak.kb, rss_kb())  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)


def _attempt(tasks: Any, attempt: int, turns: int) -> list[Episode]:
    return [Episode(task, attempt=attempt, max_turns=turns) for task in tasks]


def bare(url: str, out: Any, calls: int, at_once: int, bodies: list[bytes]) -> None:
    """The same requests from a loop that does nothing else: post, read, parse the JSON."""
    _pin(1)

    async def main() -> dict[str, float]:
        left = iter(range(calls))
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers={"Content-Type": "application/json"}
        ) as session:

            async def worker() -> None:
                for i in left:
                    async with session.post(f"{url}/chat/completions", data=bodies[i % len(bodies)]) as response:
                        json.loads(await response.read())

            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(at_once)))
            return {"calls": calls, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}

    out.send(asyncio.run(main()))


def sample_bodies(turns: int) -> list[bytes]:
    """The bodies of a few episodes' requests, as the engine writes them."""
    from userrl.llm.wire import Completion, encode

    seen: list[bytes] = []

    class Keep:
        endpoint, down = Endpoint("m", "http://x/v1"), False

        async def chat(
            self,
            messages: Any,
            *,
            tools: Any = None,
            schema: Any = None,
            seed: Any = None,
            temperature: Any = None,
            place: Any = None,
        ) -> Completion:
            body = encode(self.endpoint, messages, tools, schema, seed, temperature)
            seen.append(body)
            answer = json.loads(reply_to(body))["choices"][0]["message"]
            return Completion(answer["content"] or "", tuple(answer.get("tool_calls", ())))

    cast = Cast(LLMSeat(Keep(), "user"), LLMSeat(Keep(), "judge"))
    plan = starts(find(GYM).tasks("train")[:20], max_turns=turns)
    asyncio.run(play_each(plan, LLMAgent(Keep()), cast, lambda *_: None, at_once=1))
    return seen


def measured(target: Callable[..., None], delay_s: float, **options: Any) -> dict[str, float]:
    """What `target` reports, with a server of its own."""
    here, there = mp.Pipe()
    server = mp.Process(target=serve, args=(delay_s, there, 0), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    work = mp.Process(target=target, args=(url, there), kwargs=options)
    work.start()
    while not here.poll(1):
        if not work.is_alive():
            raise SystemExit("The measured process failed; see above.")
    figures: dict[str, float] = here.recv()
    work.join()
    server.terminate()
    server.join()
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="shorter runs, under 50 s")
    quick = parser.parse_args().quick
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    missed: list[str] = []

    def show(what: str, value: float, bound: float, unit: str, least: bool = False) -> None:
        good = value >= bound if least else value <= bound
        print(
            f"{'ok  ' if good else 'MISS'}  {what:<64} {value:9.3f} {unit} ({'at least' if least else 'at most'} {bound:g})",
            flush=True,
        )
        if not good:
            missed.append(what)

    turns = 6 if quick else 16
    few = {"episodes": 512, "at_once": 512, "turns": turns}
    fast = measured(ours, 0.1, record=True, **few)
    per_call = 1000 * fast["cpu_s"] / fast["calls"]
    reference = measured(bare, 0.1, calls=int(fast["calls"]), at_once=512, bodies=sample_bodies(turns))
    bare_call = 1000 * reference["cpu_s"] / reference["calls"]
    show("CPU per model call in a whole episode", per_call, 0.6, "ms")
    print(f"      (bare loop: {bare_call:.3f} ms; ours is {per_call / bare_call:.2f} times that)")
    ratio = (fast["calls"] / fast["wall_s"]) / (reference["calls"] / reference["wall_s"])
    show("calls/s of the bare loop's, 100 ms, 512 episodes", ratio, 0.5, "", least=True)
    noted = measured(recording, 0.0, record=True, episodes=256, at_once=64, turns=turns)
    show("CPU with recording, of that without", noted["cpu_s"] / (noted["cpu_s"] - noted["recording_s"]), 1.1, "")
    for at_once, bound in ((512, 0.8), (1024, 0.6)):
        turns = 8 if not quick else 3 if at_once == 512 else 2
        slow = measured(holding, 1.0, record=True, episodes=at_once, at_once=at_once, turns=turns)
        rate = slow["calls"] / slow["wall_s"]
        show(f"throughput at 1 s and {at_once} episodes, of the ideal", rate / at_once, bound, "", least=True)
    show("longest hold of the event loop, 1,024 episodes", 1000 * slow["longest_s"], 10, "ms")
    print(f"      (garbage collection, once in 1,000 episodes: {1000 * slow['collecting_s']:.1f} ms)")
    small, large = (measured(ours, 0.5, record=True, episodes=n, at_once=n, turns=2 if quick else 8) for n in (512, 2048))
    slope = (large["peak_kb"] - small["peak_kb"]) / (2048 - 512)
    show("memory per live episode, 512 to 2,048", slope, 100, "kB")
    long = measured(ours, 0.0, record=True, episodes=250 if quick else 2100, at_once=64, turns=16)
    show(f"memory at the end of {long['calls']:,} calls, of that after a fifth", long["late_kb"] / long["early_kb"], 1.05, "")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
