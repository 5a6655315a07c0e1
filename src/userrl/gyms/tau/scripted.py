"""Tau without a model: the user, the expert and the agents without skill. There is nothing to judge: the rules do it.

Official tasks have no script; their user must be a model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from userrl.core import Action, Agent, Cast, Episode, Query, Task
from userrl.errors import ReplyError
from userrl.gyms.tau import airline_expert, retail_expert
from userrl.gyms.tau.listening import hear, talk
from userrl.gyms.tau.notes import PATIENCE, read, say, use
from userrl.gyms.tau.slips import slip
from userrl.gyms.tau.talk import Talk
from userrl.scripted import Acting, Scripted

PHRASES = (
    "Hello, how can I help you?",
    "May I have your email address?",
    "What is your user id?",
    "Which order is it?",
    "Which reservation is it?",
    "Shall I go ahead?",
    "I am sorry, but I cannot do that.",
    "It is done. Is there anything else?",
)
"""What the random agent says."""
CALLS: Sequence[tuple[str, Mapping[str, str]]] = (
    ("list_all_product_types", {}),
    ("list_all_airports", {}),
    ("calculate", {"expression": "2 + 2"}),
    ("think", {"thought": "What now?"}),
    ("get_user_details", {"user_id": "ada_lind_1234"}),
    ("get_order_details", {"order_id": "#W1234567"}),
    ("cancel_pending_order", {"order_id": "#W1234567", "reason": "no longer needed"}),
    ("cancel_reservation", {"reservation_id": "ABC4D5"}),
    ("transfer_to_human_agents", {"summary": "Please take over."}),
)
"""What it calls."""


def cast(trait: str) -> Cast:
    return Cast(Scripted({"tau.talk": lambda query: reply(query, trait)}), Scripted({}))


def reply(query: Query[Talk], trait: str) -> Talk:
    """What the script's user says to the newest message. Raises ReplyError for a task without a script."""
    if not query.facts["script"]:
        raise ReplyError(
            "This tau task has no script, so nobody but a model can be its user: official tasks hold instructions in free "
            "text only. Give a model (--user MODEL@URL), or play the built-in tasks."
        )
    said = [line["text"] for line in query.facts["transcript"] if line["who"] == "agent"]
    text, ends = talk(query.facts["script"], said, trait)
    return Talk(text=text, ends=ends)


def expert(skill: float) -> Agent:
    """Looks up the tools, finds the customer, reads what is needed, tells its plan, acts after a yes, declines what the
    policy forbids, and asks for more.

    It sees the opening and what came back, never the hidden part. With probability 1 - skill a turn is a slip (`slips`).
    """

    def act(episode: Episode) -> Action:
        listing = next((turn.feedback for turn in episode.turns if turn.action.kind == "search"), None)
        if listing is None:
            return Action("search", "tools")
        desk = airline_expert if "book_reservation" in listing else retail_expert
        notes = read(episode, desk.INTENTS)
        right, rng = desk.act(notes), episode.rng("expert slip")
        if right.kind == "action" and notes.questions >= PATIENCE and (hear(right.text).asked or hear(right.text).offered):
            right = use("transfer_to_human_agents", summary="I could not find out what is wanted.")
        return right if rng.random() < skill else slip(right, notes, rng)

    return Acting(act)


def baselines(tasks: Sequence[Task] = ()) -> Mapping[str, Agent]:
    """Agents without skill; none of them reads the task.

    `random` says or calls anything of a fixed vocabulary; `do_nothing` hands over at once, which is right wherever
    nothing is to be changed; `refuse_all` declines until the user gives up.
    """

    def random_move(episode: Episode) -> Action:
        rng = episode.rng("random")
        kind = rng.choice(("search", "answer", "action"))
        if kind == "search":
            return Action("search", rng.choice(("tools", "help")))
        if kind == "action":
            return say(rng.choice(PHRASES))
        name, arguments = rng.choice(CALLS)
        return Action("answer", json.dumps({"name": name, "arguments": arguments}))

    def do_nothing(episode: Episode) -> Action:
        return use("transfer_to_human_agents", summary="Please take over.")

    def refuse_all(episode: Episode) -> Action:
        return say("I am sorry, but I cannot do that.")

    plays: dict[str, Callable[[Episode], Action]] = {"random": random_move, "do_nothing": do_nothing, "refuse_all": refuse_all}
    return {name: Acting(act) for name, act in plays.items()}
