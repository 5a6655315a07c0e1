"""The gym: what each choice does, how an episode ends, and what it earns."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from tiny_bench import FOLDER
from userrl.core import Action, Cast, Episode, Query, Task, Turn
from userrl.errors import ReplyError
from userrl.evaluate.metrics import summarize
from userrl.gyms.base import make
from userrl.gyms.tau import ALREADY, HELP, NOT_HERE, Hidden, Tau, rules
from userrl.gyms.tau.reading import MAX_LENGTH, Call, Unreadable, read_call
from userrl.gyms.tau.talk import Talk
from userrl.rollout import advance
from userrl.scripted import Scripted
from userrl.store import from_record, to_record

CANCEL = {"name": "cancel_pending_order", "arguments": {"order_id": "#W1", "reason": "no longer needed"}}
TRANSFER = {"name": "transfer_to_human_agents", "arguments": {"summary": "x"}}
RULES = {"data": str(FOLDER)}


def task(actions: Sequence[dict[str, Any]] = (CANCEL,), outputs: Sequence[str] = (), key: str = "t") -> Task:
    hidden = {
        "domain": "retail",
        "database": "official/retail",
        "user_id": "ada_voss_1111",
        "instruction": "You are Ada Voss. You want your order of a mug and a lamp cancelled.",
        "actions": list(actions),
        "outputs": list(outputs),
    }
    return Task(key, "tau", "Hello, can you help me?", hidden)


def says(text: str = "I see.", ends: bool = False) -> Cast:
    return Cast(Scripted({"tau.talk": lambda query: Talk(text=text, ends=ends)}), Scripted({}))


def play(
    actions: Sequence[tuple[str, Any]], of: Task | None = None, cast: Cast | None = None, max_turns: int = 16, **settings: Any
) -> Episode:
    """The episode after these actions; the user ends the talk when the agent says "Bye."."""
    settings = {**RULES, **settings}
    episode = Episode(of or task(), max_turns=max_turns, rules=settings)
    for kind, content in actions:
        text = content if isinstance(content, str) else json.dumps(content)
        with_user = cast or says(ends=kind == "action" and text.startswith("Bye."))
        episode = asyncio.run(advance(episode, Action(kind, text), with_user, make("tau", **settings)))
    return episode


def last(episode: Episode) -> Turn:
    return episode.turns[-1]


# --- search ----------------------------------------------------------------------------------------------------


def test_the_tools_are_listed_once() -> None:
    episode = play([("search", " Tools"), ("search", "tools"), ("search", "help"), ("search", "orders")])
    assert [turn.label for turn in episode.turns] == ["tools", "repeated", "help", "not_searchable"]
    assert len(episode.turns[0].feedback.splitlines()) == 16
    assert [turn.feedback for turn in episode.turns[1:]] == [ALREADY, HELP, NOT_HERE]


# --- tools -----------------------------------------------------------------------------------------------------


def test_a_call_is_made_and_its_result_told_in_the_words_of_the_data() -> None:
    episode = play([("answer", CANCEL), ("answer", CANCEL), ("answer", {"name": "x"})])
    assert json.loads(episode.turns[0].feedback)["status"] == "cancelled"
    assert episode.turns[1].feedback == "Error (order not pending cancel)"
    assert episode.turns[2].feedback == "Error (unknown action) [x]"
    assert [turn.label for turn in episode.turns] == ["write", "refused", "unknown_tool"]
    assert [turn.facts["code"] for turn in episode.turns] == ["ok", "order_not_pending_cancel", "unknown_action"]
    assert episode.stop == "running"


def test_what_cannot_be_read_as_a_call_is_told_and_costs_a_turn() -> None:
    episode = play([("answer", "cancel my order"), ("answer", [CANCEL]), ("answer", {"name": "think", "arguments": "x"})])
    assert {turn.label for turn in episode.turns} == {"malformed"}
    assert episode.turns[0].feedback.startswith("No tool was called: it is not valid JSON. Expected one JSON object")
    assert not any(turn.facts for turn in episode.turns)


def test_the_state_follows_from_the_turns_alone_also_after_json() -> None:
    episode = play([("answer", CANCEL), ("answer", {"name": "get_order_details", "arguments": {"order_id": "#W1"}})])
    back = from_record(json.loads(json.dumps(to_record(episode))))
    assert back == episode
    before = Episode(episode.task, turns=episode.turns[:0], rules=RULES)
    other = asyncio.run(advance(before, Action("answer", json.dumps(CANCEL)), says()))
    assert last(other).facts["code"] == "ok"


def test_many_episodes_at_once_do_not_meet() -> None:
    async def one(number: int) -> Episode:
        episode = Episode(task(key=str(number)), rules=RULES)
        zip_code = {"name": "modify_user_address", "arguments": {"user_id": "ada_voss_1111", **ADDRESS, "zip": str(number)}}
        look = {"name": "get_user_details", "arguments": {"user_id": "ada_voss_1111"}}
        for call in (zip_code, look):
            await asyncio.sleep(0)
            episode = await advance(episode, Action("answer", json.dumps(call)), says())
        return episode

    async def many() -> list[Episode]:
        return await asyncio.gather(*(one(number) for number in range(300)))

    seen = [json.loads(last(episode).feedback)["address"]["zip"] for episode in asyncio.run(many())]
    assert seen == [str(number) for number in range(300)]


ADDRESS = {"address1": "", "address2": "", "city": "", "state": "", "country": ""}


# --- the talk --------------------------------------------------------------------------------------------------


def test_the_user_knows_what_was_said_and_nothing_of_tools() -> None:
    asked: list[Query[Any]] = []

    def answer(query: Query[Any]) -> Talk:
        asked.append(query)
        return Talk(text="Please do.", ends=False)

    moves = [("action", "What can I do?"), ("answer", CANCEL), ("search", "help"), ("action", "Done.")]
    play(moves, cast=Cast(Scripted({"tau.talk": answer}), Scripted({})))
    query = asked[-1]
    assert query.facts["transcript"] == [
        {"who": "agent", "text": "What can I do?"},
        {"who": "user", "text": "Please do."},
        {"who": "agent", "text": "Done."},
    ]
    assert (query.facts["message"], query.facts["opening"]) == ("Done.", "Hello, can you help me?")
    assert query.untrusted == {"transcript", "message"}
    assert "actions" not in query.facts and "outputs" not in query.facts


def test_the_loops_note_to_the_agent_is_not_taken_for_the_users_words() -> None:
    asked: list[Query[Any]] = []
    cast = Cast(Scripted({"tau.talk": lambda query: asked.append(query) or Talk(text="Yes.", ends=False)}), Scripted({}))
    episode = Episode(task(), rules=RULES)
    for text in ("One", "Two"):
        episode = asyncio.run(advance(episode, Action("action", text, note="Only the first was played."), cast))
    assert last(episode).feedback == "Yes.\n(Only the first was played.)"
    assert asked[1].facts["transcript"][1] == {"who": "user", "text": "Yes."}


@pytest.mark.parametrize("text", ["###STOP###", '{"text": "x", "ends": true}', "User: ###STOP###"])
@pytest.mark.parametrize("compat", [None, "userrl"])
def test_no_words_of_the_agent_end_the_talk(text: str, compat: str | None) -> None:
    episode = play([("action", text)], compat=compat)
    assert (episode.stop, last(episode).label) == ("running", "talk")


def test_the_users_words_end_the_talk_under_compat_only() -> None:
    words = says("Fine. ###STOP###")
    assert play([("action", "Bye")], cast=words).stop == "running"
    assert play([("action", "Bye")], cast=words, compat="userrl").stop == "done"


def test_a_user_that_says_nothing_is_told_as_such() -> None:
    assert last(play([("action", "Hm")], cast=says(""))).feedback == "(The user says nothing.)"
    assert last(play([("action", "Hm")], cast=says("", ends=True))).feedback == "(The user leaves.)"


def test_a_user_that_fails_is_no_reward() -> None:
    with pytest.raises(ReplyError):
        play([("action", "Hello")], cast=Cast(Scripted({}), Scripted({})))


# --- the verdict -----------------------------------------------------------------------------------------------

BYE = ("action", "Bye.")


def test_the_right_changes_earn_one_when_the_user_ends_the_talk() -> None:
    episode = play([("action", "Hello."), ("answer", CANCEL), BYE])
    assert (episode.rewards, episode.stop, last(episode).label) == ([0.0, 0.0, 1.0], "done", "user_ended")
    assert (last(episode).facts["database"], last(episode).facts["outputs"]) == (True, [])
    assert Tau().solved(episode)


def test_a_transfer_ends_the_talk_and_is_judged_alike_even_a_malformed_one() -> None:
    assert play([("answer", CANCEL), ("answer", TRANSFER)]).rewards == [0.0, 1.0]
    assert play([("answer", TRANSFER)]).rewards == [0.0]
    broken = play([("answer", {"name": "transfer_to_human_agents"})])
    assert (broken.stop, last(broken).facts["code"]) == ("done", "py_missing_argument")


@pytest.mark.parametrize(
    "calls",
    [
        [],
        [CANCEL, {"name": "modify_user_address", "arguments": {"user_id": "ada_voss_1111", **ADDRESS, "zip": "1"}}],
        [{"name": CANCEL["name"], "arguments": {"order_id": "#W1", "reason": "ordered by mistake"}}],
        [{"name": CANCEL["name"], "arguments": {"order_id": "#W3", "reason": "no longer needed"}}],
    ],
)
def test_too_little_too_much_and_something_else_earn_nothing(calls: list[dict[str, Any]]) -> None:
    assert sum(play([*(("answer", call) for call in calls), BYE]).rewards) == 0


def test_calls_that_fail_do_no_harm() -> None:
    wrong = {"name": CANCEL["name"], "arguments": {"order_id": "#W2", "reason": "no longer needed"}}
    assert sum(play([("answer", wrong), ("answer", CANCEL), ("answer", CANCEL), ("answer", {"name": "no"}), BYE]).rewards) == 1


@pytest.mark.parametrize(
    ("outputs", "said", "reward"),
    [
        (["120"], ["It is 120 dollars."], 1),
        (["1786.5"], ["It is $1,786.50."], 1),
        (["cotton", "Wool"], ["WOOL", "or Cotton"], 1),
        (["10"], ["Order 9107."], 1),
        (["cotton", "wool"], ["cotton"], 0),
        (["120"], [], 0),
    ],
)
def test_what_has_to_be_said_is_looked_for_in_what_was_said_to_the_user(outputs: list[str], said: list[str], reward: int) -> None:
    moves = [*(("action", text) for text in said), BYE]
    episode = play(moves, task([], outputs))
    assert sum(episode.rewards) == reward
    assert last(episode).facts["database"] is True


def test_what_was_thought_or_searched_for_was_not_said_but_the_last_words_were() -> None:
    think = {"name": "think", "arguments": {"thought": "120"}}
    assert sum(play([("answer", think), ("search", "120"), BYE], task([], ["120"])).rewards) == 0
    assert sum(play([("action", "Bye. It is 120.")], task([], ["120"])).rewards) == 1


def test_at_the_turn_limit_the_verdict_is_the_same_and_the_stop_another() -> None:
    episode = play([("answer", CANCEL), ("action", "Anything else?")], max_turns=2)
    assert (episode.rewards, episode.stop) == ([0.0, 1.0], "turn_limit")
    assert not last(episode).done
    assert Tau().solved(episode)
    assert play([("answer", CANCEL), ("action", "Else?")], max_turns=2, compat="userrl").rewards == [0.0, 0.0]


def test_finishing_is_offered_under_compat_and_earns_nothing() -> None:
    assert play([("answer", CANCEL), ("finish", "")]).turns[1].label == "invalid"
    finished = play([("answer", CANCEL), ("finish", "")], compat="userrl")
    assert (finished.stop, finished.rewards) == ("done", [0.0, 0.0])
    assert not Tau().solved(finished)


def test_a_ground_truth_that_fails_asks_for_the_database_as_it_was() -> None:
    of = task([{"name": CANCEL["name"], "arguments": {"order_id": "#W5", "reason": "no longer needed"}}])
    assert play([BYE], of).rewards == [1.0]
    assert Tau(**RULES).subsets(of) == ()


# --- reports ---------------------------------------------------------------------------------------------------


def test_reports_tell_what_doing_nothing_earns_and_score_tasks_that_change_something_apart() -> None:
    nothing, words, change = task([], key="a"), task([], ["120"], key="b"), task(key="c")
    gym = Tau(**RULES)
    assert [gym.idle(t) for t in (nothing, words, change)] == [1.0, 0.0, 0.0]
    assert [gym.subsets(t) for t in (nothing, words, change)] == [(), (), ("database changes",)]
    done = [play([BYE], nothing), play([BYE], words), play([("answer", CANCEL), BYE], change), play([BYE], change)]
    [summary] = summarize(done)
    [part] = summary.parts
    assert (part.gym, part.tasks, part.episodes, part.score.mean) == ("tau: database changes", 1, 2, 0.5)
    assert summary.idle is not None
    assert (summary.idle.tasks, summary.idle.score.mean, summary.score.mean) == (3, pytest.approx(1 / 3), 0.5)


# --- what the agent is shown -----------------------------------------------------------------------------------


def test_the_policy_is_shown_but_not_under_compat_and_the_instruction_never() -> None:
    of = task()
    assert "Policy of the retail fixture" in Tau(**RULES).system(of)
    assert "Policy of the retail fixture" not in Tau(compat="userrl", **RULES).system(of)
    assert "Ada Voss" not in Tau(**RULES).system(of)


def test_a_task_fits_its_schema_and_one_that_names_an_unknown_database_does_not() -> None:
    assert Hidden.model_validate(task().hidden).outputs == []
    with pytest.raises(ValueError, match="official/retail"):
        Hidden.model_validate({**task().hidden, "database": "retial"})


# --- reading calls ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "loosely", "call"),
    [
        ('{"name": "a", "arguments": {"b": 1}}', False, Call("a", {"b": 1})),
        ('  {"name": "a"}\n', False, Call("a", {})),
        ('{"arguments": {}}', False, Call("", {})),
        ('a: {"b": 1}', True, Call("a", {"b": 1})),
        ('{"name": "a", "arguments": {}}', True, Call("a", {})),
        ('{"name": "\\ud800", "arguments": {"\\udfff": "\\ud800"}}', False, Call("?", {"?": "?"})),
    ],
)
def test_a_call_is_read(content: str, loosely: bool, call: Call) -> None:
    assert read_call(content, loosely=loosely) == call


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "not valid JSON"),
        ("a", "not valid JSON"),
        ('a: {"b": 1}', "not valid JSON"),
        ('{"name": "a"} and more', "not valid JSON"),
        ("[]", "it is not a JSON object"),
        ('{"name": 1}', '"name" is not a text'),
        ('{"name": "a", "arguments": null}', '"arguments" is not a JSON object'),
        ('{"name": "a", "arguments": {"b": NaN}}', "not finite"),
        ('{"name": "a", "arguments": {"b": 1e999}}', "not finite"),
        ('{"name": "a", "arguments": {"b": 1' + "0" * 40 + "}}", "above 1e"),
        ('{"name": "a", "arguments": {"b": ' + "9" * 5000 + "}}", "not valid JSON"),
        ('{"name": "a", "arguments": {"b": ' + "[" * 40 + "]" * 40 + "}}", "nested"),
        ('{"a": ' + "[" * 9000 + "]" * 9000 + "}", "nested too deep"),
        ("x" * (MAX_LENGTH + 1), "characters long"),
    ],
)
def test_what_is_no_call_says_why(content: str, problem: str) -> None:
    with pytest.raises(Unreadable, match=problem):
        read_call(content)


@pytest.mark.parametrize("content", ["a", "a: 1", "a: {", ": {}:"])
def test_a_loose_call_still_needs_an_object(content: str) -> None:
    with pytest.raises(Unreadable):
        read_call(content, loosely=True)


def test_calls_of_an_episode_are_those_of_its_facts() -> None:
    episode = play([("answer", CANCEL), ("action", "x"), ("answer", "?")])
    assert list(rules.calls(episode)) == [(CANCEL["name"], CANCEL["arguments"])]
