"""What the scripted user makes of messages in voices that its lexicon was not written from."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from userrl.gyms.tau import Tau
from userrl.gyms.tau.listening import HEARD, SAYS, Mind, answer, hear

VOICES = tomllib.loads((Path(__file__).parent / "agent_voices.toml").read_text("utf-8"))
MESSAGES = [message for voice in ("first", "second", "third") for message in VOICES[voice]]
WORDS = SAYS["plain"]
WISH = "The wish."


def goals() -> dict[str, dict[str, Any]]:
    """Act -> what users who want it know of themselves and of it, in the built-in tasks."""
    known: dict[str, dict[str, Any]] = {}
    for task in Tau.tasks("train"):
        script = task.hidden["script"]
        for goal in script["goals"]:
            found = known.setdefault(goal["act"], {"me": set(), "facts": set()})
            found["me"] |= script["me"].keys()
            found["facts"] |= goal["facts"].keys()
    return known


GOALS = goals()


def facts(topics: Iterable[str]) -> dict[str, dict[str, str]]:
    return {topic: {"value": topic, "says": f"<{topic}>"} for topic in topics}


def reply(message: dict[str, Any]) -> tuple[str, set[str]]:
    """What the user does, by the list of its words, and the topics it tells."""
    known = GOALS[message["act"]]
    goal = {"act": message["act"], "asks": WISH, "facts": facts(known["facts"]), "checks": [], "insists": 0, "otherwise": False}
    script = {"me": facts(known["me"]), "goals": [goal]}
    mind, words = answer(script, Mind(agreed=message["does"] == "report"), hear(message["said"][:HEARD]), "plain")
    if mind.ended:
        return "refusal" if words == WORDS["given_up"] else "report", set()
    if words.startswith("<"):
        return "asks", {word.strip("<>") for word in words.split()}
    does = {WORDS["yes"]: "plan", WISH: "opens", WORDS["nod"]: "holds", f"{WORDS['pending']} {WISH}": "closes"}
    return does.get(words, "lost"), set()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message["said"][:40])
def test_a_message_in_another_voice_is_understood(message: dict[str, Any]) -> None:
    does, told = reply(message)
    assert does == {"number": "report"}.get(message["does"], message["does"])
    assert set(message.get("topics", ())) <= told


def test_hardly_more_is_told_than_was_asked() -> None:
    more = [message["said"] for message in MESSAGES if reply(message)[1] - set(message.get("topics", ()))]
    assert len(more) <= 0.03 * len(MESSAGES), more


@pytest.mark.parametrize(
    "words",
    [
        "Would you like me to look up your orders, so that we can find the one to cancel?",
        "Should I transfer you to a colleague who can cancel it?",
        "Could you confirm the order number that I should cancel?",
        "Do you want me to cancel #W1111111 or #W2222222? Which of them is it?",
        "Once you confirm your zip code, I will cancel the order.",
    ],
)
def test_an_offer_or_a_question_about_a_deed_gets_no_yes(words: str) -> None:
    assert reply({"act": "cancel", "does": "asks", "said": words})[0] != "plan"


@pytest.mark.parametrize(
    "words",
    [
        "I see that you placed the order on May 2 and that it was sent by mistake.",
        "If the order has been cancelled, the money comes back within a week.",
        "The order has not been cancelled yet.",
        "Once it is cancelled, you will get an email.",
        "Only orders that have not been sent can be cancelled, as I said.",
        "I cannot find that order, so nothing was done.",
        "I can't see an order with that number to cancel.",
    ],
)
def test_what_is_not_done_is_not_taken_for_done_or_refused(words: str) -> None:
    assert reply({"act": "cancel", "does": "asks", "said": words})[0] not in ("report", "refusal", "plan")


@pytest.mark.parametrize("flood", [".", "\n", "\na", "a, ", "confirm your ", "which one ", "?! ", "not ", "* "])
def test_a_flood_of_anything_is_heard_without_an_answer_to_it(flood: str) -> None:
    assert reply({"act": "cancel", "does": "asks", "said": flood * HEARD})[0] in ("lost", "holds", "asks")
