"""The scripted user: what it understands of an agent's words, and what it answers.

It holds a goal script (`Task.hidden["script"]`): what it knows about itself, and its goals in order. What it has heard is
worked out anew from all that the agent has said, so that it needs no memory. It goes by a stated lexicon
(`content/lexicon.toml`), grades nothing, and does not know the databases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

from userrl.gyms.tau.world import content

Script = Mapping[str, Any]
"""{"kind", "me": {topic: Fact}, "goals": [Goal]}, where

- Fact: {"value": in as few words as possible, "says": a sentence};
- Goal: {"act": a key of the lexicon's acts, "asks", "facts": {topic: Fact}, "checks": [Check], "insists": refusals that it does
  not take, "otherwise": whether it is there only for the case that the goal before was refused};
- Check: {"right": [phrase], "wrong": [phrase], "all": [phrase] (may be missing), "says"}, see `is_wrong`."""

NUMBERS = ("count", "amount")
"""Acts of goals that are reached when the agent names a number."""
_NUMBER = re.compile(r"(?<![\w.#-])\$?\d{1,5}(?:\.\d+)?(?![\w-])")

_SENTENCES = re.compile(
    r"(?<=[.!?])\s+|\n+|,?\sand\s(?=(?:please\s|kindly\s)?(?:provide|let me know|tell me|specify|share|indicate)\b)"
)
_EITHER = re.compile(r"\d\w*,? or (?:\w+ )?#?\w*\d")
_PARTS = re.compile(r"[,;:–—]\s|\s-\s|(?<!ahead)\s(?:and|but)\s")
_CONFIRM_WHAT = re.compile(
    r"\bconfirm(?:\s+(?:for|with|to))?(?:\s+me)?\s+(?:(?P<open>which|what|who|where|when|how)\b|"
    r"(?P<what>(?:your|the|their)\b.*?)(?=\s(?:so|before|in|for|of|to|and|by|with|on|that|you|i)\b|[,.;:!?)]|$))"
)

HEARD = 4_000
"""Characters of a message that are taken in."""

SAYS: Mapping[str, Mapping[str, str]] = {
    "plain": {
        "lost": "Sorry, I did not understand that. Could you ask me for one thing, in plain words?",
        "unknown": "I cannot tell you more about that.",
        "yes": "Yes, please go ahead.",
        "no": "No, that is not right.",
        "plan": "I am not sure what you are going to do. Please tell me first.",
        "push": "That is a pity. Are you quite sure that nothing can be done?",
        "pending": "That is still open, please.",
        "next": "Thank you.",
        "dropped": "I see.",
        "no_more": "No, that was everything. Thank you, goodbye.",
        "end": "Thank you, that was everything. Goodbye.",
        "given_up": "I see. Then we leave it at that. Goodbye.",
        "nod": "All right.",
        "hesitates": "Hmm, let me think. What was it again?",
    },
    "terse": {
        "lost": "What?",
        "unknown": "Don't know.",
        "yes": "Yes.",
        "no": "No.",
        "plan": "To what?",
        "push": "Really not?",
        "pending": "Not yet.",
        "next": "Good.",
        "dropped": "OK.",
        "no_more": "No. Bye.",
        "end": "Good. Bye.",
        "given_up": "OK. Bye.",
        "nod": "OK.",
        "hesitates": "Hmm.",
    },
}
"""Trait -> occasion -> words. A hesitant user speaks like a plain one."""


# --- phrases -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8_192)
def pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Any of some phrases; `*` is the rest of a word, `...` up to three words, a blank any space."""
    parts = (
        re.escape(phrase.casefold()).replace(r"\ \.\.\.\ ", r"\s+(?:\S+\s+){0,3}?").replace(r"\*", r"\w*").replace(r"\ ", r"\s+")
        for phrase in phrases
    )
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)")


def mentions(text: str, phrases: Iterable[str]) -> bool:
    """Whether one of the phrases stands in a text. No phrases are never mentioned."""
    listed = tuple(phrases)
    return bool(listed) and pattern(listed).search(text.casefold()) is not None


