"""Users as a factor on the command line: the grid of agents, users and judges, and asking recorded queries again."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from userrl.cli.show import told_apart
from userrl.cli.users import cells_table
from userrl.evaluate.statistics import NOTHING
from userrl.evaluate.users import Factor, Figure
from userrl.llm.fake import Request, Response, completion

Cli = Callable[..., Any]
Serve = Callable[..., str]


def squeezed(text: str) -> str:
    return " ".join(text.split())


GRID = ("eval", "telepathy", "--agents", "expert,expert:0.3,random", "--users", "scripted,scripted:hesitant", "--tasks", 8)


def test_a_grid_plays_every_agent_with_every_user_and_says_what_the_user_decides(cli: Cli, tmp_path: Path) -> None:
    done = cli(*GRID, "--out", "grid")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in done.out
    cells = sorted(path.parent.relative_to(tmp_path / "grid").as_posix() for path in tmp_path.rglob("episodes.jsonl"))
    assert len(cells) == 6 and "expert-0.3/scripted-hesitant/scripted" in cells
    found = json.loads((tmp_path / "grid" / "results.json").read_text("utf-8"))
    assert found["kind"] == "users" and sorted(cell["folder"] for cell in found["cells"]) == cells
    assert all((tmp_path / "grid" / cell / "results.json").exists() for cell in cells)
    for figure in found["factor"]["figures"]:
        assert f"{figure['mean']['mean']:.3f} [" in done.out
    words = squeezed(done.out)
    assert "What the user decides (8 tasks)" in words
    assert "Do users put the 3 agents in the same order?" in words
    assert len(found["factor"]["spreads"]) == 3 and len(found["factor"]["ranks"]) == 1


def test_no_user_is_called_the_worst_where_all_are_alike_and_one_order_is_no_certainty(cli: Cli) -> None:
    done = cli(
        "eval", "function", "--agents", "expert,expert:0.3", "--users", "scripted,scripted:terse", "--tasks", 3, "--out", "g"
    )
    words = squeezed(done.out)
    assert " - - - 0.000" in words, done.out
    assert "1.00 [1.00, 1.00]" not in words.partition("Do users put")[2]


def test_two_endpoints_with_the_same_model_are_told_apart() -> None:
    first, other = "m@http://a:8000/v1", "m@http://b:8000/v1"
    assert told_apart([first, other, "expert", "n@http://a:8000/v1"]) == {
        first: first, other: other, "expert": "expert", "n@http://a:8000/v1": "n",
    }  # fmt: skip
    figure = Figure("", "scripted", "scripted", NOTHING, 1, 0, {}, NOTHING)
    found = Factor("share", (replace(figure, agent=first), replace(figure, agent=other)), (), (), 1)
    assert list(cells_table(found).columns[0].cells) == [Text(first), Text(other)]


def test_a_grid_of_several_gyms_shows_both_averages_and_each_gym(cli: Cli, tmp_path: Path) -> None:
    grid = ("--agents", "expert,random", "--users", "scripted,scripted:hesitant", "--judges", "scripted", "--tasks", 2)
    done = cli("eval", "intention", "function", *grid, "--out", "grid")
    assert max(map(len, done.out.splitlines())) <= 80 and "…" not in done.out
    words = squeezed(done.out)
    assert "micro [95%] macro [95%] tasks" in words and "Gym by gym: share" in words
    factor = json.loads((tmp_path / "grid" / "results.json").read_text("utf-8"))["factor"]
    for figure in factor["figures"]:
        for mean in figure["gyms"].values():
            assert f"{mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}] {mean['n']}" in words


def test_a_grid_goes_on_where_it_stopped_and_may_have_more_users_then(
    cli: Cli, refused: Callable[..., str], tmp_path: Path
) -> None:
    command = ("eval", "telepathy", "--agents", "expert,random", "--tasks", 3, "--out", "grid")
    first = cli(*command, "--users", "scripted")
    assert "What the user decides" not in first.out
    kept = {path: path.read_bytes() for path in tmp_path.rglob("episodes.jsonl")}
    assert "already holds a run. Add --resume" in refused(*command, "--users", "scripted,scripted:terse")
    assert cli(*command, "--users", "scripted,scripted:terse", "--resume").code == 0
    assert len(list(tmp_path.rglob("episodes.jsonl"))) == 4
    assert all(path.read_bytes() == data for path, data in kept.items())
    assert cli("compare", "grid/expert/scripted/scripted", "grid/expert/scripted-terse/scripted").code == 0


def test_the_folder_of_a_grid_stands_for_its_cells_in_every_command_that_takes_runs(
    cli: Cli, refused: Callable[..., str], tmp_path: Path
) -> None:
    command = ("eval", "telepathy", "--agents", "expert,random", "--users", "scripted,scripted:terse", "--tasks", 3)
    assert cli(*command, "--out", "grid").code == 0
    cells = [f"grid/{agent}/{user}/scripted" for agent in ("expert", "random") for user in ("scripted", "scripted-terse")]

    for gathered in ("grid", ("grid/expert", "grid/random/scripted", cells[3])):
        names = [gathered] if isinstance(gathered, str) else gathered
        points = json.loads(cli("front", *names, "--json").out)["points"]
        assert {point["run"] for point in points} == set(cells) and len(points) == 4
    assert "random/scripted-t" in cli("front", "grid").out

    found = json.loads(cli("compare", "grid", "--json").out)
    assert (found["before"], found["after"]) == (cells[0], cells[1])
    assert [other["after"] for other in found["others"]] == cells[2:]
    assert found["others"][1]["gyms"] == json.loads(cli("compare", cells[0], cells[3], "--json").out)["gyms"]
    told = cli("compare", "grid").out
    assert [line for line in told.splitlines() if line[:3] in ("A: ", "B: ")] == [
        line for other in cells[1:] for line in (f"A: {cells[0]}", f"B: {other}")
    ]
    assert squeezed(told).count("p: how often tossing each task's sign") == 1

    assert cli("report", "grid", "--out", "grid.html").code == 0
    assert "What the user decides" in (tmp_path / "grid.html").read_text("utf-8")
    assert cli("export", "grid", "--format", "latex", "--out", "tables").code == 0
    assert {"users.tex", "users-spread.tex", "users-ranks.tex"} <= {file.name for file in (tmp_path / "tables").iterdir()}

    assert "One run is named, grid/expert/scripted/scripted." in refused("compare", "grid/expert/scripted")
    assert "grid/expert/scripted-terse/scripted and 2 more. Name two of them." in refused("compare", "grid", "--task", "t")
    assert "A run is named twice" in refused("front", "grid", cells[0])


def test_users_and_judges_are_models_of_their_own_and_one_budget_holds_for_all_cells(
    cli: Cli, serve: Serve, tmp_path: Path
) -> None:
    asked: list[str] = []

    def reply(request: Request) -> Response:
        asked.append(request.body["model"])
        word = {"u1": '{"word": "Yes"}', "u2": '{"word": "No"}'}.get(request.body["model"], '{"same": false}')
        return Response({**completion(word), "usage": {"prompt_tokens": 500, "completion_tokens": 0}})

    url = serve(reply)
    grid = (
        "--agents",
        "random",
        "--users",
        f"u1@{url},u2@{url}",
        "--judges",
        f"scripted,j@{url}",
        "--tasks",
        6,
        "--max-turns",
        3,
    )
    command = ("eval", "telepathy", *grid, "--out", "grid", "--at-once", 1)
    done = cli(*command, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert len(found["cells"]) == 4 and {"u1", "u2", "j"} <= set(asked)
    assert sum(row["calls"] for row in found["cost"]) == len(asked)
    calls = len(asked)
    stopped = cli(*command[:-3], "small", "--at-once", 1, "--max-tokens", 500 * calls * 0.6)
    assert (
        stopped.code == 1
        and "Stopped before the budget" in stopped.err
        and "go on with the same command and --resume" in stopped.err
    )
    assert calls / 4 < len(asked) - calls <= calls * 0.6, "more than a cell, and no more than the bound"
    assert cli(*command[:-3], "small", "--at-once", 1, "--resume").code == 0
    assert len(asked) == 2 * calls


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--users", "scripted,nobody"), "No user named 'nobody'"),
        (("--users", "scripted", "--user", "scripted"), "Both --user and --users are given"),
        (("--agents", "expert,expert"), "names one twice"),
        (("--users", "scripted", "--by", "sahre"), "No figure to compare by named 'sahre'"),
    ],
)
def test_a_mistake_in_a_grid_is_named_before_anything_is_played(
    refused: Callable[..., str], args: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    assert said in refused("eval", "function", "--tasks", 1, *args)
    assert list(tmp_path.rglob("episodes.jsonl")) == []


def test_a_grid_is_estimated_as_a_whole(cli: Cli) -> None:
    one = json.loads(cli("eval", "--agent", "m@http://h.invalid/v1", "--tasks", 2, "--dry-run", "--json").out)
    users = ("--agents", "m@http://h.invalid/v1,expert", "--users", "scripted,scripted:terse")
    all_ = json.loads(cli("eval", *users, "--tasks", 2, "--dry-run", "--json").out)
    assert all_["episodes"] == 8
    assert all_["chairs"][0]["calls"] == [2 * n for n in one["chairs"][0]["calls"]]


# --- agreement -------------------------------------------------------------------------------------------------

AGREE = ("users", "agree", "run", "--repeats", 2)


@pytest.fixture
def played(cli: Cli) -> Cli:
    assert cli("eval", "telepathy", "--agent", "expert:0.5", "--tasks", 30, "--out", "run").code == 0
    return cli


def contrary(request: Request, noise: float, rng: random.Random) -> str:
    """Says the right word of the script in the prompt's place: always Yes, or by a coin No."""
    return json.dumps({"word": "No" if rng.random() < noise else "Yes", "same": rng.random() >= noise})


