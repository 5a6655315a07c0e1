"""What an expert of less than full skill does wrong: plausible mistakes of an agent that serves customers."""

from __future__ import annotations

import json
import random
from typing import Any

from userrl.core import Action
from userrl.gyms.tau.listening import hear
from userrl.gyms.tau.notes import REPORTS, Notes, say, use

IDLE = ("One moment, please.", "Let me check that for you.", "Thank you for your patience.")
BESIDE = ("Do you like our service?", "Did you know that we have a newsletter?", "How is the weather where you are?")
UNKNOWN_TOOLS = ("lookup_customer", "update_order", "refund_payment", "change_booking")


def slip(right: Action, notes: Notes, rng: random.Random) -> Action:
    """In place of the right move: a wrong argument, a change without or against the rules, a tool that is not there,
    words that lead nowhere, or giving up."""
    draw = rng.random()
    if draw < 0.08:
        return use("transfer_to_human_agents", summary="I cannot help with this.")
    if notes.tempting is not None and draw < 0.7:
        return spoiled(notes.tempting, notes, rng) if draw < 0.45 else notes.tempting
    if right.kind == "answer" and draw < 0.5:
        return use(rng.choice(UNKNOWN_TOOLS)) if draw < 0.3 else Action("answer", right.text[: len(right.text) // 2])
    if right.kind == "action" and hear(right.text).closes and draw < 0.5:
        return use("transfer_to_human_agents", summary="All is done.")
    return say(rng.choice(IDLE if draw < 0.8 else BESIDE))


def spoiled(action: Action, notes: Notes, rng: random.Random) -> Action:
    """The same call with one argument wrong, as far as another value is known."""
    call = json.loads(action.text)
    arguments: dict[str, Any] = call["arguments"]
    choices = {name: value for name in arguments if (value := another(name, arguments[name], notes, rng)) is not None}
    if call["name"] not in REPORTS or not choices:
        return action
    name = rng.choice(sorted(choices))
    return use(call["name"], **{**arguments, name: choices[name]})


def another(name: str, value: Any, notes: Notes, rng: random.Random) -> Any:
    """Another value for an argument, such as a confused agent might use; None where there is none."""
    others: list[Any] = []
    if name in ("order_id", "reservation_id"):
        others = [key for field in ("orders", "reservations") for key in notes.user.get(field, ()) if key != value]
    elif name in ("payment_method_id", "payment_id"):
        others = [key for key in notes.user.get("payment_methods", ()) if key != value]
    elif name == "new_item_ids":
        kinds = [record["variants"] for record in notes.records.values() if value[0] in record.get("variants", ())]
        others = [[key, *value[1:]] for variants in kinds for key, v in variants.items() if v["available"] and key != value[0]]
    elif name == "item_ids" and len(value) > 1:
        others = [value[1:]]
    elif name == "reason":
        others = [reason for reason in ("no longer needed", "ordered by mistake") if reason != value]
    elif name == "address2":
        others = [""]
    elif name in ("total_baggages", "nonfree_baggages", "amount"):
        others = [value + 1]
    elif name == "cabin":
        others = [level for level in ("economy", "business") if level != value]
    elif name == "passengers":
        others = [[*value[:-1], {**value[-1], "dob": "1990-01-01"}]]
    return rng.choice(others) if others else None
