"""What bounds, estimates, shares and replays a run, as a person would type it, with models behind a server on loopback."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from userrl.llm.fake import Request, Response, completion
from userrl.render import TOOL_NAME
from userrl.store import read, to_record

Cli = Callable[..., Any]
Serve = Callable[..., str]
KEY = "sk-very-secret-0123456789"
QUESTIONS = ("Where do you want to go?", "On what date?", "What is your budget?")


def reply(request: Request) -> Response:
    """What a model says, which depends on its name and on how long the talk is alone."""
    turn = sum(message["role"] == "assistant" for message in request.messages)
    asked = QUESTIONS[turn % len(QUESTIONS)]
    body = {
        "a": completion(calls=[(TOOL_NAME, {"choice": "action", "content": asked})]),
        "u": completion('{"words": "Let me see."}'),
        "j": completion('{"addressed": [], "on_task": true}'),
    }[request.body["model"]]
    return Response({**body, "usage": {"prompt_tokens": 400, "completion_tokens": 50}})


def command(url: str, *more: object) -> list[object]:
    roles = ("--agent", f"a@{url}", "--user", f"u@{url}", "--judge", f"j@{url}")
    return ["eval", "intention", *roles, "--tasks", 4, "--max-turns", 2, "--at-once", 2, "--out", "run", *more]


def job(tmp_path: Path, **settings: Any) -> Path:
    """A job's file that gives all three endpoints the same settings, with little patience."""
    settings = {"backoff_s": 0.001, "max_retries": 1, **settings}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    text = "\n".join(line for role in ("agent", "user", "judge") for line in (f"[endpoints.{role}]", *lines))
    path = tmp_path / "job.toml"
    path.write_text(text, "utf-8")
    return path


def squeezed(text: str) -> str:
    return " ".join(text.split())


def episodes(tmp_path: Path, run: str = "run") -> dict[Any, Any]:
    """Key -> the last record of an episode."""
    return {e.key: to_record(e) for e in read(tmp_path / run / "episodes.jsonl")}


