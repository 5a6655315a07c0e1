"""What a gym is, and how it is found by name."""

from __future__ import annotations

import importlib
import json
import math
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from userrl.core import INVALID, Action, Agent, Cast, Episode, Query, Task, Turn
from userrl.data import TaskSet, imported_sets
from userrl.data.sets import OFFICIAL
from userrl.errors import ConfigError, GymError, UnknownName, UserRLError, crash

if TYPE_CHECKING:
    from userrl.data.hidden import HiddenModel

FINISH = "finish"
TRAITS = ("plain", "terse", "hesitant")
"""How scripted users talk: plainly, in as few words as possible, or unsure once before answering."""


class Gym(ABC):
    """The rules of one game. Stateless: what has happened is in the episode.

    A gym is a package: `__init__.py` with one subclass, `prompts/*.md`, `tasks/`, `scripted.py`, `README.md`
    (data sheet). Built-in gyms are found by folder, others by an entry point in the group `userrl.gyms`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for people: what the agent has to do."""
    actions: ClassVar[Mapping[str, str]]
    """Choice -> one line that tells the agent what it does. Built-in gyms call theirs action, answer and search; a gym
    with other names says what they are in `asks`, `answers` and `voices`."""
    asks: ClassVar[tuple[str, ...]] = ("action",)
    """Choices that say something to the user, who replies: questions, in the figures of what an episode asks of its user."""
    answers: ClassVar[tuple[str, ...]] = ("answer",)
    """Choices that hand something in which a person would have to judge: turns that need a person, though no questions."""
    labels: ClassVar[tuple[str, ...]] = ()
    """The labels that turns of this gym carry, in the order in which reports show them."""
    voices: ClassVar[Mapping[str, str]] = {}
    """Choice -> who answers it on screens for people, where that is not the user (tau: tools answer a call). One that is
    in neither `asks` nor `answers` needs nobody."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """The gym's own knobs and their defaults; `make(name, knob=value)` changes them."""
    secrets: ClassVar[tuple[str, ...]] = ()
    """Top-level fields of `Task.hidden` (a text or a list of texts) that no feedback may name unless its turn `reveals`
    them; `check_gym` looks for them as whole words, however short. Longer hidden texts it looks for in any case."""
    hidden_model: ClassVar[type[HiddenModel] | None] = None
    """What `Task.hidden` must hold. Task files are checked against it by `userrl data check` and `data record`, and imported
    ones whenever they are loaded."""
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Bounds of one turn's reward, checked by `check_gym`."""

    def __init__(self, *, compat: str | None = None, show_reward: bool = False, **settings: Any) -> None:
        if compat not in (None, "userrl"):
            raise ConfigError(f"Gym {self.name!r} has no compat mode {compat!r}; the only one is 'userrl'.")
        for key in settings:
            if key not in self.settings:
                raise UnknownName(f"setting of gym {self.name!r}", key, self.settings)
        self.compat = compat == "userrl"
        """Reproduce the original's rule quirks (never its handling of failures)."""
        self.show_reward = show_reward
        """Tell the agent its reward, as the original's training does. Off: the signal is absent in real use."""
        self.config: Mapping[str, Any] = {**self.settings, **settings}

    # --- what a gym must say -------------------------------------------------------------------------------

    @abstractmethod
    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        """Answer one valid action. May ask the cast; changes nothing else.

        Called by `rollout.advance` only with an action whose kind the gym offers.
        """

    # --- what a gym may say --------------------------------------------------------------------------------

    def read(self, action: Action) -> Action:
        """A chance to read an action leniently (compat). Default: as it is."""
        return action

    def reachable(self, task: Task, max_turns: int) -> float:
        """The largest total reward an episode of this task can earn."""
        return 1.0

    def score(self, episode: Episode) -> float:
        """What an episode is worth in reports. Default: the sum of its rewards."""
        return math.fsum(episode.rewards)  # exact, so that equal rewards in another order are no difference

    def best_score(self, task: Task, max_turns: int) -> float:
        """The largest score an episode of this task can have; reports give scores as shares of it."""
        return self.reachable(task, max_turns)

    def subsets(self, task: Task) -> tuple[str, ...]:
        """Names of parts of the task sets that this task belongs to, and that reports score apart, too. Default: none."""
        return ()

    @classmethod
    def matter(cls, task: Task) -> Mapping[Literal["prompt", "errand", "hidden"], Any]:
        """What makes two tasks the same: one that equals a held-out task in any of these, or nearly does, is not trained on.

        Default: the prompt, and all that is hidden. A prompt that only opens a talk, whatever it is about, is left out.
        """
        return {"prompt": task.prompt, "hidden": task.hidden}

    def idle(self, task: Task) -> float | None:
        """The score of an agent that does nothing but end the episode, which reports then show. None: not worth telling."""
        return None

    def solved(self, episode: Episode) -> bool:
        """Whether the episode reached its goal, for pass@k and success rates. Default: the rules ended it."""
        return episode.stop == "done"

    def ended(self, episode: Episode) -> tuple[bool, bool]:
        """(terminated, truncated). Never both, except under compat, where the original reports both."""
        if self.compat and episode.turns:
            return episode.turns[-1].done, len(episode.turns) >= episode.max_turns
        return episode.stop == "done", episode.stop in ("turn_limit", "window")

    # --- what every gym has --------------------------------------------------------------------------------

    def offers(self, kind: str) -> bool:
        return kind in self.actions or (kind == FINISH and self.compat)

    def refuse(self, action: Action) -> Turn:
        """The turn of an action that is no valid call or not offered here: reward 0, and what was expected."""
        problem = action.problem or f"The choice {action.kind[:40]!r} is not offered here."
        choices = "; ".join(f'"{kind}" to {what}' for kind, what in self.actions.items())
        return Turn(
            action,
            feedback=f"Nothing was done. {problem} Call interact_with_env with a choice ({choices}) and a content.",
            label=INVALID,
        )

    def system(self, task: Task) -> str:
        """The system message: what the game is and how to act. Same for every task of a gym by default."""
        return self.template("system").rstrip()

    def query(self, episode: Episode, name: str, reply: type[Any], *, untrusted: Iterable[str] = (), **facts: Any) -> Query[Any]:
        """A query from the template `prompts/<name>.md`, named `<gym>.<name>`."""
        return Query(f"{self.name}.{name}", reply, self.template(name), facts, frozenset(untrusted), episode.place)

    def template(self, name: str) -> str:
        """The text of `prompts/<name>.md`."""
        return _template(type(self).__module__, name)

    @classmethod
    def room(cls) -> Traversable:
        """The gym's own folder."""
        return resources.files(cls.__module__)

    @classmethod
    def built_in_sets(cls) -> Mapping[str, TaskSet]:
        """Split name -> task set, from the folder's `tasks/manifest.json`."""
        return sets_in_room(cls)

    @classmethod
    def sets(cls) -> Mapping[str, TaskSet]:
        """Split name -> task set: the built-in ones, then those imported into the data home (`userrl data import`)."""
        return {**cls.built_in_sets(), **imported_sets(cls.name, cls.__module__, cls.hidden_model)}

    @classmethod
    def tasks(cls, split: str = "test") -> Sequence[Task]:
        """The tasks of a split, checked against their recorded hash.

        Raises UnknownName for a split the gym does not have, DataError for a file that does not fit.
        """
        sets = cls.sets() if split.startswith(OFFICIAL) else cls.built_in_sets()
        if split not in sets:
            raise UnknownName(f"split of gym {cls.name!r}", split, sets)
        return sets[split].load()

    @classmethod
    def task(cls, task_id: str) -> Task:
        """The task of that id, from whichever split holds it. Imported sets are looked at last."""
        ids: list[str] = []
        seen: set[str] = set()
        for sets in (cls.built_in_sets, cls.sets):
            for split, task_set in sets().items():
                if split in seen:
                    continue
                seen.add(split)
                if task := task_set.find(task_id):
                    return task
                ids += task_set.ids()
        raise UnknownName(f"task of gym {cls.name!r}", task_id, ids)

    # --- the scripted side (module `scripted` of the gym's package) ------------------------------------------

    @classmethod
    def cast(cls, trait: str = "plain") -> Cast:
        """The gym's scripted user and judge: deterministic, offline, answering from the facts alone."""
        if trait not in TRAITS:
            raise UnknownName("scripted user trait", trait, TRAITS)
        cast: Cast = cls._scripted().cast(trait)
        return cast

    @classmethod
    def expert(cls, skill: float = 1.0) -> Agent:
        """A scripted agent; skill 1 is near-optimal, 0 hardly better than chance."""
        if not 0.0 <= skill <= 1.0:
            raise ConfigError(f"Expert skill is {skill}; expected a number from 0 to 1.")
        agent: Agent = cls._scripted().expert(skill)
        return agent

    @classmethod
    def baselines(cls, tasks: Sequence[Task] = ()) -> Mapping[str, Agent]:
        """Name -> agent without skill. Every learning claim is drawn beside these. "random" is always there.

        Args:
            tasks: training tasks that a baseline may fit itself to (the best fixed list), so that it is as strong
                as it can be without reading the task at hand.
        """
        baselines: Mapping[str, Agent] = cls._scripted().baselines(tasks)
        return baselines

    @classmethod
    def _scripted(cls) -> Any:
        return importlib.import_module(f"{cls.__module__}.scripted")


