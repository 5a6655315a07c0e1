"""Persuade without a model: user, judge, expert and the agents without skill.

User and judge take in what is said in the same way (`listening`), each from its own query. The judge alone marks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

from userrl.core import Action, Agent, Cast, Episode, Query, Task
from userrl.gyms.persuade import STANCES, TOP, Reply, ReplyAndStance, Stance, Verdict
from userrl.gyms.persuade.bank import REASON, Argument, Claim, claims, themes
from userrl.gyms.persuade.listening import SORTS, Heard, Kind, Mind, listen
from userrl.scripted import Acting, Scripted

CONVINCED = "You have changed my mind."
SAYS: Mapping[Kind, Sequence[str]] = {
    "moved": ("I had not seen it that way.", "That is a point, I admit.", "Well, there is something in that."),
    "unsure": ("Hmm, I am not sure that I follow. Can you say it in other words?",),
    "locked": ("That may be. But first of all:", "You skip something:"),
    "beside": ("That does not touch me much.", "Maybe so, but that is not my point."),
    "impatient": ("You do not listen to me.", "Again something that I never cared about."),
    "repeated": ("You have said that already.", "We have been through that."),
    "tired": ("You keep saying the same, and I only grow surer of my view.",),
    "rude": ("There is no need to be rude.", "If you talk like that, I stop listening."),
    "question": ("Since you ask:", "A good question."),
    "unclear": ("I do not see what you are getting at.", "I cannot follow you there."),
}
"""What a user says to each kind of message, taken in turn, before it says what matters to it."""
TERSE: Mapping[Kind, str] = {
    "moved": "True.",
    "unsure": "Meaning?",
    "locked": "First:",
    "beside": "No.",
    "impatient": "No! Listen.",
    "repeated": "Again?",
    "tired": "Stop repeating.",
    "rude": "Rude.",
    "question": "Well.",
    "unclear": "What?",
}


def cast(trait: str) -> Cast:
    """A hesitant user is unsure about the first argument that could move it, until it hears that one in other words."""
    hesitant = trait == "hesitant"

    def judge(query: Query[Verdict]) -> Verdict:
        _, heard = listen(query.facts, hesitant)
        return Verdict(stance=moved(query, heard), sort=SORTS[heard.kind])

    def reply(query: Query[Reply]) -> Reply:
        return Reply(words=words(query, *listen(query.facts, hesitant), query.facts["stance_now"], trait))

    def both(query: Query[ReplyAndStance]) -> ReplyAndStance:
        mind, heard = listen(query.facts, hesitant)
        now = moved(query, heard)
        return ReplyAndStance(words=words(query, mind, heard, now, trait), stance=now)

    return Cast(Scripted({"persuade.reply": reply, "persuade.both": both}), Scripted({"persuade.stance": judge}))


def moved(query: Query[Verdict] | Query[ReplyAndStance], heard: Heard) -> Stance:
    """The stance after a message."""
    return STANCES[min(TOP, max(0, STANCES.index(query.facts["stance"]) + heard.move))]


def words(query: Query[Reply] | Query[ReplyAndStance], mind: Mind, heard: Heard, now: Stance, trait: str) -> str:
    """What the user says: what it thinks of the message, and what matters to it, or what it wants acknowledged."""
    if now == STANCES[TOP]:
        return CONVINCED
    if STANCES.index(now) > STANCES.index(query.facts["stance"]):
        heard = Heard("moved", crowded=heard.crowded)
    says = TERSE[heard.kind] if trait == "terse" else SAYS[heard.kind][query.turn % len(SAYS[heard.kind])]
    if heard.crowded:
        says += " Too much." if trait == "terse" else " But you say too many things at once."
    if heard.kind == "unsure":
        return says
    if heard.missing == REASON and mind.reason:
        return f"{says} {mind.reason.text}"
    told = [says]
    if theme := _next_theme(mind, heard):
        told.append(f"{themes()[theme].word}." if trait == "terse" else themes()[theme].hints[query.turn % 2])
    if heard.kind == "question" and trait != "terse" and mind.reason:
        told.append(mind.reason.text)
    return " ".join(told)


def _next_theme(mind: Mind, heard: Heard) -> str:
    """What the user still wants to hear about: the theme of what an argument lacks, else what it cares about most."""
    left = mind.open_to
    return next((a.theme for a in left if a.key == heard.missing), left[0].theme if left else "")


# --- agents ------------------------------------------------------------------------------------------------------

ASKS = (
    "What matters most to you here, and why do you hold this view?",
    "What would you have to hear to see it another way?",
    "Which side of it do you care about?",
)
GENERIC = (
    "I think you are mistaken about this.",
    "Many people see it the other way.",
    "It costs too much money in the long run.",
    "It takes a lot of time that one could spend better.",
    "That is not fair to everyone.",
    "People should decide for themselves.",
    "It is bad for the environment and makes waste.",
    "The quality suffers from it.",
    "It is not safe for children and old people.",
    "One can learn more in another way.",
    "People do not feel well with it.",
    "It keeps friends and families apart.",
    "You cannot trust that to work.",
    "Experts have studied this and disagree with you.",
    "Please think about it again.",
    "What makes you so sure?",
)
"""What can be said about any claim."""


@dataclass
class Notes:
    """What an agent knows about its user, from its own words and the replies alone."""

    claim: Claim
    said: Counter[str] = field(default_factory=Counter)
    """Key of an argument -> how often it was said."""
    spent: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    """Arguments after which the user wanted something else acknowledged first."""
    unsure: str = ""
    """The argument that the user asked to hear in other words in its last reply."""
    hints: list[str] = field(default_factory=list)
    """Themes that the user named, the latest first."""
    reason: str = ""
    """The reason that the user gave in a reply."""
    acknowledged: bool = False


def read(episode: Episode) -> Notes | None:
    """The notes on an episode; None where the bank does not hold the claim."""
    claim = recognize(episode.task.prompt)
    if claim is None:
        return None
    notes = Notes(claim)
    for turn in episode.turns:
        found = claim.found_in(turn.action.text)
        key = next((a.key for a in found if a.key not in notes.spent), "")
        opening = _opening(turn.feedback)
        notes.acknowledged = notes.acknowledged or bool(notes.reason and notes.reason[1:] in turn.action.text)
        notes.unsure = key if opening == "unsure" else ""
        if key:
            notes.said[key] += 1
            (notes.locked if opening == "locked" else set() if opening == "unsure" else notes.spent).add(key)
        for theme in _named(turn.feedback):
            notes.hints.insert(0, theme)
        notes.reason = next((r.text for r in claim.reasons if r.text in turn.feedback), notes.reason)
    return notes


@lru_cache(maxsize=8192)
def recognize(prompt: str) -> Claim | None:
    """The claim that an opening states."""
    return max((c for text, c in claims().items() if text in prompt), key=lambda c: len(c.text), default=None)


def _opening(feedback: str) -> Kind | None:
    """How a scripted user took a message, from how its reply begins."""
    kinds: dict[str, Kind] = {says: kind for kind, options in SAYS.items() for says in (*options, TERSE[kind])}
    return next((kind for says, kind in kinds.items() if feedback.startswith(says)), None)


def _named(feedback: str) -> list[str]:
    """The themes that a reply names."""
    said = feedback.partition("\n")[0]
    return [name for name, t in themes().items() if said.endswith(f" {t.word}.") or any(hint in said for hint in t.hints)]


def expert(skill: float) -> Agent:
    """Asks what matters, then argues for just that, and acknowledges the user's reason once it is told.

    It looks the claim up in the public bank and reads the replies, never the hidden part. With probability 1 - skill
    a turn is a slip: it repeats itself, says something generic, says several things at once, or argues beside the point.
    """

    def act(episode: Episode) -> Action:
        rng, notes = episode.rng("expert"), read(episode)
        if notes is None or rng.random() >= skill:
            return _slip(episode, notes, rng)
        if not notes.hints and len(episode.turns) < len(ASKS):
            return Action("action", ASKS[len(episode.turns)])
        argument = _best(notes)
        if argument is None:
            return Action("action", ASKS[len(episode.turns) % len(ASKS)])
        text = argument.says[notes.said[argument.key] % len(argument.says)]
        if notes.reason and not notes.acknowledged:
            text = f"You are right: {notes.reason[0].lower()}{notes.reason[1:]} Still, {text[0].lower()}{text[1:]}"
        return Action("action", text)

    return Acting(act)


def _best(notes: Notes) -> Argument | None:
    """The argument that suits what the user said last, else before; the strongest of those that can be made now."""

    def ready(argument: Argument) -> bool:
        done = notes.spent | ({REASON} if notes.reason or argument.key not in notes.locked else set())
        return done.issuperset(argument.needs)

    left = [a for a in notes.claim.arguments if a.key not in notes.spent]
    for wanted in ([a for a in left if a.key == notes.unsure], *([a for a in left if a.theme == h] for h in notes.hints), left):
        if can := [a for a in wanted if ready(a)]:
            return max(can, key=lambda a: a.strength)
    return None


def _slip(episode: Episode, notes: Notes | None, rng: random.Random) -> Action:
    before = [turn.action.text for turn in episode.turns]
    if notes is None or (kind := rng.random()) < 0.5:
        return Action("action", rng.choice(GENERIC))
    if kind < 0.75 and before:
        return Action("action", rng.choice(before))
    beside = [a for a in notes.claim.arguments if a.theme not in notes.hints] or notes.claim.arguments
    several = rng.sample(beside, min(len(beside), 3 if kind < 0.9 else 1))
    return Action("action", " ".join(rng.choice(a.says) for a in several))


def baselines(tasks: Sequence[Task] = ()) -> Mapping[str, Agent]:
    """Agents without skill: none of them reads the task or the replies.

    `random` says anything of a fixed vocabulary; `fixed_list` goes down the best list for `tasks` (for all claims
    when there are none); `repeat_one` says its first entry again and again; `all_at_once` puts the whole list into
    one message; `blind_answer` only asks the user to change its mind.
    """

    @cache
    def best() -> Sequence[str]:
        return fitted_list(tasks)

    def random_words(episode: Episode) -> Action:
        return Action("action", episode.rng("random").choice(GENERIC))

    def fixed_list(episode: Episode) -> Action:
        return Action("action", best()[len(episode.turns) % len(best())])

    def repeat_one(episode: Episode) -> Action:
        return Action("action", best()[0])

    def all_at_once(episode: Episode) -> Action:
        return Action("action", " ".join(best()))

    def blind_answer(episode: Episode) -> Action:
        return Action("action", "You are wrong. Please change your mind.")

    plays: dict[str, Callable[[Episode], Action]] = {
        "random": random_words,
        "fixed_list": fixed_list,
        "repeat_one": repeat_one,
        "all_at_once": all_at_once,
        "blind_answer": blind_answer,
    }
    return {name: Acting(act) for name, act in plays.items()}


def fitted_list(tasks: Sequence[Task], size: int = 16) -> Sequence[str]:
    """Sentences of the bank that together would move the users of these tasks most, whatever their claim."""
    minds = Counter((t.hidden["claim"], tuple(t.hidden["cares"])) for t in tasks)
    return _best_sentences(tuple(minds.items()) or tuple(((text, tuple(themes())), 1) for text in claims()), size)


@lru_cache(maxsize=8)
def _best_sentences(minds: Sequence[tuple[tuple[str, Sequence[str]], int]], size: int) -> Sequence[str]:
    """Chosen one by one, each for what it adds to those before it."""
    worth: Counter[tuple[str, str]] = Counter()
    for (text, cares), count in minds:
        for argument in claims()[text].accepted(cares) if text in claims() else ():
            worth[text, argument.key] += 0 if argument.needs else count * argument.strength
    found = {
        says: {(text, made[0].key) for text in {text for text, _ in worth} if (made := claims()[text].found_in(says))}
        for says in (says for claim in claims().values() for argument in claim.arguments for says in argument.says)
    }
    chosen: list[str] = []
    for _ in range(size):
        chosen.append(max(found, key=lambda says: (sum(worth[arg] for arg in found[says]), says)))
        for arg in found.pop(chosen[-1]):
            del worth[arg]
    return tuple(chosen)
