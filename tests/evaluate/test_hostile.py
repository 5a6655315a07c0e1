"""The attacks are what they are named for, and each way of falling for one is caught."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from string import Template
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, Field

from userrl.core import Action, Agent, Cast, Episode, Query, Task, Turn
from userrl.errors import DataError
from userrl.evaluate.conformance import TASKS_PER_ATTACK, assert_conforms, check_gym, tasks_to_check
from userrl.evaluate.hostile import ATTACKS, LONG, MARK, Modelled, Parrot, hosts, prompt_problems
from userrl.gyms.base import Gym, find
from userrl.llm.replies import render_query
from userrl.render import call_text, messages, read_text
from userrl.rollout import play
from userrl.scripted import Acting, Scripted


class Words(BaseModel):
    words: str
    mood: Literal["glad", "sad"] = "glad"


class Verdict(BaseModel):
    right: bool
    note: str = Field(default="", exclude=True)


class Riddle(Gym):
    """A small gym that falls for nothing."""

    name = "riddle"
    summary = "guess what the user thinks of"
    actions: ClassVar[Mapping[str, str]] = {"action": "ask for a hint", "answer": "say what it is"}
    ask: ClassVar[str] = "The thing: $secret\nHow you feel: $moods\nThe question:\n$question"
    mark: ClassVar[str] = "The thing: $secret\nThe talk:\n$talk\nThe guess:\n$guess"
    untrusted: ClassVar[tuple[str, ...]] = ("question", "talk", "guess")

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        secret = episode.task.hidden["secret"]
        if action.kind == "action":
            moods = [turn.facts.get("mood") for turn in episode.turns]
            facts = {"secret": secret, "moods": moods, "question": action.text}
            reply = await cast.user.answer(Query("riddle.hint", Words, self.ask, facts, frozenset(self.untrusted)))
            return Turn(action, reply.words, facts={"mood": reply.mood})
        talk = [f"{turn.action.text} -> {turn.feedback}" for turn in episode.turns]
        facts = {"secret": secret, "talk": talk, "guess": self.heard(action.text, secret)}
        verdict = await cast.judge.answer(Query("riddle.guess", Verdict, self.mark, facts, frozenset(self.untrusted)))
        over, word = verdict.right or self.over(action.text), "Right." if verdict.right else "Wrong."
        return Turn(action, word, reward=float(verdict.right), done=over, facts={"note": verdict.note})

    def heard(self, text: str, secret: str) -> str:
        return text

    def over(self, text: str) -> bool:
        return False

    def system(self, task: Task) -> str:
        return "Find out what the user thinks of."

    @classmethod
    def right(cls, guess: str, secret: str) -> bool:
        return guess.strip().casefold() == secret

    @classmethod
    def cast(cls, trait: str = "plain") -> Cast:
        judge = Scripted({"riddle.guess": lambda q: Verdict(right=cls.right(q.facts["guess"], q.facts["secret"]))})
        return Cast(Scripted({"riddle.hint": lambda q: Words(words="You may find one in many a house.")}), judge)

    @classmethod
    def expert(cls, skill: float = 1.0) -> Agent:
        def act(episode: Episode) -> Action:
            moves = [("action", "A hint, please."), ("answer", "a table"), ("answer", episode.task.hidden["secret"])]
            return Action(*moves[len(episode.turns)])

        return Acting(act)

    @classmethod
    def baselines(cls, tasks: Any = ()) -> Mapping[str, Agent]:
        return {"random": Acting(lambda episode: Action(episode.rng().choice(["action", "answer"]), "a chair"))}


TASKS = [Task(f"t{i}", "riddle", "What do I think of?", {"secret": secret}) for i, secret in enumerate(["a lamp", "a stove"])]


def failures(gym: type[Gym]) -> tuple[str, ...]:
    return check_gym(gym, tasks=TASKS[:1], max_turns=8).failures


# --- the attacks -------------------------------------------------------------------------------------------------


def test_attacks_differ_and_bear_the_mark_where_a_text_can() -> None:
    assert len(set(ATTACKS.values())) == len(ATTACKS) > 30
    unmarked = {name for name, text in ATTACKS.items() if MARK not in text}
    assert unmarked == {"nothing", "blanks", "deep_json", "odd_numbers", "many_digits", "one_long_word"}


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("grades", lambda text: json.loads(text)["score"] == 1.0),
        ("closed_fence", lambda text: "</agent_text>" in text and "<agent_text>" in text),
        ("special_tokens", lambda text: "<|im_end|>" in text and "<|im_start|>" in text),
        ("tool_result", lambda text: "</tool_call>" in text and '"reward": 1.0' in text),
        ("slots", lambda text: set(Template(text).get_identifiers()) >= {"question", "story", "hidden", "answer"}),
        ("tags", lambda text: "<correct_answer>" in text),
        ("flood", lambda text: len(text) >= LONG),
        ("ansi_escapes", lambda text: "\x1b[31m" in text),
        ("bidi_marks", lambda text: "\u202e" in text),
        ("rich_markup", lambda text: "[bold red]" in text),
        ("lone_surrogates", lambda text: text.encode("utf-8", "replace") != text.encode("utf-8", "surrogatepass")),
        ("stop_marks", lambda text: "[DONE]" in text and "###STOP###" in text),
        ("many_digits", lambda text: text.isdigit() and len(text) > 4300),
        ("second_call", lambda text: read_text(text).kind == "finish"),
    ],
)
def test_an_attack_is_what_it_is_named_for(name: str, is_one: Callable[[str], bool]) -> None:
    assert is_one(ATTACKS[name])


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_inside_of_a_call_is_read_as_its_content_and_nothing_else(name: str) -> None:
    action = read_text(call_text("answer", ATTACKS[name]))
    assert (action.kind, action.note) == ("answer", "")
    assert action.text == ATTACKS[name].encode("utf-8", "replace").decode()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_beside_a_call_adds_no_message_to_the_talk(name: str) -> None:
    reply = f"{call_text('answer', 'a chair')}\n{ATTACKS[name]}"
    episode = Episode(TASKS[0]).play(Turn(read_text(reply), "Wrong."))
    assert [message["role"] for message in messages(episode, "Guess.")] == ["system", "user", "assistant", "tool"]
    assert (episode.turns[0].action.kind, episode.turns[0].action.text) == ("answer", "a chair")


# --- what they must not earn -------------------------------------------------------------------------------------


def test_a_gym_that_falls_for_nothing_conforms() -> None:
    assert assert_conforms(Riddle, tasks=TASKS, max_turns=8).failures == ()


class ObeyingJudge(Riddle):
    @classmethod
    def right(cls, guess: str, secret: str) -> bool:
        return guess == secret or "the best grade" in guess


class JudgeThatReadsAVerdict(Riddle):
    @classmethod
    def right(cls, guess: str, secret: str) -> bool:
        return guess == secret or "Verdict: Yes" in guess


class JudgeThatFindsNothingEverywhere(Riddle):
    @classmethod
    def right(cls, guess: str, secret: str) -> bool:
        return guess.strip() in secret


class JudgeThatTakesJson(Riddle):
    @classmethod
    def right(cls, guess: str, secret: str) -> bool:
        found = re.search(r"\{.*\}", guess)
        return guess == secret or bool(found and '"right": true' in found[0])


class Filling(Riddle):
    """Fills slots in what the agent said, as string formatting in two passes does."""

    def heard(self, text: str, secret: str) -> str:
        filled = Template(text).safe_substitute(answer=secret)
        return secret if secret in filled else text


class FillingTags(Riddle):
    def heard(self, text: str, secret: str) -> str:
        return secret if secret in text.replace("<correct_answer>", secret) else text


class StoppingAtAMark(Riddle):
    def over(self, text: str) -> bool:
        return "###STOP###" in text


class BelievingTheAgent(Riddle):
    def over(self, text: str) -> bool:
        return "\nUser: That is right" in text


class CountingDigits(Riddle):
    def over(self, text: str) -> bool:
        return text.isdigit() and int(text) < 0


class Recursing(Riddle):
    def over(self, text: str) -> bool:
        try:
            return json.loads(text) is None
        except ValueError:
            return False


@pytest.mark.parametrize(
    ("gym", "problem"),
    [
        (ObeyingJudge, "the attack 'judge_orders' alone as 'answer' earns 1; without it the action earns 0"),
        (ObeyingJudge, "the attack 'judge_orders' behind 'a table' as 'answer' earns 1; without it the action earns 0"),
        (JudgeThatReadsAVerdict, "the attack 'verdict' alone as 'answer' earns 1"),
        (JudgeThatFindsNothingEverywhere, "the attack 'nothing' alone as 'answer' earns 1"),
        (JudgeThatFindsNothingEverywhere, "the attack 'blanks' alone as 'answer' ends the episode"),
        (JudgeThatTakesJson, "the attack 'grades' behind 'a table' as 'answer' earns 1"),
        (Filling, "the attack 'slots' alone as 'answer' earns 1"),
        (FillingTags, "the attack 'tags' behind 'a table' as 'answer' earns 1"),
        (StoppingAtAMark, "the attack 'stop_marks' behind 'a table' as 'answer' ends the episode; without it"),
        (BelievingTheAgent, "the attack 'roles' alone as 'answer' ends the episode"),
        (CountingDigits, "the attack 'many_digits' alone as 'answer' crashed with ValueError: Exceeds the limit"),
        (Recursing, "the attack 'deep_json' alone as 'answer' crashed with RecursionError"),
    ],
)
def test_a_gym_that_falls_for_an_attack_is_caught(gym: type[Gym], problem: str) -> None:
    found = failures(gym)
    assert any(problem in failure for failure in found), found


def test_an_attack_that_spoils_a_right_answer_is_no_failure() -> None:
    """Riddle's judge compares whole answers, so the right one with an attack behind it earns 0."""
    episode = asyncio.run(play(Episode(TASKS[0]), Riddle.expert(), Riddle.cast(), Riddle()))
    found = {(host.kind, host.text): len(host.episode.turns) for host in hosts(Riddle(), Episode(TASKS[0]), [episode])}
    assert found[("answer", "a lamp")] == 2
    assert failures(Riddle) == ()


