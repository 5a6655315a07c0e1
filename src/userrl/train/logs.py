"""What a training run writes while it trains: its lines of figures, its alarms, and copies for TensorBoard and wandb.

`train.jsonl` is the record; the copies hold the same figures as flat scalars: train/share, validation/share, mix/repeated,
gyms/intention/share, baselines/intention/random.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from userrl.errors import ConfigError, needs
from userrl.evaluate.lines import step_line
from userrl.store import RunFolder, Store, read_as, set_aside, write_whole
from userrl.train.monitors import Alarm, Line, MonitorConfig, alarms

FIGURES, ALARMS, BASELINES = "train.jsonl", "alarms.jsonl", "baselines.json"
Copy = Literal["tensorboard", "wandb"]
OnAlarm = Callable[[Alarm], None]


class Journal:
    """The lines of a run, kept as they come and looked through by the monitors."""

    def __init__(self, run: RunFolder, store: Store, monitors: MonitorConfig, on_alarm: OnAlarm) -> None:
        self.lines: list[Line] = read_lines(run.path / FIGURES)
        self.baselines: Mapping[str, Mapping[str, float]] = {}
        """Gym -> agent -> its level, which the copies repeat at each step."""
        self.copies: list[Scalars] = []
        self._run, self._store, self._monitors, self._on_alarm = run, store, monitors, on_alarm

    def write(self, line: Line) -> str | None:
        """Keep a step's line. Returns why the run is to stop, where a monitor says so."""
        self._store.write(line)
        self.lines.append(line)
        for copy in self.copies:
            copy.write(line["step"], scalars(line, self.baselines))
        raised = alarms(self.lines, self._monitors)
        for alarm in raised:
            with self._run.store(ALARMS) as store:
                store.write(asdict(alarm))
            if alarm.reaction == "warn":
                self._on_alarm(alarm)
        return "\n".join(f"The monitor {a.monitor!r} stopped the run. {a.text}" for a in raised if a.reaction == "stop") or None


@contextmanager
def journal(
    run: RunFolder,
    done: int,
    *,
    monitors: MonitorConfig | None = None,
    copies: Sequence[Copy] = (),
    settings: Mapping[str, Any] | None = None,
    on_alarm: OnAlarm | None = None,
) -> Iterator[Journal]:
    """Open a run's journal.

    Args:
        done: steps in the newest checkpoint. Lines and alarms of later ones, which are done again, go to `<file>.redone`.
        settings: of the run, for wandb.
        on_alarm: told of each alarm that does not stop the run; by default it is warned of.

    Raises:
        MissingExtra, ConfigError: a copy cannot be opened.
    """
    for name in (FIGURES, ALARMS):
        set_aside(run.path / name, sum(line["step"] <= done for line in read_lines(run.path / name)))
    with ExitStack() as stack:
        store = stack.enter_context(run.store(FIGURES))
        opened = Journal(run, store, monitors or MonitorConfig(), on_alarm or warn)
        for name in dict.fromkeys(copies):
            copy = COPIES[name](run.path, done, settings or {})
            stack.callback(copy.close)
            opened.copies.append(copy)
            if copy.new:
                for line in opened.lines:
                    copy.write(line["step"], scalars(line))
        yield opened


def warn(alarm: Alarm) -> None:
    warnings.warn(f"Step {alarm.step}, monitor {alarm.monitor!r}: {alarm.text}", stacklevel=2)


def read_lines(path: Path) -> list[Line]:
    """The lines of a log in order; none where there is no file. Raises DataError for a broken one."""
    return list(read_as(path, step_line, "a line of figures")) if path.exists() else []


# --- copies ----------------------------------------------------------------------------------------------------


def scalars(line: Line, baselines: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, float]:
    """A line's figures under flat names. Of an interval: name, name_low, name_high."""
    out: dict[str, float] = {}
    for name, value in line.items():
        if name != "step":
            _put(out, name if isinstance(value, Mapping) else f"train/{name}", value)
    _put(out, "baselines", baselines or {})
    return out


def _put(out: dict[str, float], name: str, value: Any) -> None:
    if isinstance(value, int | float):
        out[name] = float(value)
    elif isinstance(value, Mapping) and {"mean", "low", "high"} <= value.keys():
        out |= {name: value["mean"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _put(out, f"{name}/{key}", inner)


class Scalars(Protocol):
    """A log of flat scalars."""

    new: bool
    """It holds nothing yet, not even of steps done before."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run's folder `tensorboard`.

    On resume, TensorBoard is told to drop what earlier files hold of steps that are done again.
    """

    def __init__(self, folder: Path, done: int, settings: Mapping[str, Any]) -> None:
        with needs("logs", "The log for TensorBoard"):
            from torch.utils.tensorboard import SummaryWriter
        path = folder / "tensorboard"
        self.new = not path.exists()
        self._open = partial(SummaryWriter, str(path), purge_step=None if self.new else done + 1)
        self._writer: Any = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._writer = self._writer or self._open()  # not before: a run that never begins leaves no file
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Wandb:
    """A run at Weights & Biases; `WANDB_MODE=offline` keeps it in the run's folder, and needs no account.

    A resumed run goes on under the same id, kept in `wandb.json` with the last step sent: wandb cannot take back a step, so
    steps that are done again are not sent twice.
    """

    def __init__(self, folder: Path, done: int, settings: Mapping[str, Any]) -> None:
        with needs("wandb", "The log for wandb"):
            wandb: Any = importlib.import_module("wandb")
        self._file = folder / "wandb.json"
        self.new = not self._file.exists()
        kept: dict[str, Any] = {"id": secrets.token_hex(4), "step": -1} if self.new else json.loads(self._file.read_text("utf-8"))
        self._id, self._sent = str(kept["id"]), int(kept["step"])
        hint = f"Run `wandb login`, or set WANDB_MODE=offline to keep the log in {folder / 'wandb'}."
        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False, verify=False):
            raise ConfigError(f"wandb has no key. {hint}")
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "userrl"),
                name=folder.name,
                id=self._id,
                resume="allow",
                dir=folder,
                config=dict(settings),
                settings=wandb.Settings(console="off", disable_git=True, save_code=False, quiet=True),
            )
        except wandb.errors.Error as error:
            raise ConfigError(f"wandb cannot begin: {str(error).rstrip('.')}. {hint}") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if step > self._sent:
            self._run.log(dict(values), step=step)
            self._sent = step
            write_whole(self._file, json.dumps({"id": self._id, "step": step}).encode())

    def close(self) -> None:
        self._run.finish()


COPIES: Mapping[Copy, Callable[[Path, int, Mapping[str, Any]], Scalars]] = {"tensorboard": TensorBoard, "wandb": Wandb}