def test_scripted_users_are_asked_again_and_set_beside_each_other(played: Cli, tmp_path: Path) -> None:
    done = played(*AGREE, "--models", "scripted,scripted:hesitant", "--out", "agree")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    found = json.loads((tmp_path / "agree" / "results.json").read_text("utf-8"))["agreement"]
    by = {(m["model"], m["verdict"]["query"]): m for m in found["models"]}
    assert by["scripted", "telepathy.question"]["fidelity"]["share"]["mean"] == 1.0
    hesitant = by["scripted:hesitant", "telepathy.question"]
    assert hesitant["fidelity"]["share"]["mean"] < 0.9 and hesitant["reproducibility"]["share"]["mean"] == 1.0
    assert "telepathy.question: word" in done.out and "scripted, scripted:hesitant" in done.out


def test_a_noisy_model_is_less_faithful_and_less_reproducible_and_is_asked_each_query_once(
    played: Cli, serve: Serve, tmp_path: Path
) -> None:
    rng, requests = random.Random(1), [0]

    def reply(request: Request) -> str:
        requests[0] += 1
        return contrary(request, {"quiet": 0.0, "noisy": 0.3}[request.body["model"]], rng)

    url = serve(reply)
    command = (
        *AGREE,
        "--models",
        f"quiet@{url},noisy@{url}",
        "--role",
        "user",
        "--queries",
        60,
        "--out",
        "agree",
        "--at-once",
        1,
    )
    stopped = played(*command, "--max-tokens", 15 * 150)
    assert stopped.code == 1 and "Stopped before the budget" in stopped.err
    before = requests[0]
    assert 60 < before < 240
    done = played(*command, "--resume", "--json")
    assert done.code == 0
    assert requests[0] == 240, "what was paid for is not asked again"
    quiet, noisy = json.loads(done.out)["agreement"]["models"]
    assert (quiet["model"], quiet["reproducibility"]["share"]["mean"]) == (f"quiet@{url}", 1.0)
    assert noisy["reproducibility"]["share"]["mean"] == pytest.approx(0.3**2 + 0.7**2, abs=0.15)
    assert played(*command, "--resume", "--json").out == done.out
    assert requests[0] == 240