def replies(tmp_path: Path) -> list[Any]:
    return [json.loads(line) for line in (tmp_path / "run" / "replies.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def whole(cli: Cli, serve: Serve, tmp_path: Path) -> Iterator[dict[Any, Any]]:
    """The undisturbed run, in a folder of its own."""
    assert cli(*command(serve(reply))[:-1], "whole").code == 0
    yield episodes(tmp_path, "whole")


# --- estimates -------------------------------------------------------------------------------------------------


def test_a_dry_run_estimates_each_chair_asks_nobody_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    config = job(tmp_path, usd_read=1.0, usd_written=2.0)
    done = cli(*command("http://127.0.0.1:9/v1", "--config", config, "--dry-run"))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].rstrip() == "Estimate for 4 episodes"
    for name, model in (("agent", "a"), ("user", "u"), ("judge", "j")):
        [at] = [i for i, line in enumerate(lines) if line.startswith(f"{name} ")]
        least, most = lines[at].split(), lines[at + 1].split()
        assert least[:3] == [name, model, "least"] and most[0] == "most"
        assert 2 <= int(least[3]) <= int(most[1]) <= 8  # calls: at most one a turn
        assert least[-1] == most[-1] == "0.00"
    assert max(map(len, lines)) <= 80
    assert "Bound a run with --max-usd or --max-tokens." in done.out
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_where_a_price_is_unknown(cli: Cli) -> None:
    done = cli(*command("http://127.0.0.1:9/v1", "--dry-run"))
    assert sum(line.rstrip().endswith("  unknown") for line in done.out.splitlines()) == 6
    assert "set usd_read and usd_written (dollars a million tokens) in [endpoints.agent]" in squeezed(done.out)


def test_a_dry_run_without_models_says_that_nothing_is_paid_for(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "intention", "--agent", "expert", "--dry-run", "--out", "run")
    assert (done.code, done.out) == (0, "No chair is a model's, so nothing is paid for.\n")
    assert not (tmp_path / "run").exists()


# --- budgets ---------------------------------------------------------------------------------------------------


def test_a_budget_of_tokens_stops_the_run_and_a_larger_one_goes_on_where_it_stood(
    cli: Cli, refused: Callable[..., str], serve: Serve, tmp_path: Path, whole: dict[Any, Any]
) -> None:
    asked: list[Request] = []

    def handler(request: Request) -> Response:
        asked.append(request)
        return reply(request)

    url = serve(handler)
    said = refused(*command(url, "--max-tokens", 5000))
    assert said.startswith("Error: Stopped before the budget of 5000 tokens was passed: ")
    assert "Raise --max-tokens to go on." in said
    assert said.endswith("What was played is kept in run; go on with the same command and --resume.")
    first = len(asked)
    assert 0 < first < 24

    again = refused(*command(url, "--max-tokens", 5000, "--resume"))
    assert "budget of 5000 tokens" in again

    done = cli(*command(url, "--max-tokens", 1e6, "--resume"))
    assert done.code == 0
    assert episodes(tmp_path) == whole
    assert len(asked) == len(replies(tmp_path)) == 24
    rows = json.loads((tmp_path / "run" / "cost.json").read_text("utf-8"))
    assert sorted((row["role"], row["model"], row["calls"], row["read"], row["written"]) for row in rows) == [
        ("agent", "a", 8, 3200, 400),
        ("judge", "j", 8, 3200, 400),
        ("user", "u", 8, 3200, 400),
    ]
    assert "all 24 9,600 1,200" in squeezed(done.out)


def test_a_budget_of_dollars_stops_the_run_at_its_price(
    cli: Cli, refused: Callable[..., str], serve: Serve, tmp_path: Path, whole: dict[Any, Any]
) -> None:
    url, config = serve(reply), job(tmp_path, usd_read=100.0, usd_written=1000.0)
    said = refused(*command(url, "--config", config, "--max-usd", 1.5))
    assert said.startswith("Error: Stopped before the budget of 1.5 dollars was passed: ")
    done = cli(*command(url, "--config", config, "--max-usd", 1000, "--resume"))
    assert done.code == 0
    assert episodes(tmp_path) == whole
    assert "all 24 9,600 1,200 2.16" in squeezed(done.out)
    assert "mean reward 0.000, $2.16" in done.err


@pytest.mark.parametrize("thought", [2_000, 20_000])
def test_many_models_that_think_at_once_cost_no_more_than_the_budget_and_the_message_says_what(
    cli: Cli, refused: Callable[..., str], serve: Serve, tmp_path: Path, thought: int
) -> None:
    def thinking(request: Request) -> Response:
        body = reply(request).body
        usage = {"prompt_tokens": len(json.dumps(request.body)) // 4, "completion_tokens": thought + 100 * (request.number % 9)}
        return Response({**body, "usage": usage}, delay_s=0.001 * (request.number % 5))

    config, budget = job(tmp_path, usd_read=1.0, usd_written=4.0), thought * 4e-6 * 60
    many = ("--tasks", 200, "--at-once", 64, "--max-turns", 16, "--config", config, "--max-usd", budget)
    said = refused(*command(serve(thinking)), *many)
    rows = json.loads((tmp_path / "run" / "cost.json").read_text("utf-8"))
    spent = sum(row["usd"] for row in rows)
    assert 0.8 * budget < spent <= budget
    assert f"passed: {spent:.4g} are spent, and the next call of the " in said
    assert {row["price"]["usd_written"] for row in rows} == {4.0}
    assert sum(1 for _ in replies(tmp_path)) == sum(row["calls"] for row in rows)


def test_a_budget_of_dollars_for_a_model_of_unknown_price_is_refused_before_anything_is_asked(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    said = refused(*command("http://127.0.0.1:9/v1", "--max-usd", 1))
    assert "A budget in dollars needs the price of the user's model 'u'. Set usd_read and usd_written" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--max-usd", 0), "max_usd is 0.0; expected a number above 0."),
        (("--max-tokens", -5), "max_tokens is -5.0; expected a number above 0."),
        (("--turn-timeout", 0), "turn_timeout_s is 0; expected a number of seconds above 0."),
        (("--episode-timeout", -1), "episode_timeout_s is -1; expected a number of seconds above 0."),
        (("--at-once", 0), "at_once is 0; expected at least 1 episode in flight."),
    ],
)
def test_a_bound_out_of_range_is_named_and_leaves_nothing_behind(
    refused: Callable[..., str], tmp_path: Path, option: tuple[object, ...], said: str
) -> None:
    assert said in refused("eval", "intention", "--agent", "expert", "--tasks", 2, "--out", "run", *option)
    assert not (tmp_path / "run").exists()


def test_too_many_invalid_actions_stop_the_run_and_count_over_its_sittings(
    cli: Cli, refused: Callable[..., str], serve: Serve, tmp_path: Path
) -> None:
    asked: list[int] = []

    def handler(request: Request) -> Response:
        asked.append(request.number)
        return Response(completion("I would rather not call anything."))

    prose = ["eval", "intention", "--agent", f"a@{serve(handler)}", "--tasks", 6, "--max-turns", 2, "--at-once", 1]
    prose += ["--out", "run"]
    said = refused(*prose, "--max-invalid", 3)
    assert "Stopped: 4 actions were no valid calls (at most 3 are allowed). The last one: " in said
    assert "allow more with --max-invalid." in said
    assert len(asked) == 4
    again = refused(*prose, "--max-invalid", 5, "--resume")
    assert "Stopped: 6 actions were no valid calls (at most 5 are allowed)" in again
    assert len(asked) == 6
    assert cli(*prose, "--resume").code == 0
    assert len(asked) == 12
    assert [len(e["turns"]) for e in episodes(tmp_path).values()] == [2] * 6


# --- deadlines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "name"), [("--turn-timeout", "turn"), ("--episode-timeout", "episode")])
def test_a_turn_or_episode_that_takes_too_long_is_a_failure_that_resume_plays_anew(
    cli: Cli, serve: Serve, tmp_path: Path, whole: dict[Any, Any], option: str, name: str
) -> None:
    hangs = {"yes": True}
    asked: list[Request] = []

    def handler(request: Request) -> Response:
        asked.append(request)
        slow = hangs["yes"] and request.body["model"] == "j" and request.number > 3
        return Response(reply(request).body, delay_s=3600 if slow else 0)

    url = serve(handler)
    done = cli(*command(url, option, 1.5))
    said = f"The {name} took longer than {name}_timeout_s=1.5; it was given up."
    failed = [record for record in episodes(tmp_path).values() if record["stop"] == "error"]
    assert failed
    assert all(record["error"].startswith(said) for record in failed)
    assert said in done.err

    hangs["yes"] = False
    before = len(asked)
    assert cli(*command(url, option, 60, "--resume")).code == 0
    assert episodes(tmp_path) == whole
    finished = sum(len(record["turns"]) for record in failed)
    assert len(asked) - before == 3 * (2 * len(failed) - finished)  # no turn that had been played


# --- replay ----------------------------------------------------------------------------------------------------


def test_a_replay_is_offline_and_identical_with_its_failures(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    up = {"yes": True}

    def handler(request: Request) -> Response:
        assert up["yes"]
        return Response("no completion") if request.number in (3, 9, 10) else reply(request)

    cli(*command(serve(handler)))
    up["yes"] = False
    done = cli("eval", "--replay", "run", "--out", "again")
    assert done.code == 0
    assert "Identical to the episodes in run: 4 of 4." in done.out
    assert episodes(tmp_path, "again") == episodes(tmp_path)
    assert any(record["stop"] == "error" for record in episodes(tmp_path).values())
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == ["config.json", "episodes.jsonl", "results.json"]
    assert json.loads((tmp_path / "again" / "config.json").read_text("utf-8"))["replay_of"] == "run"


def test_a_replay_of_what_was_changed_or_never_recorded_says_so(
    cli: Cli, refused: Callable[..., str], serve: Serve, tmp_path: Path
) -> None:
    assert "nowhere holds no evaluation that can be read" in refused("eval", "--replay", "nowhere")
    cli("eval", "intention", "--tasks", 1, "--out", "scripted")
    assert "only a run whose agent, user or judge is a model can be replayed" in refused("eval", "--replay", "scripted")
    assert not (tmp_path / "runs").exists()

    cli(*command(serve(reply)))
    file = tmp_path / "run" / "replies.jsonl"
    lines = file.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:-1]), "utf-8")
    assert "The recorded run has no reply of the " in refused("eval", "--replay", "run", "--out", "again")


