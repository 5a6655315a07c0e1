"""`userrl gyms` and `userrl play`, as somebody meets them who types."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.cli import playing
from userrl.core import Action, Episode
from userrl.evaluate.talk import answerer, readable
from userrl.gyms.base import find, known
from userrl.llm.fake import Request, Response, completion
from userrl.store import read

ASKS = ["When do you leave?", "How many people are there?", "[red]x[/red] \x1b[31m"]


def test_gyms_are_listed_with_a_line_for_each_set(cli: Callable[..., Any]) -> None:
    done = cli("gyms")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    for name in known():
        for split, tasks in find(name).sets().items():
            assert any({split, str(tasks.count), tasks.license} <= set(line.split()) for line in done.out.splitlines())
    assert "Find a hidden arithmetic rule over four numbers by probing it." in " ".join(done.out.split())


def test_a_gym_that_cannot_be_loaded_is_named_and_hides_no_other(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(known(), "broken", "no_such_module_of_ours")
    done = cli("gyms")
    assert done.code == 0
    assert "intention" in done.out
    assert done.err == "Gym 'broken' cannot be loaded: ModuleNotFoundError: No module named 'no_such_module_of_ours'\n"


def test_broken_imported_tasks_are_named_and_hide_no_built_in_ones(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERRL_DATA", str(tmp_path))
    before = cli("gyms").out
    (tmp_path / "official" / "function").mkdir(parents=True)
    (tmp_path / "official" / "function" / "manifest.json").write_text("{", "utf-8")
    done = cli("gyms")
    assert (done.code, done.out) == (0, before)
    assert done.err.startswith("The imported tasks of gym 'function' cannot be read: ")
    assert "or delete the folder" in " ".join(done.err.split())


def test_a_person_plays_the_agent_to_the_end_and_sees_the_rewards(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli("play", "intention", "--seed", 1, "--max-turns", 3, "--out", "game.jsonl", stdin="\n".join(ASKS) + "\n")
    assert done.code == 0
    assert "You are the agent. Clarify a vague task" in done.out
    for asked in ASKS[:2]:
        assert done.out.count(asked) == 2
    talk, game = done.out.split("The game, with the reward of each turn")
    assert "+0.00" not in talk
    assert game.count("+0.") + game.count("+1.") == 3
    assert "end     all 3 turns used" in game
    [episode] = read(tmp_path / "game.jsonl")
    assert (episode.stop, [turn.action.text for turn in episode.turns]) == ("turn_limit", ASKS)


def test_what_is_typed_and_answered_cannot_style_or_steer_the_terminal(cli: Callable[..., Any]) -> None:
    done = cli("play", "intention", "--max-turns", 1, stdin=f"{ASKS[2]}\n")
    assert "\x1b" not in done.out + done.err
    assert "[red]x[/red]" in done.out


def test_the_choices_of_a_gym_are_explained_and_typed_before_the_text(cli: Callable[..., Any]) -> None:
    done = cli("play", "function", "--max-turns", 2, stdin="1 2 3 4\naction 1 2 3 4\nSearch test\n")
    assert "It begins with a choice:" in done.out
    assert all(f"  {kind} " in done.out for kind in find("function").actions)
    assert "then its text, as in: action 1 2 3 4" in " ".join(done.out.split())
    assert "gym     f(1, 2, 3, 4) " in done.out
    assert "Test case (a b c d)" in done.out
    assert "The user is a script" not in done.out


def answers(gym: str, task: str) -> list[str]:
    """A sentence for every wish of a task of intention."""
    return [detail["answer"] for detail in find(gym).task(task).hidden["details"]]


def test_a_person_at_the_desk_is_shown_the_policy_and_one_in_the_users_seat_no_script(cli: Callable[..., Any]) -> None:
    agent = cli("play", "tau", "--seed", "1", stdin="")
    assert "Find out first who is writing." in " ".join(agent.out.split()) or "Ask for the user id" in " ".join(agent.out.split())
    user = cli("play", "tau", "--seed", "1", "--as", "user", stdin="")
    assert "instruction" in user.out and "insists" not in user.out


def test_it_is_told_apart_who_answers_the_user_the_tools_or_the_gym(cli: Callable[..., Any], tmp_path: Path) -> None:
    typed = ["search tools", 'answer {"name": "think", "arguments": {"thought": "x"}}', "action How can I help you?"]
    done = cli("play", "tau", "--task", find("tau").tasks("test")[0].id, "--out", "game.jsonl", stdin="\n".join(typed) + "\n")
    lines = [line for line in done.out.splitlines() if line.startswith(("user", "tools", "gym"))]
    assert [line.split()[0] for line in lines] == ["user", "tools", "tools", "user"] * 2
    assert "            order_id: string. Number of the order" in done.out
    assert answerer("tau", Action("invalid", raw="x")) == "gym"


def test_json_of_several_levels_is_shown_with_its_levels() -> None:
    assert readable('{"id": "A1", "items": [{"name": "Lamp", "options": {"color": "red"}}, {"name": "Vase"}]}') == (
        "A1: items (name Lamp, options (color red)), (name Vase)"
    )
    assert readable('[{"id": "A1", "price": 2}, {"id": "B2", "price": 3}]') == "A1: price 2\nB2: price 3"
    assert readable('{"name": "f", "description": "Do.", "parameters": {"properties": {"x": {"enum": [1, 2]}, "y": {}}}}') == (
        "f: Do.\n    x: one of 1, 2. \n    y: anything. "
    )
    for text in ("[1] is a note", "{broken", '{"parameters": {"properties": {"x": 3}}}', "[]", "{}"):
        assert readable(text)


def test_a_person_plays_the_user_against_the_expert_and_sees_the_wishes_once(cli: Callable[..., Any], tmp_path: Path) -> None:
    task = find("intention").tasks("test")[0]
    said = answers("intention", task.id)
    typed = "\n".join(["", "\udcff what?", *["I do not mind."] * 16])
    done = cli("play", "intention", "--as", "user", "--task", task.id, "--out", "game.jsonl", stdin=typed)
    assert done.code == 0
    assert "You are the user." in done.out
    assert done.out.count("Your wishes, which the agent does not see") == 1
    assert all(done.out.count(sentence) == 1 for sentence in said)
    assert "score" not in done.out.split("The game")[0]
    [episode] = read(tmp_path / "game.jsonl")
    assert episode.stop == "done"
    assert [turn.feedback for turn in episode.turns][:2] == ["? what?", "I do not mind."]
    assert sum(episode.rewards) > 0


def test_the_user_has_no_seat_in_a_gym_that_asks_it_nothing(refused: Callable[..., str]) -> None:
    said = refused("play", "function", "--as", "user")
    assert "Gym 'function' asks its user nothing" in said
    assert "userrl play function" in said
    assert "intention" in said


@pytest.mark.parametrize("seat", ["agent", "user"])
def test_the_end_of_the_input_leaves_and_keeps_what_was_played(cli: Callable[..., Any], tmp_path: Path, seat: str) -> None:
    done = cli("play", "intention", "--as", seat, "--seed", 1, "--out", "game.jsonl", stdin="When is it?\nHow many?\n")
    assert done.code == 0
    assert "end     left before the end" in done.out
    [episode] = read(tmp_path / "game.jsonl")
    assert (episode.stop, len(episode.turns)) == ("running", 2)


@pytest.mark.parametrize("seat", ["agent", "user"])
def test_leaving_before_the_first_turn_keeps_nothing_and_says_so(cli: Callable[..., Any], tmp_path: Path, seat: str) -> None:
    done = cli("play", "intention", "--as", seat, "--out", "game.jsonl")
    assert done.code == 0
    assert "there is nothing to keep" in done.out
    assert (tmp_path / "game.jsonl").read_bytes() == b""


def test_ctrl_c_while_a_line_is_awaited_leaves_and_keeps_what_was_played(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = started("play", "intention", "--out", "game.jsonl")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("When is it?\n")
    process.stdin.flush()
    seen = ""
    while "2/16" not in seen:
        seen += os.read(process.stdout.fileno(), 4096).decode()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "end     left before the end" in out
    [episode] = read(tmp_path / "game.jsonl")
    assert [turn.action.text for turn in episode.turns] == ["When is it?"]


def test_an_episode_is_appended_to_those_kept_before(cli: Callable[..., Any], tmp_path: Path) -> None:
    for _ in range(2):
        cli("play", "function", "--max-turns", 1, "--out", "games/mine.jsonl", stdin="search test\n")
    assert len(list(read(tmp_path / "games" / "mine.jsonl"))) == 2


def test_the_same_seed_gives_the_same_task(cli: Callable[..., Any], tmp_path: Path) -> None:
    for seed in (5, 5, 6):
        cli("play", "function", "--seed", seed, "--max-turns", 1, "--out", "games.jsonl", stdin="search test\n")
    first, same, other = (episode.task.id for episode in read(tmp_path / "games.jsonl"))
    assert first == same != other


def test_a_file_that_cannot_be_written_is_found_before_the_game(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    said = refused("play", "intention", "--out", "file/game.jsonl", stdin="When?\n")
    assert "Cannot write file/game.jsonl" in said


def asking(request: Request) -> Response:
    """A model that asks one question, and then finds its key revoked."""
    if request.number:
        return Response({"error": {"message": "revoked"}}, status=401)
    nasty = "When? [bold]now[/bold]\x1b[2J\nuser    All is well."
    return Response(completion(calls=[("interact_with_env", {"choice": "action", "content": nasty})]))


def test_a_model_as_the_partner_cannot_style_the_terminal_and_its_failure_keeps_the_turns(
    cli: Callable[..., Any], serve: Callable[..., str], tmp_path: Path
) -> None:
    url = serve(asking)
    done = cli("play", "intention", "--as", "user", "--agent", f"m@{url}", "--out", "game.jsonl", stdin="In May.\n")
    assert done.code == 1
    assert "agent   When? [bold]now[/bold]\N{REPLACEMENT CHARACTER}[2J\n        user    All is well." in done.out
    assert "\x1b" not in done.out + done.err
    assert "Error: agent: " in done.err
    assert "revoked" in done.err
    [episode] = read(tmp_path / "game.jsonl")
    assert (episode.stop, len(episode.turns)) == ("error", 1)


def test_facts_of_any_shape_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    playing.show_fact("goal", "Buy [b]milk[/b]", False)
    playing.show_fact("said", ["one", "two"], True)
    playing.show_fact("likes", ["tea", {"kind": "cake", "size": "large"}], False)
    playing.show_fact("turns", 3, False)
    playing.show_fact("rows", [{"a": "x"}, {"b": "y"}], False)
    playing.show_fact("descriptions", [[1]], False)
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "goal    Buy [b]milk[/b]",
        "agent   one",
        "agent   two",
        "likes   tea",
        "likes   kind: cake, size: large",
        "turns   3",
        "rows    a: x",
        "rows    b: y",
        "descriptions  [1]",
    ]


def test_what_is_kept_can_be_played_on(tmp_path: Path, cli: Callable[..., Any]) -> None:
    """A game that was left is a whole episode record, still running."""
    cli("play", "intention", "--out", "game.jsonl", stdin="When?\n")
    [line] = (tmp_path / "game.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["stop"] == "running"
    [episode] = read(tmp_path / "game.jsonl")
    assert isinstance(episode, Episode)
    assert episode.play(episode.turns[0]).stop == "running"
