"""The journal of a training run and its copies: each step stands there once, whatever was broken off and resumed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from userrl.errors import ConfigError, MissingExtra
from userrl.store import RunFolder
from userrl.train.logs import Copy, journal, read_lines, scalars
from userrl.train.monitors import Alarm, MonitorConfig

INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.6}


def line(step: int, **fields: Any) -> dict[str, Any]:
    return {"step": step, "share": step / 10, "loss": 0.1, "grad_norm": 0.2, "kl": None, "mix": {"repeated": 0.1}, **fields}


def written(
    folder: Path, done: int, last: int, copies: tuple[Copy, ...] = (), broken: tuple[int, ...] = (), **options: Any
) -> list[str | None]:
    """One sitting: the lines after `done` up to `last`, of which those in `broken` have 90% invalid calls."""
    run = RunFolder(folder, {"kind": "rl"}, resume=True)
    with journal(run, done, copies=copies, settings={"kind": "rl"}, **options) as log:
        log.baselines = {"intention": {"random": 0.2}}
        return [log.write(line(step, invalid=0.9 * (step in broken))) for step in range(done + 1, last + 1)]


def steps(file: Path) -> list[int]:
    return [entry["step"] for entry in read_lines(file)]


def test_figures_have_flat_names() -> None:
    found = scalars(
        {
            **line(3),
            "gyms": {"intention": {"share": 0.3, "episodes": 8}},
            "validation": {"share": INTERVAL, "invalid": 0.0, "gyms": {"intention": {"share": INTERVAL}}},
        },
        {"intention": {"random": 0.2}},
    )
    assert found == {
        "train/share": 0.3,
        "train/loss": 0.1,
        "train/grad_norm": 0.2,
        "mix/repeated": 0.1,
        "gyms/intention/share": 0.3,
        "gyms/intention/episodes": 8.0,
        "validation/share": 0.5,
        "validation/share_low": 0.4,
        "validation/share_high": 0.6,
        "validation/invalid": 0.0,
        "validation/gyms/intention/share": 0.5,
        "validation/gyms/intention/share_low": 0.4,
        "validation/gyms/intention/share_high": 0.6,
        "baselines/intention/random": 0.2,
    }


# --- the journal -------------------------------------------------------------------------------------------------

WATCHED = MonitorConfig(window=2, invalid_most=0.5)


def test_an_alarm_is_told_and_recorded_once_and_survives_resume(tmp_path: Path) -> None:
    told: list[Alarm] = []
    written(tmp_path, 0, 5, broken=(3, 4, 5), monitors=WATCHED, on_alarm=told.append)
    assert [(a.monitor, a.step) for a in told] == [("invalid", 4)]
    written(tmp_path, 4, 8, broken=(5, 6, 7, 8), monitors=WATCHED, on_alarm=told.append)
    assert len(told) == 1
    assert [a["step"] for a in read_lines(tmp_path / "alarms.jsonl")] == [4]
    assert steps(tmp_path / "train.jsonl") == list(range(1, 9)) and steps(tmp_path / "train.jsonl.redone") == [5]


def test_an_alarm_of_a_step_that_is_done_again_is_set_aside_and_raised_again(tmp_path: Path) -> None:
    for done in (0, 3):
        written(tmp_path, done, 5, broken=(3, 4, 5), monitors=WATCHED, on_alarm=lambda alarm: None)
    assert steps(tmp_path / "alarms.jsonl") == steps(tmp_path / "alarms.jsonl.redone") == [4]


def test_a_validation_before_the_first_step_is_kept_even_without_a_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, {}, resume=True)
    for _ in range(2):
        with journal(run, 0) as log:
            if not log.lines:
                log.write({"step": 0, "validation": {"share": INTERVAL}})
            log.write(line(1))
    assert steps(tmp_path / "train.jsonl") == [0, 1] and steps(tmp_path / "train.jsonl.redone") == [1]


def test_an_alarm_is_warned_of_where_nobody_listens(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Step 2, monitor 'invalid': 90% of the turns"):
        written(tmp_path, 0, 2, broken=(1, 2), monitors=WATCHED)


def test_a_monitor_that_stops_gives_its_reason_and_is_on_record(tmp_path: Path) -> None:
    reasons = written(tmp_path, 0, 3, broken=(1, 2, 3), monitors=MonitorConfig(window=2, invalid="stop"))
    assert reasons[0] is None and reasons[2] is None
    assert reasons[1] is not None and reasons[1].startswith("The monitor 'invalid' stopped the run. 90% of the turns")
    assert [a["reaction"] for a in read_lines(tmp_path / "alarms.jsonl")] == ["stop"]


def test_every_step_with_a_loss_that_is_no_number_is_a_reason_to_stop(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, {}, resume=True)
    with journal(run, 0) as log:
        reasons = [log.write(line(step, loss=loss)) for step, loss in enumerate((math.nan, math.inf, 0.1), start=1)]
    assert reasons[0] is not None and "'nonfinite' stopped the run. The loss is nan at step 1. Go on from" in reasons[0]
    assert reasons[1] is not None and "The loss is inf at step 2" in reasons[1] and reasons[2] is None
    assert [(a["step"], a["value"]) for a in read_lines(tmp_path / "alarms.jsonl")] == [(1, None), (2, None)]


# --- TensorBoard ---------------------------------------------------------------------------------------------------


def events(folder: Path, name: str = "train/share") -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return [(event.step, round(event.value, 4)) for event in accumulator.Scalars(name)]


@pytest.mark.filterwarnings("default")  # of tensorboard itself
def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path) -> None:
    written(tmp_path, 0, 5, ("tensorboard",))
    written(tmp_path, 3, 7, ("tensorboard",))
    assert events(tmp_path) == [(step, step / 10) for step in range(1, 8)]
    assert events(tmp_path, "baselines/intention/random") == [(step, 0.2) for step in range(1, 8)]


@pytest.mark.filterwarnings("default")
def test_a_log_that_is_asked_for_only_on_resume_gets_the_steps_before_too(tmp_path: Path) -> None:
    written(tmp_path, 0, 5)
    written(tmp_path, 5, 7, ("tensorboard",))
    assert events(tmp_path) == [(step, step / 10) for step in range(1, 8)]


# --- wandb ---------------------------------------------------------------------------------------------------------


class FakeWandb:
    """What is used of wandb; keeps what it is told."""

    errors = SimpleNamespace(Error=type("Error", (Exception,), {}))

    def __init__(self, mode: str = "offline", key: bool = False) -> None:
        self.mode, self.key = mode, key
        self.runs: list[tuple[dict[str, Any], list[tuple[int, dict[str, float]]]]] = []
        self.finished = 0

    def setup(self) -> Any:
        return SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def login(self, *, prompt: bool, verify: bool) -> bool:
        assert not prompt, "nobody may be asked while a run is shown"
        return self.key

    def Settings(self, **settings: Any) -> Mapping[str, Any]:
        return settings

    def init(self, **options: Any) -> Any:
        logged: list[tuple[int, dict[str, float]]] = []
        self.runs.append((options, logged))
        return SimpleNamespace(log=lambda values, step: logged.append((step, values)), finish=self.finish)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    yield fake


def test_wandb_is_sent_each_step_once_under_one_id(wandb: FakeWandb, tmp_path: Path) -> None:
    written(tmp_path / "run", 0, 5, ("wandb",))
    written(tmp_path / "run", 3, 7, ("wandb",))
    (first, before), (second, after) = wandb.runs
    assert [step for step, _ in before] == [1, 2, 3, 4, 5] and [step for step, _ in after] == [6, 7]
    assert before[0][1]["train/share"] == 0.1
    assert first["id"] == second["id"] == json.loads((tmp_path / "run" / "wandb.json").read_text("utf-8"))["id"]
    assert (first["project"], first["name"], first["config"]) == ("userrl", "run", {"kind": "rl"})
    assert wandb.finished == 2


def test_wandb_without_a_key_says_how_to_get_one_or_do_without(wandb: FakeWandb, tmp_path: Path) -> None:
    wandb.mode = "online"
    with pytest.raises(ConfigError, match=r"wandb has no key\. Run `wandb login`, or set WANDB_MODE=offline"):
        written(tmp_path, 0, 1, ("wandb",))
    wandb.key = True
    written(tmp_path, 0, 1, ("wandb",))
    assert len(wandb.runs) == 1


def test_a_log_whose_package_is_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"The log for wandb needs the package 'wandb'.*userrl\[wandb\]"):
        written(tmp_path, 0, 1, ("wandb",))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith(("tensorboard.", "torch.utils.tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"The log for TensorBoard needs the package 'tensorboard'.*userrl\[logs\]"):
        written(tmp_path, 0, 1, ("tensorboard",))
