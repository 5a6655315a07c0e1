"""The command line: parse, call one function, print.

This module imports nothing heavy, so that help comes at once; each command imports what it needs.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

RESUMABLE = ("demo", "eval", "sft", "rl")
"""Commands that can go on with --resume."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""


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
for name, sub in {"sft": sft_app, "rl": rl_app, "check": check_app, "data": data_app, "new": new_app}.items():
    app.add_typer(sub, name=name)

AGENT = "expert[:SKILL], an agent without skill (random, ...), the folder of a local model, or MODEL@URL (at OpenAI: MODEL@)"
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the run.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, with the same settings.")]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with settings; flags win over it.")]
Gym = Annotated[str, typer.Argument(metavar="GYM", help="`userrl gyms` lists them.", show_default=False)]
Gyms = Annotated[
    list[str] | None, typer.Argument(metavar="GYM", help="`userrl gyms` lists them; default: intention.", show_default=False)
]
Agent = Annotated[str | None, typer.Option(metavar="WHO", help=f"{AGENT}; default: expert.")]
User = Annotated[str | None, typer.Option(metavar="WHO", help="scripted[:plain|terse|hesitant] or MODEL@URL; default: scripted.")]
Judge = Annotated[str | None, typer.Option(metavar="WHO", help="scripted or MODEL@URL; default: scripted.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of the run; default: 0.")]
Split = Annotated[str | None, typer.Option(help="Split of the tasks; default: test.")]
TrainSplit = Annotated[str | None, typer.Option("--split", help="Split of the tasks; default: train.")]
Tasks = Annotated[int | None, typer.Option("--tasks", metavar="N", help="Take the first N tasks of the split; default: all.")]
Attempts = Annotated[int | None, typer.Option(metavar="N", help="Episodes of each task; default: 1.")]
Turns = Annotated[int | None, typer.Option("--max-turns", metavar="N", help="Turn limit of an episode; default: 16.")]
Temperature = Annotated[float | None, typer.Option(metavar="T", help="Of the agent's sampling; default: the model's own.")]
MaxNew = Annotated[
    int | None, typer.Option("--max-new", metavar="N", help="Tokens of one reply of a local model at most; default: 512.")
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
Rate = Annotated[float | None, typer.Option("--lr", metavar="X", help="Highest learning rate.")]


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
    agent: Agent = None,
    out: Out = Path("runs/eval"),
    split: Split = None,
    tasks: Tasks = None,
    attempts: Attempts = None,
    max_turns: Turns = None,
    user: User = None,
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
) -> None:
    """Evaluate an agent on gyms, with 95% intervals.

    Each episode is written to --out as it ends; an interrupted run goes on with --resume.
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
    }
    bounds = evaluating.Bounds(at_once, max_usd, max_tokens, max_errors, max_invalid, turn_timeout, episode_timeout)
    evaluating.evaluate(out, config, flags, resume, bounds, replay, dry_run)


@app.command(epilog="Example: userrl compare runs/before runs/after --by solved")
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Folder of a run.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", help="Folder of another, on the same tasks.", show_default=False)],
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="score, share, solved, weighted, turns or user-turns.")
    ] = "score",
    task: Annotated[str | None, typer.Option(metavar="ID", help="Show the two runs' episodes of this task.")] = None,
) -> None:
    """Compare two runs, task by task.

    Prints B minus A with 95% intervals and p-values, what so many tasks can show, how many would be needed, and where
    the episodes part.
    """
    from userrl.cli import comparing

    comparing.compare(before, after, by, task)


@sft_app.command("collect", epilog="Example: userrl sft collect intention --agent expert:0.8 --top-k 400 --out runs/experts")
def sft_collect(
    gyms: Gyms = None,
    agent: Agent = None,
    out: Out = Path("runs/experts"),
    split: TrainSplit = None,
    tasks: Tasks = None,
    attempts: Attempts = None,
    top_k: Annotated[int | None, typer.Option(metavar="N", help="Episodes to keep of each gym; default: all good ones.")] = None,
    per_task: Annotated[int | None, typer.Option(metavar="N", help="Episodes to keep of each task; default: any number.")] = None,
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

    All episodes go to episodes.jsonl in --out, the kept ones to selected.jsonl, best first.
    """
    from userrl.cli import training
    from userrl.cli.evaluating import Bounds

    flags = {
        "gyms": gyms or None,
        "agent": agent,
        "split": split,
        "tasks": tasks,
        "attempts": attempts,
        "top_k": top_k,
        "per_task": per_task,
        "max_turns": max_turns,
        "user": user,
        "judge": judge,
        "temperature": temperature,
        "max_new": max_new,
        "seed": seed,
        "shared_user_noise": shared_user_noise,
    }
    bounds = Bounds(at_once, max_usd, max_tokens, max_errors, max_invalid, turn_timeout, episode_timeout)
    training.collect(out, config, flags, resume, bounds)


