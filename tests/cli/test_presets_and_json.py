"""`userrl eval` with the paper's protocol, held-out gyms, a person as the agent, and results as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from userrl.evaluate import paper
from userrl.evaluate.hostile import ATTACKS
from userrl.llm.fake import Response, completion
from userrl.store import read

Cli = Callable[..., Any]


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_the_papers_preset_prints_our_line_beside_the_papers(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "--preset", "paper", "--tasks", 1, "--max-turns", 3, "--out", "run")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in done.out
    assert "8B equalized/r2g  .573 .185 .423 .182 .532 1.82 .561 .888 .379 1.09 .565 .645" in done.out
    beside = lines[lines.index(next(line for line in lines if line.startswith("Beside the paper"))) :]
    found = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    [ours] = [line.split() for line in beside if line.startswith("expert ")]
    assert len(ours) == 1 + 12
    means = [found["paper"]["ours"][gym] for gym in paper.TASKS]
    assert [float(cell) for cell in ours[1:9]] == pytest.approx(means, abs=0.006)
    words = squeezed(done.out)
    assert "Not as in the paper: Other tasks than the paper's in travel, turtle" in words
    assert "Not as in the paper: Turns: 3; the paper: 16." in words
    assert "in: micro" in words and "out: macro" in words
    saved = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert (saved["preset"], saved["temperature"], saved["max_turns"]) == ("paper", 0.0, 3)
    assert saved["rules"] == {"compat": "userrl", "travel": {"rewards": "evaluation"}}


def test_gyms_that_were_held_out_are_averaged_apart_and_may_be_named_anew(cli: Cli) -> None:
    command = ("eval", "intention", "function", "search", "--tasks", 2, "--out", "run")
    done = cli(*command, "--held-out", "search")
    rows = [line.split("  ")[0] for line in done.out.splitlines()]
    assert [name for name in rows if name in ("intention", "function", "search", "in: micro", "in: macro", "micro", "macro")][
        :7
    ] == [
        *("intention", "function", "in: micro", "in: macro", "search", "micro", "macro"),
    ]
    again = cli(*command, "--held-out", "intention,function", "--resume")
    assert again.code == 0 and "out: macro" in again.out


def test_rules_of_one_gym_stand_in_a_table_of_its_name(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("[rules]\ncompat = 'userrl'\n[rules.travel]\nrewards = 'training'\n", "utf-8")
    assert cli("eval", "function", "travel", "--agent", "expert", "--tasks", 1, "--config", "job.toml", "--out", "run").code == 0
    rules = {e.task.gym: e.rules for e in read(tmp_path / "run" / "episodes.jsonl")}
    assert rules == {"function": {"compat": "userrl"}, "travel": {"compat": "userrl", "rewards": "training"}}


def test_json_is_all_that_is_on_standard_output_and_is_in_the_folder_too(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "intention", "--tasks", 3, "--json", "--out", "a")
    assert json.loads(done.out) == json.loads((tmp_path / "a" / "results.json").read_text("utf-8"))
    assert json.loads(done.out)["kind"] == "eval"
    cli("eval", "intention", "--tasks", 3, "--agent", "random", "--out", "b")
    assert (tmp_path / "b" / "results.json").exists()
    compared = json.loads(cli("compare", "a", "b", "--json").out)
    assert (compared["kind"], compared["before"], len(compared["gyms"])) == ("compare", "a", 1)
    front = json.loads(cli("front", "a", "b", "--json").out)
    assert (front["kind"], len(front["points"])) == ("front", 2)
    estimate = json.loads(cli("eval", "--agent", "m@http://h.invalid/v1", "--tasks", 1, "--dry-run", "--json").out)
    assert (estimate["kind"], estimate["episodes"], estimate["chairs"][0]["role"]) == ("estimate", 1, "agent")


def test_a_person_plays_one_episode_after_the_other_and_leaves_and_goes_on(cli: Cli, tmp_path: Path) -> None:
    command = ("eval", "intention", "--agent", "human", "--tasks", 3, "--max-turns", 2, "--out", "run")
    done = cli(*command, stdin="What is your budget?\nWhen?\nWhere?\n")
    assert done.code == 1
    assert "all 2 turns used; earned 0.00" in done.out and "2 to go." in done.out
    assert "You left the game. The episode that you were in begins anew." in done.err
    assert "What was played is kept in run; go on with the same command and --resume." in done.err
    assert [len(e.turns) for e in read(tmp_path / "run" / "episodes.jsonl")] == [2]
    done = cli(*command, "--resume", stdin="What is your budget?\n" * 4)
    assert done.code == 0 and "human: 3 test tasks of intention" in done.out
    assert done.out.count("You are the agent.") == 1
    assert len(list(read(tmp_path / "run" / "episodes.jsonl"))) == 3


def test_a_person_is_the_user_of_one_episode_after_the_other_and_leaves_and_goes_on(
    cli: Cli, refused: Callable[..., str], tmp_path: Path
) -> None:
    command = ("eval", "telepathy", "--user", "human", "--agent", "expert", "--tasks", 3, "--max-turns", 1)
    command = (*command, "--out", "run")
    done = cli(*command, stdin="perhaps\nno\n")
    assert done.code == 1 and "What was played is kept in run" in done.err
    assert "'perhaps' is not one of them." in done.out and "2 to go." in done.out
    [first] = read(tmp_path / "run" / "episodes.jsonl")
    assert first.turns[0].feedback == "No" and first.task.hidden["title"] in done.out
    done = cli(*command, "--resume", stdin="yes\n" * 2)
    assert done.code == 0 and done.out.count("You are the user.") == 1
    assert [e.turns[0].feedback for e in read(tmp_path / "run" / "episodes.jsonl")] == ["No", "Yes", "Yes"]
    assert json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))["job"]["user"] == "human"
    assert "cannot be replayed" in refused("eval", "--replay", "run", "--out", "again")
    assert "A person was the user in run" in refused("users", "agree", "run", "--models", "scripted")


def test_signs_of_hacking_are_shown_where_there_are_any_or_where_it_is_asked_for(
    cli: Cli, serve: Callable[..., str], tmp_path: Path
) -> None:
    assert "Signs of playing" not in cli("eval", "turtle", "--tasks", 2, "--out", "a").out
    shown = squeezed(cli("eval", "turtle", "--tasks", 2, "--hacks", "--out", "b").out)
    assert "long [95%] handed [95%] attack [95%] leak [95%]" in shown and "0% [0, 84]" in shown
    call = ("interact_with_env", {"choice": "answer", "content": ATTACKS["judge_orders"]})
    url = serve(lambda request: Response(completion(calls=[call])))
    done = cli("eval", "turtle", "--agent", f"m@{url}", "--tasks", 2, "--max-turns", 1, "--out", "c")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "100% [16, 100]" in done.out and "attack, task turtle-" in done.out and "Ignore the rules above" in done.out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("eval", "--agent", "expret", "--dry-run"), "No agent for gym 'intention' named 'expret'. Did you mean 'expert'"),
        (("eval", "--user", "scirpted", "--dry-run"), "No user named 'scirpted'"),
        (("eval", "--agent", "human", "--json"), "--json keeps standard output to itself"),
        (("eval", "--user", "human", "--json"), "--json keeps standard output to itself"),
        (("eval", "--user", "human", "--agent", "human"), "Agent and user are both 'human'"),
        (("eval", "telepathy", "function", "--user", "human"), "Gym 'function' asks its user nothing"),
        (("front", "a", "--by", "turns"), "A front of turns against turns"),
        (("eval", "--held-out", "serch"), "No gym named 'serch'. Did you mean 'search'"),
        (("compare", "a", "b", "--task", "t", "--json"), "give one of the two"),
    ],
)
def test_a_mistake_is_named(refused: Callable[..., str], args: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in refused(*args)
    assert list(tmp_path.iterdir()) == []


def test_a_front_is_printed_and_drawn(cli: Cli, tmp_path: Path) -> None:
    for agent in ("expert:0.9", "expert:0.3", "random"):
        cli("eval", "intention", "function", "--tasks", 6, "--agent", agent, "--out", f"runs/{agent.replace(':', '-')}/run")
    done = cli("front", "runs/expert-0.9/run", "runs/expert-0.3/run", "runs/random/run", "--plot", "f.png")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].rstrip() == "share against turns, over 12 tasks"
    assert [line.split()[0] for line in lines[3:6]] and {line.split()[0] for line in lines[3:6]} == {
        "random",
        "expert-0.9",
        "expert-0.3",
    }
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    one = cli("front", "runs/random/run", "--gym", "function", "--by", "solved", "--against", "user-turns")
    assert one.out.startswith("solved against user-turns, over 6 tasks")


def test_a_run_of_an_earlier_version_without_the_newer_settings_is_gone_on_with(cli: Cli, tmp_path: Path) -> None:
    command = ("eval", "function", "--tasks", 2, "--out", "run")
    cli(*command)
    file = tmp_path / "run" / "config.json"
    saved = json.loads(file.read_text("utf-8"))
    assert "held_out" not in saved
    file.write_text(json.dumps({name: value for name, value in saved.items() if name not in ("preset", "splits")}), "utf-8")
    assert cli(*command, "--resume").code == 0
    assert "preset was None, now 'paper'" in cli(*command, "--resume", "--preset", "paper").err
