"""What the scripted expert notes of an episode, and how it puts its moves.

It sees the opening, its own moves and what came back, never the hidden part. `retail_expert` and `airline_expert` hold
what it does about each wish.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from userrl.core import Action, Episode
from userrl.gyms.tau.listening import hear, mentions

Record = dict[str, Any]

GO_AHEAD = (
    "Shall I go ahead?",
    "Do you want me to go ahead?",
    "Is that right, and shall I go ahead?",
    "May I go ahead (yes or no)?",
)
CLOSINGS = ("Is there anything else I can do for you?", "Is there anything else?", "Can I help you with anything else?")
SORRY = ("I am sorry, but I cannot do that.", "I am afraid that I cannot do that.", "Unfortunately I cannot do this.")
PATIENCE = 7
"""Questions about one wish after which the expert hands the talk over."""
REPORTS = {
    "cancel_pending_order": "I have cancelled the order.",
    "modify_pending_order_address": "I have changed the address of the order.",
    "modify_pending_order_payment": "I have changed the payment method of the order.",
    "modify_pending_order_items": "I have changed the items in the order.",
    "return_delivered_order_items": "I have requested the return.",
    "exchange_delivered_order_items": "I have requested the exchange.",
    "modify_user_address": "I have changed your default address.",
    "book_reservation": "I have booked the flight.",
    "cancel_reservation": "I have cancelled the reservation.",
    "send_certificate": "I have sent you the certificate as a compensation.",
    "update_reservation_baggages": "I have added the bags.",
    "update_reservation_flights": "I have changed the reservation: cabin and flights are as you wanted.",
    "update_reservation_passengers": "I have changed the passengers.",
}
"""Tool -> what is said when it has done its work."""


def say(text: str) -> Action:
    return Action("action", text)


def use(name: str, **arguments: Any) -> Action:
    return Action("answer", json.dumps({"name": name, "arguments": arguments}))


@dataclass
class Notes:
    """What is known at some point of an episode."""

    rng: random.Random
    tools: str = ""
    """The list of tools, once it was asked for."""
    told: list[str] = field(default_factory=list)
    """All that the user said, the opening first."""
    wish: list[str] = field(default_factory=list)
    """What it said since it brought up its present wish."""
    asked: list[str] = field(default_factory=list)
    """What I said since then."""
    agreed: bool = False
    """It said yes to my last plan for this wish."""
    made: str = ""
    """The tool that has done what this wish takes."""
    last: tuple[str, Record, Any] | None = None
    """The last call that changed something in the whole talk: name, arguments, result."""
    failed: bool = False
    """A call for this wish was refused."""
    tempting: Action | None = None
    """What a careless agent would do at once in this turn."""
    user_id: str = ""
    user: Record = field(default_factory=dict)
    lost: bool = False
    """The account was not found by email."""
    records: dict[str, Record] = field(default_factory=dict)
    """Orders, products and reservations by id, as last seen."""
    about: str = ""
    """The order or reservation seen last."""
    lists: dict[str, Any] = field(default_factory=dict)
    """Results of searches and lists, by the call."""

    @property
    def text(self) -> str:
        """What the user said about its wish."""
        return "\n".join(self.wish)

    @property
    def questions(self) -> int:
        """How many of my messages about the wish were questions, not plans."""
        return sum(bool(heard.asked or heard.offered or heard.opens) and not heard.confirms for heard in map(hear, self.asked))

    def ask(self, *texts: str) -> Action:
        """Ask in one of several ways."""
        return say(self.rng.choice(texts))

    def refuse(self, why: str, tempting: Action | None = None) -> Action:
        """Decline. `tempting`: the call that the policy forbids, though the tools would do it."""
        self.tempting = tempting
        return say(f"{self.rng.choice(SORRY)} {why} {self.rng.choice(CLOSINGS)}")

    def close(self, text: str) -> Action:
        return say(f"{text} {self.rng.choice(CLOSINGS)}")

    def carry_out(self, call: Action, plan: str) -> Action:
        """Tell the plan; act when the user has said yes."""
        self.tempting = call
        return call if self.agreed else say(f"{plan} {self.rng.choice(GO_AHEAD)}")

    def settled(self) -> Action | None:
        """What is left to say once a call was made for the wish."""
        if self.made:
            return self.close(REPORTS[self.made])
        return self.refuse("The system does not accept it.") if self.failed else None


def read(episode: Episode, intents: Mapping[str, Sequence[str]]) -> Notes:
    """The notes on an episode, from its beginning."""
    notes = Notes(episode.rng("expert words"))
    notes.told.append(episode.task.prompt)
    notes.wish.append(episode.task.prompt)
    for turn in episode.turns:
        if turn.action.kind == "search":
            notes.tools = notes.tools or turn.feedback
        elif turn.action.kind == "action":
            _hear(notes, turn.action.text, turn.feedback, intents)
        elif turn.action.kind == "answer":
            _look(notes, turn.action.text, turn.feedback)
    return notes


def _hear(notes: Notes, mine: str, reply: str, intents: Mapping[str, Sequence[str]]) -> None:
    """A new wish comes after I have closed or refused one, or told a number."""
    notes.told.append(reply)
    before = hear(mine)
    if (before.closes or before.refuses) and intent_of(reply, intents):
        notes.wish, notes.asked, notes.agreed, notes.made, notes.failed = [reply], [], False, "", False
        return
    notes.wish.append(reply)
    notes.asked.append(mine)
    notes.agreed = (
        before.confirms and re.match(r"\s*(?:yes|ok|okay|sure|please do|go ahead|correct|right)\b", reply.casefold()) is not None
    )


def _look(notes: Notes, call_text: str, result: str) -> None:
    try:
        call = json.loads(call_text)
        name, arguments = str(call["name"]), dict(call["arguments"])
    except (ValueError, TypeError, KeyError):
        return
    if result.startswith("Error"):
        notes.lost = notes.lost or name == "find_user_id_by_email"
        notes.failed = notes.failed or name in REPORTS
        return
    try:
        value = json.loads(result)
    except ValueError:
        value = result
    if name.startswith("find_user_id"):
        notes.user_id = result
    elif name == "get_user_details":
        notes.user = value
    elif name in REPORTS:
        notes.made = name
        notes.last = (name, arguments, value)
        _keep(notes, value)
    elif isinstance(value, dict) and name.startswith("get_"):
        _keep(notes, value)
    else:
        notes.lists[lookup(name, **arguments)] = value


def _keep(notes: Notes, record: Any) -> None:
    if not isinstance(record, dict):
        return
    for name in ("order_id", "reservation_id"):
        if name in record:
            notes.about = record[name]
            notes.records[record[name]] = record
    if "variants" in record:
        notes.records[record["product_id"]] = record


def lookup(name: str, **arguments: Any) -> str:
    """The key of a search in `Notes.lists`."""
    return json.dumps([name, arguments], sort_keys=True)


def intent_of(text: str, intents: Mapping[str, Sequence[str]]) -> str:
    """The first wish whose phrases stand in a text; "" for none."""
    return next((intent for intent, phrases in intents.items() if mentions(text, phrases)), "")


# --- what users say ------------------------------------------------------------------------------------------------


def method_in(text: str, methods: Mapping[str, Record]) -> str:
    """The id of the payment method that a text names last; "" for none."""
    found: list[tuple[int, str]] = []
    kinds = {"paypal": r"paypal", "gift_card": r"gift\s*card", "credit_card": r"credit\s*card", "certificate": r"certificate"}
    for key, method in methods.items():
        pattern = rf"(?<!\d){method['last_four']}(?!\d)" if "last_four" in method else kinds[method["source"]]
        found += [(match.start(), key) for match in re.finditer(rf"{pattern}|{re.escape(key)}", text, re.IGNORECASE)]
    if not found and len(cards := [key for key, method in methods.items() if method["source"] == "credit_card"]) == 1:
        found += [(match.start(), cards[0]) for match in re.finditer(kinds["credit_card"], text, re.IGNORECASE)]
    return max(found)[1] if found else ""


def spoken(method: Record) -> str:
    if "last_four" in method:
        return f"credit card ending in {method['last_four']}"
    source: str = method["source"]
    return {"paypal": "PayPal account", "gift_card": "gift card"}.get(source, source)


def people_in(text: str) -> list[str]:
    """All pairs of words with capitals, among them first and last names."""
    return [f"{first} {last}" for first, last in re.findall(r"(?=\b([A-Z][a-z]+) ([A-Z][a-z]+)\b)", text)]


def methods_of(user: Record) -> str:
    """As in "your account has: gift card, PayPal account"; nothing while the account is unknown."""
    methods = user.get("payment_methods", {})
    return f" Your account has: {', '.join(map(spoken, methods.values()))}." if methods else ""


def money(amount: float) -> str:
    return f"{amount:.2f} dollars" if amount != int(amount) else f"{int(amount)} dollars"