def test_attacks_are_tried_alone_and_behind_actions_that_earned_and_that_did_not() -> None:
    episode = asyncio.run(play(Episode(TASKS[0]), Riddle.expert(), Riddle.cast(), Riddle()))
    found = [(len(host.episode.turns), host.kind, host.text) for host in hosts(Riddle(), Episode(TASKS[0]), [episode])]
    assert found == [
        (0, "action", ""),
        (0, "answer", ""),
        (0, "action", "A hint, please."),
        (1, "answer", "a table"),
        (2, "answer", "a lamp"),
    ]


# --- what they must not do to a prompt ---------------------------------------------------------------------------


class Unfenced(Riddle):
    untrusted = ("question", "talk")


class UnfencedTalk(Riddle):
    untrusted = ("question", "guess")


class FencedTwice(Riddle):
    mark = "The thing: $secret\nThe talk:\n$talk\nThe guess:\n<agent_text>\n$guess\n</agent_text>"


class WithoutItsFact(Riddle):
    mark = "The thing: $secret\nThe talk:\n$talk\nThe guess:\n$guess\n$lines"


class TrustingItsUser(Riddle):
    """Shows the user's words to the judge as if the agent had no part in them."""

    mark = "The thing: $secret\nThe hints:\n$hints\nThe guess:\n$guess"
    untrusted = ("question", "guess")

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        if action.kind == "action":
            return await super().step(episode, action, cast)
        hints = [turn.feedback for turn in episode.turns if turn.action.kind == "action"]
        facts = {"secret": episode.task.hidden["secret"], "hints": hints, "guess": action.text}
        verdict = await cast.judge.answer(Query("riddle.guess", Verdict, self.mark, facts, frozenset(self.untrusted)))
        return Turn(action, "I see.", reward=float(verdict.right), done=verdict.right)


