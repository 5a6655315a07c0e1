"""Does a gym keep the promises that every gym makes? For ours and for anybody's.

    from userrl.evaluate.conformance import assert_conforms

    def test_my_gym_conforms() -> None:
        assert_conforms("my_gym")

The gym's expert, its baselines and a hostile agent (`hostile.ATTACKS`) play tasks against its scripted cast. Then:

- each choice says whom it goes to (`Gym.asks`), and no task is in two splits;
- rewards are finite, within `reward_range`, and sum to at most `reachable`;
- an episode ends by the rules or by the turn limit, nothing comes after its end, and labels are declared ones;
- an invalid action costs a turn, earns 0 and ends nothing; no action makes the rules crash;
- hidden text is fed back only when the turn `reveals` it (limits: see `leaked`), and nothing else is revealed;
- an episode survives JSON, and its recorded actions, replayed with JSON in between, give the same turns;
- when the user or the judge fails, the episode ends as an error;
- an attack, alone or behind what another agent said, earns and ends no more than the plain text does;
- with every reply taken through a model's JSON the turns are the same, and in the prompts that the model would get the
  agent's words stand in their fence, whole or visibly cut, and nowhere else, also when the user repeats them.

What cannot be seen here, such as whether a real model obeys an attack, is said in `hostile`.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from userrl.core import DEFAULT_MAX_TURNS, INVALID, Action, Agent, Cast, Episode, Query, Task, Turn
from userrl.data.sets import shared, unlisted
from userrl.errors import ReplyError
from userrl.evaluate.hostile import ATTACKS, Modelled, attempt, gains, hostile_actions, hosts, parroted, said
from userrl.gyms.base import FINISH, Gym, find
from userrl.rollout import advance, play
from userrl.store import from_record, to_record

SECRET_LENGTH = 12
"""Characters from which on any hidden text is looked for; shorter ones ("red", "Monday") occur by chance."""
NAME_LENGTH = 3
"""Characters from which on a text of the gym's `secrets` is looked for, as whole words."""
SEARCH = "search"
"""The choice by whose name it is clear that it needs no person."""
TASKS_PER_SPLIT = 2
TASKS_PER_ATTACK = 4
"""Tasks that each attack meets at least, where there are so many."""
TOLERANCE = 1e-6
"""By which rewards may sum to more than `reachable`."""

_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(\.\d+)?")

R = TypeVar("R")


@dataclass(frozen=True)
class Report:
    """What a gym was put through and where it failed."""

    gym: str
    tasks: int
    episodes: int
    turns: int
    failures: tuple[str, ...] = ()
    """Who played which task, and what was wrong; each said once. Empty for a gym that conforms."""
    unseen: tuple[str, ...] = ()
    """Labels of the gym that no turn carried, so that nobody knows whether its rules spell them alike. No failure."""

    def causes(self) -> Mapping[str, int]:
        """The first failure of each kind -> how many there are of it.

        Of one kind are crashes in the same line, and what was wrong with tasks if it differs in quoted texts and numbers only.
        """
        first: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for failure in self.failures:
            where, _, problem = failure.partition(": ")
            _, _, crashed = problem.partition("crashed with ")
            kind = crashed or (_VARIES.sub("…", problem) if " on task " in where else failure)
            counts[first.setdefault(kind, failure)] += 1
        return counts