def without(text: str, phrases: Iterable[str]) -> str:
    """A text with the phrases cut out."""
    return pattern(tuple(phrases)).sub(" ", text)


@cache
def lexicon() -> Mapping[str, Any]:
    return content("lexicon")


# --- one message -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """What a message of the agent does, as far as it is understood."""

    text: str
    asked: tuple[str, ...]
    """Topics that it asks about."""
    offered: tuple[str, ...]
    """Topics of its closed questions, such as "would you like insurance?", and of what it asks leave for."""
    confirms: bool
    """Asks for leave."""
    points: bool
    """Ends a statement with a closed question about it, which asks for leave if the statement is a plan."""
    closes: bool
    """Asks whether there is more to do."""
    refuses: bool
    reports: bool
    """Says that something has been done."""
    done: tuple[str, ...]
    """What it says to have been done."""
    opens: bool
    holds: bool
    stated: tuple[str, ...]
    """Sentences, no questions, with a number in them."""


@lru_cache(maxsize=4_096)
def hear(message: str) -> Heard:
    """Read a message, sentence by sentence. Lists are read as part of the sentence before them."""
    text = re.sub(r"[*_`]{2,}|(?<!\w)_|`", "", message.casefold().replace("’", "'"))
    text = re.sub(r"\n(?:[-*•]|\d{1,2}[.)])\s+", ", ", "\n".join(line.strip() for line in text.splitlines() if line.strip()))
    words = lexicon()
    asked, offered, stated, done = dict[str, None](), dict[str, None](), list[str](), list[str]()
    confirms = points = closes = opens = holds = refuses = forbids = reports = False
    before = ""
    for sentence in _SENTENCES.split(text):
        asks = _is_question(sentence) or mentions(without(sentence, words["no_request"]), words["request"])
        topics = _topics(sentence) if asks else []
        leave = _asks_leave(sentence, topics)
        if mentions(sentence, words["end"]["closing"]):
            closes = True
        elif mentions(sentence, words["open"]["phrases"]):
            opens = True
        elif asks:
            topics += _to_choose(sentence, before, topics)
            points = points or (_is_question(sentence) and not topics and _points(sentence))
            if leave or _offers(sentence):
                offered.update(dict.fromkeys(topics))
            elif not mentions(sentence, words["aside"]):
                asked.update(dict.fromkeys(topics))
        elif not leave:
            stated += [sentence] if _NUMBER.search(sentence.replace(",", "")) else []
            parts = _done(without(sentence, words["no_confirm"]))
            done += parts
            reports = reports or any(mentions(part, words["report"]["done"] + words["report"]["plainly"]) for part in parts)
        if leave and not closes:
            harmless = _harmless().search(sentence) is not None
            confirms, holds = confirms or not harmless, holds or harmless
        if not mentions(sentence, words["no"]["condition"]):
            flat = without(sentence, words["no"]["excused"])
            refuses = refuses or mentions(flat, words["no"]["refuse"])
            forbids = forbids or mentions(flat, words["no"]["forbid"])
        before = sentence
    announced = mentions(without(text, words["plan"]["not_yet"]), words["plan"]["announces"])
    confirms = confirms or (points and announced)
    refuses = refuses or (forbids and not confirms)
    if refuses:
        reports, done, offered = False, [], {}
    holds = holds or mentions(text, words["hold"]["phrases"])
    return Heard(
        text, tuple(asked), tuple(offered), confirms, points, closes, refuses, reports, tuple(done), opens, holds, tuple(stated)
    )


def _is_question(sentence: str) -> bool:
    return sentence.rstrip(' "*)').endswith("?")


