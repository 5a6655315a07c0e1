"""Turtle without a model: user, judge, expert and the agents without skill.

The user and the judge go by words, in any form and with synonyms that the content file lists (data sheet); they
understand nothing. The expert knows the content file's questions and looks a story up by what it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TypeAlias

from userrl.core import Action, Agent, Cast, Episode, Query, Task
from userrl.errors import ReplyError
from userrl.gyms.turtle import Grades, Reply, Word
from userrl.gyms.turtle.generate import content, tasks
from userrl.gyms.turtle.words import FUNCTION_WORDS, concepts, mentioned, stem, stems, words
from userrl.scripted import Acting, Scripted

Fact: TypeAlias = tuple[str, Reply]
"""The words that a question about it mentions (or the key of a common fact), and the reply."""

MAX_QUESTION_WORDS = 40
"""A longer question gets Maybe."""
MAX_TOLD_WORDS = 150
"""Words of a telling that the scripted judge reads; the system message asks for no more."""
MIN_OWN_WORDS = 0.3
"""Share of a telling's words (without function words) that must be the story's own, or it covers nothing."""

MIN_FUNCTION_WORDS = 0.2
"""Share of a telling's words that must be function words, as in any sentence: loose words cover nothing."""

OPEN_QUESTION = {"who", "whom", "whose", "what", "when", "where", "which", "why", "how"}
NEGATION = {"not", "never", "no", "nobody", "none", "nothing", "without", "neither", "nor", "cannot"}


def cast(trait: str) -> Cast:
    user = Scripted({"turtle.question": lambda query: Word(word=reply(query, trait))})
    return Cast(user, Scripted({"turtle.grade": grade}))


# --- the user ----------------------------------------------------------------------------------------------------


def reply(query: Query[Word], trait: str) -> Reply:
    """Yes or No when the question is understood and known, else Maybe.

    A hesitant user says Maybe the first time something is asked, and answers when it is asked again. The reply is
    one word, so that a terse user talks as a plain one.
    """
    own = tuple((fact["words"], fact["reply"]) for fact in query.facts["facts"])
    common = tuple(query.facts["common"].items())
    if not own and not common:
        raise ReplyError("This story has no facts for the scripted user to answer from; let a model be the user.")

    def meaning_of(question: str) -> Fact | None:
        return understood(tuple(words(question, MAX_QUESTION_WORDS + 1)), own, common)

    meant = meaning_of(query.facts["question"])
    if meant is None:
        return "Maybe"
    if trait == "hesitant" and all(meaning_of(asked) != meant for asked in query.facts["asked"]):
        return "Maybe"
    return meant[1]


@lru_cache(maxsize=2048)
def understood(asked: tuple[str, ...], own: tuple[Fact, ...], common: tuple[Fact, ...]) -> Fact | None:
    """Which fact a question is about: the first of those with the most concepts, all of which it must mention.

    A common fact counts only when no own one is mentioned, and a Yes of it only for the bare question: that a child
    matters does not mean that the child did it. None when there is none, when equally good ones differ in their reply,
    and for questions that cannot be answered by yes or no, that hold a negation, or that are too long.

    Args:
        asked: the question's words, as far as they were read.
        own: words and reply of each of the story's facts.
        common: key in the content file's table of common questions, and reply.
    """
    if not asked or len(asked) > MAX_QUESTION_WORDS or asked[0] in OPEN_QUESTION:
        return None
    if any(word in NEGATION or word.endswith("n't") for word in asked):
        return None
    text = stems(asked)
    sizes = {fact: len(concepts(fact[0])) for fact in own if all(mentioned(text, concept) for concept in concepts(fact[0]))}
    best = [fact for fact, size in sizes.items() if size == max(sizes.values())]
    if not best:
        meaning = frozenset(stem(word) for word in asked if word not in FUNCTION_WORDS)
        best = [(key, said) for key, said in common if _is_about(key, text, meaning, bare=said != "No")]
    return best[0] if len({said for _, said in best}) == 1 else None


def _is_about(key: str, text: str, meaning: frozenset[str], *, bare: bool) -> bool:
    """Whether a question is about a common fact and, if it must be bare, about nothing else."""
    if key not in content()["common"]:
        return False
    synonyms = content()["common"][key][1]
    return mentioned(text, concepts(synonyms)[0]) and (not bare or meaning <= vocabulary(synonyms, content()["bare"]))


# --- the judge ---------------------------------------------------------------------------------------------------


def grade(query: Query[Grades]) -> Grades:
    """1 for a line all of whose concepts are told, 0.5 when at least half of them are, else 0.

    Only the first `MAX_TOLD_WORDS` words count. Nothing is covered by a telling that is mostly about something else
    (`MIN_OWN_WORDS`) or that is no sentences (`MIN_FUNCTION_WORDS`): listing words is not telling a story.
    """
    rubric = query.facts["words"]
    if not all(rubric):
        raise ReplyError("This story's rubric has no words for the scripted judge to go by; let a model be the judge.")
    told = words(query.facts["told"], MAX_TOLD_WORDS)
    own = vocabulary(query.facts["surface"], query.facts["story"], *rubric)
    if not reads_like(told, own):
        return query.reply(grades=[0.0] * len(rubric))
    text = stems(told)
    return query.reply(grades=[line_grade(text, line) for line in rubric])


def line_grade(text: str, line: str) -> float:
    """The grade of one line for a text of stems."""
    hits = [mentioned(text, concept) for concept in concepts(line)]
    return 1.0 if all(hits) else 0.5 if 2 * sum(hits) >= len(hits) else 0.0