def held(texts: Iterable[str], feedback: str) -> tuple[str, ...]:
    """Of hidden texts, those that a feedback holds, whatever case and spacing: what its turn `reveals`."""
    within = " ".join(feedback.casefold().split())
    return tuple(text for text in texts if " ".join(text.casefold().split()) in within)


def repeats(text: str, earlier: Iterable[str]) -> bool:
    """Whether a text has the same words as one of the earlier ones, whatever their case and what stands between them."""
    words = _words(text)

    def same(other: str) -> bool:
        if len(other) > GLANCE:
            start = _words(other[:GLANCE])[:-1]  # the last word may be cut
            if start != words[: len(start)]:
                return False
        return _words(other) == words

    return any(map(same, earlier))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


_WORD = re.compile(r"[^\W_]+")
GLANCE = 1000
"""Characters by which most texts are told apart, so that long ones need not be read to their end."""


@cache
def sets_in_room(gym: type[Gym]) -> Mapping[str, TaskSet]:
    """The built-in task sets of a gym. Its manifest is read once in a process; who writes one clears this cache."""
    return TaskSet.read_manifest(gym.name, gym.room() / "tasks", gym.__module__, gym.hidden_model)


@cache
def _template(module: str, name: str) -> str:
    return (resources.files(module) / "prompts" / f"{name}.md").read_text("utf-8")


