"""The conformance test passes a gym that keeps its promises and catches every promise broken."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from userrl.core import Action, Agent, Cast, Episode, Query, Task, Turn
from userrl.errors import ReplyError, SeatError
from userrl.evaluate.conformance import Report, _unlike, assert_conforms, check_gym, choices
from userrl.gyms.base import Gym
from userrl.gyms.telepathy import Telepathy
from userrl.scripted import Acting, Scripted


class Words(BaseModel):
    words: str


class Verdict(BaseModel):
    right: bool


class Riddle(Gym):
    """A small gym that keeps every promise."""

    name = "riddle"
    summary = "guess what the user thinks of"
    actions: ClassVar[Mapping[str, str]] = {"action": "ask for a hint", "answer": "say what it is"}
    labels = ("hint", "right", "wrong")

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        hidden = episode.task.hidden
        if action.kind == "action":
            reply = await cast.user.answer(Query("riddle.hint", Words, "", {"hint": hidden["hint"]}))
            hints = episode.best("hints") + 1
            return Turn(action, reply.words, label="hint", reveals=(hidden["hint"],), facts={"hints": hints})
        verdict = await cast.judge.answer(Query("riddle.guess", Verdict, "", {"guess": action.text, "secret": hidden["secret"]}))
        if verdict.right:
            return Turn(action, "Right.", reward=1.0, done=True, label="right")
        return Turn(action, "Wrong.", label="wrong")

    def system(self, task: Task) -> str:
        return "Find out what the user thinks of."

    @classmethod
    def cast(cls, trait: str = "plain") -> Cast:
        return Cast(
            Scripted({"riddle.hint": lambda q: Words(words=q.facts["hint"])}),
            Scripted({"riddle.guess": lambda q: Verdict(right=q.facts["secret"] in q.facts["guess"])}),
        )

    @classmethod
    def expert(cls, skill: float = 1.0) -> Agent:
        def act(episode: Episode) -> Action:
            return Action("answer", episode.task.hidden["secret"]) if episode.turns else Action("action", "A hint, please.")

        return Acting(act)

    @classmethod
    def baselines(cls) -> Mapping[str, Agent]:
        return {"random": Acting(lambda episode: Action(episode.rng().choice(["action", "answer"]), "a lighthouse"))}


TASKS = [
    Task("keeper", "riddle", "What am I thinking of?", {"secret": "the lighthouse keeper", "hint": "He lives beside the sea."}),
    Task("baker", "riddle", "What do I think of?", {"secret": "the baker's daughter", "hint": "She is up before all others."}),
]


def report(gym: type[Gym], **options: Any) -> Report:
    return check_gym(gym, tasks=TASKS, max_turns=6, **options)


def test_a_gym_that_keeps_its_promises_conforms() -> None:
    result = assert_conforms(Riddle, tasks=TASKS, max_turns=6)
    assert result.failures == ()
    assert result.tasks == 2
    assert result.episodes > 2 * 2
    assert result.turns > result.episodes


def test_a_failing_gym_fails_the_assertion_with_what_was_wrong() -> None:
    with pytest.raises(AssertionError, match=r"(?s)Gym 'riddle' fails .* hidden text 'the lighthouse keeper'"):
        assert_conforms(Leaking, tasks=TASKS)


def test_a_gym_without_tasks_does_not_pass_for_want_of_trying() -> None:
    assert check_gym(Riddle, tasks=[]).failures == ("there are no tasks to play",)


# --- one broken gym for each promise -------------------------------------------------------------------------


def changing(name: str, value: Any) -> type[Riddle]:
    """Riddle whose turns carry another value in a field."""

    class Changed(Riddle):
        async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
            turn = await super().step(episode, action, cast)
            fields = {field: getattr(turn, field) for field in Turn.__dataclass_fields__}
            return Turn(**{**fields, name: value})

    return Changed


class Leaking(Riddle):
    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        return Turn(action, f"No. (It is  The Lighthouse\nKeeper, {episode.task.id}.)", label="wrong")


class LeakingASentence(Riddle):
    """The hint, which is one sentence of a longer hidden text."""

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        return Turn(action, episode.task.hidden["story"].split(". ")[0] + ".", label="wrong")


class LeakingInTheSystemMessage(Riddle):
    def system(self, task: Task) -> str:
        return f"Find out what the user thinks of. Not for you: {task.hidden['secret']}"


class OfTwoRooms(Riddle):
    """Tells each task the rules of its room, in which words of some hidden parts occur."""

    def system(self, task: Task) -> str:
        return "By the sea you may meet the lighthouse keeper." if "sea" in task.hidden["hint"] else "In town nobody is alone."


class PayingTooOften(Riddle):
    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        return Turn(action, "Fine.", reward=0.6)


class Counting(Riddle):
    """Keeps state beside the episode."""

    count = 0

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        self.count += 1
        return Turn(action, f"This is question {self.count}.")


class Dicing(Riddle):
    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        return Turn(action, f"I say {random.random()}.")


class Encoding(Riddle):
    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        action.text.encode("utf-8")
        return await super().step(episode, action, cast)


class Formatting(Riddle):
    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        action.text.format()
        return await super().step(episode, action, cast)


class EndingOnInvalid(Riddle):
    def refuse(self, action: Action) -> Turn:
        return Turn(action, "Out.", done=True)


class PayingForInvalid(Riddle):
    def refuse(self, action: Action) -> Turn:
        return Turn(action, "Thanks.", reward=0.1)


class SilentOnInvalid(Riddle):
    def refuse(self, action: Action) -> Turn:
        return Turn(action, "")


class CrashingOnInvalid(Riddle):
    def refuse(self, action: Action) -> Turn:
        return Turn(action, self.actions[action.kind])


class Swallowing(Riddle):
    """Scores a failed user or judge 0, as the original does."""

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        try:
            return await super().step(episode, action, cast)
        except SeatError:
            return Turn(action, "Sorry?")


class Masking(Riddle):
    """Turns a failed user or judge into something that looks like a bug."""

    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        try:
            return await super().step(episode, action, cast)
        except SeatError as error:
            raise KeyError("reply") from error


class SayingBoth(Riddle):
    def ended(self, episode: Episode) -> tuple[bool, bool]:
        return True, True


class WithAFailingJudge(Riddle):
    @classmethod
    def cast(cls, trait: str = "plain") -> Cast:
        def fail(query: Query[Any]) -> Any:
            raise ReplyError("I cannot tell.")

        return Cast(super().cast().user, Scripted({"riddle.guess": fail}))


@pytest.mark.parametrize(
    ("gym", "problem"),
    [
        (Leaking, "feeds back the hidden text 'the lighthouse keeper' without naming it in `reveals`"),
        (changing("reveals", ()), "feeds back the hidden text 'he lives beside the sea.'"),
        (LeakingInTheSystemMessage, "the system message: holds the hidden text 'the lighthouse keeper' of task keeper"),
        (changing("reward", 2.0), "has reward 2.0; expected a finite number from 0.0 to 1.0"),
        (changing("reward", -0.5), "has reward -0.5"),
        (changing("reward", float("nan")), "has reward nan"),
        (changing("reveals", ("the baker's son",)), 'names "the baker\'s son" in `reveals`, but its feedback does not hold it'),
        (PayingTooOften, "rewards sum to 3.6, above `reachable`, 1"),
        (changing("label", "odd"), "has the label 'odd', which is not in the gym's `labels`"),
        (SayingBoth, "`ended` says (terminated, truncated) = (True, True)"),
        (changing("facts", {"seen": (1, 2)}), "is another after JSON"),
        (changing("facts", {1: "one"}), "is another after JSON"),
        (changing("reveals", "abc"), "is another after JSON"),
        (changing("facts", {"seen": {1, 2}}), "cannot be written as JSON"),
        (Counting, "replayed, is another"),
        (Dicing, "replayed, is another"),
        (Encoding, "crashed with UnicodeEncodeError"),
        (Formatting, "crashed with ValueError"),
        (EndingOnInvalid, "an invalid action, has reward 0.0 and done=True"),
        (PayingForInvalid, "an invalid action, has reward 0.1 and done=False"),
        (SilentOnInvalid, "an invalid action, has no feedback"),
        (CrashingOnInvalid, "crashed with KeyError"),
        (Swallowing, "with a failing user: the user failed, but the episode went on"),
        (Swallowing, "with a failing judge: the judge failed, but the episode went on"),
        (Masking, "with a failing judge: crashed with KeyError"),
        (WithAFailingJudge, "ended as an error although nobody was made to fail: "),
    ],
)
def test_a_broken_promise_is_caught(gym: type[Gym], problem: str) -> None:
    failures = report(gym).failures
    assert any(problem in failure for failure in failures), failures


class TellingTheTitle(Telepathy):
    async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
        turn = await super().step(episode, action, cast)
        return replace(turn, feedback=f"{turn.feedback} (it is {episode.task.hidden['title'].upper()})")


TellingTheTitle.__module__ = Telepathy.__module__


def test_a_short_text_that_the_gym_declares_as_a_secret_is_caught() -> None:
    tasks = [Task(title, "telepathy", "?", {"title": title, "category": "an animal"}) for title in ("lion", "elephant")]
    failures = check_gym(TellingTheTitle, tasks=tasks, attacks={}).failures
    for title in ("lion", "elephant"):
        assert any(f"feeds back the hidden text '{title}'" in failure for failure in failures), failures


@pytest.mark.parametrize(
    ("told", "leak"), [("A RED-nosed one.", True), ("It is tired.", False), ("It is blue.", True), ("No.", False)]
)
def test_a_secret_is_looked_for_as_whole_words_in_texts_and_in_lists(told: str, leak: bool) -> None:
    class Telling(Riddle):
        secrets = ("secret", "aliases")

        async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
            return Turn(action, told)

    task = Task("color", "riddle", "What color?", {"secret": "red", "aliases": ["blue", "no"], "hint": "-"})
    assert any("feeds back the hidden text" in f for f in check_gym(Telling, tasks=[task]).failures) == leak
    given = replace(task, prompt="Is it red, or is it blue?")
    assert not check_gym(Telling, tasks=[given]).failures


def test_a_system_message_shared_with_tasks_that_hide_something_else_tells_nothing() -> None:
    other = replace(TASKS[0], id="gull", hidden={"secret": "a seagull", "hint": "It flies beside the sea."})
    assert not check_gym(OfTwoRooms, tasks=[*TASKS, other]).failures
    [failure] = check_gym(OfTwoRooms, tasks=TASKS).failures
    assert "holds the hidden text 'the lighthouse keeper' of task keeper" in failure


def test_a_sentence_of_a_longer_hidden_text_is_caught() -> None:
    story = "The keeper went up the stairs every night. The lamp had gone out."
    task = Task("story", "riddle", "What happened?", {"story": story, "secret": "lamp", "hint": "-"})
    failures = check_gym(LeakingASentence, tasks=[task]).failures
    assert any("'the keeper went up the stairs every night.'" in failure for failure in failures)


def test_each_failure_says_who_played_which_task() -> None:
    failures = report(changing("label", "odd")).failures
    played = {f"{who} on task {task.id}" for who in ("expert", "random") for task in TASKS}
    assert {failure.split(":")[0] for failure in failures} >= played


def test_what_the_prompt_or_the_agent_says_is_no_leak() -> None:
    class Echoing(Riddle):
        async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
            return Turn(action, f"You said {action.text}. I said {episode.task.prompt}")

    hidden = {"secret": "the lighthouse keeper", "hint": "a hint about the sea"}
    task = Task("told", "riddle", "Is it the lighthouse keeper?", hidden)
    assert check_gym(Echoing, tasks=[task]).failures == ()


def test_the_settings_of_a_gym_reach_the_rules() -> None:
    class Priced(Riddle):
        settings: ClassVar[Mapping[str, Any]] = {"price": 0.0}

        async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
            return Turn(action, "Fine.", reward=-self.config["price"])

    assert report(Priced).failures == ()
    assert any("has reward -1.0" in failure for failure in report(Priced, rules={"price": 1.0}).failures)


def test_a_choice_must_say_whom_it_goes_to() -> None:
    class Asking(Riddle):
        actions: ClassVar[Mapping[str, str]] = {"action": "ask", "answer": "say", "look_up": "read", "search": "find"}

    class Declared(Asking):
        voices: ClassVar[Mapping[str, str]] = {"look_up": "handbook"}

    class Mistaken(Declared):
        asks = ("aks",)

    class Text(Declared):
        answers = "answer"  # type: ignore[assignment]

    [problem] = choices(Asking)
    assert problem.startswith("the choice 'look_up' is in none of `asks` (said to the user")
    assert list(choices(Declared)) == []
    assert any("`asks` names 'aks', which is no choice" in problem for problem in choices(Mistaken))
    assert any("`answers` is the text 'answer'; expected a tuple" in problem for problem in choices(Text))


def test_turns_that_are_others_when_replayed_are_told_by_what_differs() -> None:
    first = Turn(Action("action", "a" * 300), "The fee was 20 dollars, and more.")
    now = replace(first, feedback="The fee was 25 dollars, and more.")
    assert list(_unlike(now, first)) == [
        "feedback 'The fee was 25 dollars, and more.', first 'The fee was 20 dollars, and more.'"
    ]
    assert list(_unlike(first, first)) == []


def test_an_undeclared_label_of_an_agent_without_skill_is_caught_and_unseen_ones_are_named() -> None:
    class Early(Riddle):
        labels = (*Riddle.labels, "too early")

        async def step(self, episode: Episode, action: Action, cast: Cast) -> Turn:
            turn = await super().step(episode, action, cast)
            return replace(turn, label="tooearly") if action.text == "now" else turn

        @classmethod
        def baselines(cls) -> Mapping[str, Agent]:
            return {**super().baselines(), "early": Acting(lambda episode: Action("answer", "now"))}

    found = report(Early)
    assert any("has the label 'tooearly', which is not in the gym's `labels`" in failure for failure in found.failures)
    assert found.unseen == ("too early",)
