"""The one table of each kind of scheme: credits, scores, estimators. All settings, helps and checks read their names here.

A table has ours, those of installed packages (an entry point each, in the group `userrl.credits`, `userrl.scores` or
`userrl.estimators`), and those that a program adds: `CREDITS["late"] = late`. What is added so is known to that process
alone. A scheme is loaded when it is first asked for, and nothing heavy before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from userrl.errors import ConfigError, MissingExtra, UnknownName

if TYPE_CHECKING:
    from userrl.rewards.credits import Credit
    from userrl.rewards.estimators import Estimator
    from userrl.rewards.scores import Score

S = TypeVar("S")


class Schemes(MutableMapping[str, S]):
    """Schemes of one kind by name. Ours come first, then those that were added here, then those of packages."""

    def __init__(self, what: str, group: str, built_in: Mapping[str, str]) -> None:
        self.what = what
        """As messages call one."""
        self.group = group
        """Of entry points."""
        self.built_in = built_in
        """Name -> "module:function" of ours."""
        self.added: dict[str, S] = {}

    def find(self, name: str) -> S:
        """The scheme of that name. Raises UnknownName, and ConfigError for one of a package that cannot be loaded."""
        return self[self.named(name)]

    def named(self, name: str) -> str:
        """The name, if there is such a scheme. Raises UnknownName."""
        if name not in self:
            raise UnknownName(self.what, name, self)
        return name

    def listed(self) -> str:
        """The names of ours, for people: "a, b or c"."""
        *names, last = self.built_in
        return f"{', '.join(names)} or {last}"

    def __getitem__(self, name: str) -> S:
        if name in self.added:
            return self.added[name]
        place = self._places()[name]
        module, _, function = place.partition(":")
        try:
            scheme: S = getattr(import_module(module), function)
        except MissingExtra:
            raise
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"The {self.what} {name!r} cannot be loaded from {place!r} ({error}); expected 'module:function' in the entry "
                f"point of the group {self.group!r}. Install its package again, or mend the entry point."
            ) from error
        return scheme

    def __setitem__(self, name: str, scheme: S) -> None:
        if name in self.built_in:
            raise ConfigError(f"There is a {self.what} of userrl's own named {name!r}; give yours another name.")
        self.added[name] = scheme

    def __delitem__(self, name: str) -> None:
        del self.added[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.built_in, **self.added, **self._places()})

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self.added or name in self._places()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _places(self) -> dict[str, str]:
        return {**installed(self.group), **self.built_in}


@cache
def installed(group: str) -> dict[str, str]:
    """Name -> "module:function" of the entry points of a group."""
    from importlib import metadata

    return {point.name: point.value for point in metadata.entry_points(group=group)}


CREDITS: Schemes[Credit] = Schemes(
    "turn credit",
    "userrl.credits",
    {
        "naive": "userrl.rewards.credits.naive:naive",
        "equalized": "userrl.rewards.credits.equalized:equalized",
        "r2g": "userrl.rewards.credits.r2g:r2g",
        "em": "userrl.rewards.credits.em:em",
    },
)
"""Credit schemes by the name that `--credit` takes."""

SCORES: Schemes[Score] = Schemes(
    "trajectory score",
    "userrl.scores",
    {
        "sum": "userrl.rewards.scores.total:total",
        "mean": "userrl.rewards.scores.mean:mean",
        "r2g": "userrl.rewards.scores.r2g:r2g",
        "composite": "userrl.rewards.scores.composite:composite",
    },
)
"""Scores by the name that `--score` takes."""

ESTIMATORS: Schemes[Estimator] = Schemes(
    "advantage estimator",
    "userrl.estimators",
    {
        "grpo": "userrl.rewards.estimators.grpo:grpo",
        "dr_grpo": "userrl.rewards.estimators.dr_grpo:dr_grpo",
        "rloo": "userrl.rewards.estimators.rloo:rloo",
        "mt_grpo": "userrl.rewards.estimators.mt_grpo:mt_grpo",
        "gigpo": "userrl.rewards.estimators.gigpo:gigpo",
    },
)
"""Estimators by the name that `--estimator` takes."""