@cache
def known() -> dict[str, str]:
    """Gym name -> where its class is, "module" or "module:Class". Built-in by folder, others by entry point."""
    import userrl.gyms

    found = {m.name: f"userrl.gyms.{m.name}" for m in pkgutil.iter_modules(userrl.gyms.__path__) if m.ispkg}
    for point in metadata.entry_points(group="userrl.gyms"):
        found.setdefault(point.name, point.value)
    return found


@cache
def find(name: str) -> type[Gym]:
    """The class of the gym of that name. Raises UnknownName, and GymError where its package cannot be loaded."""
    if name not in known():
        raise UnknownName("gym", name, known(), "`userrl gyms` lists them.")
    module_name, _, class_name = known()[name].partition(":")
    try:
        module = importlib.import_module(module_name)
        if class_name:
            gym: type[Gym] = getattr(module, class_name)
            return gym
    except UserRLError:
        raise
    except Exception as error:
        raise GymError(f"Gym {name!r} cannot be loaded: {crash(error, module_name)}") from error
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Gym) and c.__module__ == module_name]
    if len(classes) != 1:
        raise ConfigError(
            f"{module_name} defines {len(classes)} Gym subclasses; expected one. "
            f"Name it in the entry point: '{module_name}:Class'."
        )
    return classes[0]


def crashed_gym(error: BaseException) -> GymError | None:
    """The error of the gym of another package in whose code an exception arose; None where there is no such gym."""
    for name, place in known().items():
        module = place.partition(":")[0]
        if not module.startswith("userrl.") and (told := crash(error, module)) != crash(error, ""):
            return GymError(f"Gym {name!r} crashed with {told}. Mend it; `userrl check gyms {name}` looks for more.")
    return None


def gym_of(episode: Episode) -> Gym:
    """The gym that an episode is played in, with its rules. Gyms are stateless, so one object serves all."""
    return _made(episode.task.gym, json.dumps(dict(episode.rules), sort_keys=True) if episode.rules else "{}")


@cache
def _made(name: str, rules: str) -> Gym:
    return make(name, **json.loads(rules))


def rules_for(rules: Mapping[str, Any], gym: str) -> dict[str, Any]:
    """A gym's part of a job's rules: the settings for all gyms, then those in the table of the gym's name, which win.

    Raises UnknownName for a table that is neither a gym's nor a setting of this gym.

    >>> rules_for({"compat": "userrl", "travel": {"rewards": "evaluation"}}, "travel")
    {'compat': 'userrl', 'rewards': 'evaluation'}
    """
    tables = {name for name, value in rules.items() if isinstance(value, Mapping) and name not in find(gym).settings}
    if unknown := sorted(tables - known().keys()):
        raise UnknownName("gym in the table [rules]", unknown[0], known())
    own = rules[gym] if gym in tables else {}
    return {**{name: value for name, value in rules.items() if name not in tables}, **own}


def make(name: str, **settings: Any) -> Gym:
    """The gym of that name, with settings: `compat="userrl"`, `show_reward=True`, or the gym's own knobs."""
    return find(name)(**settings)
