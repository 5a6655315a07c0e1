"""Monitors: each is silent on a healthy run, sees its own trouble, and sees it in real training or play."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest

from userrl.agents.policy import Policy, PolicyAgent
from userrl.agents.tiny import Shape, new_policy
from userrl.config import resolve
from userrl.core import Action, Agent, Cast, Episode, Task, Turn
from userrl.errors import ConfigError, RunStopped
from userrl.gyms.base import Gym, find, known
from userrl.pipeline.jobs import RLJob, figures, reinforce
from userrl.rollout import run, starts
from userrl.scripted import Acting, Scripted
from userrl.train import sft
from userrl.train.grpo import GRPOConfig, Step, train
from userrl.train.monitors import KINDS, MONITORS, Alarm, Line, MonitorConfig, Reaction, alarms, best
from userrl.train.validation import results

CONFIG = MonitorConfig()
STEPS = 40


def healthy() -> list[dict[str, Any]]:
    """A run like the demo's: share up from .70 to .88, entropy down to a third, 10% more relevant questions."""
    lines: list[dict[str, Any]] = [{"step": 0, "validation": validation(0.72)}]
    for step in range(1, STEPS + 1):
        far, wave = step / STEPS, 0.03 * (-1) ** step
        mix = {"relevant": 0.6 + 0.1 * far - wave, "multi_part": 0.01, "irrelevant": 0.29 - 0.08 * far + wave, "repeated": 0.1}
        line: dict[str, Any] = {"step": step, "reward": 3.0, "share": 0.7 + 0.18 * far + wave, "mix": mix, "errors": 0}
        line |= {"groups": 16, "skipped_groups": round(4 * far), "loss": 0.01 + wave, "entropy": 0.35 - 0.24 * far}
        line |= {"clipped": 0.002, "grad_norm": 0.3, "cut": 0.0, "invalid": 0.01, "kl": 0.02, "max_turns": 6}
        if step % 10 == 0:
            line["validation"] = validation(0.72 + 0.12 * far)
        lines.append(line)
    return lines


def validation(share: float) -> dict[str, Any]:
    return {"share": {"mean": share, "low": share - 0.03, "high": share + 0.03}, "invalid": 0.0}


def changed(since: int = 21, **fields: Any) -> list[dict[str, Any]]:
    """The healthy run with other figures from some step on; a mix is added to the one that is there."""
    lines = healthy()
    for line in lines[since:]:
        mix = {**line["mix"], **fields.get("mix", {})}
        line |= {**fields, "mix": mix}
    return lines


def fallen(share: float = 0.65) -> list[dict[str, Any]]:
    """The healthy run with other validations in the second half."""
    lines = healthy()
    for line in lines[21:]:
        if "validation" in line:
            line["validation"] = validation(share)
    return lines


def whole(lines: list[dict[str, Any]], config: MonitorConfig = CONFIG) -> list[Alarm]:
    """The alarms of a run, line by line."""
    return [alarm for end in range(1, len(lines) + 1) for alarm in alarms(lines[:end], config)]


def test_a_healthy_run_raises_no_alarm() -> None:
    assert whole(healthy()) == []


TROUBLES: Mapping[str, tuple[list[dict[str, Any]], int, str]] = {
    "nonfinite": (
        [*healthy()[:21], {**healthy()[21], "loss": float("nan")}, *healthy()[22:]],
        21,
        "The loss is nan at step 21. Go on from the newest checkpoint with the same command, --resume and a lower --lr",
    ),
    "overfit": (
        fallen(),
        30,
        r"Validation fell to 0\.650 \[0\.620, 0\.680\] at step 30 from 0\.780 at step 20, while training",
    ),
    "entropy": (changed(entropy=0.01), 25, r"entropy of the policy's tokens collapsed to 0\.01 nats \(mean of 5 steps\), 3% of"),
    "zero_variance": (changed(skipped_groups=15), 24, r"In 78% of the groups of the last 5 steps all episodes earned the same"),
    "invalid": (changed(invalid=0.3), 24, "24% of the turns of the last 5 steps were no valid call"),
    "full_window": (changed(full_window=0.2), 25, "20% of the episodes of the last 5 steps filled the policy's window"),
    "repeated": (changed(mix={"repeated": 0.3}), 24, r"Repeated questions are 26% of the turns .* up from 10%"),
    "irrelevant": (changed(mix={"irrelevant": 0.55}), 23, "Questions that ask for nothing to the point are"),
    "multi_part": (changed(mix={"multi_part": 0.2}), 24, "Questions that ask several things at once are 16%"),
    "blind_guess": (changed(mix={"wrong_guess": 0.2}), 24, "Wrong answers and guesses are 16% of the turns"),
}


