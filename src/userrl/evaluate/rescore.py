"""Marking saved runs anew, by another judge or under other rules, without playing them again.

The talk stays as it took place: the recorded actions are played again, the user says what it said, and only the judge is
asked anew. But in most gyms what the judge finds comes back to the agent (a list of what its answer holds, the end of the
talk), so the new judge may have shown it something else, and what it would have done then nobody knows. Such episodes are
marked, and the figures are given for all and for those that would have gone the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from userrl.calls import FILE as REPLIES
from userrl.calls import Calls
from userrl.core import Cast, Episode, Judge, Query, User
from userrl.errors import ConfigError, DataError, EndpointRefused, ReplyError, RunStopped, SeatError, UserRLError
from userrl.evaluate.lines import Fields, fitting
from userrl.evaluate.metrics import score_bounds, total
from userrl.evaluate.played import in_order
from userrl.evaluate.statistics import Interval, mean_interval, paired_interval
from userrl.gyms.base import find, gym_of, known, make, rules_for
from userrl.llm.endpoint import lasting
from userrl.rollout import advance
from userrl.scripted import Scripted
from userrl.store import Record, Records, RunFolder, fingerprint, index, migrated, read_as, settings

R = TypeVar("R")

MARKS = "marks.jsonl"
RESULT = "rescored.json"
"""Files of a run's folder."""
EPISODES = "episodes.jsonl"
SCHEMA = 1
"""Version of the lines of `MARKS`."""

End = Literal["same", "earlier", "open"]
"""Whether the talk ends where it did: earlier, since the new judge would have ended it; open, since it would not have."""


@dataclass(frozen=True)
class RescoreJob:
    """What to mark anew, and how."""

    run: str
    """Folder of the run."""
    judge: str | None = None
    """Who marks now; None: the run's own judge, whose verdicts are taken from the record."""
    rules: Mapping[str, Any] = field(default_factory=dict)
    """Settings that go before those of the run, for every gym or in a table of its name; see `EvalJob.rules`."""
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """As in `EvalJob`."""


@dataclass(frozen=True)
class Mark:
    """How far an episode that was marked anew can be trusted."""

    differs: int | None = None
    """The first turn (from 1) whose answer the new judge would have changed; None where there is none."""
    end: End = "same"
    turns: int = 0
    """Turns that were marked."""

    @property
    def holds(self) -> bool:
        """Whether the agent would have done the same: what changed, if anything, came after its last action."""
        return self.end != "open" and (self.differs is None or self.differs >= self.turns)


@dataclass(frozen=True)
class Difference:
    """Mean scores of a gym's episodes before and after, and the mean of their difference, clustered by task."""

    gym: str
    of: Literal["all", "same talk"]
    """All episodes that were marked, or those whose talk the new judge would not have changed."""
    episodes: int
    before: Interval
    after: Interval
    difference: Interval


@dataclass(frozen=True)
class Rescored:
    """What came of it."""

    figures: tuple[Difference, ...]
    marked: int
    changed: int
    """Episodes in which the agent would have been told something else, or the talk gone on: see `Mark.holds`."""
    earlier: int
    """Episodes that end earlier."""
    failed: int
    """Episodes without a new score, since the user or the judge failed."""
    left_out: int
    """Episodes that have no score in the run either."""

    @property
    def note(self) -> str:
        """The counts in words."""
        return (
            f"{self.marked} episodes were marked anew. In {self.changed} of them the agent would have been told something else, "
            f"or the talk would have gone on: they are marked as the talk took place, and only the others ('same talk') are "
            f"what the agent would have been given. {self.earlier} end earlier. {self.failed} failed; {self.left_out} had no "
            f"score before."
        )


