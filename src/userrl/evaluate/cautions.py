"""What must be said above the figures of a run, as they would be taken for something else without it."""

from __future__ import annotations

from collections.abc import Iterator

from userrl.core import INVALID
from userrl.evaluate.metrics import Figures, Summary
from userrl.evaluate.played import ABOUT, Unfinished
from userrl.evaluate.statistics import ALIKE

FAILED_FROM = 0.1
"""Share of failed episodes of a gym from which on it is said above the figures, not only beside them."""


def cautions(found: Figures, missing: Unfinished | None = None) -> list[str]:
    """Sentences on a run: that it is unfinished, that much of it failed, that no call was valid, that a share is above 1.

    Args:
        missing: what is not played yet (`played.unfinished`).
    """
    lines = [f"U{str(missing)[1:]}. {ABOUT}"] if missing else []
    return lines + [line for summary in found.gyms for line in _of_gym(summary)]


def _of_gym(s: Summary) -> Iterator[str]:
    if s.errors and s.invalid_rate >= FAILED_FROM:
        played = s.episodes + s.errors
        rest = f"its figures are of the other {s.episodes:,}" if s.episodes else "it has no figures"
        yield f"{s.gym}: {s.errors:,} of {played:,} episodes failed and have no score; {rest}."
    if s.mix.get(INVALID) == 1.0:
        yield (
            f"{s.gym}: not one valid call was made, so its figures say nothing of how good the agent is with users. A model "
            f"that is not trained to call tools may do better with `tools = false` (docs/models.md)."
        )
    if s.share.n and s.share.high > 1 + ALIKE:
        yield (
            f"{s.gym}: shares are above 1. Under the rules played, rewards can go beyond what counts as the best score within "
            f"reach (see the gym's README); take its score, and no average of shares with it."
        )