def test_every_monitor_has_its_trouble_here_and_its_setting() -> None:
    assert set(TROUBLES) == set(MONITORS)
    assert {getattr(CONFIG, name) for name in MONITORS} <= set(get_args(Reaction))


@pytest.mark.parametrize("name", MONITORS)
def test_a_monitor_sees_its_own_trouble_once_at_the_step_where_it_begins(name: str) -> None:
    lines, step, text = TROUBLES[name]
    [alarm] = whole(lines)
    assert (alarm.monitor, alarm.step, alarm.reaction) == (name, step, "stop" if name == "nonfinite" else "warn")
    assert re.search(text, alarm.text), alarm.text


@pytest.mark.parametrize("name", MONITORS)
def test_a_monitor_that_is_off_sees_nothing(name: str) -> None:
    assert whole(TROUBLES[name][0], replace(CONFIG, **{name: "off"})) == []


@pytest.mark.parametrize(
    ("name", "loose"),
    [
        ("overfit", {"overfit_fall": 0.2}),
        ("overfit", {"overfit_rise": 0.3}),
        ("entropy", {"entropy_left": 0.01}),
        ("zero_variance", {"zero_variance_most": 0.95}),
        ("invalid", {"invalid_most": 0.35}),
        ("full_window", {"full_window_most": 0.3}),
        ("repeated", {"mix_rise": 0.25}),
    ],
)
def test_a_threshold_can_be_set(name: str, loose: dict[str, float]) -> None:
    assert whole(TROUBLES[name][0]) != [] and whole(TROUBLES[name][0], replace(CONFIG, **loose)) == []


def test_a_fall_of_validation_within_its_interval_is_chance() -> None:
    assert whole(fallen(0.72)) != []
    lines = fallen(0.72)
    for line in lines[21:]:
        if "validation" in line:
            line["validation"]["share"]["high"] = 0.80
    assert whole(lines) == []


def test_validation_that_falls_together_with_training_is_no_overfitting() -> None:
    lines = fallen()
    for line in lines[21:]:
        line["share"] = 0.6
    assert whole(lines) == []


def test_each_step_without_finite_numbers_is_told_of_and_what_became_of_it() -> None:
    lines: list[Line] = [
        {"step": 1, "loss": float("nan"), "grad_norm": float("nan"), "undone": True},
        {"step": 2, "loss": 0.1, "grad_norm": float("inf"), "undone": True},
        {"step": 3, "loss": 0.1, "grad_norm": 0.2, "undone": True},
        {"step": 4, "loss": 0.1, "grad_norm": 0.2, "undone": False},
    ]
    undone = "Its updates were undone. Go on from before it with the same command, --resume and a lower --lr."
    assert [alarm.text for alarm in whole(lines)] == [  # type: ignore[arg-type]
        f"The loss is nan at step 1. {undone}",
        f"The gradient is inf at step 2. {undone}",
        f"After the updates the policy's probabilities are no numbers at step 3. {undone}",
    ]


def test_of_equal_validations_the_earliest_is_the_best() -> None:
    lines = [{"step": step, "validation": validation(share)} for step, share in ((0, 0.3), (5, 0.6), (10, 0.6), (15, 0.5))]
    assert best([*lines[:1], {"step": 1}, *lines[1:]]) == lines[1] and best(lines[:1]) == lines[0]
    assert best([{"step": 1}]) is None


def test_an_alarm_that_comes_back_after_a_clear_window_is_raised_again() -> None:
    lines = changed(since=11, invalid=0.5)
    for line in lines[16:26]:
        line["invalid"] = 0.0
    assert [(a.monitor, a.step) for a in whole(lines)] == [("invalid", 12), ("invalid", 28)]
    for line in lines[16:26]:
        line["invalid"] = 0.5
    lines[18]["invalid"] = 0.0  # hardly a pause
    assert [(a.monitor, a.step) for a in whole(lines)] == [("invalid", 12)]


def test_steps_without_an_update_have_no_entropy_to_collapse() -> None:
    lines = changed(skipped_groups=16, entropy=0.0, loss=0.0, grad_norm=0.0)
    assert [a.monitor for a in whole(lines)] == ["zero_variance"]


