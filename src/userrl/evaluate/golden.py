"""Replay of golden cases: recorded numbers of the original that our rules must reproduce under `compat="userrl"`.

A file is read by what it holds: episodes of a gym (`.jsonl`, a header line and an episode a line), turn credits,
advantages, or cases of tau (see `golden_tau`). An episode's actions are played through `rollout.advance` against a cast
that answers with the recorded verdicts, and each step's reward, `terminated` and `truncated` are compared. An episode in
which the original scored a failed user or judge is not compared; there the failure must end ours as an error.

To add a gym, add an `Adapter` to `ADAPTERS`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, Field, StrictInt, ValidationError

from userrl.core import INVALID, Action, Cast, Episode, Query, Task
from userrl.errors import ConfigError, DataError, EndpointError, ReplyError, SeatError, UnknownName
from userrl.evaluate import golden_tau
from userrl.gyms.base import FINISH, Gym, known, make
from userrl.gyms.travel import open_preferences, volunteered
from userrl.gyms.travel.hidden import ASPECTS
from userrl.llm.replies import parse_reply
from userrl.rewards import CREDITS, SCORES, advantages
from userrl.rollout import advance

Row = Mapping[str, Any]
R = TypeVar("R")

MAX_TURNS = 20
"""Turn limit of a golden episode whose config has none."""
REWARD_TOLERANCE = CREDIT_TOLERANCE = 1e-6
ADVANTAGE_TOLERANCE = (1e-4, 1e-6)
"""Relative, absolute: golden advantages are float32."""

NOT_CARRIED = {"step_penalty", "normalize_rewards", "reward_scale", "eval_method", "wrong_choice_penalty"}
"""Settings of the original that no gym of ours has."""

FAULTS = {
    "judge_parse",
    "judge_failure_scores_zero",
    "user_failure_still_rewarded",
    "unknown_stance_accepted",
    "no_range_check",
    "bad_indices_ignored",
    "string_false_is_truthy",
    "json_bool_verdict_is_backend_error",
    "active_counter_bumped_without_elicitation",
    "async_passive_elicitation_broken",
    "elicited_preference_again_is_judge_error",
    "reward_scale_ignored",
}
"""Quirks of the original that score a failure. Ours never does."""


@dataclass(frozen=True)
class FileResult:
    """What became of a file's cases: each passed, failed, or was not compared."""

    name: str
    compared: int
    """Cases that passed or failed. A file that cannot be read at all counts as one case that failed."""
    not_compared: int
    """Cases with settings that no gym of ours has, and cases that score a failure."""
    failed: int
    messages: tuple[str, ...] = ()
    """One for each failed case, or one for the file."""

    @property
    def passed(self) -> int:
        return self.compared - self.failed