@cache
def vocabulary(*texts: str) -> frozenset[str]:
    """The stems of texts, without function words."""
    return frozenset(stem(word) for text in texts for word in words(text) if word not in FUNCTION_WORDS)


def reads_like(told: Sequence[str], own: frozenset[str]) -> bool:
    """Whether words are sentences (by their share of function words) about a story of that vocabulary."""
    meaning = [stem(word) for word in told if word not in FUNCTION_WORDS]
    if not meaning or len(told) - len(meaning) < MIN_FUNCTION_WORDS * len(told):
        return False
    return sum(word in own for word in meaning) >= MIN_OWN_WORDS * len(meaning)


# --- agents ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lead:
    """A hypothesis: how to ask for it, and how to tell it when it proves right."""

    question: str
    sentence: str


@cache
def bank() -> Mapping[str, Sequence[Lead]]:
    """Surface -> the hypotheses worth asking, right and wrong ones, without the replies."""
    return {story["surface"]: [Lead(lead[0], lead[3]) for lead in story["leads"]] for story in content()["story"]}


@cache
def common_questions() -> Sequence[str]:
    return [question for question, _ in content()["common"].values()]


def expert(skill: float) -> Agent:
    """Asks hypotheses about the story, each at most twice, then tells those that got a Yes.

    The hypotheses come from the content file, found by the surface: this agent knows the built-in stories' questions
    as a person who has thought hard would, not their answers. With an unknown story it asks common questions and
    retells the surface. It sees only the surface and the turns.

    skill: the chance (drawn once an episode) of each hypothesis to come to its mind, and of each turn to be no slip.
    A slip asks something vague, repeats a question, or tells what it has too early.
    """

    def act(episode: Episode) -> Action:
        rng, nature = episode.rng("expert"), replace(episode, turns=()).rng("nature")
        leads = [lead for lead in bank().get(episode.task.prompt, ()) if nature.random() < skill]
        asked = [turn.action.text for turn in episode.turns if turn.action.kind == "action"]
        replies = {turn.action.text: turn.feedback for turn in episode.turns if turn.action.kind == "action"}
        confirmed = [lead.sentence for lead in leads if replies.get(lead.question) == "Yes"]
        story = " ".join(confirmed) or episode.task.prompt
        if rng.random() >= skill:
            slips = [Action("action", rng.choice(VAGUE)), Action("answer", story)]
            return rng.choice([*slips, Action("action", rng.choice(asked))] if asked else slips)
        unsettled = [lead for lead in leads if replies.get(lead.question, "Maybe") == "Maybe" and asked.count(lead.question) < 2]
        told = any(turn.action.text == story for turn in episode.turns if turn.action.kind == "answer")
        last = len(episode.turns) == episode.max_turns - 1
        if last or (confirmed and not unsettled and not told):
            return Action("answer", story)
        if unsettled:
            return Action("action", unsettled[0].question)
        return Action("action", rng.choice([q for q in common_questions() if q not in asked] or common_questions()))

    return Acting(act)


VAGUE = ("Is there more to it?", "Am I on the right track?", "Is that all there is?", "Should I know something else?")
"""What a slip asks; the scripted user understands none of it."""


VOCABULARY = (
    "Did anyone die?", "Is it about money?", "Was it done on purpose?", "Is a child involved?", "Was it a mistake?",
    "Does the place matter?", "Somebody had a secret.", "It was only a dream.", "Two people loved each other.",
    "A thief had taken it away.", "Nobody knew the truth.", "It happened by chance.",
)  # fmt: skip
"""What the random baseline says, as questions and as tellings: words that fit any story, taken from none."""


def baselines(chosen: Sequence[Task] = ()) -> Mapping[str, Agent]:
    """Agents without skill.

    `random` asks or tells anything of a fixed vocabulary that knows no story; `blind_answer` tells the surface; `word_salad`
    tells all concepts of all stories at once (of `chosen`, when given), then piece by piece, as much as the judge reads;
    `known_stories` tells what is behind the training stories (or `chosen`), two at a time, whatever it is asked.
    """
    every_word, one_each = salad(chosen or tasks())
    pieces = [" ".join(one_each[i : i + MAX_TOLD_WORDS]) for i in range(0, len(one_each), MAX_TOLD_WORDS)]

    def random_move(episode: Episode) -> Action:
        rng = episode.rng("random")
        return Action(rng.choice(("action", "answer")), rng.choice(VOCABULARY))

    def word_salad(episode: Episode) -> Action:
        turn = len(episode.turns)
        return Action("answer", pieces[(turn - 1) % len(pieces)] if turn else every_word)

    rubrics = [" ".join(line["line"] for line in task.hidden["rubric"]) for task in chosen or tasks("train")]
    pairs = [" ".join(rubrics[i : i + 2]) for i in range(0, len(rubrics), 2)]

    return {
        "random": Acting(random_move),
        "blind_answer": Acting(lambda episode: Action("answer", episode.task.prompt)),
        "word_salad": Acting(word_salad),
        "known_stories": Acting(lambda episode: Action("answer", pairs[len(episode.turns) % len(pairs)])),
    }


def salad(chosen: Sequence[Task]) -> tuple[str, list[str]]:
    """All synonyms of all concepts in the tasks' rubrics as one text, and the words of the first synonym of each."""
    rubrics = [line["words"] for task in chosen for line in task.hidden["rubric"]]
    parts = [part.split("/") for line in rubrics for part in line.split(";")]
    return " ".join(synonym.strip() for part in parts for synonym in part), [w for part in parts for w in words(part[0])]