class _Said:
    """A user who says what it said. What it was not asked then, it answers with what the agent was told."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.told = ""
        """Recorded feedback of the turn."""
        self.otherwise = False
        """Whether it was asked something that it was not asked then, or would have said something else."""

    async def answer(self, query: Query[R]) -> R:
        try:
            reply = await self.user.answer(query)
        except DataError:  # not on record: the new verdict led somewhere else
            reply = None
        if reply is not None and self._told(reply):
            return reply
        self.otherwise = True
        return _saying(query, self.told)

    def _told(self, reply: Any) -> bool:
        """Whether any text of the reply was told to the agent, or it has none."""
        texts = [value for value in reply.model_dump().values() if isinstance(value, str) and value]
        return not texts or any(text in self.told for text in texts)


def _saying(query: Query[R], text: str) -> R:
    """A reply whose texts are this one. Raises ReplyError where the reply is none of words."""
    if issubclass(query.reply, BaseModel):
        words = {name: text for name, found in query.reply.model_fields.items() if found.is_required()}
        try:
            return query.reply.model_validate(words)
        except ValidationError:
            pass
    raise ReplyError(f"The record has no reply of the user to {query.name!r}, and none can be made of what the agent was told.")


@dataclass(frozen=True)
class _OnRecord:
    """A judge whose verdicts are all on record; one that is not ends the episode as a failure."""

    judge: Judge

    async def answer(self, query: Query[R]) -> R:
        try:
            return await self.judge.answer(query)
        except DataError as error:
            raise ReplyError(f"{error} Or name a judge, who is asked anew.") from error


async def mark(recorded: Episode, cast: Cast, rules: Mapping[str, Any]) -> tuple[Episode, Mark]:
    """An episode with the same actions and answers and new marks, and how far it can be trusted.

    Args:
        rules: settings of the gym, in the place of the episode's.
    """
    said = _Said(cast.user)
    now = replace(recorded, turns=(), stop="running", error=None, rules=rules)
    gym, differs = gym_of(now), None
    for number, turn in enumerate(recorded.turns, start=1):
        said.told, said.otherwise = turn.feedback, False
        try:
            played = await advance(now, turn.action, Cast(said, cast.judge), gym)
        except EndpointRefused:
            raise
        except SeatError as error:
            return now.fail(str(error)), Mark(differs, turns=number)
        new = played.turns[-1]
        shown = new.feedback != turn.feedback or (gym.show_reward and new.reward != turn.reward)
        if differs is None and (shown or said.otherwise):
            differs = number
        kept = replace(new, action=turn.action, feedback=turn.feedback, reveals=turn.reveals)
        now = replace(played, turns=(*played.turns[:-1], kept))
        if now.stop != "running":
            break
    count = len(now.turns)
    if recorded.stop == "window" and now.stop == "running":
        now = replace(now, stop="window")
    end: End = "open" if now.stop == "running" else "earlier" if count < len(recorded.turns) else "same"
    return now, Mark(differs, end, count)


async def rescore(
    job: RescoreJob,
    cast: Callable[[str], Cast],
    folder: Path,
    *,
    resume: bool = False,
    calls: Calls | None = None,
    at_once: int = 64,
    max_errors: int | None = None,
    on_end: Callable[[Episode], None] | None = None,
) -> Rescored:
    """Mark the episodes of a run anew into another folder, which names the run it came from. The run is left as it is.

    Beside `episodes.jsonl` the folder holds `marks.jsonl` (a line for each episode: scores before and after, and its
    `Mark`) and `rescored.json` (the figures).

    Args:
        cast: gym name -> the user, from the record or scripted, and the judge.
        calls: what stands around the judge's model; its replies are kept in the folder.
        max_errors: failures that stop the run; a tenth of all, at least 8, by default.

    Raises:
        DataError: the folder holds no evaluation.
        RunStopped, EndpointRefused: as in play; what was marked is kept.
    """
    file = Path(job.run) / EPISODES
    config = _settings(job, folder)
    kept = RunFolder(folder, config, resume=resume, defaults={"contents": config["contents"]})
    if job.judge is None:
        own = cast

        def cast(gym: str) -> Cast:
            return Cast(own(gym).user, _OnRecord(own(gym).judge))

    entries = index(file)
    recorded = Records(file, [entries[key].offset for key in in_order(Path(job.run), entries)])
    limit = max(8, len(recorded) // 10) if max_errors is None else max_errors
    done, failed = {key for key, entry in kept.index().items() if entry.stop != "error"}, 0
    last = ""
    with ExitStack() as stack:
        marks, store = stack.enter_context(kept.store(MARKS)), stack.enter_context(kept.store())
        if calls is not None and calls.any and not calls.replaying:
            calls.keep(stack.enter_context(kept.store(REPLIES)), done)
            stack.callback(lambda: kept.write_json("cost.json", calls.ledger.record()))
        waiting = (episode for episode in recorded if episode.key not in done)
        while batch := list(islice(waiting, at_once)):
            stopped: UserRLError | None = None
            for old, found in zip(batch, await asyncio.gather(*(_one(e, cast, job) for e in batch)), strict=True):
                if isinstance(found, UserRLError):
                    stopped = stopped or found
                    continue
                new, how = found
                if calls is not None:
                    calls.ended(new)
                before, after = (None if e.stop == "error" else total(e) for e in (old, new))
                gym, task, attempt = old.key
                line = {"gym": gym, "task": task, "attempt": attempt, "before": before, "after": after, **asdict(how)}
                best = gym_of(new).best_score(new.task, new.max_turns)
                marks.write({"schema": SCHEMA, **line, "best": best, "could_change": _could_change(job, gym)})
                store.append(new)
                if on_end is not None:
                    on_end(new)
                if new.stop == "error" and old.stop != "error":
                    failed, last = failed + 1, str(new.error)
            if stopped is not None:
                raise stopped
            if failed > limit:
                raise RunStopped(
                    f"Stopped: {failed} episodes could not be marked (at most {limit} may fail). The last one: {last}"
                )
    result = rescored(folder)
    kept.write_json(RESULT, {"note": result.note, **asdict(result)})
    return result


def _settings(job: RescoreJob, folder: Path) -> dict[str, Any]:
    """What the new run's `config.json` says: the settings of the run, and where its marks come from."""
    run, past = Path(job.run), settings(Path(job.run))
    if past.get("kind") != "eval" or not (run / EPISODES).exists():
        raise DataError(f"{run} holds no episodes of an evaluation. Name the folder of `userrl eval` (--out).")
    if folder.resolve() == run.resolve():
        raise DataError(f"{folder} is the run itself, which stays as it is. Choose another folder with --out.")
    others = known().keys() - {*past["gyms"]}
    if other := [name for name, value in job.rules.items() if isinstance(value, Mapping) and name in others]:
        raise ConfigError(
            f"The rules are for {other[0]}, which {run} did not play (gyms: {', '.join(past['gyms'])}). Nothing would be marked "
            f"otherwise; name a gym of the run, or leave the name out for all."
        )
    for gym in past["gyms"]:
        make(gym, **{**rules_for(past.get("rules", {}), gym), **rules_for(job.rules, gym)})
    return {
        **past,
        "judge": job.judge or past["judge"],
        "endpoints": lasting({**past.get("endpoints", {}), **job.endpoints}),
        "rescore_of": job.run,
        "new_rules": dict(job.rules),
        # with the tasks' hashes, so that what is missing in an unfinished run is missed in this one, too
        "contents": {**past.get("contents", {}), "run": fingerprint(run / EPISODES)},
    }