def test_a_replay_names_what_keeps_it_from_being_one(cli: Cli, refused: Callable[..., str], serve: Serve, tmp_path: Path) -> None:
    assert "nowhere holds no evaluation that can be read: there is no such folder. Name" in refused("eval", "--replay", "nowhere")
    (tmp_path / "bare").mkdir()
    assert "it has no config.json. Name" in refused("eval", "--replay", "bare")
    url = serve(reply)
    grid = ("--users", f"u@{url},scripted", "--tasks", 1, "--max-turns", 1, "--out", "grid")
    assert cli("eval", "intention", "--agent", "random", *grid).code == 0
    assert "it is a grid's, whose runs are in folders below it, such as grid/random/" in refused("eval", "--replay", "grid")

    refused(*command(url, "--max-tokens", 3000))
    said = refused("eval", "--replay", "run", "--out", "again")
    assert re.search(r"The run in run is unfinished: \d of 4 episodes have ended\. Go on with it first", said)
    assert not (tmp_path / "again").exists()

    assert cli(*command(url, "--resume")).code == 0
    for given in (["intention"], ["--agent", "expert"], ["--tasks", 2], ["--users", "scripted"], ["--dry-run"]):
        said = refused("eval", *given, "--replay", "run", "--out", "again")
        name = "the gyms" if given == ["intention"] else str(given[0])
        assert f"with its own settings; leave out {name}." in said
    assert cli("eval", "--replay", "run", "--out", "again", "--at-once", 1, "--json").code == 0


