"""What a report tells of one run or several."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from userrl.errors import ConfigError, DataError
from userrl.gyms.base import find
from userrl.report.comparisons import compared, fronts, marked_anew
from userrl.report.curves import learning
from userrl.report.effort import actions, cost, effort
from userrl.report.episodes import by_turn, distributions, samples
from userrl.report.frames import load, run_names, runs_in
from userrl.report.runs import read
from userrl.report.scores import attempts, beside_the_paper, hacks, overview, scores, warnings
from userrl.report.sections import Report, Section
from userrl.report.users import users


def report(folders: Sequence[Path], *, title: str = "", held_out: Collection[str] = ()) -> Report:
    """Read runs and tell what is in them; with two and more, how the others differ from the first.

    Args:
        folders: of runs; a folder that holds none stands for all below it (`frames.runs_in`).
        held_out: gyms that the agents were not trained on; they and the others are averaged apart, too.

    Raises:
        DataError: a folder holds no run that can be read, or none of them any episode or step of training.
        ConfigError: a gym is named as held out that none of them played.
    """
    for gym in held_out:
        find(gym)
    found = [run for folder in folders for run in runs_in(folder)]
    several, named = len(found) > 1, zip(found, run_names(found), strict=True)
    runs = [read(load(run), name, _letter(i), i, held_out, compared=several) for i, (run, name) in enumerate(named)]
    if not any(told.records or told.run.steps.num_rows for told in runs):
        raise DataError(f"{', '.join(map(str, folders))}: no episode and no step of training is recorded. Play first.")
    played = [told for told in runs if told.found.gyms]
    if unplayed := [gym for gym in held_out if not any(gym == s.gym for told in played for s in told.found.gyms)]:
        raise ConfigError(f"held_out names {unplayed[0]!r}, which none of the runs played. Leave it out.")
    made: list[Section | None] = [warnings(runs), overview(runs)]
    if played:
        made += [
            scores(played),
            *users(folders),
            *map(beside_the_paper, played),
            compared([told for told in played if not told.training]),
            fronts(played),
            attempts(played),
            effort(played),
        ]
        made += [actions(played), by_turn(played), distributions(played), hacks(played)]
    made += [learning(runs), marked_anew(runs), cost(runs), samples(played)]
    named_after = [told.name for told in runs] if len(runs) < 3 or len(folders) > 1 else run_names(folders)
    name = title or " and ".join(named_after)
    letters = tuple((told.letter, told.name, told.color) for told in runs)
    return Report(name, letters, tuple(section for section in made if section is not None))


def _letter(number: int) -> str:
    """A to Z, then AA, AB, ..."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)
