"""The scripted side: a cast that is never asked, an expert that reasons from values, and agents without skill.

Every agent here sees what a model sees: its own actions and the feedback.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import takewhile

from userrl.core import Action, Agent, Cast, Episode, Task
from userrl.gyms.function import number_text
from userrl.gyms.function.generate import LARGEST_VALUE
from userrl.gyms.function.infer import PROBES, Seen, explain
from userrl.gyms.function.library import LETTERS_ONLY, library
from userrl.gyms.function.rule import Inputs, Rule
from userrl.scripted import Acting, Scripted

ASK_FOR_TEST = Action("search", "test")
VOCABULARY = ("test", "1 2 3 4", "0 0 0 0", "2 3 5 7", "10 1 1 10", "0", "1", "10", "24", "100", "a + b + c + d", "help")
"""What the random baseline says."""

_VALUE = re.compile(r"f\((?P<inputs>[^)]*)\) (?:= (?P<value>\S+)|has no finite value)")
_TEST = re.compile(r"Test case \(a b c d\): (-?\d+) (-?\d+) (-?\d+) (-?\d+)\.")


def cast(trait: str) -> Cast:
    """Nobody is asked anything in this gym: every trait gives the same silent user and judge."""
    return Cast(Scripted({}), Scripted({}))


def expert(skill: float) -> Agent:
    """Probes, finds the rules that explain the values, asks for the test case and answers.

    skill: the chance (drawn once an episode) of knowing how to find the rule, else it guesses from simple rules; and
    how many probes it makes at first (1 to 4) and how seldom it wastes a turn. It is deterministic given the
    episode's seed.
    """
    return Acting(lambda episode: _act(episode, skill))


def baselines(tasks: Sequence[Task] = ()) -> Mapping[str, Agent]:
    """Agents without skill: `random` says anything; `blind_answer` sees the test case and guesses without a probe.

    Neither has anything to fit to `tasks`.
    """
    return {"random": Acting(_random), "blind_answer": Acting(_blind)}


@dataclass(frozen=True)
class _Notes:
    """What an agent knows from an episode's feedback."""

    values: Mapping[str, float | None]
    """Probed numbers, as the gym repeats them -> value."""
    test_case: Inputs | None
    answered: frozenset[str]

    @property
    def seen(self) -> Seen:
        """Values at the first of PROBES, as far as they were made."""
        made = takewhile(lambda inputs: inputs in self.values, (", ".join(map(str, point)) for point in PROBES))
        return tuple(self.values[inputs] for inputs in made)


def _read(episode: Episode) -> _Notes:
    values: dict[str, float | None] = {}
    test_case: Inputs | None = None
    for turn in episode.turns:
        if match := _VALUE.match(turn.feedback):
            values[match["inputs"]] = float(match["value"]) if match["value"] else None
        elif match := _TEST.match(turn.feedback):
            test_case = (int(match[1]), int(match[2]), int(match[3]), int(match[4]))
    answered = frozenset(turn.action.text for turn in episode.turns if turn.action.kind == "answer")
    return _Notes(values, test_case, answered)


def _act(episode: Episode, skill: float) -> Action:
    notes, rng = _read(episode), episode.rng("expert")
    if rng.random() < (1 - skill) / 4:
        return Action("action", "1 2 3")
    if len(notes.seen) < 1 + round(3 * skill):
        return _probe(notes)
    if notes.test_case is None:
        return ASK_FOR_TEST
    knows_how = replace(episode, turns=()).rng("nature").random() < skill
    if not knows_how:
        return _guess(notes, notes.test_case, rng)
    values = [rule.value(notes.test_case) for rule in explain(notes.seen)]
    answers = list(dict.fromkeys(number_text(value) for value in values if value is not None))
    if len(answers) != 1 and len(notes.seen) < len(PROBES):
        return _probe(notes)
    left = [answer for answer in answers if answer not in notes.answered]
    return Action("answer", left[0]) if left else _guess(notes, notes.test_case, rng)


def _probe(notes: _Notes) -> Action:
    return Action("action", " ".join(map(str, PROBES[len(notes.seen)])))


def _guess(notes: _Notes, test_case: Inputs, rng: random.Random) -> Action:
    """The value of some rule that joins the letters by three operators, other than those answered before."""
    answers = _simple_answers(test_case)
    return Action("answer", rng.choice([answer for answer in answers if answer not in notes.answered] or answers))


@lru_cache(maxsize=1024)
def _simple_answers(test_case: Inputs) -> Sequence[str]:
    values = [rule.value(test_case) for rule in _simple_rules()]
    return [number_text(value) for value in values if value is not None and abs(value) <= LARGEST_VALUE]


@cache
def _simple_rules() -> Sequence[Rule]:
    start, stop = library().span[LETTERS_ONLY]
    return [Rule(library().node(row)) for row in range(start, stop) if library().rows.squares[row] == 0]


def _random(episode: Episode) -> Action:
    rng = episode.rng("random")
    return Action(rng.choice(("action", "answer", "search")), rng.choice(VOCABULARY))


def _blind(episode: Episode) -> Action:
    notes = _read(episode)
    return ASK_FOR_TEST if notes.test_case is None else _guess(notes, notes.test_case, episode.rng("blind"))
