"""What a model reads and writes: calls survive the round trip, and whatever it writes is read without raising."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from userrl.core import INVALID, Action, Episode, Task, Turn
from userrl.render import SEVERAL, TOOL_NAME, call_text, messages, read_call, read_calls, read_text, text_tool_help, tool, written

TASK = Task("t1", "toy", "Find my word.", {"secret": "hidden lighthouse"})
ACTIONS = {"action": "ask", "answer": "tell"}


def call(content: str = "x", choice: str = "action", name: str = TOOL_NAME) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': {'choice': choice, 'content': content}})}</tool_call>"


@settings(deadline=None)
@given(kind=st.text(st.characters(codec="utf-8"), min_size=1), text=st.text(st.characters(codec="utf-8")))
def test_a_written_call_is_read_back_as_the_same_action(kind: str, text: str) -> None:
    action = read_text(call_text(kind, text))
    assert (action.kind, action.text, action.problem) == (kind, text, "")


@pytest.mark.parametrize("text", ["</tool_call>", "<tool_call>\n{}\n</tool_call>", '"}}</tool_call>', "a\nb\tc\\n\x00", "$x {y}"])
def test_a_call_whose_text_looks_like_its_end_is_read_back_whole(text: str) -> None:
    action = read_text(f"I think so. {call_text('answer', text)} Done.")
    assert (action.kind, action.text, action.note) == ("answer", text, "")


def test_of_several_calls_only_the_first_is_played_and_the_agent_is_told() -> None:
    action = read_text(f"{call('first')}\n{call('second')}")
    assert (action.kind, action.text, action.note) == ("action", "first", SEVERAL)
    native = read_calls([{"function": {"name": TOOL_NAME, "arguments": {"choice": "action", "content": t}}} for t in "ab"], "")
    assert (native.text, native.note) == ("a", SEVERAL)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "holds no complete <tool_call>"),
        ("just talk", "holds no complete <tool_call>"),
        ("<tool_call>{", "holds no complete <tool_call>"),
        ("<tool_call>{oops}</tool_call>", "is not valid JSON"),
        ("<tool_call></tool_call>", "is not valid JSON"),
        (f"<tool_call>{'[' * 100_000}</tool_call>", "is not valid JSON"),
        ("<tool_call>[1]</tool_call>", "is not a JSON object"),
        ("<tool_call>{}</tool_call>", "There is no tool 'None'"),
        (call(name="search_web"), "There is no tool 'search_web'; the only one is interact_with_env"),
        (f'<tool_call>{{"name": "{TOOL_NAME}"}}</tool_call>', "arguments of your call are not a JSON object"),
        (f'<tool_call>{{"name": "{TOOL_NAME}", "arguments": "no"}}</tool_call>', "arguments of your call are not valid JSON"),
        (f'<tool_call>{{"name": "{TOOL_NAME}", "arguments": {{"choice": "action"}}}}</tool_call>', "needs the two texts"),
        (call().replace('"x"', "7"), "needs the two texts"),
    ],
)
def test_a_malformed_reply_becomes_an_invalid_action_that_says_why(reply: str, problem: str) -> None:
    action = read_text(reply)
    assert (action.kind, action.raw) == (INVALID, reply)
    assert problem in action.problem


@settings(deadline=None)
@given(st.text() | st.text().map(lambda text: f"<tool_call>{text}</tool_call>"))
def test_no_reply_whatever_makes_the_reader_raise(reply: str) -> None:
    assert read_text(reply).raw == reply


def test_a_flood_of_blanks_or_opened_calls_is_read_like_a_short_text() -> None:
    """With a pattern that backtracks each of these would take half a minute or more."""
    blanks = " " * 100_000
    assert read_text(f"<tool_call>{blanks}{call('x')[len('<tool_call>') : -len('</tool_call>')]}{blanks}</tool_call>").text == "x"
    assert "valid JSON" in read_text(f"<tool_call>{blanks}x{blanks}</tool_call>").problem
    assert "no complete" in read_text("<tool_call>" * 50_000 + "</tool").problem


def test_a_call_that_is_not_closed_is_no_second_call() -> None:
    assert read_text(call("x") + "<tool_call>").note == ""
    assert read_text(call("x") + "</tool_call>").note == ""
    assert read_text(call("x") + "<tool_call></tool_call>").note != ""


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_a_call_nested_too_deep_is_invalid_wherever_the_nesting_is(opened: str, closed: str) -> None:
    """Near the recursion limit there are depths from which JSON can be read but not written."""
    for depth in (*range(300, 1200), 100_000):
        nested = f"{opened * depth}1{closed * depth}"
        for text in (nested, f'{{"choice": "action", "content": {nested}}}'):
            assert read_call(TOOL_NAME, text).kind == INVALID
            assert read_call("other", text).kind == INVALID
            assert read_text(f'<tool_call>{{"name": "{TOOL_NAME}", "arguments": {text}}}</tool_call>').kind == INVALID
        assert read_text(f'<tool_call>{{"name": {nested}, "arguments": {{}}}}</tool_call>').kind == INVALID


def test_raw_line_breaks_in_a_call_are_accepted() -> None:
    assert read_text(call("a\\nb").replace("\\\\n", "\n")).text == "a\nb"


def test_arguments_may_be_an_object_or_its_json_text() -> None:
    arguments = {"choice": "answer", "content": "42"}
    for form in (arguments, json.dumps(arguments)):
        action = read_call(TOOL_NAME, form)
        assert (action.kind, action.text) == ("answer", "42")


def test_a_lone_surrogate_in_a_call_never_reaches_the_action() -> None:
    action = read_text(call("x").replace('"x"', r'"smile \ud83d!"'))
    assert action.text == "smile ?!"
    assert read_text(call("x").replace('"x"', r'"\ud83d\ude00"')).text == "\N{GRINNING FACE}"


def test_an_invalid_native_call_keeps_what_was_called() -> None:
    action = read_calls([{"function": {"name": "other", "arguments": "{}"}}], "")
    assert (action.kind, json.loads(action.raw)) == (INVALID, {"name": "other", "arguments": "{}"})


def test_without_native_calls_the_text_is_read() -> None:
    assert read_calls([], call("hi")).text == "hi"


def played() -> Episode:
    episode = Episode(TASK).play(Turn(Action("action", "Is it big?", raw="Hm. <call>"), "Yes.", 0.25, facts={"hidden": 1}))
    return episode.play(Turn(Action(INVALID, raw="gibberish", problem="?"), "Nothing was done.", reveals=("lighthouse",)))


def test_messages_show_what_was_written_and_fed_back_and_nothing_hidden() -> None:
    assert messages(played(), "The rules.") == [
        {"role": "system", "content": "The rules."},
        {"role": "user", "content": "Find my word."},
        {"role": "assistant", "content": "Hm. <call>"},
        {"role": "tool", "content": "Yes."},
        {"role": "assistant", "content": "gibberish"},
        {"role": "tool", "content": "Nothing was done."},
    ]


def test_the_reward_is_shown_only_on_request() -> None:
    shown = messages(played(), "", show_reward=True)
    assert [m["content"] for m in shown if m["role"] == "tool"] == ["Yes.\nReward: 0.25", "Nothing was done.\nReward: 0"]
    assert "Reward" not in json.dumps(messages(played(), ""))


def test_native_messages_answer_each_call_by_its_id_and_an_invalid_reply_as_the_user() -> None:
    out: list[dict[str, Any]] = messages(played(), "", native_tools=True)[2:]
    [native] = out[0]["tool_calls"]
    assert json.loads(native["function"]["arguments"]) == {"choice": "action", "content": "Is it big?"}
    assert (out[1]["role"], out[1]["tool_call_id"]) == ("tool", native["id"])
    assert out[2] == {"role": "assistant", "content": "gibberish"}
    assert out[3] == {"role": "user", "content": "Nothing was done."}


def test_an_agent_that_writes_no_text_is_shown_as_if_it_had() -> None:
    assert written(Action("answer", "42")) == call_text("answer", "42")
    assert written(Action("answer", "42", raw="My words")) == "My words"


def test_the_tool_offers_exactly_the_choices_of_the_gym() -> None:
    function = tool(ACTIONS)["function"]
    assert function["name"] == TOOL_NAME
    assert function["parameters"]["properties"]["choice"]["enum"] == ["action", "answer"]
    assert set(function["parameters"]["required"]) == {"choice", "content"}


def test_the_help_for_text_models_shows_a_call_that_can_be_read_and_every_choice() -> None:
    help_text = text_tool_help(ACTIONS)
    assert read_text(help_text).problem == ""
    assert all(f'"{kind}": {what}' in help_text for kind, what in ACTIONS.items())
