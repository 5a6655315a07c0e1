"""Questions of two and three steps about the invented world, and the file of its passages.

python -m userrl.gyms.search.generate     makes corpus, tasks and manifest of the built-in world anew
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from userrl.core import Task
from userrl.data import digest, split_of, write_tasks
from userrl.errors import ConfigError
from userrl.gyms.search.corpus import Index, line
from userrl.gyms.search.corpus import digest as passages_digest
from userrl.gyms.search.language import KINDS, RELATIONS, UNITS, facts_in, read_question
from userrl.gyms.search.results import Result
from userrl.gyms.search.world import Thing, passages, title_of, world

Split = Literal["train", "validation", "test"]
COUNTS: Mapping[Split, int] = {"train": 360, "validation": 50, "test": 130}
"""Built-in tasks."""
SHOWN = 5
"""Each step must be found among so many results."""
MOST_USES = 2
"""Tasks of one set that may have the same answer, so that no answer is a good guess."""


@dataclass(frozen=True)
class Hop:
    """One step: from a thing to what a relation says of it."""

    relation: str
    of: str
    value: str
    passage: str
    """Title of the passage that tells it."""


Chain = tuple[Hop, ...]


def tasks(count: int, seed: int, split: Split | None = None) -> list[Task]:
    """The first `count` tasks of a seed's world: all last relations in turn, and as often after one step as after two.

    The id is a hash of the steps, the split a hash of the id. A task is left out when its last fact, as hashed, belongs
    to another split: no answer of a test task is asked for in training by that same fact.

    Raises ConfigError when the world does not hold so many.
    """
    things = world(seed)
    facts, library = Facts(things), Library(passages(things, seed))
    made: list[Task] = []
    uses: Counter[str] = Counter()
    for chain in _in_turn(list(facts.chains()), random.Random(f"search tasks|{seed}")):
        if len(made) == count:
            return made
        task = facts.task(chain, seed)
        mine = split_of(task.id)
        if split not in (None, mine) or split_of(f"{chain[-1].of}|{chain[-1].relation}") != mine:
            continue
        if uses[chain[-1].value] < MOST_USES and not library.flaws(task):
            uses[chain[-1].value] += 1
            made.append(task)
    if len(made) == count:
        return made
    raise ConfigError(f"The world of seed {seed} gives only {len(made)} tasks of split {split}; {count} were asked for.")


def _in_turn(chains: list[Chain], rng: random.Random) -> Iterator[Chain]:
    """Chains of each (number of steps, last relation), taken in turn."""
    rng.shuffle(chains)
    groups: dict[tuple[int, str], list[Chain]] = {}
    for chain in chains:
        groups.setdefault((len(chain), chain[-1].relation), []).append(chain)
    order = sorted(groups)
    rng.shuffle(order)
    while groups:
        for key in [key for key in order if key in groups]:
            yield groups[key].pop()
            if not groups[key]:
                del groups[key]


class Facts:
    """The facts of a world, by relation and thing."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self.kinds = {thing.name: thing.kind for thing in things}
        self.families = Counter(name.split()[-1] for name, kind in self.kinds.items() if kind == "person")
        self.hops: dict[tuple[str, str], list[Hop]] = {}
        for thing in things:
            for name, relation in RELATIONS.items():
                written = relation.backward or name
                if relation.backward and thing.kind == relation.value:
                    self._add(Hop(name, thing.facts[written], thing.name, title_of(thing.name)))
                elif thing.kind in relation.kinds and written in thing.facts:
                    self._add(Hop(name, thing.name, thing.facts[written], title_of(thing.name)))

    def _add(self, hop: Hop) -> None:
        self.hops.setdefault((hop.of, hop.relation), []).append(hop)

    def steps(self, name: str) -> Iterator[Hop]:
        """Where one can go from a thing; only by relations that have one value there."""
        for relation, spec in RELATIONS.items():
            hops = self.hops.get((name, relation), [])
            if self.kinds.get(name) in spec.kinds and len(hops) == 1:
                yield hops[0]

    def chains(self) -> Iterator[Chain]:
        """All ways of two and three steps whose things and passages all differ."""
        for name in self.kinds:
            for first in self.steps(name):
                for second in self.steps(first.value):
                    yield from self._sound((first, second))
                    for third in self.steps(second.value):
                        yield from self._sound((first, second, third))

    def _sound(self, chain: Chain) -> Iterator[Chain]:
        """The chain, if each step but the last can be a phrase, and none leads back."""
        names = [chain[0].of, *(hop.value for hop in chain)]
        differ = len(set(names)) == len(names) and len({hop.passage for hop in chain}) == len(chain)
        if differ and all(RELATIONS[hop.relation].phrases for hop in chain[:-1]):
            yield chain

    def task(self, chain: Chain, seed: int) -> Task:
        steps = [chain[0].of, *(hop.relation for hop in chain)]
        key = hashlib.sha256("|".join([str(seed), *steps]).encode()).hexdigest()[:12]
        rng = random.Random(key)
        text = KINDS[self.kinds[chain[0].of]].called.format(x=chain[0].of)
        for hop in chain[:-1]:
            text = rng.choice(RELATIONS[hop.relation].phrases).format(x=text)
        answer, aliases = self.spellings(chain[-1])
        hidden = {
            "answer": answer,
            "aliases": aliases,
            "answer_kind": RELATIONS[chain[-1].relation].value,
            "hops": [{"relation": h.relation, "of": h.of, "value": h.value, "passage": h.passage} for h in chain],
        }
        return Task(f"search-{key}", "search", rng.choice(RELATIONS[chain[-1].relation].asks).format(x=text), hidden)

    def spellings(self, hop: Hop) -> tuple[str, list[str]]:
        """The answer as one would write it, and other ways to write it."""
        kind, value = RELATIONS[hop.relation].value, hop.value
        if kind in UNITS:
            short = {"inhabitants": "people", "kilometers": "km", "meters": "m"}[kind]
            return f"{value} {kind}", [value, f"{value} {short}"]
        if kind == "person" and self.families[value.split()[-1]] == 1:
            return value, [value.split()[-1]]
        if kind == "river":
            return value, [f"{value} River", f"River {value}"]
        if kind == "mountain":
            return value, [value.removeprefix("Mount "), value.replace("Mount", "Mt", 1)]
        return value, []