def test_a_replay_counts_the_episodes_that_came_out_otherwise(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    cli(*command(serve(reply)))
    file = tmp_path / "run" / "episodes.jsonl"
    first, *rest = file.read_text("utf-8").splitlines(keepends=True)
    record = json.loads(first)
    record["turns"][0]["reward"] = 0.5
    file.write_text("".join([json.dumps(record) + "\n", *rest]), "utf-8")
    assert "Identical to the episodes in run: 3 of 4." in cli("eval", "--replay", "run", "--out", "again").out


# --- luck, several endpoints, keys -----------------------------------------------------------------------------


def test_with_shared_user_noise_attempts_hear_the_same(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    whims = count()

    def handler(request: Request) -> Response:
        if request.body["model"] == "u":
            return Response(completion(json.dumps({"words": f"Whim {next(whims)}."})))
        return reply(request)

    url = serve(handler)

    def heard(run: str) -> list[int]:
        """Of each task: how many different talks its attempts were."""
        talks: dict[str, set[str]] = {}
        for (_, task, _), record in episodes(tmp_path, run).items():
            talks.setdefault(task, set()).add(json.dumps([turn["feedback"] for turn in record["turns"]]))
        return [len(different) for different in talks.values()]

    shared = [*command(url, "--attempts", 3, "--shared-user-noise")]
    assert cli(*shared).code == 0
    assert heard("run") == [1] * 4
    asked = Counter(line["role"] for line in replies(tmp_path) if not line.get("shared"))
    assert asked == {"agent": 24, "user": 8, "judge": 8}
    assert "shared_user_noise was True, now False" in cli(*command(url, "--attempts", 3, "--resume")).err
    other = command(url, "--attempts", 3)
    other[other.index("run")] = "other"
    assert cli(*other).code == 0
    assert heard("other") == [3] * 4


def test_several_endpoints_share_the_episodes_of_a_chair(cli: Cli, serve: Serve, tmp_path: Path, whole: dict[Any, Any]) -> None:
    seen: dict[str, int] = {"one": 0, "two": 0}

    def at(name: str) -> Callable[[Request], Response]:
        def handler(request: Request) -> Response:
            seen[name] += 1
            return reply(request)

        return handler

    one, two = serve(at("one")), serve(at("two"))
    roles = ("--agent", f"a@{one}*2,{two}", "--user", f"u@{one}", "--judge", f"j@{one}")
    done = cli("eval", "intention", *roles, "--tasks", 4, "--max-turns", 2, "--out", "run")
    assert done.code == 0
    assert episodes(tmp_path) == whole
    assert 0 < seen["two"] < 8
    assert seen["one"] + seen["two"] == 24
    said = cli("eval", "intention", "--agent", f"a@{one}*0,{two}", "--out", "other").err
    assert "The weight in " in said
    assert "is '0'; expected a number above 0, as in ...*2." in said


def test_no_file_of_a_run_holds_a_key(
    cli: Cli, refused: Callable[..., str], serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERRL_API_KEY", KEY)
    sent: list[str] = []

    def handler(request: Request) -> Response:
        sent.append(request.headers["Authorization"])
        told = {"error": {"message": f"not with {KEY}"}}
        if request.number in (4, 8):
            return Response(told, status=400)
        if request.number > 12:
            return Response(told, status=401)
        body = reply(request).body
        message = body["choices"][0]["message"]
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = call["function"]["arguments"].replace("?", f" with {KEY}?")
        if request.body["model"] == "u":
            message["content"] = json.dumps({"words": f"Is {KEY} yours?"})
        return Response({**body, "choices": [{"message": {**message, "reasoning_content": f"The key is {KEY}."}}]})

    refused(*command(serve(handler)))
    assert "with [key]?" in (tmp_path / "run" / "replies.jsonl").read_text("utf-8")
    assert "Is [key] yours?" in (tmp_path / "run" / "replies.jsonl").read_text("utf-8")
    assert set(sent) == {f"Bearer {KEY}"}
    written = [file for file in (tmp_path / "run").iterdir() if file.is_file()]
    assert {"config.json", "episodes.jsonl", "replies.jsonl", "cost.json"} <= {file.name for file in written}
    assert "not with [key]" in (tmp_path / "run" / "replies.jsonl").read_text("utf-8")
    for file in written:
        assert KEY[:8].encode() not in file.read_bytes(), file.name