def test_an_action_mix_is_compared_at_the_same_turn_limit_only() -> None:
    """Longer episodes have other mixes: a curriculum is no shift."""
    assert whole(changed(max_turns=12, mix={"repeated": 0.4})) == []


def test_a_log_that_lacks_figures_raises_nothing() -> None:
    assert whole([{"step": step, "loss": 1.0 / step} for step in range(1, 30)]) == []
    assert [a.monitor for a in whole([{"step": 1, "loss": 1.0}, {"step": 2, "loss": float("inf")}])] == ["nonfinite"]


def test_every_label_of_a_wasted_action_is_one_of_a_gym() -> None:
    labels = {label for gym in known() for label in find(gym).labels}
    assert {label for kind in KINDS.values() for label in kind} <= labels


def test_monitors_are_set_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rl.toml"
    file.write_text('[monitors]\nentropy = "stop"\nentropy_left = 0.3\nrepeated = "off"\nwindow = 8\n', "utf-8")
    set_to = resolve(RLJob, file, {"model": "x"}).monitors
    assert set_to == MonitorConfig(window=8, entropy="stop", entropy_left=0.3, repeated="off")
    file.write_text('[monitors]\nentropy = "halt"\n', "utf-8")
    with pytest.raises(ConfigError, match=r"monitors\.entropy is 'halt'"):
        resolve(RLJob, file, {"model": "x"})


# --- in real play ------------------------------------------------------------------------------------------------


def rollouts(gym: str, agents: list[Agent]) -> list[Line]:
    """A step's line for each agent, which plays its episodes."""
    tasks, lines = find(gym).tasks("train"), []
    for number, agent in enumerate(agents, start=1):
        played = run(starts(tasks[4 * number : 4 * number + 4], attempts=2, max_turns=6), agent, find(gym).cast())
        step = Step(number, played, 0, 4, 0.0, 1.0, 0.0, 0.1, 0.0, None, 1e-4, 6)
        lines.append(figures(step))
    return lines


@pytest.mark.parametrize(
    ("kind", "gym", "bad"),
    [
        ("repeated", "intention", "repeat_one"),
        ("multi_part", "intention", "all_at_once"),
        ("irrelevant", "intention", "random_question"),
        ("repeated", "telepathy", "repeat_question"),
        ("blind_guess", "telepathy", "blind_answer"),
        ("blind_guess", "function", "blind_answer"),
        ("blind_guess", "turtle", "word_salad"),
    ],
)
def test_a_policy_that_turns_to_wasted_actions_is_noticed(kind: str, gym: str, bad: str) -> None:
    good: list[Agent] = [find(gym).expert(1.0)] * 4
    config = MonitorConfig(window=2)
    assert whole(list(map(dict, rollouts(gym, good))), config) == []
    lines = list(map(dict, rollouts(gym, [*good, *[find(gym).baselines(find(gym).tasks("train")[:50])[bad]] * 4])))
    assert kind in {alarm.monitor for alarm in whole(lines, config)}


# --- in real training --------------------------------------------------------------------------------------------