def _could_change(job: RescoreJob, gym: str) -> bool:
    """Whether a new mark may be another one: by other rules of the gym, or by a judge who is asked anew."""
    judge = find(gym).cast().judge
    return bool(rules_for(job.rules, gym)) or (job.judge is not None and (not isinstance(judge, Scripted) or bool(judge.answers)))


async def _one(episode: Episode, cast: Callable[[str], Cast], job: RescoreJob) -> tuple[Episode, Mark] | UserRLError:
    """What stops the run is given back, so that the others of its batch come to their end."""
    if episode.stop == "error":
        return episode, Mark(turns=len(episode.turns))
    gym = episode.task.gym
    try:
        return await mark(episode, cast(gym), {**episode.rules, **rules_for(job.rules, gym)})
    except UserRLError as error:
        return error


class _Line(Fields):
    """A line of `MARKS`."""

    gym: str
    task: str
    attempt: int
    before: float | None
    after: float | None
    best: float | None = None
    """The best score that the task allows; the first versions did not keep it."""
    could_change: bool = True
    differs: int | None
    end: End
    turns: int

    @property
    def holds(self) -> bool:
        return Mark(self.differs, self.end, self.turns).holds


def _line(record: Record) -> _Line:
    return fitting(_Line, migrated(record, SCHEMA, {}))


def rescored(folder: Path) -> Rescored:
    """The figures of a folder of `rescore`, from its marks. Raises DataError."""
    last = {(line.gym, line.task, line.attempt): line for line in read_as(folder / MARKS, _line, "a mark of an episode")}
    lines = {key: last[key] for key in in_order(folder, last)}
    scored = [line for line in lines.values() if line.before is not None and line.after is not None]
    figures = []
    for gym in dict.fromkeys(line.gym for line in scored):
        of_gym = [line for line in scored if line.gym == gym]
        figures.append(_difference(gym, "all", of_gym))
        figures.append(_difference(gym, "same talk", [line for line in of_gym if line.holds]))
    return Rescored(
        tuple(figures),
        marked=len(scored),
        changed=sum(not line.holds for line in scored),
        earlier=sum(line.end == "earlier" for line in scored),
        failed=sum(line.before is not None and line.after is None for line in lines.values()),
        left_out=sum(line.before is None for line in lines.values()),
    )


def _difference(gym: str, of: Literal["all", "same talk"], lines: Sequence[_Line]) -> Difference:
    """Of episodes that were scored both times."""
    before = [line.before for line in lines if line.before is not None]
    after = [line.after for line in lines if line.after is not None]
    tasks, best = [line.task for line in lines], [line.best for line in lines if line.best is not None]
    within = score_bounds(gym, max(best)) if best and len(best) == len(lines) else None
    both = paired_interval(after, before, tasks, within=within if any(line.could_change for line in lines) else None)
    return Difference(
        gym, of, len(lines), mean_interval(before, tasks, within=within), mean_interval(after, tasks, within=within), both
    )