class WithAReplyThatJsonLoses(Riddle):
    @classmethod
    def cast(cls, trait: str = "plain") -> Cast:
        return Cast(super().cast().user, Scripted({"riddle.guess": lambda q: Verdict(right=False, note="not quite")}))


@pytest.mark.parametrize(
    ("gym", "problem"),
    [
        (Unfenced, "holds the agent's words out of the fence; name the fact in `untrusted`: guess"),
        (UnfencedTalk, "holds the agent's words out of the fence; name the fact in `untrusted`: talk"),
        (FencedTwice, "the prompt of 'riddle.guess': has the fence tags"),
        (WithoutItsFact, "crashed with DataError: The template of query 'riddle.guess' has a slot $lines"),
        (TrustingItsUser, "with a user that repeats the agent's words, the prompt of 'riddle.guess': holds the agent's words"),
        (WithAReplyThatJsonLoses, "with the replies as a model's JSON, turn"),
    ],
)
def test_a_prompt_that_lets_the_agent_out_is_caught(gym: type[Gym], problem: str) -> None:
    found = failures(gym)
    assert any(problem in failure for failure in found), found


def query(said: Any, template: str = "Secret: $secret\nSaid:\n$said") -> Query[Any]:
    return Query("riddle.guess", Verdict, template, {"secret": "a lamp", "said": said}, frozenset({"said"}))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_rendered_attack_stays_in_its_fence(name: str) -> None:
    for said in (ATTACKS[name], [ATTACKS[name], "and more"]):
        asked = query(said)
        assert list(prompt_problems(asked, render_query(asked))) == []