@pytest.fixture
def train_run(policy: Policy, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Trains the tiny policy and returns the alarms on record."""
    policy.save(tmp_path / "start")

    def train_run(monitors: MonitorConfig, *, resume: bool = False, **fields: Any) -> list[dict[str, Any]]:
        small = {"steps": 5, "groups": 4, "group_size": 4, "updates": 1, "max_turns": 3, "max_new": 16, "save_every": 1}
        job = RLJob(model=str(tmp_path / "start"), monitors=monitors, grpo=GRPOConfig(**{**small, **fields}))
        asyncio.run(reinforce(job, tmp_path / "run", resume=resume, on_alarm=lambda alarm: None))
        return recorded(tmp_path / "run")

    return train_run


def recorded(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "alarms.jsonl").read_text("utf-8").splitlines()]


def steps_of(file: Path) -> list[int]:
    return [json.loads(line)["step"] for line in file.read_text("utf-8").splitlines()]


QUIET = MonitorConfig(2, **dict.fromkeys(MONITORS, "off"))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Nothing was learned")
def test_an_absurd_learning_rate_is_seen_as_invalid_calls_and_stops_after_a_checkpoint_from_which_it_goes_on(
    train_run: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    config, settings = replace(QUIET, invalid="stop", invalid_most=0.6), {"lr": 0.5, "warmup": 0, "steps": 7}
    with pytest.raises(RunStopped, match=r"The monitor 'invalid' stopped the run\. \d+% of the turns of the last 2 steps"):
        train_run(config, **settings)
    [alarm] = recorded(tmp_path / "run")
    at = alarm["step"]
    assert (alarm["monitor"], alarm["reaction"]) == ("invalid", "stop") and 2 <= at < 7
    assert (tmp_path / "run" / "checkpoints" / f"step-{at:06d}").is_dir()
    assert steps_of(tmp_path / "run" / "train.jsonl") == list(range(1, at + 1))
    assert train_run(config, resume=True, **settings) == [alarm]
    assert steps_of(tmp_path / "run" / "train.jsonl") == [1, 2, 3, 4, 5, 6, 7]
    assert not (tmp_path / "run" / "train.jsonl.redone").exists()


def test_a_policy_that_does_the_same_each_time_is_seen_as_groups_without_variance(
    train_run: Callable[..., list[dict[str, Any]]],
) -> None:
    with pytest.warns(UserWarning, match="Nothing was learned"):
        [alarm] = train_run(replace(QUIET, zero_variance="warn"), temperature=1e-4, steps=3)
    assert (alarm["monitor"], alarm["step"], alarm["value"]) == ("zero_variance", 2, 1.0)


class Say(Gym):
    """Say a word; training tasks pay for one word, validation tasks for another, and nobody tells which."""

    name = "say"
    summary = "say a word"
    actions: ClassVar[Mapping[str, str]] = {"action": "say it"}
    labels = ("said",)

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        return Turn(action, "Go on.", reward=float(action.text == episode.task.hidden["word"]), label="said")

    def template(self, name: str) -> str:
        return "Say a word."

    def reachable(self, task: Task, max_turns: int) -> float:
        return float(max_turns)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cast]:
    monkeypatch.setitem(known(), "say", f"{__name__}:Say")
    yield Cast(Scripted({}), Scripted({}))
    find.cache_clear()


def test_a_policy_that_learns_the_one_word_that_only_training_tasks_reward_overfits_and_its_entropy_collapses(say: Cast) -> None:
    words = ("one", "two", "three", "four")
    tasks = [Task(f"train-{i}", "say", "Go.", {"word": "one"}) for i in range(4)]
    held_out = [Task(f"validation-{i}", "say", "Go.", {"word": "two"}) for i in range(24)]
    anything = Acting(lambda e: Action("action", e.rng("word").choice(words)))
    talks = run(starts(tasks, attempts=50, max_turns=2), anything, say)
    policy = new_policy(talks, Shape(hidden=32, layers=1, heads=2, feed_forward=32, window=512, vocabulary=280), seed=0)
    corpus = [policy.tokens(e, Say()) for e in talks]
    sft.train(policy, corpus, sft.SFTConfig(steps=80, lr=1e-2, warmup=5, batch_size=16))
    lines: list[dict[str, Any]] = []

    async def note(step: Step) -> None:
        lines.append(figures(step))
        if step.number in (1, 12):
            policy.model.eval()
            player = PolicyAgent(policy, max_new=12)
            lines[-1]["validation"] = results(await asyncio.to_thread(run, starts(held_out, max_turns=2), player, say))

    config = GRPOConfig(steps=12, groups=4, group_size=8, updates=2, lr=5e-3, warmup=1, max_turns=2, max_new=12)
    asyncio.run(train(policy, tasks, say, config, on_step=note))
    [overfit] = whole(lines, replace(QUIET, overfit="warn"))
    assert overfit.step == 12 and "Train for fewer --steps" in overfit.text
    collapse, *_ = whole(lines, replace(QUIET, entropy="warn", entropy_left=0.5))
    assert collapse.monitor == "entropy" and collapse.value is not None and collapse.value < 0.5


# --- the guide ---------------------------------------------------------------------------------------------------

GUIDE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")


def test_the_guide_names_every_monitor_with_its_thresholds() -> None:
    rows = {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)` \|.*$", GUIDE, re.MULTILINE)}
    assert set(MONITORS) <= set(rows)
    text = "".join(rows[name] for name in MONITORS)
    for name, value in asdict(CONFIG).items():
        if isinstance(value, float):
            assert f"`{name}` ({value:g})" in text
    assert f"`window` ({CONFIG.window})" in GUIDE


def test_the_settings_of_the_guide_are_those_of_a_run(tmp_path: Path) -> None:
    [text] = re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    (tmp_path / "rl.toml").write_text(text, "utf-8")
    job = resolve(RLJob, tmp_path / "rl.toml")
    assert (job.grpo.kl, job.lora.r, job.monitors.blind_guess, job.log) == (0.01, 16, "off", ("tensorboard",))
