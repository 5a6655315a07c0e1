"""The model calls of a run: recorded, counted, kept within a budget, replayed."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from userrl.core import Episode
from userrl.errors import DataError
from userrl.llm.client import Client
from userrl.llm.endpoint import Endpoint, Role
from userrl.llm.ledger import Ledger, Metered, Spent, spent_by
from userrl.llm.pool import Pool
from userrl.llm.record import GAVE_UP, SCHEMA, EpisodeId, Line, Recorded, Replies, episode_of, usage_of
from userrl.llm.shared import Shared
from userrl.store import Key, Store, lines_at, migrated, scan

FILE = "replies.jsonl"
"""File of a run's folder."""


class Calls:
    """What stands around the models of one run, whichever chairs they sit in.

    `door` wraps a model's client. Once a run has a folder, `keep` opens its record there: replies are then written
    before they are used, those of earlier sittings are taken from the record, and what they cost is in the ledger.

    Args:
        max_usd, max_tokens, spent: see `Ledger`; `spent` is its `before`.
        shared_user_noise: attempts at a task share the user's and the judge's replies to the same query in the same
            turn, so that the members of a group meet the same luck (common random numbers).
        replay: the file of replies of a run to replay; nothing else is then asked of any model.
    """

    def __init__(
        self,
        *,
        max_usd: float | None = None,
        max_tokens: float | None = None,
        spent: Spent | None = None,
        shared_user_noise: bool = False,
        replay: Path | None = None,
    ) -> None:
        self.ledger = Ledger(max_usd=max_usd, max_tokens=max_tokens, before=spent)
        self.shared_user_noise = shared_user_noise
        self._replies = Replies()
        self._endpoints: dict[str, Endpoint] = {}
        if replay is not None:
            if not replay.exists():
                raise DataError(f"{replay} is not there: only a run whose agent, user or judge is a model can be replayed.")
            self._replies.open(None, _Past(replay, (), lambda _: None).lines)

    @property
    def replaying(self) -> bool:
        """Whether replies come from a record alone."""
        return self._replies.closed

    @property
    def any(self) -> bool:
        """Whether any chair is a model's."""
        return bool(self._endpoints)

    def door(self, client: Client, role: Role) -> Client:
        """The client, recorded, shared where so set, and metered. Raises ConfigError where a budget lacks one price."""
        endpoint = self._endpoints[role] = client.endpoint
        if not self.replaying:
            if isinstance(client, Pool):
                self.ledger.check_alike(role, [member.endpoint for member in client.clients])
            client = Metered(client, role, self.ledger)
        if endpoint.cache:
            client = Shared(client, role, by_turn=False)
        elif self.shared_user_noise and role != "agent":
            client = Shared(client, role, by_turn=True)
        return Recorded(client, role, self._replies)

    def keep(self, store: Store, ended: Container[Key] = ()) -> None:
        """Go on with the record in `store`, which is open. The episodes in `ended` will not be played again."""
        if self.replaying:
            return
        past = _Past(store.path, ended, self._count)
        self._replies.open(store.write, past.lines, past.sittings)

    def _count(self, line: Line) -> None:
        """Enter a call of an earlier sitting in the ledger."""
        endpoint = None if GAVE_UP in line else self._endpoints.get(line["role"])
        if endpoint is not None and not line.get("shared"):
            spent = spent_by(endpoint, usage_of(line), failed="error" in line, lost=line.get("lost", 0))
            self.ledger.add(line["role"], line["place"][0], line["model"], spent)

    def ended(self, episode: Episode) -> None:
        """An episode has ended and is about to be recorded. Raises StoreError.

        What was read for it can be forgotten; a turn that failed will be asked for anew when the episode is played anew.
        """
        if episode.stop == "error":
            self._replies.give_up(episode.place, str(episode.error))
        self._replies.ended(episode_of(episode.place))


class _Past:
    """The lines of earlier sittings, by episode; read from the file when they are asked for."""

    def __init__(self, path: Path, ended: Container[Key], count: Callable[[Line], None]) -> None:
        self.path, self.sittings = path, 0
        self._offsets: dict[EpisodeId, array[int]] = defaultdict(lambda: array("q"))
        for offset, line in scan(path) if path.exists() else ():
            try:
                gym, task, attempt, seed, _ = migrated(line, SCHEMA, {})["place"]
                self.sittings = max(self.sittings, line["sitting"] + 1)
                count(line)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}, byte {offset}: not a recorded reply ({error!r}). Mend or remove the line.") from error
            if (gym, task, attempt) not in ended:
                self._offsets[gym, task, attempt, seed].append(offset)

    def lines(self, episode: EpisodeId) -> Iterator[Line]:
        return lines_at(self.path, self._offsets.pop(episode, ()))