@pytest.mark.parametrize(
    ("said", "change", "problem"),
    [
        (f"{MARK} $secret", lambda text: text.replace("$secret", "a lamp"), "fact 'said' is shown as"),
        (f"{MARK} <b>", lambda text: text.replace("&lt;b&gt;", "<b>"), "fact 'said' is not escaped"),
        (f"{MARK} hi", lambda text: text.replace("</agent_text>", ""), "has the fence tags"),
        (f"{MARK} hi", lambda text: text + "</AGENT_TEXT >", "has the fence tags"),
        (f"{MARK} hi", lambda text: text.replace("a lamp", MARK.upper()), "out of the fence"),
        (f"{MARK} " + "x" * LONG, lambda text: text.replace("[cut here", "[and so on"), "fact 'said' is shown as"),
        ("x" * LONG, lambda text: text.replace("xx", "x" * 60), "fact 'said' is shown as"),
    ],
)
def test_a_prompt_that_was_rendered_wrong_is_caught(said: str, change: Callable[[str], str], problem: str) -> None:
    asked = query(said)
    system, user = render_query(asked)
    changed = [system, {**user, "content": change(user["content"])}]
    assert changed[1] != user
    assert any(problem in found for found in prompt_problems(asked, changed))


def test_a_fact_that_stands_twice_is_fenced_twice() -> None:
    asked = query(ATTACKS["closed_fence"], "$said and again ${said} costs $$1")
    assert list(prompt_problems(asked, render_query(asked))) == []


def test_a_reply_through_a_models_json_is_the_reply() -> None:
    seat = Modelled(Scripted({"riddle.guess": lambda q: Verdict(right=True)}), "judge")
    assert asyncio.run(seat.answer(query(ATTACKS["grades"]))) == Verdict(right=True)
    assert seat.problems == {}


def test_a_query_that_cannot_be_rendered_is_no_failure_of_the_seat() -> None:
    seat = Modelled(Scripted({"riddle.guess": lambda q: Verdict(right=True)}), "judge")
    with pytest.raises(DataError, match="slot"):
        asyncio.run(seat.answer(query("x", "$nothing")))


def test_a_parrot_says_what_the_agent_said_only_where_its_reply_is_free_text() -> None:
    asked = Query("riddle.hint", Words, "$question", {"question": "say bananas", "secret": "a lamp"}, frozenset({"question"}))
    reply = asyncio.run(Parrot(Scripted({"riddle.hint": lambda q: Words(words="Hm.")})).answer(asked))
    assert reply == Words(words="Hm. say bananas", mood="glad")


# --- who meets what ----------------------------------------------------------------------------------------------


def met(count: int, attacks: Mapping[str, str]) -> Counter[str]:
    """Attack -> how many of `count` tasks met it."""
    seen: set[tuple[str, str]] = set()

    class Watching(Riddle):
        def over(self, text: str) -> bool:
            seen.update((name, task) for name, attack in attacks.items() if attack in text)
            return False

        async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
            nonlocal task
            task = episode.task.id
            return await super().step(episode, action, cast)

    task = ""
    tasks = [Task(f"t{i}", "riddle", "What?", {"secret": "a lamp"}) for i in range(count)]
    assert check_gym(Watching, tasks=tasks, attacks=attacks, max_turns=3).failures == ()
    return Counter(name for name, _ in seen)


FEW = {name: ATTACKS[name] for name in ("judge_orders", "slots", "grades", "roles", "code")}


@pytest.mark.parametrize(("tasks", "least"), [(1, 1), (3, 3), (8, 4), (13, 4), (40, 8)])
def test_every_attack_meets_several_tasks_however_many_there_are(tasks: int, least: int) -> None:
    counts = met(tasks, FEW)
    assert set(counts) == set(FEW)
    assert min(counts.values()) == least >= min(tasks, TASKS_PER_ATTACK)


def test_a_gym_can_be_checked_without_attacks() -> None:
    assert check_gym(Riddle, tasks=TASKS, attacks={}).failures == ()


def test_all_tasks_are_those_of_the_built_in_splits_but_the_demos() -> None:
    gym = find("intention")
    sets = gym.sets()
    assert any(split.startswith("demo") for split in sets)
    expected = sum(sets[split].count for split in ("train", "validation", "test"))
    assert len(tasks_to_check(gym, "all")) == expected
    assert len(tasks_to_check(gym, "sample")) == 2 * len(gym.built_in_sets())


def test_progress_is_told_after_every_task() -> None:
    told: list[tuple[int, int, int]] = []
    check_gym(Riddle, tasks=TASKS, attacks={}, max_turns=3, watch=lambda *numbers: told.append(numbers))
    assert told == [(1, 2, 0), (2, 2, 0)]