@sft_app.command("train", epilog="Example: userrl sft train --data runs/experts --out runs/sft")
def sft_train(
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Folder of `sft collect`, or a JSONL file of episodes; default: runs/experts."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A Hugging Face causal LM; default: a new, tiny policy.")
    ] = None,
    out: Out = Path("runs/sft"),
    steps: Annotated[int | None, typer.Option(metavar="N", help="Optimizer steps.")] = None,
    lr: Rate = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Episodes a step.")] = None,
    seed: Seed = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Fine-tune a policy on episodes.

    The loss is taken on the agent's tokens only. The policy is written to model/ in --out.
    """
    from userrl.cli import training

    flags = {"data": data, "model": model, "sft.steps": steps, "sft.lr": lr, "sft.batch_size": batch_size, "sft.seed": seed}
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
    steps: Annotated[int | None, typer.Option(metavar="N", help="GRPO steps.")] = None,
    groups: Annotated[int | None, typer.Option(metavar="N", help="Tasks a step.")] = None,
    group_size: Annotated[int | None, typer.Option(metavar="N", help="Episodes of each task; at least 2.")] = None,
    lr: Rate = None,
    credit: Annotated[str | None, typer.Option(metavar="NAME", help="Turn credit: naive, equalized, r2g or em.")] = None,
    score: Annotated[str | None, typer.Option(metavar="NAME", help="Trajectory score: sum, mean, r2g or composite.")] = None,
    gamma: Annotated[float | None, typer.Option(metavar="X", help="Discount of r2g, from 0 to 1.")] = None,
    max_turns: Turns = None,
    max_new: Annotated[
        int | None, typer.Option("--max-new", metavar="N", help="Tokens of one reply at most; default: 256.")
    ] = None,
    user: User = None,
    judge: Judge = None,
    seed: Seed = None,
    max_usd: MaxUsd = None,
    max_tokens: MaxTokens = None,
    shared_user_noise: SharedNoise = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Train a policy by multi-turn GRPO.

    Checkpoints, a line of figures a step and all episodes go to --out, the policy to model/ in it.
    """
    from userrl.cli import training
    from userrl.cli.evaluating import Bounds

    flags: dict[str, Any] = {"gyms": gyms or None, "model": model, "split": split, "user": user, "judge": judge}
    flags |= {"shared_user_noise": shared_user_noise} | {
        f"grpo.{name}": value
        for name, value in {
            "steps": steps,
            "groups": groups,
            "group_size": group_size,
            "lr": lr,
            "credit": credit,
            "score": score,
            "gamma": gamma,
            "max_turns": max_turns,
            "max_new": max_new,
            "seed": seed,
        }.items()
    }
    training.reinforce(out, config, flags, resume, Bounds(max_usd=max_usd, max_tokens=max_tokens))


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
    groups: Annotated[int, typer.Option(metavar="N", help="Groups of episodes to draw; at least 4.")] = 40_000,
    group_size: Annotated[int, typer.Option(metavar="N", help="Episodes of a group; at least 2.")] = 8,
    gamma: Annotated[float, typer.Option(metavar="X", help="Discount per turn, from 0 to 1.")] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the groups.")] = 0,
) -> None:
    """Measure the bias of each advantage estimator.

    With every turn credit, by Monte Carlo, on a small problem whose policy decides when to stop and whose policy gradient
    is known exactly.
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
) -> None:
    """Write the package of a new gym.

    It holds a small game that works, with tasks, scripted players, a data sheet and a test. See docs/new-gym.md.
    """
    from userrl.cli import scaffold

    scaffold.new(name, folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 1 for an error made on purpose, 2 for wrong usage, 130 after Ctrl-C.

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
            warnings.showwarning = lambda message, *_: typer.echo(f"Warning: {message}", err=True)
            code = app(args=arguments, prog_name="userrl", standalone_mode=False)
    except UserRLError as error:
        _complain(str(error))
        code = 1
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "userrl")
        said = error.format_message()
        _complain(f"{said}{'' if said.endswith(('.', '?')) else '.'} See `{command} --help`.")
        code = error.exit_code
    if code == INTERRUPTED:
        resume = " What was written is kept; go on with the same command and --resume." if _first(arguments) in RESUMABLE else ""
        typer.echo(f"\nInterrupted.{resume}", err=True)
    sys.exit(code)


def _first(arguments: Sequence[str]) -> str:
    return next((a for a in arguments if not a.startswith("-")), "")


def _complain(message: str) -> None:
    from userrl.cli.show import tell

    tell(f"Error: {message}")
