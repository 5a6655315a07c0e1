"""CPU time of finding near-duplicates, against comparing all pairs written plainly, and that both find the same.

    python benchmarks/duplicates.py [GYM] [EPISODES]

Plays a scripted expert of skill 0.5 several times on the training tasks (intention, 10,000 episodes), and looks for
near-duplicates (0.9) in all of them, and in a sample of 1,000 also pair by pair. Exits with 1 where the two differ.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice

from userrl.collect.duplicates import ANSWER, Alike, ngrams, words
from userrl.core import Episode
from userrl.gyms.base import make
from userrl.rollout import run, starts

NEAR = 0.9
SAMPLE = 1000


def played(name: str, count: int) -> list[Episode]:
    gym = make(name)
    tasks = gym.tasks("train")
    attempts = -(-count // len(tasks))
    return list(run(list(islice(starts(tasks, attempts=attempts), count)), gym.expert(0.5), gym.cast()))


def filtered(episodes: Sequence[Episode]) -> list[bool]:
    alike = Alike(episodes, NEAR)
    return [alike.match(episode) is not None for episode in episodes]


def all_pairs(episodes: Sequence[Episode]) -> list[bool]:
    """Whether an episode is like an earlier one that is not like an earlier one itself."""
    kept: list[tuple[set[str], set[str]]] = []
    found = []
    for episode in episodes:
        said = [w for t in episode.turns for w in (t.action.kind, *words(t.action.text), *words(t.feedback[:ANSWER]))]
        mine = set(ngrams(words(episode.task.prompt))), set(ngrams(said))
        like = any(all(len(a & b) >= NEAR * len(a | b) for a, b in zip(mine, other, strict=True)) for other in kept)
        found.append(like)
        if not like:
            kept.append(mine)
    return found


def timed(find: Callable[[Sequence[Episode]], list[bool]], episodes: Sequence[Episode]) -> tuple[float, list[bool]]:
    """CPU seconds, and what was found."""
    start = time.process_time()
    found = find(episodes)
    return time.process_time() - start, found


def main(name: str = "intention", count: str = "10000") -> int:
    episodes = played(name, int(count))
    seconds, found = timed(filtered, episodes)
    print(f"{len(episodes)} episodes of {name}, {sum(found)} like an earlier one: {seconds:.1f} s of CPU")
    sample = episodes[:: max(1, len(episodes) // SAMPLE)][:SAMPLE]
    (fast, some), (slow, same) = timed(filtered, sample), timed(all_pairs, sample)
    print(f"{len(sample)} of them, {sum(some)} like an earlier one: {fast:.2f} s")
    print(f"All pairs of these: {slow:.2f} s, ratio {slow / fast:.1f}")
    if some != same:
        print("The two do not find the same.")
    return int(some != same)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
