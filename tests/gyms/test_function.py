"""The function gym: its rule language, rules of the game, generator, expert and baselines."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest

from userrl.core import Action, Agent, Cast, Episode, Task, Turn
from userrl.errors import DataError, UnknownName
from userrl.gyms.base import Gym, make
from userrl.gyms.function import generate, number_text
from userrl.gyms.function.generate import DIFFICULTIES, FIRST_PROBES, tasks
from userrl.gyms.function.infer import PROBES, explain
from userrl.gyms.function.library import EXTRAS, LETTERS_ONLY, library
from userrl.gyms.function.rule import MAX_DEPTH, MAX_LENGTH, MAX_NODES, Node, Operation, depth, parse, rule, size, spell
from userrl.rollout import advance, run, starts
from userrl.store import from_record, to_record

GYM, COMPAT = make("function"), make("function", compat="userrl")
NOBODY = GYM.cast()
TASK = Task(
    "t",
    "function",
    "Find f.",
    {"rule": "(d + a) ** 2 - b / c", "test_case": [5, 4, 4, 7], "expected": 143, "difficulty": "medium"},
)

LIKE_OFFICIAL = [
    ("a * d + b - c", [2, 3, 4, 5], 9),
    ("(a - c) * (b + d)", [9, 1, 4, 6], 35),
    ("c ** 2 / d ** 2 * a - b", [3, 5, 8, 4], 7),
    ("(b + d) ** 2 - (a + c)", [4, 2, 6, 3], 15),
    ("a - b ** c ** d", [9, 2, 3, 1], 1),
    ("d / (c / b) + a", [1, 6, 2, 3], 10),
]
"""(rule, test case, value) in the form of the official rules."""


def official_rules() -> list[tuple[str, Sequence[int], float]]:
    """The 538 official rules where USERRL_SHARED names a folder that holds them; else rules of ours like them."""
    path = Path(os.environ.get("USERRL_SHARED", "")) / "data" / "userrl" / "data" / "functions.json"
    if not path.is_file():
        return [(text, case, value) for text, case, value in LIKE_OFFICIAL]
    rows = json.loads(path.read_text("utf-8"))
    assert len(rows) == 538
    return [(row["rule"], row["test_case"], row["expected_result"]) for row in rows]


def played(*actions: tuple[str, str], gym: Gym = GYM, task: Task = TASK, max_turns: int = 16) -> Episode:
    episode = Episode(task, max_turns=max_turns)
    for kind, text in actions:
        episode = asyncio.run(advance(episode, Action(kind, text), NOBODY, gym))
    return episode


def turn(kind: str, text: str, *, gym: Gym = GYM, **hidden: Any) -> Turn:
    return played((kind, text), gym=gym, task=replace(TASK, hidden={**TASK.hidden, **hidden})).turns[-1]


# --- the rule language ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a - b - c", -4.0),
        ("a - (b - c)", 2.0),
        ("d / b / b", 1.0),
        ("d / (b / b)", 4.0),
        ("a + b * c ** 2", 19.0),
        ("-b ** 2", -4.0),
        ("2 ** -1", 0.5),
        ("b ** c ** 2", 512.0),
        ("(b ** c) ** 2", 64.0),
        ("b^2", 4.0),
        (" (a+b)*10 ", 30.0),
        ("d - -c", 7.0),
    ],
)
def test_a_rule_is_read_with_the_usual_precedence(text: str, value: float) -> None:
    assert rule(text).value([1, 2, 3, 4]) == value


def test_official_rules_parse_and_give_their_expected_values() -> None:
    for text, case, expected in official_rules():
        assert rule(text).value(case) == pytest.approx(expected, abs=1e-9), text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "character 0"),
        ("a +", "a letter, a number or an opening parenthesis is missing"),
        ("a b", "at 'b' (character 1)"),
        ("a + e", "at 'e' (character 3)"),
        ("a // b", "at '/ b'"),
        ("(a + b", "a closing parenthesis is missing"),
        ("a + b)", "should end here"),
        ("2.5 * a", "at '.5 * a'"),
        ("1234567890 + a", "at '1234567890 +'"),
        ("a if b else c", "at 'if b else c'"),
        ("__import__('os')", "(character 0): this is none of the letters"),
        ("(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} parentheses"),
        ("-" * (MAX_DEPTH + 1) + "a", f"more than {MAX_DEPTH} parentheses, signs"),
        ("a**" * (MAX_DEPTH + 1) + "a", f"more than {MAX_DEPTH} parentheses, signs or powers"),
        ("+".join("a" * (MAX_NODES // 2 + 1)), f"more than {MAX_NODES} letters"),
        ("a" + " " * MAX_LENGTH, f"at most {MAX_LENGTH}"),
    ],
)
def test_what_is_no_rule_is_a_data_error_that_names_the_place(text: str, place: str) -> None:
    with pytest.raises(DataError) as error:
        parse(text)
    assert place in str(error.value)


@pytest.mark.parametrize(
    "text", ["a / (b - b)", "0 ** (a - d)", "(a - d) ** (b / c)", "9 ** 9 ** 9 ** 9", "d ** d ** d ** d * 0"]
)
def test_a_rule_without_a_finite_real_value_has_none(text: str) -> None:
    assert rule(text).value([1, 2, 3, 9]) is None


def test_spelling_a_tree_and_parsing_it_gives_the_tree_back() -> None:
    rng = random.Random(0)
    trees = [generate.sample(level, rng) for level in DIFFICULTIES.values() for _ in range(200)]
    trees += [library().node(rng.randrange(len(library().rows)), rng.choice(EXTRAS)) for _ in range(400)]
    for tree in trees:
        assert parse(spell(tree)) == tree, spell(tree)


# --- default rules -------------------------------------------------------------------------------------------


def test_a_probe_shows_the_value_rounded_to_four_decimals_and_earns_nothing() -> None:
    result = turn("action", "1 2 3 4")
    assert result.feedback == "f(1, 2, 3, 4) = 24.3333"
    assert (result.reward, result.done, result.label, result.reveals) == (0.0, False, "probe", ("24.3333",))


@pytest.mark.parametrize("text", ["1 2 3 4", "1, 2, 3, 4", " [1,2, 3 ,4] ", "(+1 2 3 4)", "1\n2\t3  4"])
def test_four_integers_may_be_written_with_spaces_commas_and_brackets(text: str) -> None:
    assert turn("action", text).facts["inputs"] == [1, 2, 3, 4]


def test_a_flood_of_blanks_is_read_like_a_few() -> None:
    """With a pattern that backtracks each would take minutes."""
    blanks = " \n" * 50_000
    assert turn("action", f"{blanks}[{blanks}1 2{blanks},{blanks}3 4{blanks}]{blanks}").label == "probe"
    for text in (f"{blanks}x", f"1 2 3 4{blanks}x", f"1{blanks}x", f"[{blanks}x"):
        assert turn("action", text).label == "unreadable"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 2 3",
        "1 2 3 4 5",
        "1.5 2 3 4",
        "1e2 2 3 4",
        "1/2 2 3 4",
        "a=1, b=2, c=3, d=4",
        "1-2 3 4",
        "1,,2 3 4",
        "\uff11 2 3 4",
    ],
)
def test_anything_but_four_integers_gives_what_was_expected_and_no_value(text: str) -> None:
    result = turn("action", text)
    assert "four whole numbers" in result.feedback
    assert (result.label, result.reward, result.reveals, dict(result.facts)) == ("unreadable", 0.0, (), {})


def test_the_test_case_itself_is_refused() -> None:
    result = turn("action", "5, 4, 4, 7")
    assert result.label == "refused"
    assert not any(digit in result.feedback for digit in "0123456789")


@pytest.mark.parametrize("number", ["1000001", "-1000001", "999999999", "9" * 5000])
def test_numbers_beyond_a_million_are_not_computed(number: str) -> None:
    result = turn("action", f"{number} 1 1 1")
    assert result.label == "unreadable"
    assert result.feedback.startswith("Nothing was computed.")


def test_a_million_is_computed() -> None:
    assert turn("action", "1000000 -1000000 1 0").feedback == "f(1000000, -1000000, 1, 0) = 1000001000000"


def test_a_point_without_a_value_gets_feedback_and_no_crash() -> None:
    result = turn("action", "0 0 0 0")
    assert (result.feedback, result.label, result.reward) == ("f(0, 0, 0, 0) has no finite value.", "undefined", 0.0)


def test_a_probe_made_before_is_labeled_so_also_after_a_reload() -> None:
    episode = from_record(json.loads(json.dumps(to_record(played(("action", "1 2 3 4"), ("action", "0 0 0 0"))))))
    for text in ("1, 2, 3, 4", "0 0 0 0"):
        assert asyncio.run(advance(episode, Action("action", text), NOBODY, GYM)).turns[-1].label == "repeated"


@pytest.mark.parametrize("text", ["test", " TEST ", "Test\n"])
def test_searching_for_test_shows_the_test_case(text: str) -> None:
    result = turn("search", text)
    assert "5 4 4 7" in result.feedback
    assert (result.label, result.reward, result.reveals) == ("test_case", 0.0, ("5 4 4 7",))


@pytest.mark.parametrize("text", ["", "the test", "help"])
def test_searching_for_anything_else_shows_nothing(text: str) -> None:
    result = turn("search", text)
    assert (result.label, result.reveals) == ("unreadable", ())
    assert "word test" in result.feedback


@pytest.mark.parametrize("text", ["143", " 143. ", "+143.0", "143.0000009", "142.9999991", "286/2", "143 / 1"])
def test_an_answer_within_a_millionth_earns_one_and_ends(text: str) -> None:
    episode = played(("answer", text))
    assert (episode.rewards, episode.stop, GYM.solved(episode), GYM.ended(episode)) == ([1.0], "done", True, (True, False))


@pytest.mark.parametrize("text", ["144", "-143", "143.000002", "0", "1/3"])
def test_a_wrong_answer_earns_nothing_and_may_be_followed_by_another(text: str) -> None:
    episode = played(("answer", text), ("answer", "143"))
    assert [t.label for t in episode.turns] == ["wrong_answer", "correct"]
    assert episode.rewards == [0.0, 1.0]


@pytest.mark.parametrize("text", ["", "seven", "143 units", "[143]", "= 143", "1.43e2", "143/0", "1 43", "9" * 30])
def test_an_answer_that_is_no_plain_number_is_told_so(text: str) -> None:
    result = turn("answer", text)
    assert (result.label, result.reward) == ("unreadable", 0.0)
    assert "one plain number" in result.feedback


def test_a_fraction_is_compared_by_its_value() -> None:
    assert turn("answer", "1/3", expected=1 / 3).label == "correct"
    assert turn("answer", "0.3333", expected=1 / 3).label == "wrong_answer"


def test_the_turn_limit_truncates_and_a_correct_last_answer_does_not() -> None:
    missed = played(("search", "test"), ("answer", "1"), max_turns=2)
    assert (missed.stop, GYM.solved(missed), GYM.ended(missed)) == ("turn_limit", False, (False, True))
    assert GYM.ended(played(("search", "test"), ("answer", "143"), max_turns=2)) == (True, False)


def test_a_task_whose_rule_cannot_be_read_is_a_data_error() -> None:
    with pytest.raises(DataError, match="open"):
        turn("action", "1 2 3 4", rule="open('x')")


def test_neither_the_system_message_nor_a_prompt_holds_a_rule_or_test_case() -> None:
    for split in GYM.sets():
        for task in GYM.tasks(split):
            shown = GYM.system(task) + task.prompt
            assert task.hidden["rule"] not in shown
            assert " ".join(map(str, task.hidden["test_case"])) not in shown


# --- default against compat: one test per difference -----------------------------------------------------------


def both(kind: str, text: str) -> tuple[Turn, Turn]:
    return turn(kind, text), turn(kind, text, gym=COMPAT)


def test_a_hair_beside_the_test_case_gives_the_answer_under_compat_only() -> None:
    default, compat = both("action", "5.0000001 4 4 7")
    assert (default.label, default.reveals) == ("unreadable", ())
    assert (compat.label, compat.reveals) == ("probe", ("143",))


def test_the_test_case_written_with_decimals_is_refused_under_compat_and_not_read_by_default() -> None:
    default, compat = both("action", "5.0 4.0 4.0 7.0")
    assert (default.label, compat.label) == ("unreadable", "refused")


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        (".5 1 2 3", [5, 1, 2, 3]),
        ("1/2 3 4", [1, 2, 3, 4]),
        ("1-2 3 4", [1, -2, 3, 4]),
        ("1. 2. 3. 4.", [1, 2, 3, 4]),
        ("a=1, b=2, c=3, d=4", [1, 2, 3, 4]),
        ("8.5, -2.5, -5.5, 4.5", [8.5, -2.5, -5.5, 4.5]),
    ],
)
def test_numbers_are_picked_out_of_any_text_under_compat_only(text: str, inputs: list[float]) -> None:
    default, compat = both("action", text)
    assert default.label == "unreadable"
    assert compat.facts["inputs"] == inputs


@pytest.mark.parametrize("text", ["", "abc", "1 2 3", "1e2 2 3 4", f"{'9' * 400} 1 1 1"])
def test_compat_too_needs_four_finite_numbers(text: str) -> None:
    assert turn("action", text, gym=COMPAT).label == "unreadable"


def test_compat_probes_beyond_a_million() -> None:
    default, compat = both("action", "1000001 0 1 0")
    assert (default.label, compat.label) == ("unreadable", "probe")


@pytest.mark.parametrize(
    ("text", "label"), [("nan", "wrong_answer"), ("inf", "wrong_answer"), ("14_3", "correct"), ("1.43e2", "correct")]
)
def test_whatever_float_reads_is_an_answer_under_compat_only(text: str, label: str) -> None:
    default, compat = both("answer", text)
    assert (default.label, compat.label) == ("unreadable", label)


def test_a_fraction_is_an_answer_by_default_only() -> None:
    default, compat = both("answer", "286/2")
    assert (default.label, compat.label) == ("correct", "unreadable")


def test_finish_is_offered_under_compat_only_where_it_reveals_the_answer_and_earns_nothing() -> None:
    default, compat = played(("finish", "")), played(("finish", ""), gym=COMPAT)
    assert (default.stop, default.turns[-1].label) == ("running", "invalid")
    assert (compat.stop, compat.rewards, compat.turns[-1].reveals) == ("done", [0.0], ("143",))
    assert "143" in compat.turns[-1].feedback
    assert not COMPAT.solved(compat)


def test_the_last_turn_can_both_terminate_and_truncate_under_compat_only() -> None:
    actions = ("search", "test"), ("answer", "143")
    assert GYM.ended(played(*actions, max_turns=2)) == (True, False)
    assert COMPAT.ended(played(*actions, max_turns=2, gym=COMPAT)) == (True, True)


# --- generator and built-in tasks ------------------------------------------------------------------------------


def squares(node: Node) -> int:
    if not isinstance(node, Operation):
        return 0
    return (node.symbol == "**") + squares(node.left) + squares(node.right)


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_tasks_have_the_operators_squares_and_depth_of_their_difficulty(name: str) -> None:
    level = DIFFICULTIES[name]
    for task in tasks(40, seed=3, difficulty=name):
        tree = parse(task.hidden["rule"])
        assert task.hidden["difficulty"] == name
        assert squares(tree) in level.squares
        assert size(tree) == level.operators + squares(tree)
        assert depth(tree) <= level.depth
        assert all(letter in task.hidden["rule"] for letter in "abcd")


def test_a_seed_always_gives_the_same_tasks_and_more_of_them_only_follow() -> None:
    assert tasks(5, seed=8) == tasks(12, seed=8)[:5]
    assert tasks(5, seed=8) != tasks(5, seed=9)


def test_an_unknown_difficulty_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"'easyy'\. Did you mean 'easy'\?"):
        tasks(1, seed=0, difficulty="easyy")


@pytest.mark.parametrize(("split", "count"), [("train", 200), ("validation", 30), ("test", 60)])
def test_the_built_in_tasks_are_what_the_recipe_in_the_data_sheet_makes(split: generate.Split, count: int) -> None:
    assert list(GYM.tasks(split)) == tasks(count, seed=1, split=split)


def test_no_function_is_in_two_splits() -> None:
    ids = [task.id for split in GYM.sets() for task in GYM.tasks(split)]
    assert len(ids) == len(set(ids))


def test_an_id_names_the_function_and_not_its_spelling() -> None:
    assert generate._identity(parse("a + b * c - d")) == generate._identity(parse("c * b - (d - a)"))
    assert generate._identity(parse("a + b * c - d")) != generate._identity(parse("a + b * d - c"))


@pytest.mark.parametrize("text", ["a - a + b + c + d", "a / a * b * c - d", "(a - a) * (b + c + d)", "b / (a - a) + c + d"])
def test_a_rule_that_ignores_a_letter_or_has_no_value_has_no_id(text: str) -> None:
    assert generate._identity(parse(text)) is None


def test_a_rule_that_can_be_said_shorter_is_found_out() -> None:
    assert generate._is_longer_than_needed(parse("a ** 2 * b ** 2 * c - d"))
    assert not generate._is_longer_than_needed(parse("(a * b) ** 2 * c - d"))
    assert generate._is_longer_than_needed(parse("a * b + a * c - d"))


def exactly(text: str, case: Sequence[int]) -> Fraction:
    value: Fraction = eval(text, {}, dict(zip("abcd", map(Fraction, case), strict=True)))  # our own rules, not a model's words
    return value


def test_expected_values_are_exact_have_four_decimals_and_are_no_small_whole_numbers() -> None:
    for split in GYM.sets():
        for task in GYM.tasks(split):
            value = exactly(task.hidden["rule"], task.hidden["test_case"])
            assert float(value) == task.hidden["expected"]
            assert (value * 10_000).denominator == 1
            assert value.denominator > 1 or abs(value) > 15
            assert tuple(task.hidden["test_case"]) not in FIRST_PROBES
            assert all(1 <= x <= 10 for x in task.hidden["test_case"])


def test_no_rule_of_two_operators_that_fits_the_first_probes_gives_an_easy_answer() -> None:
    letters, signs = permutations("abcd", 3), product("+-*/", repeat=2)
    shapes = ("({}{}{}){}{}", "{}{}({}{}{})")
    shorter = [rule(s.format(x, p, y, q, z)) for (x, y, z), (p, q), s in product(letters, signs, shapes)]
    assert len(shorter) == 768
    easy = [task.hidden for task in GYM.tasks("test") if task.hidden["difficulty"] == "easy"]
    assert len(easy) == 20
    for hidden in easy:
        shown = [number_text(rule(hidden["rule"]).value(point) or 0.0) for point in FIRST_PROBES]
        for other in shorter:
            values = [other.value(point) for point in (*FIRST_PROBES, hidden["test_case"])]
            if None not in values and [number_text(v or 0.0) for v in values[:-1]] == shown:
                assert values[-1] != pytest.approx(hidden["expected"], abs=1e-6)


# --- expert and baselines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a + b + c - d",
        "(a - b) ** 2 / (c + d ** 2)",
        "d ** b - a * c",
        "(a + 7) * b - c / d",
        "a * b + c * d - a",
        "((b - 3) * c + a - d) ** 2",
        "a / (9 - b * c) + d",
    ],
)
def test_four_probes_are_explained_by_the_rule_itself(text: str) -> None:
    hidden = rule(text)
    seen = tuple(None if (value := hidden.value(point)) is None else float(number_text(value)) for point in PROBES[:4])
    first = explain(seen)[0]
    assert [first.value(case) for case in ([2, 3, 1, 8], [9, 4, 4, 6])] == pytest.approx(
        [hidden.value(case) for case in ([2, 3, 1, 8], [9, 4, 4, 6])]
    )


def test_values_of_no_known_rule_are_explained_by_none() -> None:
    assert explain((0.1234, 777.7, -5.5, 12.3456)) == ()
    assert explain((None, None)) == ()


def test_the_library_holds_each_function_of_four_letters_and_three_operators_once() -> None:
    start, stop = library().span[LETTERS_ONLY]
    trees = [library().node(row) for row in range(start, stop) if library().rows.size[row] == 3]
    plain = {generate._identity(tree) for tree in trees if "**" not in spell(tree)}
    assert len(plain) == 1170  # OEIS A140606, the expressions in four numbers
    assert len(plain) == sum("**" not in spell(tree) for tree in trees)


def share_solved(agent: Agent, split: str = "test", gym: Gym = GYM, rules: dict[str, Any] | None = None) -> float:
    episodes = run(starts(gym.tasks(split), rules=rules), agent, NOBODY)
    assert not any(episode.stop == "error" for episode in episodes)
    return sum(map(gym.solved, episodes)) / len(episodes)


def test_the_expert_solves_nearly_all_test_tasks_at_full_skill_and_hardly_any_without() -> None:
    full, half, none = (share_solved(GYM.expert(skill)) for skill in (1.0, 0.5, 0.0))
    assert full >= 0.95
    assert 0.3 <= half <= 0.7
    assert none <= 0.1


def test_the_expert_plays_as_well_under_compat() -> None:
    assert share_solved(GYM.expert(), "validation", COMPAT, {"compat": "userrl"}) >= 0.95


@pytest.mark.parametrize("name", ["random", "blind_answer"])
def test_agents_without_skill_solve_few_test_tasks(name: str) -> None:
    assert share_solved(GYM.baselines()[name]) <= 0.1


def test_the_blind_baseline_never_probes() -> None:
    [episode] = run(starts(GYM.tasks("test")[:1]), GYM.baselines()["blind_answer"], NOBODY)
    assert [t.action.kind for t in episode.turns] == ["search"] + ["answer"] * (len(episode.turns) - 1)


@pytest.mark.parametrize("name", ["expert 1.0", "expert 0.3", "random", "blind_answer"])
def test_agents_act_on_what_a_model_sees_and_not_on_hidden_parts(name: str) -> None:
    agent = GYM.expert(float(name.split()[1])) if name.startswith("expert") else GYM.baselines()[name]
    for episode in run(starts(GYM.tasks("validation")[:6], seed=4), agent, NOBODY):
        for count in range(len(episode.turns)):
            turns = tuple(replace(t, facts={}, label="", reveals=()) for t in episode.turns[:count])
            blind = replace(episode, task=replace(episode.task, hidden={}), turns=turns, stop="running")
            assert asyncio.run(agent.act(blind)) == episode.turns[count].action


@pytest.mark.parametrize("trait", ["plain", "terse", "hesitant"])
def test_every_trait_gives_a_cast_that_is_never_asked(trait: str) -> None:
    class Unasked:
        async def answer(self, query: Any) -> Any:
            raise AssertionError(f"{query.name} was asked")

    assert isinstance(GYM.cast(trait), Cast)
    [episode] = run(starts(GYM.tasks("test")[:1]), GYM.expert(), Cast(Unasked(), Unasked()))
    assert GYM.solved(episode)