def _asks_leave(sentence: str, topics: Sequence[str]) -> bool:
    """As in "shall I?" or "okay?", but not as in "which card shall I use?", "this card or that?", "confirm your email"."""
    words = lexicon()
    if sentence.rstrip(' "*)').endswith(tuple(words["tags"])):
        return True
    sentence = without(sentence, words["no_confirm"])
    if mentions(sentence, words["choice"]["plainly"]) or _EITHER.search(sentence):
        return False
    if topics and re.search(r"\bor\b", without(sentence, words["no_choice"])):
        return False
    asked = _CONFIRM_WHAT.search(sentence)
    if asked and (asked["open"] or (_topics(asked["what"]) and not mentions(asked["what"].split()[-1], words["deeds"]))):
        return False
    found = pattern(tuple(words["confirm"])).search(sentence)
    return found is not None and not mentions(sentence[: found.start()], words["open_word"])


def _points(sentence: str) -> bool:
    return mentions(sentence, lexicon()["plan"]["points"]) and not mentions(sentence, lexicon()["open_word"])


def _offers(sentence: str) -> bool:
    found = pattern(tuple(lexicon()["offer"])).search(sentence)
    return found is not None and not mentions(sentence[: found.start()], lexicon()["open_word"])


def _to_choose(sentence: str, before: str, topics: Sequence[str]) -> list[str]:
    """What "which one?" is about beside its own topics: what the sentence before names, else what there is to choose at all."""
    choice = lexicon()["choice"]
    if not mentions(sentence, choice["plainly"] if topics else choice["phrases"]):
        return []
    named = [topic for topic in _topics(before) if topic in choice["among"]]
    return named or ([] if set(topics) - {"items"} else choice["topics"])


def _topics(sentence: str) -> list[str]:
    """What a request asks about. Where passengers are asked for, so are their names, not the user's."""
    besides: Mapping[str, list[str]] = lexicon()["besides"]
    sentence = _purpose().sub(" ", sentence)

    def rest(topic: str) -> str:
        return without(sentence, besides[topic]) if topic in besides else sentence

    found = [topic for topic, phrases in lexicon()["topics"].items() if mentions(rest(topic), phrases)]
    others = "passengers" in found and not mentions(sentence, ["your name", "your full name"])
    return [topic for topic in found if not (others and topic == "name")]


@cache
def _harmless() -> re.Pattern[str]:
    verbs = pattern(tuple(lexicon()["harmless"])).pattern
    return re.compile(rf"\b(?:me to|(?:shall|should|can|may) i)\s+(?:\S+\s+){{0,2}}?{verbs}")


@cache
def _purpose() -> re.Pattern[str]:
    return re.compile(rf"{pattern(tuple(lexicon()['purpose'])).pattern}[^,:?]*")


def _done(sentence: str) -> list[str]:
    """The parts of a sentence that say what has been done."""
    words = lexicon()["report"]
    if mentions(sentence, words["not_so"]):
        return []
    parts = [part.strip() for part in _PARTS.split(sentence)]
    return [part for part in parts if _reports().search(part) and not mentions(part, words["not_done"])]


@cache
def _reports() -> re.Pattern[str]:
    words = lexicon()["report"]
    done = "|".join(words["done"])
    helped = rf"(?:{'|'.join(words['helps'])})(?:\s+[\w#']+){{0,3}}?\s+(?:{done}|{'|'.join(words['vaguely'])})"
    bare = rf"^\W{{0,5}}(?:\S+\s+){{1,4}}?(?:{done})(?=\W*$|\s+(?:for|to|on|from|as|in|by|with)\b)"
    return re.compile(rf"(?<!\w)(?:{helped})(?!\w)|{bare}|{pattern(tuple(words['plainly'])).pattern}")


# --- a whole talk ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mind:
    """Where the user stands."""

    goal: int = 0
    agreed: bool = False
    """Has confirmed a plan for the goal."""
    corrected: bool = False
    """Has corrected a plan for it; it does so once."""
    refused: int = 0
    """How often the goal was refused."""
    hesitated: bool = False
    """A hesitant user has hesitated; it does so once in a talk."""
    ended: bool = False


def talk(script: Script, said: Sequence[str], trait: str = "plain") -> tuple[str, bool]:
    """The user's answer to the last of the agent's messages, and whether the talk ends with it.

    Args:
        said: all that the agent has said to the user, in order; at least one message.
    """
    mind, words = Mind(), ""
    for message in said:
        mind, words = answer(script, mind, hear(message[:HEARD]), trait)
    return words, mind.ended