def check_gym(
    gym: str | type[Gym],
    *,
    tasks: Sequence[Task] | Literal["sample", "all"] = "sample",
    attacks: Mapping[str, str] = ATTACKS,
    cast: Cast | None = None,
    rules: Mapping[str, Any] | None = None,
    max_turns: int = DEFAULT_MAX_TURNS,
    seed: int = 0,
    watch: Callable[[int, int, int], None] | None = None,
) -> Report:
    """Put a gym through the conformance test.

    Args:
        gym: its name or its class.
        tasks: given ones; "sample": the first two of each built-in split; "all": every task of the built-in splits whose
            names do not begin with demo (a minute a thousand tasks).
        attacks: name -> what the hostile agent says. They are dealt out over the tasks: each attack meets at least 4 of
            them (all, where there are fewer), and each task at least one attack.
        cast: who answers; must be deterministic and must not fail. Default: the gym's scripted cast.
        rules: settings of the gym.
        max_turns: turn limit of the episodes played.
        seed: the run's seed.
        watch: called after each task with the numbers of tasks played, of all tasks, and of failures so far.
    """
    kind = find(gym) if isinstance(gym, str) else gym
    chosen = tasks_to_check(kind, tasks) if isinstance(tasks, str) else tasks
    trial = _Trial(kind(**(rules or {})), cast or kind.cast(), attacks)
    trial.fail("the gym", choices(kind))
    if isinstance(tasks, str):
        trial.fail("the tasks", set_problems(kind))
    if not chosen:
        trial.failures["there are no tasks to play"] = None
    starts = [Episode(task, seed=seed, max_turns=max_turns, rules=rules or {}) for task in chosen]
    baselines = dict(kind.baselines())
    agents = {"expert": kind.expert(), "random": baselines.pop("random")}
    asyncio.run(trial.run(starts, agents, baselines, watch))
    unseen = tuple(label for label in kind.labels if label not in (*trial.labels, FINISH, INVALID))
    return Report(kind.name, len(chosen), trial.episodes, trial.turns, tuple(trial.failures), unseen)


def tasks_to_check(gym: type[Gym], which: Literal["sample", "all"]) -> list[Task]:
    """The first tasks of each split, or every task of all splits but the demo's. Imported tasks are never among them."""
    splits = list(gym.built_in_sets())
    if which == "all":
        return [task for split in splits if not split.startswith("demo") for task in gym.tasks(split)]
    return [task for split in splits for task in gym.tasks(split)[:TASKS_PER_SPLIT]]


def set_problems(gym: type[Gym]) -> list[str]:
    """What is wrong between the built-in splits: files of none, and tasks of more than one."""
    sets = gym.built_in_sets()
    splits = {split: tasks.load() for split, tasks in sets.items()}
    return [*unlisted(gym.name, gym.room() / "tasks", sets).values(), *(said for _, said in shared(sets, splits))]


def assert_conforms(gym: str | type[Gym], **options: Any) -> Report:
    """`check_gym` for tests: raises AssertionError that lists the failures."""
    report = check_gym(gym, **options)
    if report.failures:
        lines = "\n".join(f"  - {failure}" for failure in report.failures)
        raise AssertionError(f"Gym {report.gym!r} fails {len(report.failures)} conformance checks:\n{lines}")
    return report


# --- playing -------------------------------------------------------------------------------------------------