def check(paths: Sequence[Path], *, data: Path | None = None, allow_missing: bool = False) -> list[FileResult]:
    """Replay golden files.

    Args:
        paths: files; a folder stands for the `.json` and `.jsonl` files directly in it.
        data: tau-bench's data, which the tau files need. Default: `data/tau_bench` beside the golden folder.
        allow_missing: tau files without that data are not compared, instead of failed.

    Returns:
        One result per file. A file that cannot be read, is of no known kind, or belongs to a gym that cannot be
        replayed has failed; none is passed over.
    """
    return [_file(file, data, allow_missing) for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(f for f in path.iterdir() if f.suffix in (".json", ".jsonl") and f.is_file()) or [path]


def _file(path: Path, data: Path | None, allow_missing: bool) -> FileResult:
    try:
        text = path.read_text("utf-8")
        rows = [json.loads(line) for line in text.split("\n") if line.strip()] if path.suffix == ".jsonl" else [json.loads(text)]
    except (OSError, ValueError) as error:
        return _broken(path, f"cannot be read ({error}); expected a golden .json or .jsonl file, or a folder of them")
    if not rows or not all(isinstance(row, dict) for row in rows):
        return _broken(path, "holds no JSON objects; expected a golden file")
    head, cases = rows[0], rows[0].get("cases") or [{}]
    if "gym" in head:
        return _episodes(path, head["gym"], rows[1:])
    if "domain" in head:
        return _tau(path, head, data, allow_missing)
    if "out" in cases[0]:
        return _result(path, [_credits(number, case) for number, case in enumerate(cases)])
    if "response_mask" in cases[0]:
        return _result(path, [_advantages(number, case) for number, case in enumerate(cases)])
    return _broken(path, "is of no known kind; expected episodes of a gym, turn credits, or advantages")


@dataclass(frozen=True)
class _Outcome:
    """A case: compared or not, and what was wrong with it, if anything."""

    compared: bool = True
    problem: str = ""


def _result(path: Path, outcomes: Sequence[_Outcome]) -> FileResult:
    problems = tuple(o.problem for o in outcomes if o.problem)
    compared = sum(o.compared or bool(o.problem) for o in outcomes)
    return FileResult(path.name, compared, len(outcomes) - compared, len(problems), problems)


def _broken(path: Path, problem: str, cases: int = 1) -> FileResult:
    return FileResult(path.name, cases, 0, cases, (f"{path} {problem}.",))


# --- credits and advantages ----------------------------------------------------------------------------------

_NAMES = {"Equalized": "equalized", "R2G": "r2g", "EM": "em", "Sum": "mean"}
"""The original's names -> ours. What it calls a sum is a mean."""


def _credits(number: int, case: Row) -> _Outcome:
    rewards = case["rewards"]
    for out in case["out"]:
        for name, expected in out.items():
            what, _, scheme = name.partition("_")
            if not scheme:
                continue
            rule: Callable[..., Any] = (CREDITS if what == "turn" else SCORES)[_NAMES[scheme]]
            got = np.asarray(rule(rewards, gamma=out["gamma"], compat="userrl"))
            if got.shape != np.shape(expected) or (np.abs(got - expected) > CREDIT_TOLERANCE).any():
                where = f"case {number}, {name} at gamma {out['gamma']:g} of {rewards!r:.80}"
                return _Outcome(problem=f"{where}: {got.tolist()!r:.80}, expected {expected!r:.80}")
    return _Outcome()


def _advantages(number: int, case: Row) -> _Outcome:
    tokens = [_tokens_per_turn(mask, starts) for mask, starts in zip(case["response_mask"], case["turn_starts"], strict=True)]
    score = _NAMES[case["traj_method"]]
    scores = [float(SCORES[score](r, gamma=case["gamma"], compat="userrl")) for r in case["turn_rewards"]]
    for key, scale in (("adv_norm_std", True), ("adv_no_std", False)):
        got = advantages(
            case["turn_rewards"],
            case["group"],
            tokens,
            credit=_NAMES[case["turn_method"]],
            score=score,
            gamma=case["gamma"],
            scale=scale,
            compat="userrl",
        )
        for i, (ours, theirs) in enumerate(zip(got, case[key], strict=True)):
            group = [s for s, g in zip(scores, case["group"], strict=True) if g == case["group"][i]]
            if not _agree(ours, theirs, equal_scores=len(group) > 1 and np.ptp(group) <= 1e-9):
                where = f"case {number} ({case['kind']}), {key}, episode {i}"
                return _Outcome(problem=f"{where}: {ours.tolist()!r:.100}, expected {theirs!r:.100}")
    return _Outcome()


def _tokens_per_turn(mask: str, starts: Sequence[int]) -> list[int]:
    """Policy tokens of each turn; a row without a turn start is one turn."""
    bounds = [*(starts or [0]), len(mask)]
    return [mask[a:b].count("1") for a, b in pairwise(bounds)]


def _agree(ours: Iterable[float], theirs: Iterable[float | None], *, equal_scores: bool) -> bool:
    """Within the tolerance; for a group of equal scores, where theirs is rounding noise, at most that in size."""
    relative, absolute = ADVANTAGE_TOLERANCE
    for a, b in zip(ours, theirs, strict=True):
        if b is None:
            continue
        if (abs(a) > abs(b) + absolute) if equal_scores else (abs(a - b) > absolute + relative * abs(b)):
            return False
    return True


# --- episodes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """How a query of ours is answered from a recorded verdict."""

    name: str
    """What the golden files call it."""
    fields: Callable[[Row, Query[Any]], Row]
    """(verdict, query) -> the fields of our reply. Raises ReplyError for a verdict that cannot be read."""
    raw: type[BaseModel] | None = None
    """The original's form of the reply, by which a raw reply that it could not read is tried with our parser."""


@dataclass(frozen=True)
class Adapter:
    """How the golden episodes of a gym become ours."""

    hidden: Callable[[Row], Row]
    """The golden task -> our `Task.hidden`."""
    calls: Mapping[str, Call] = field(default_factory=dict)
    """Query name -> call."""
    finish_in_any_case: bool = False
    """Whether raw text "[FINISH]" finishes as "[finish]" does."""
    settings: Row = field(default_factory=dict)
    """The original's defaults where ours differ; an episode's own config goes before them."""
    before: Callable[[Episode, Row], Episode] = lambda episode, result: episode
    """Given what the original made of the step to come, makes sure that ours draws the same at random."""


def _episodes(path: Path, name: str, rows: Sequence[Row]) -> FileResult:
    if name not in ADAPTERS or name not in known():
        lacking = "adapter in userrl.evaluate.golden" if name in known() else "gym"
        problem = f"holds episodes of {name!r}, for which userrl has no {lacking}; nothing could be compared"
        return _broken(path, problem, len(rows))
    for number, row in enumerate(rows, start=2):
        if missing := {"name", "task", "config", "steps"} - set(row):
            return _broken(path, f"line {number} has no field {min(missing)!r}; expected a golden episode", len(rows))

    async def replay_all() -> list[_Outcome]:
        return [await _replay(row, name, ADAPTERS[name]) for row in rows]

    return _result(path, asyncio.run(replay_all()))


async def _replay(row: Row, name: str, adapter: Adapter) -> _Outcome:
    settings = {**adapter.settings, **row["config"]}
    max_turns = settings.pop("max_steps", MAX_TURNS)
    if NOT_CARRIED & set(settings) or settings.get("one_choice_per_aspect") is False:
        return _Outcome(compared=False)
    try:
        gym = make(name, compat="userrl", **settings)
    except (ConfigError, UnknownName) as error:
        return _Outcome(problem=f"{row['name']}: {error}")
    task = Task(str(row["task"].get("id", row["name"])), name, "", adapter.hidden(row["task"]))
    episode = Episode(task, max_turns=max_turns, rules={"compat": "userrl", **settings})
    fault = _first_fault(row)
    for number, step in enumerate(row["steps"]):
        where = f"{row['name']}, step {number} ({step['choice']} {step['content']!r:.40})"
        compare = fault is None or number < fault
        expected = step.get("result_sync", step["result"])
        if episode.stop != "running" or "raises" in expected:
            if compare and "raises" in expected and episode.stop == "running":
                return _Outcome(problem=f"{where}: the original had ended before, ours goes on")
            if compare and "raises" not in expected:
                return _Outcome(problem=f"{where}: ours had ended before ({episode.stop}), the original goes on")
            break
        feed = _Feed(adapter.calls, step.get("judge") or ())
        try:
            episode = adapter.before(episode, expected)
            episode = await advance(episode, read_action(step, adapter), Cast(feed, feed), gym)
        except SeatError as error:
            return _Outcome(problem=f"{where}: {feed.lacks or error}") if compare else _Outcome(compared=False)
        if feed.failed:
            return _Outcome(problem=f"{where}: the recorded {feed.failed} failed, but the turn was scored")
        if compare and (problem := _difference(episode, gym, expected)):
            return _Outcome(problem=f"{where}: {problem}")
    return _Outcome(compared=fault is None)


def _first_fault(row: Row) -> int | None:
    """The step from which on the original scores failures; None when it never does."""
    for number, step in enumerate(row["steps"]):
        if any(not item.get("ok", True) for item in step.get("judge") or ()):
            return number
    return 0 if row.get("quirk") in FAULTS else None


def _difference(episode: Episode, gym: Gym, expected: Row) -> str:
    reward, (terminated, truncated) = episode.turns[-1].reward, gym.ended(episode)
    if abs(reward - expected["reward"]) > REWARD_TOLERANCE:
        return f"reward {reward:g}, expected {expected['reward']:g}"
    if terminated != expected["terminated"]:
        return f"terminated {terminated}, expected {expected['terminated']}"
    if truncated != expected["truncated"]:
        return f"truncated {truncated}, expected {expected['truncated']}"
    return ""


def read_action(step: Row, adapter: Adapter) -> Action:
    """A golden step's action. "raw" is text without a choice, unless it starts with one in brackets."""
    choice, content = step["choice"], step["content"]
    if choice != "raw":
        return Action(choice, content)
    match = re.match(r"\[(\w+)\]\s*", content)
    kind = match[1] if match else ""
    if kind == FINISH or (adapter.finish_in_any_case and kind.lower() == FINISH):
        return Action(FINISH)
    if match and kind in ("action", "answer", "search"):
        return Action(kind, content[match.end() :].strip())
    return Action(INVALID, raw=content, problem="There is no choice before the content.")


class _Feed:
    """User and judge of one step: they answer with its recorded verdicts."""

    def __init__(self, calls: Mapping[str, Call], items: Iterable[Row]) -> None:
        self.calls, self.items = calls, list(items)
        self.lacks = ""
        """The query to which there is no recorded verdict, if one was asked."""
        self.failed = ""
        """The call that failed, if one did."""

    async def answer(self, query: Query[R]) -> R:
        call = self.calls.get(query.name)
        item = next((item for item in self.items if call and item["call"] == call.name), None)
        if call is None or item is None:
            self.lacks = f"our rules ask {query.name!r}, to which the original has no verdict here"
            raise ReplyError(self.lacks)
        self.items.remove(item)
        try:
            if not item.get("ok", True):
                item = {**item, **_read_raw(item, call)}
            return query.reply.model_validate(call.fields(item, query))  # type: ignore[attr-defined,no-any-return]
        except ValidationError as error:
            self.failed = call.name
            raise ReplyError(f"verdict {item!r:.120} does not fit: {error.errors()[0]['msg']}") from error
        except SeatError:
            self.failed = call.name
            raise


def _read_raw(item: Row, call: Call) -> Row:
    """The verdict in a reply that the original could not read, if our parser can."""
    if "fault" in item or call.raw is None:
        raise EndpointError(f"the call failed ({item.get('fault', 'no reply')})")
    return parse_reply(item["raw"], call.raw).model_dump()


# --- one adapter per gym -------------------------------------------------------------------------------------


def _function_hidden(task: Row) -> Row:
    return {"rule": task["rule"], "test_case": task["test_case"], "expected": task["expected_result"]}


class Coverage(BaseModel):
    """The original's reply to the call `coverage`."""

    covered: list[StrictInt] = Field(alias="covered_detail_indices")
    task_related: bool = Field(True, alias="is_task_related")


def _intention_hidden(task: Row) -> Row:
    texts = {"type": "", "description": "", "options": [], "preference": "", "answer": ""}
    return {"domain": "", "details": [{**texts, "importance": importance} for importance in task["importance"]]}


def _addressed(item: Row, query: Query[Any]) -> Row:
    """Recorded indices count the details still missing; ours count all. One out of range stays out of range."""
    if not isinstance(item.get("covered"), list):
        raise ReplyError(f"covered is {item.get('covered')!r:.40}; expected a list of indices")
    details = len(query.facts["details"])
    missing = [i for i in range(details) if i not in query.facts["covered"]]
    indices = [_integer(value) for value in item["covered"]]
    addressed = [missing[i] if 0 <= i < len(missing) else details + abs(i) for i in indices]
    return {"addressed": addressed, "on_task": item.get("task_related", True)}


def _integer(value: Any) -> int:
    """An index, also one written as a string of digits."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ReplyError(f"index is {value!r:.40}; expected a whole number")


class Judgment(BaseModel):
    """The original's reply to the calls `judge` of search and `guess` of telepathy."""

    judgment: str


def _search_same(item: Row, query: Query[Any]) -> Row:
    """The original takes the very word "Yes" for right, and any other for wrong."""
    return {"same": item["judgment"] == "Yes"}


class Stated(BaseModel):
    """The original's reply to the call `reply` of persuade."""

    stance: str


class Response(BaseModel):
    """The original's reply to the call `question`."""

    response: str


class SearchVerdict(BaseModel):
    """The original's reply to the call `search_judge`."""

    aligned: str | bool = Field(alias="alignment_judgement")
    aspect: str = Field("", alias="alignment_aspect")


class TalkVerdict(BaseModel):
    """The original's reply to the call `talk_judge`."""

    type: str | int
    preference_id: str = ""


_TALK = {"2": "asks", "3": "nothing_left", "4": "vague"}
"""The original's type of an utterance -> ours. It takes any other for small talk."""


def _travel_hidden(task: Row) -> Row:
    aspects: dict[str, Any] = {}
    for aspect in task["dimensions"]:
        mine = [letter for letter, name in ASPECTS.items() if name == aspect]
        ids = [{"id": key, "category": "", "text": "", "hints": [""]} for key, of in task["preferences"].items() if of == aspect]
        [best] = [option for option in task["best"] if option[0] in mine]
        correct = [option for option in task["correct"] if option[0] in mine]
        aspects[aspect] = {"arguments": {}, "preferences": ids, "options": [], "best": best, "correct": correct}
    return {"scenario": "", "family": "", "aspects": aspects}


def _travel_match(item: Row, query: Query[Any]) -> Row:
    named = str(item.get("aspect", "")).strip().lower()
    aspect = {"rental car": "rental_car", "car rental": "rental_car"}.get(named, named)
    known = aspect if aspect in ASPECTS.values() else None
    return {"matches": str(item["aligned"]).lower() == "true", "aspect": known}


def _travel_talk(item: Row, query: Query[Any]) -> Row:
    kind = _TALK.get(str(item["type"]).strip(), "other")
    return {"kind": kind, "preference": str(item.get("preference_id", "")).strip() if kind == "asks" else ""}


def _travel_before(episode: Episode, result: Row) -> Episode:
    """With a seed by which the user volunteers the preference that was told in the original, if one may be volunteered."""
    told = result.get("newly_elicited") or [""]
    names = [p["id"] for p in open_preferences(episode)]
    while told[0] in names and volunteered(episode)["id"] != told[0]:
        episode = replace(episode, seed=episode.seed + 1)
    return episode


def _turtle_hidden(task: Row) -> Row:
    return {"story": "", "rubric": [{"line": f"line {i}", "weight": w} for i, w in enumerate(task["weights"])]}


ADAPTERS: dict[str, Adapter] = {
    "function": Adapter(_function_hidden),
    "intention": Adapter(
        _intention_hidden,
        {
            "intention.answer": Call("user_reply", lambda item, query: {"words": "(not recorded)"}),
            "intention.addressed": Call("coverage", _addressed, Coverage),
        },
        finish_in_any_case=True,
    ),
    "persuade": Adapter(
        lambda task: {"claim": task["id"], "reasons": []},
        {"persuade.both": Call("reply", lambda item, query: {"words": "(not recorded)", "stance": item["stance"]}, Stated)},
    ),
    "search": Adapter(lambda task: {"answer": task["answer"]}, {"search.same": Call("judge", _search_same, Judgment)}),
    "telepathy": Adapter(
        lambda task: {"title": task["title"], "category": task["category"]},
        {
            "telepathy.question": Call("question", lambda item, query: {"word": item["response"]}, Response),
            "telepathy.guess": Call("guess", _search_same, Judgment),
        },
    ),
    "travel": Adapter(
        _travel_hidden,
        {
            "travel.search": Call("search_judge", _travel_match, SearchVerdict),
            "travel.talk": Call("talk_judge", _travel_talk, TalkVerdict),
            "travel.reveal": Call("user_reply", lambda item, query: {"words": "(not recorded)"}),
            "travel.chat": Call("user_reply", lambda item, query: {"words": "(not recorded)"}),
        },
        finish_in_any_case=True,
        before=_travel_before,
    ),
    "turtle": Adapter(
        _turtle_hidden,
        {
            "turtle.question": Call("question", lambda item, query: {"word": item["response"]}, Response),
            "turtle.grade": Call("score", lambda item, query: {"grades": item["scores"]}),
        },
        settings={"success_threshold": 0.9},
    ),
}


# --- tau -----------------------------------------------------------------------------------------------------


def _tau(path: Path, file: Row, data: Path | None, allow_missing: bool) -> FileResult:
    folder = data or path.resolve().parent.parent.parent / "data" / "tau_bench"
    count = len(file.get("tasks") or file.get("cases") or [{}])
    if not folder.is_dir():
        lacking = f"needs tau-bench's data, but {folder} is no folder"
        if allow_missing:
            return FileResult(path.name, 0, count, 0, (f"{path} {lacking}; not compared.",))
        return _broken(path, f"{lacking}; name it with --data, or leave it out with --allow-missing", count)
    try:
        return _result(path, [_Outcome(problem=problem) for problem in golden_tau.check(file, folder)])
    except DataError as error:
        return _broken(path, f"cannot be compared: {error}", count)
    except (LookupError, TypeError) as error:
        return _broken(path, f"is not as expected ({type(error).__name__}: {error}); expected golden cases of tau", count)