def answer(script: Script, mind: Mind, heard: Heard, trait: str) -> tuple[Mind, str]:
    """The user's state after a message, and its words. Of what a message does, the first of these counts: a plan, a
    question, a refusal, a report or the question for more, an open question, a pause."""
    says, goal = SAYS["terse" if trait == "terse" else "plain"], script["goals"][mind.goal]
    end = "no_more" if heard.closes else "end"
    facts = {**script["me"], **goal["facts"]}
    topics = [topic for topic in dict.fromkeys((*heard.asked, *heard.offered)) if topic in facts]
    if "address" in topics and "zip" in topics:
        topics.remove("zip")  # that of the new address, which it is part of
    about_goal = mentions(heard.text, lexicon()["acts"][goal["act"]])
    named = [phrase for check in goal["checks"] for phrase in (*check["right"], *check.get("all", ()))]
    asks_leave = heard.confirms or (heard.points and mentions(heard.text, named))
    plans = asks_leave and about_goal and not heard.refuses and not facts.keys() & set(heard.asked)
    if trait == "hesitant" and not mind.hesitated and (plans or goal["facts"].keys() & set(topics)):
        return replace(mind, hesitated=True), says["hesitates"]
    if plans:
        wrong = next((check for check in goal["checks"] if is_wrong(heard.text, check)), None)
        if wrong and not mind.corrected:
            return replace(mind, corrected=True), f"{says['no']} {wrong['says']}"
        return replace(mind, agreed=True), says["yes"]
    if goal["act"] in NUMBERS and any(_answers(goal["act"], sentence) for sentence in heard.stated):
        return _go_on(script, mind, says, "next", end)
    if topics:
        if trait == "terse":
            return mind, " ".join(f"{facts[topic]['value'].rstrip('.')}." for topic in topics)
        return mind, " ".join(dict.fromkeys(facts[topic]["says"] for topic in topics))
    if heard.refuses:
        if mind.refused < goal["insists"]:
            return replace(mind, refused=mind.refused + 1), says["push"]
        return _go_on(script, mind, says, "dropped", "given_up")
    if (heard.reports and mind.agreed) or any(mentions(part, lexicon()["acts"][goal["act"]]) for part in heard.done):
        return _go_on(script, mind, says, "next", end)
    if heard.closes:
        if mind.agreed:
            return _go_on(script, mind, says, "next", end)
        return mind, f"{says['pending']} {goal['asks']}"
    if heard.asked or heard.offered:
        return mind, says["unknown"]
    if asks_leave:
        return mind, says["plan"]
    if heard.opens:
        return mind, goal["asks"]
    return mind, says["nod"] if heard.holds else says["lost"]


def is_wrong(text: str, check: Mapping[str, Any]) -> bool:
    """Whether a plan names something wrong in place of what is right, or some but not all of what belongs together."""
    named = [mentions(text, [phrase]) for phrase in check.get("all", ())]
    return (any(named) and not all(named)) or (mentions(text, check["wrong"]) and not mentions(text, check["right"]))


def _answers(act: str, sentence: str) -> bool:
    """Whether a sentence with a number is about what was asked: by its words, or as a sum of money."""
    return mentions(sentence, lexicon()["acts"][act]) or (act == "amount" and re.search(r"\$\d", sentence) is not None)


def _go_on(script: Script, mind: Mind, says: Mapping[str, str], before: str, end: str) -> tuple[Mind, str]:
    """To the next goal, or the end of the talk. A goal for the case of a refusal is left out when there was none."""
    goals = script["goals"]
    left = [n for n in range(mind.goal + 1, len(goals)) if before == "dropped" or not goals[n]["otherwise"]]
    if not left:
        return replace(mind, ended=True), says[end]
    return Mind(goal=left[0], hesitated=mind.hesitated), f"{says[before]} {goals[left[0]]['asks']}"