@dataclass
class _Trial:
    gym: Gym
    cast: Cast
    attacks: Mapping[str, str]
    episodes: int = 0
    turns: int = 0
    failures: dict[str, None] = field(default_factory=dict)
    """As an ordered set."""
    labels: set[str] = field(default_factory=set)
    """Those seen."""

    async def run(
        self,
        starts: Sequence[Episode],
        agents: Mapping[str, Agent],
        others: Mapping[str, Agent],
        watch: Callable[[int, int, int], None] | None,
    ) -> None:
        """The `others` play, and no more: no seat fails for them, and nobody attacks where they acted."""
        self.fail("the system message", systems(self.gym, [start.task for start in starts]))
        for number, start in enumerate(starts):
            played = [await self.play(name, start, agent) for name, agent in agents.items()]
            for name, agent in others.items():
                await self.play(name, start, agent)
            for name, agent in agents.items():
                for role in ("user", "judge"):
                    await self.play_with_failing(role, name, start, agent)
            await self.play_hostile(start, [episode for episode in played if episode], self.share(number, len(starts)))
            if watch is not None:
                watch(number + 1, len(starts), len(self.failures))

    def share(self, number: int, count: int) -> dict[str, str]:
        """The attacks that a task meets: all of them where tasks are few, else every n-th."""
        shares = min(max(count // TASKS_PER_ATTACK, 1), max(len(self.attacks), 1))
        return dict(list(self.attacks.items())[number % shares :: shares])

    def fail(self, where: str, problems: Iterable[str]) -> None:
        self.failures.update(dict.fromkeys(f"{where}: {problem}" for problem in problems))

    async def play(self, name: str, start: Episode, agent: Agent) -> Episode | None:
        where = f"{name} on task {start.task.id}"
        episode = await attempt(play(start, agent, self.cast, self.gym))
        if isinstance(episode, Exception):
            self.fail(where, [f"crashed with {said(self.gym, episode)}"])
            return None
        if episode.stop == "error":
            self.fail(where, [f"ended as an error although nobody was made to fail: {episode.error}"])
        await self.examine(where, episode)
        return episode

    async def play_hostile(self, start: Episode, others: Sequence[Episode], attacks: Mapping[str, str]) -> None:
        """Plays every hostile action, in as many episodes as that takes, and the attacks where `others` acted."""
        where, episode = f"hostile agent on task {start.task.id}", start
        ended: list[Episode] = []
        for action in hostile_actions(self.gym, attacks):
            result = await attempt(advance(episode, action, self.cast, self.gym))
            if isinstance(result, Exception):
                problem = f"{action.kind!r} with {(action.text or action.raw)!r:.50} crashed with {said(self.gym, result)}"
                self.fail(where, [problem])
            else:
                episode = result
            if episode.stop != "running":
                ended.append(episode)
                episode = replace(start, attempt=episode.attempt + 1)
        for played in (*ended, episode):
            await self.examine(where, played)
            self.fail(where, await parroted(self.gym, self.cast, played))
        for host in hosts(self.gym, start, others):
            self.fail(where, await gains(self.gym, self.cast, host, attacks))

    async def play_with_failing(self, role: str, name: str, start: Episode, agent: Agent) -> None:
        failing = _Failing()
        where = f"{name} on task {start.task.id} with a failing {role}"
        episode = await attempt(play(start, agent, replace(self.cast, **{role: failing}), self.gym))
        if isinstance(episode, Exception):
            return self.fail(where, [f"crashed with {said(self.gym, episode)}"])
        if failing.asked and episode.stop != "error":
            problem = f"the {role} failed, but the episode went on ({episode.stop}); let a failure pass through `step`"
            self.fail(where, [problem])
        self.fail(where, round_trip(episode))

    async def examine(self, where: str, episode: Episode) -> None:
        self.episodes += 1
        self.turns += len(episode.turns)
        self.labels.update(turn.label for turn in episode.turns)
        for check in CHECKS:
            self.fail(where, check(self.gym, episode))
        user, judge = Modelled(self.cast.user, "user"), Modelled(self.cast.judge, "judge")
        changed = await replays(self.gym, replace(self.cast, user=user, judge=judge), episode)
        if changed:  # by the way through JSON, or would the same cast change it, too?
            again = await replays(self.gym, self.cast, episode)
            self.fail(where, again or [f"with the replies as a model's JSON, {problem}" for problem in changed])
        self.fail(where, (*user.problems, *judge.problems))


class _Failing:
    """A user or judge that never gives a usable reply."""

    asked = 0

    async def answer(self, query: Query[R]) -> R:
        self.asked += 1
        raise ReplyError("made to fail by the conformance test")


def choices(gym: type[Gym]) -> Iterator[str]:
    """Figures and screens know of each choice whom it goes to; see `Gym.asks`."""
    declared = {name: getattr(gym, name) for name in ("asks", "answers")}
    for name, kinds in declared.items():
        if isinstance(kinds, str):
            yield f"`{name}` is the text {kinds!r}; expected a tuple of choices, as in ({kinds!r},)"
        elif unknown := [kind for kind in kinds if kind not in (*gym.actions, *getattr(Gym, name))]:
            yield f"`{name}` names {unknown[0]!r}, which is no choice of the gym; expected some of {', '.join(gym.actions)}"
    for kind in gym.actions:
        if not any(kind in kinds for kinds in (*declared.values(), gym.voices, [SEARCH])):
            yield (
                f"the choice {kind!r} is in none of `asks` (said to the user, who replies), `answers` (handed in, for somebody "
                f"to judge) and `voices` (answered by somebody else), so reports could not tell what it asks of the user"
            )


# --- checks: each is one small function and one line in a table ------------------------------------------------


def rewards_fit(gym: Gym, episode: Episode) -> Iterator[str]:
    """Each finite and within `reward_range`; in sum at most `reachable` (not under compat)."""
    low, high = gym.reward_range
    for number, reward in enumerate(episode.rewards):
        if not (math.isfinite(reward) and low <= reward <= high):
            yield f"turn {number} has reward {reward}; expected a finite number from {low} to {high}"
    reachable = gym.reachable(episode.task, episode.max_turns)
    if not gym.compat and math.fsum(episode.rewards) > reachable + TOLERANCE:
        yield f"rewards sum to {math.fsum(episode.rewards):g}, above `reachable`, {reachable:g}"


def ends_well(gym: Gym, episode: Episode) -> Iterator[str]:
    """Within the turn limit, with nothing after the end, reported as one of the two, and with declared labels."""
    ended = gym.ended(episode)
    if not gym.compat and ended != (episode.stop == "done", episode.stop in ("turn_limit", "window")):
        yield f"`ended` says (terminated, truncated) = {ended} of an episode with stop={episode.stop!r}"
    if len(episode.turns) > episode.max_turns:
        yield f"has {len(episode.turns)} turns, above the limit of {episode.max_turns}"
    for number, turn in enumerate(episode.turns):
        if turn.done and number < len(episode.turns) - 1:
            yield f"turn {number} ended the episode, but more turns follow"
        if turn.label not in ("", INVALID, *gym.labels):
            yield f"turn {number} has the label {turn.label!r}, which is not in the gym's `labels`"


def invalid_is_harmless(gym: Gym, episode: Episode) -> Iterator[str]:
    """An action that is not offered earns 0, ends nothing and is told why."""
    for number, turn in enumerate(episode.turns):
        if gym.offers(turn.action.kind):
            continue
        if turn.done or turn.reward:
            yield f"turn {number}, an invalid action, has reward {turn.reward} and done={turn.done}; expected 0.0 and False"
        if not turn.feedback.strip():
            yield f"turn {number}, an invalid action, has no feedback; expected what was wrong"


def leaks(gym: Gym, episode: Episode) -> Iterator[str]:
    """Hidden text in a feedback that no turn so far `reveals`; see `leaked`."""
    for number, secret in leaked(gym, episode):
        yield f"turn {number} feeds back the hidden text {secret!r:.60} without naming it in `reveals`"


def leaked(gym: Gym, episode: Episode) -> Iterator[tuple[int, str]]:
    """(turn, counted from 0; text) of hidden text in a feedback that no turn so far `reveals`.

    Looked for, without regard to case and spacing: every string in `task.hidden` of at least 12 characters, and its
    sentences of at least 24; as whole words, what the gym declares as `secrets`, of at least 3. Not found: numbers, other
    short strings, paraphrases, and what the agent has anyway: the task's prompt, the system message (see `systems`), the
    description of the actions, its own words.
    """
    public = _folded("\n".join([episode.task.prompt, gym.system(episode.task), *gym.actions.values()]))
    names = _names(gym, episode.task)
    secrets = {text for text in _secrets(episode.task) | names if not _holds(public, text, names)}
    had = ""  # a line for each text, as no folded text has a line break
    for number, turn in enumerate(episode.turns):
        had = "\n".join([had, *map(_folded, (turn.action.text, turn.action.raw, *turn.reveals))])
        feedback = _folded(turn.feedback)
        for secret in sorted(s for s in secrets if _holds(feedback, s, names)):
            if not _holds(had, secret, names):
                yield number, secret
                secrets.discard(secret)


def reveals_what_is_shown(gym: Gym, episode: Episode) -> Iterator[str]:
    """What a turn `reveals` is in its feedback: to name everything at every turn would make `leaks` blind."""
    for number, turn in enumerate(episode.turns):
        for text in turn.reveals:
            if _folded(text) not in _folded(turn.feedback):
                yield f"turn {number} names {text!r:.60} in `reveals`, but its feedback does not hold it"


def round_trip(episode: Episode) -> Iterator[str]:
    """An episode read back from its JSON record is the same."""
    try:
        back = _through_json(episode)
    except (TypeError, ValueError) as error:
        yield f"cannot be written as JSON ({error}); `facts` and `hidden` hold JSON values only"
        return
    for number, (turn, read) in enumerate(zip(episode.turns, back.turns, strict=True)):
        if turn != read:
            yield f"turn {number} is another after JSON (a tuple, or a key that is no string?): facts {turn.facts!r:.80}"
    if episode.turns == back.turns and episode != back:
        yield "is another after JSON, though its turns are the same (a tuple, or a key that is no string, in the task?)"


CHECKS: tuple[Callable[[Gym, Episode], Iterator[str]], ...] = (
    rewards_fit,
    ends_well,
    invalid_is_harmless,
    leaks,
    reveals_what_is_shown,
    lambda gym, episode: round_trip(episode),
)


async def replays(gym: Gym, cast: Cast, episode: Episode) -> list[str]:
    """The recorded actions give the same turns, with JSON between any two: the episode is the whole state."""
    again = replace(episode, turns=(), stop="running", error=None)
    for number, turn in enumerate(episode.turns):
        result = await attempt(_advance_through_json(again, turn.action, cast, gym))
        if isinstance(result, Exception):
            return [f"turn {number}, replayed, crashed with {said(gym, result)}"]
        again = result
        if again.turns[-1] != turn:
            return [f"turn {number}, replayed, is another: {'; '.join(_unlike(again.turns[-1], turn))}"]
    return []


def _unlike(now: Turn, then: Turn) -> Iterator[str]:
    """The fields in which two turns differ, from shortly before the first difference on."""
    for field_ in fields(Turn):
        first, second = repr(getattr(now, field_.name)), repr(getattr(then, field_.name))
        if first != second:
            at = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
            at = max(at - 20, 0)
            gap = "…" if at else ""
            yield f"{field_.name} {gap}{first[at : at + 80]}, first {gap}{second[at : at + 80]}"


async def _advance_through_json(episode: Episode, action: Action, cast: Cast, gym: Gym) -> Episode:
    return await advance(_through_json(episode), action, cast, gym)


def systems(gym: Gym, tasks: Sequence[Task]) -> Iterator[str]:
    """A system message that is not the same for all tasks must not hold hidden text.

    What the same message shows to a task that does not hide it, too, tells nothing of those that do.
    """
    messages = [_folded(gym.system(task)) for task in tasks]
    if len(set(messages)) < 2:
        return
    names = [_names(gym, task) for task in tasks]
    hidden = [_secrets(task) | short for task, short in zip(tasks, names, strict=True)]
    common = {told: set.intersection(*(h for h, m in zip(hidden, messages, strict=True) if m == told)) for told in messages}
    for task, message, short in zip(tasks, messages, names, strict=True):
        for secret in sorted(common[message]):
            if _holds(message, secret, short) and not _holds(_folded(task.prompt), secret, short):
                yield f"holds the hidden text {secret!r:.60} of task {task.id}"


def _through_json(episode: Episode) -> Episode:
    return from_record(json.loads(json.dumps(to_record(episode), allow_nan=False)))


def _secrets(task: Task) -> set[str]:
    found: set[str] = set()
    for text in {_folded(text) for text in set(_strings(task.hidden)) if len(text) >= SECRET_LENGTH}:
        if len(text) >= 2 * SECRET_LENGTH:
            found.update(s for s in map(str.strip, re.split(r"(?<=[.!?]) ", text)) if len(s) >= 2 * SECRET_LENGTH)
        if len(text) >= SECRET_LENGTH:
            found.add(text)
    return found


def _names(gym: Gym, task: Task) -> set[str]:
    """The texts of the gym's `secrets` that are too short to be looked for within words."""
    texts = map(_folded, set(_strings([task.hidden.get(field, "") for field in gym.secrets])))
    return {text for text in texts if NAME_LENGTH <= len(text) < SECRET_LENGTH}


def _holds(text: str, secret: str, names: set[str]) -> bool:
    """Names are looked for as whole words. Without patterns, as a task may have a thousand of them."""
    at = text.find(secret)
    while at >= 0 and secret in names:
        around = text[at - 1 : at] + text[at + len(secret) : at + len(secret) + 1]
        if not any(c.isalnum() or c == "_" for c in around):
            return True
        at = text.find(secret, at + 1)
    return at >= 0


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, Mapping)):  # the first of the two is quick to find out
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, Sequence)):
        for item in value:
            yield from _strings(item)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
