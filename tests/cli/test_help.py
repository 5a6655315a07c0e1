"""Help: every command says what it does, with an example that can be typed, and comes without loading anything heavy."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import typer

from userrl.cli import app
from userrl.collect.run import CollectJob
from userrl.evaluate.run import EvalJob

HEAVY = {"torch", "transformers", "numpy", "aiohttp", "rich", "matplotlib"}


def commands() -> dict[str, Any]:
    """ "sft train" -> its command."""
    found: dict[str, Any] = {}

    def walk(command: Any, name: str) -> None:
        for part, sub in getattr(command, "commands", {}).items():
            walk(sub, f"{name} {part}".strip())
        if not hasattr(command, "commands"):
            found[name] = command

    walk(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize("name", commands())
def test_the_help_of_a_command_ends_with_an_example_that_can_be_typed(cli: Callable[..., Any], name: str) -> None:
    done = cli(*name.split(), "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: userrl {name} ")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "..." not in done.out.split("\n\n")[1]
    example = " ".join(done.out.split("Example: ")[1].split())
    program, *rest = shlex.split(example)
    assert program == "userrl"
    assert rest[: len(name.split())] == name.split()
    commands()[name].make_context(name, rest[len(name.split()) :])


def test_the_list_of_commands_says_each_in_one_whole_line(cli: Callable[..., Any]) -> None:
    for group in ([], ["sft"], ["rl"], ["check"], ["data"]):
        done = cli(*group)
        assert done.code == 0
        assert done.out == cli(*group, "--help").out
        lines = done.out.split("Commands:\n")[1].splitlines()
        assert lines
        assert all(re.fullmatch(r"  \w+ +\S.*\.", line) and "..." not in line for line in lines), lines


@pytest.mark.parametrize(("name", "job"), [("eval", EvalJob), ("sft collect", CollectJob)])
def test_the_defaults_that_help_names_are_those_of_the_job(name: str, job: Any) -> None:
    fields = {f.name: f.default for f in dataclasses.fields(job)}
    named = {}
    for option in commands()[name].params:
        if match := re.search(r"default: ([\w-]+)\.$", getattr(option, "help", None) or ""):
            named[option.name] = match[1]
    assert named.pop("agent") == "expert"
    assert named.pop("gyms") == " ".join(fields["gyms"])
    assert named.pop("tasks") == "all"
    assert fields["tasks"] is None
    assert {"split", "attempts", "max_turns", "user", "judge", "seed"} <= set(named)
    assert named == {option: str(fields[option]) for option in named}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, json\nfrom userrl.cli import main\ntry:\n    main(['eval', '--help'])\nexcept SystemExit as left:\n"
        "    sys.stderr.write(json.dumps([left.code, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, loaded = json.loads(done.stderr)
    assert exit_code == 0
    assert "userrl.cli" in loaded
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()
    assert len(loaded) < 400


def test_the_version_is_printed(cli: Callable[..., Any]) -> None:
    from userrl import __version__

    assert cli("--version").out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["evla"], "No such command 'evla'. Did you mean 'eval'? See `userrl --help`."),
        (["eval", "--task", "3"], "--tasks"),
        (["sft", "trian"], "Did you mean 'train'? See `userrl sft --help`."),
        (["play"], "Missing argument 'GYM'. See `userrl play --help`."),
        (["eval", "--tasks", "many"], "Invalid value for '--tasks'"),
    ],
)
def test_wrong_usage_is_told_in_one_line_and_exits_with_2(cli: Callable[..., Any], args: list[str], said: str) -> None:
    done = cli(*args)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: ")
    assert said in done.err
    assert done.err.count("\n") == 1
