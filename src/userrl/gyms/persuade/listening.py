"""How the scripted user and judge take in what the agent says: by word stems, never by meaning (data sheet)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from userrl.errors import ReplyError
from userrl.gyms.persuade import Sort, plain
from userrl.gyms.persuade.bank import REASON, Argument, Claim, Reason, claims, mentions

PATIENCE = {"open": 2, "firm": 1, "stubborn": 0}
"""Stubbornness -> arguments beside the point that the user bears; each further one moves it back a level."""
REPEATS = 2
"""Repetitions that the user bears; each further one moves it back a level."""
AT_ONCE = 2
"""Arguments in one message that the user can follow; of more, all but the strongest are lost on it."""
SAME_WORDS = 0.75
"""Share of common words from which on two messages are worded alike."""

RUDE = (
    *("stupid", "idiot", "moron", "dumb", "fool", "nonsense", "ridiculous", "ignorant", "pathetic", "bullshit", "crap"),
    *("shut up", "imbecile", "brainless", "you are crazy", "you are insane", "you are silly", "loser", "damn you"),
)
"""Stems that make a message rude."""
SEEN = (
    *("you are right", "you're right", "i see", "i understand", "i know", "i agree", "agreed", "true", "granted", "good point"),
    *("fair point", "fair enough", "of course", "certainly", "indeed", "i hear you", "makes sense", "valid", "admittedly"),
)
"""Stems that acknowledge a reason, beside one of its own."""

Kind = Literal["moved", "unsure", "locked", "beside", "impatient", "repeated", "tired", "rude", "question", "unclear"]

SORTS: Mapping[Kind, Sort] = {
    "moved": "argument",
    "unsure": "argument",
    "locked": "argument",
    "beside": "argument",
    "impatient": "argument",
    "repeated": "repetition",
    "tired": "repetition",
    "rude": "rudeness",
    "question": "question",
    "unclear": "other",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a message did to the user."""

    kind: Kind
    move: int = 0
    """Levels."""
    missing: str = ""
    """For a locked argument: what it needs first."""
    crowded: bool = False
    """Whether the message held more arguments than the user can follow."""


@dataclass
class Mind:
    """A scripted user's mind, built up message by message."""

    claim: Claim
    reason: Reason | None
    """The deeper reason, which some arguments need to be acknowledged first."""
    cares: Sequence[str]
    patience: int
    hesitant: bool
    spent: set[str] = field(default_factory=set)
    """Keys of the arguments that have been taken in, or turned down."""
    taken: set[str] = field(default_factory=set)
    acknowledged: bool = False
    messages: list[str] = field(default_factory=list)
    unsure_of: str = ""
    unsure_words: str = ""
    beside: int = 0
    repeats: int = 0

    @classmethod
    def of(cls, facts: Mapping[str, Any], hesitant: bool) -> Mind:
        """The mind of a query's user before it has heard anything. Raises ReplyError for a user that no script can play."""
        if facts["mind"] not in PATIENCE:
            raise ReplyError(f"The user's stubbornness is {facts['mind']!r:.40}; expected one of {', '.join(PATIENCE)}.")
        if facts["claim"] not in claims():
            raise ReplyError(
                f"The claim {facts['claim']!r:.80} is not in the bank of arguments, so the script has nothing to go by; "
                f"let models be the user and judge."
            )
        claim = claims()[facts["claim"]]
        reasons = {reason.text: reason for reason in claim.reasons}
        return cls(claim, reasons.get(facts["reasons"][-1]), facts["cares"], PATIENCE[facts["mind"]], hesitant)

    @property
    def open_to(self) -> list[Argument]:
        """The arguments that would still move the user, in the order of what it cares about."""
        left = [a for a in self.claim.accepted(self.cares) if a.key not in self.spent]
        return sorted(left, key=lambda a: list(self.cares).index(a.theme))

    def hear(self, text: str) -> Heard:
        """Take in a message."""
        message = plain(text)
        again = message in self.messages
        self.messages.append(message)
        if self.reason and mentions(text, self.reason.stems) and mentions(text, SEEN):
            self.acknowledged = True
        if mentions(text, RUDE):
            return Heard("rude", -1)
        found = self.claim.found_in(text)
        new = [a for a in found if a.key not in self.spent]
        if again or (found and not new):
            return self._repeated()
        if not new:
            return Heard("question" if "?" in text else "unclear")
        crowded = len(new) > AT_ONCE
        if crowded:
            self.spent |= {a.key for a in new[1:]}
        return replace(self._weigh(new[0], text), crowded=crowded)

    def _weigh(self, argument: Argument, text: str) -> Heard:
        """The one argument of a message that counts."""
        done = self.taken | ({REASON} if self.acknowledged else set())
        if lacking := [need for need in argument.needs if need not in done]:
            return Heard("locked", missing=lacking[0])
        if argument.theme not in self.cares:
            self.spent.add(argument.key)
            self.beside += 1
            return Heard("impatient", -1) if self.beside > self.patience else Heard("beside")
        if self.hesitant and not self.unsure_of:
            self.unsure_of, self.unsure_words = argument.key, text
            return Heard("unsure")
        if argument.key == self.unsure_of and alike(text, self.unsure_words):
            return self._repeated()
        self.spent.add(argument.key)
        self.taken.add(argument.key)
        return Heard("moved", argument.strength)

    def _repeated(self) -> Heard:
        self.repeats += 1
        return Heard("tired", -1) if self.repeats > REPEATS else Heard("repeated")


def listen(facts: Mapping[str, Any], hesitant: bool) -> tuple[Mind, Heard]:
    """A query's user after the talk so far, and what the last message did. Raises ReplyError as `Mind.of` does."""
    mind = Mind.of(facts, hesitant)
    for text in facts["said"]:
        mind.hear(text)
    return mind, mind.hear(facts["argument"])


def alike(one: str, other: str) -> bool:
    """Whether two messages use mostly the same words."""
    a, b = set(plain(one).split()), set(plain(other).split())
    return len(a & b) >= SAME_WORDS * len(a | b)