def test_the_queries_of_a_run_with_models_come_from_its_record(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(request: Request) -> str:
        asked.append(request.body["model"])
        return '{"word": "Maybe"}'

    url = serve(reply)
    assert (
        cli("eval", "telepathy", "--agent", "random", "--user", f"u@{url}", "--tasks", 4, "--max-turns", 4, "--out", "run").code
        == 0
    )
    before = len(asked)
    done = cli(*AGREE, "--models", "scripted", "--role", "user", "--json")
    assert done.code == 0 and len(asked) == before
    [found] = json.loads(done.out)["agreement"]["models"]
    assert found["queries"] == before and found["fidelity"]["share"]["mean"] < 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("run", "--models", "scripted,nobody"), "No user named 'nobody'"),
        (("run",), "The setting 'models' is missing"),
        (("nowhere", "--models", "scripted"), "nowhere holds no evaluation that can be read"),
    ],
)
def test_a_mistake_is_named_before_anybody_is_asked(
    played: Cli, refused: Callable[..., str], args: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    assert said in refused("users", "agree", *args)
    assert not (tmp_path / "runs").exists()


def test_folders_that_are_taken_are_named_before_anybody_is_asked(played: Cli, refused: Callable[..., str]) -> None:
    assert played(*AGREE, "--models", "scripted", "--out", "agree").code == 0
    said = refused(*AGREE, "--models", "scripted:terse,scripted", "--out", "agree")
    assert "agree holds replies of scripted already. Add --resume" in said
    assert not Path("agree/scripted-terse").exists()


def test_a_run_without_verdicts_cannot_be_asked_again(cli: Cli, refused: Callable[..., str]) -> None:
    cli("eval", "function", "--tasks", 2, "--out", "run")
    assert "hold no verdicts" in refused("users", "agree", "run", "--models", "scripted")