class Library:
    """Passages as a reader has them, who does not know how they were made: what they tell, and what a search finds."""

    def __init__(self, found: Sequence[Result]) -> None:
        self.index = Index(found)
        self.texts = {passage.title: f"{passage.title}. {passage.snippet}" for passage in found}
        self.told: dict[tuple[str, str], set[tuple[str, str]]] = {}
        """(name, relation) -> (value, title of a passage that tells it); names in lower case."""
        for passage in found:
            for name, value in facts_in(passage.snippet).items():
                self._add(passage.title, name, value, passage.title)
                for inverse, spec in RELATIONS.items():
                    if spec.backward == name and KINDS[spec.value].source == passage.source:
                        self._add(value, inverse, passage.title, passage.title)

    def _add(self, of: str, relation: str, value: str, title: str) -> None:
        self.told.setdefault((of.lower(), relation), set()).add((value, title))

    def flaws(self, task: Task) -> list[str]:
        """Why a question would not do; empty for one that does.

        A good question is understood; each of its steps has one value, told by one passage, which a plain search for
        the step finds among the first SHOWN; it gives away no value on the way; and no passage holds both what it
        starts from and the answer.
        """
        hops, found = task.hidden["hops"], []
        if read_question(task.prompt) != (hops[0]["of"], [hop["relation"] for hop in hops]):
            found.append("it is not read as its steps")
        for hop in hops:
            step = f"{hop['relation']} of {hop['of']}"
            told = {(value.lower(), title) for value, title in self.told.get((hop["of"].lower(), hop["relation"]), ())}
            if told != {(hop["value"].lower(), hop["passage"])}:
                found.append(f"the passages tell {sorted(told)} as the {step}")
            if hop["passage"] not in {r.title for r in self.index.search(query(hop["relation"], hop["of"]), SHOWN)}:
                found.append(f"a search does not show the {step}")
        for name in [*(hop["value"] for hop in hops), *task.hidden["aliases"]]:
            if _mentions(task.prompt, name):
                found.append(f"it names {name!r}")
        for title, text in self.texts.items():
            if _mentions(text, hops[0]["of"]) and _mentions(text, hops[-1]["value"]):
                found.append(f"the passage {title!r} holds both its start and the answer")
        return found


def _mentions(text: str, name: str) -> bool:
    return name.lower() in text.lower() and re.search(rf"(?<![\w,]){re.escape(name)}(?!\w|,\d)", text, re.IGNORECASE) is not None


def query(relation: str, name: str) -> str:
    """A search for what a relation says of a thing.

    >>> query("founder", "Ombrel Mills")
    'Who founded Ombrel Mills?'
    """
    return RELATIONS[relation].asks[0].format(x=name)


def write(room: Path, seed: int = 1, counts: Mapping[Split, int] = COUNTS) -> None:
    """Write a world's `content/corpus.jsonl`, `tasks/<split>.jsonl` and `tasks/manifest.json` into a folder."""
    found = passages(world(seed), seed)
    for name in ("content", "tasks"):
        (room / name).mkdir(parents=True, exist_ok=True)
    (room / "content" / "corpus.jsonl").write_text("".join(line(passage) + "\n" for passage in found), "utf-8")
    common = {"license": "Apache-2.0", "source": f"userrl.gyms.search.generate, seed {seed}"}
    sets = {}
    for split, count in counts.items():
        made = tasks(count, seed, split)
        write_tasks(room / "tasks" / f"{split}.jsonl", made)
        sets[split] = {"count": count, "sha256": digest(made), **common}
    corpus = {"count": len(found), "sha256": passages_digest(found), **common}
    (room / "tasks" / "manifest.json").write_text(json.dumps({"sets": sets, "corpus": corpus}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    write(Path(__file__).parent)
