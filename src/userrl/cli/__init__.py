"""The command line: parse, call one function, print.

This module imports nothing heavy, so that help and completion come at once; each command imports what it needs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

app = typer.Typer(
    name="userrl",
    help="Train and evaluate LLM agents that are good with users. Begin with `userrl demo`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
sft_app = typer.Typer(help="Cold start: collect expert episodes, fine-tune on the best.", no_args_is_help=True)
rl_app = typer.Typer(help="Reinforcement learning with a local policy.", no_args_is_help=True)
check_app = typer.Typer(help="Check gyms and golden cases.", no_args_is_help=True)
data_app = typer.Typer(help="Task sets.", no_args_is_help=True)
for name, sub in {"sft": sft_app, "rl": rl_app, "check": check_app, "data": data_app}.items():
    app.add_typer(sub, name=name)

Out = Annotated[Path, typer.Option(help="Folder of the run.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Config = Annotated[Optional[Path], typer.Option(help="TOML file with settings; flags win over it.")]  # noqa: UP045
Gyms = Annotated[Optional[list[str]], typer.Argument(help="Gyms to play; `userrl gyms` lists them.", show_default=False)]  # noqa: UP045
User = Annotated[Optional[str], typer.Option(help="scripted[:plain|terse|hesitant] or MODEL@URL.")]  # noqa: UP045
Judge = Annotated[Optional[str], typer.Option(help="scripted or MODEL@URL.")]  # noqa: UP045
Seed = Annotated[Optional[int], typer.Option(help="Seed of the run.")]  # noqa: UP045
Count = Annotated[Optional[int], typer.Option("--tasks", help="The first so many tasks of the split.")]  # noqa: UP045
Turns = Annotated[Optional[int], typer.Option("--max-turns", help="Turn limit of an episode.")]  # noqa: UP045
Compat = Annotated[bool, typer.Option("--compat", help="The original's rule quirks.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from userrl import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.command(epilog="Example: userrl demo --out runs/demo")
def demo(out: Out = Path("runs/demo"), resume: Resume = False, config: Config = None, seed: Seed = None) -> None:
    """Watch a small policy learn to ask better questions: no key, no GPU, no download."""
    from userrl.cli import training

    training.demo(out, config, {"seed": seed}, resume)


@app.command(epilog="Example: userrl gyms")
def gyms() -> None:
    """List the gyms with their tasks, splits and licenses."""
    from userrl.cli import playing

    playing.gyms()


@app.command(epilog="Example: userrl play intention --as agent")
def play(
    gym: Annotated[str, typer.Argument(help="The gym to play.", show_default=False)],
    seat: Annotated[Literal["agent", "user"], typer.Option("--as", help="Who you are.")] = "agent",
    task: Annotated[Optional[str], typer.Option(help="Task id; a random test task by default.")] = None,  # noqa: UP045
    agent: Annotated[str, typer.Option(help="Who plays the agent when you are the user.")] = "expert",
    user: User = "scripted",
    judge: Judge = "scripted",
    max_turns: Turns = 16,
    seed: Seed = None,
    out: Annotated[Optional[Path], typer.Option(help="Append the episode to this JSONL file.")] = None,  # noqa: UP045
) -> None:
    """Play a gym yourself, as the agent or as the user."""
    from userrl.cli import playing

    playing.play(gym, seat, task, agent, user or "scripted", judge or "scripted", max_turns or 16, seed, out)


@app.command("eval", epilog="Example: userrl eval intention function --agent expert:0.8 --tasks 20 --out runs/eval")
def evaluate(
    gyms: Gyms = None,
    agent: Annotated[Optional[str], typer.Option(help="expert[:SKILL], a baseline, a model folder, or MODEL@URL.")] = None,  # noqa: UP045
    out: Out = Path("runs/eval"),
    split: Annotated[Optional[str], typer.Option(help="Split of the tasks.")] = None,  # noqa: UP045
    tasks: Count = None,
    attempts: Annotated[Optional[int], typer.Option(help="Episodes of each task.")] = None,  # noqa: UP045
    max_turns: Turns = None,
    user: User = None,
    judge: Judge = None,
    temperature: Annotated[Optional[float], typer.Option(help="Sampling temperature of the agent.")] = None,  # noqa: UP045
    seed: Seed = None,
    compat: Compat = False,
    at_once: Annotated[int, typer.Option(help="Episodes in flight.")] = 64,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Evaluate an agent on gyms, with 95% intervals."""
    from userrl.cli import playing

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
        "seed": seed,
        "rules": {"compat": "userrl"} if compat else None,
    }
    playing.evaluate(out, config, flags, resume, at_once)


@sft_app.command("collect", epilog="Example: userrl sft collect intention --agent expert:0.8 --top-k 500 --out runs/experts")
def sft_collect(
    gyms: Gyms = None,
    agent: Annotated[Optional[str], typer.Option(help="The expert: expert[:SKILL], a model folder, or MODEL@URL.")] = None,  # noqa: UP045
    out: Out = Path("runs/experts"),
    split: Annotated[Optional[str], typer.Option(help="Split of the tasks.")] = None,  # noqa: UP045
    tasks: Count = None,
    attempts: Annotated[Optional[int], typer.Option(help="Episodes of each task.")] = None,  # noqa: UP045
    top_k: Annotated[Optional[int], typer.Option(help="Episodes to keep of each gym.")] = None,  # noqa: UP045
    per_task: Annotated[Optional[int], typer.Option(help="Episodes to keep of each task, at most.")] = None,  # noqa: UP045
    max_turns: Turns = None,
    user: User = None,
    judge: Judge = None,
    seed: Seed = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Play an expert on training tasks, rank its episodes, keep the best."""
    from userrl.cli import training

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
        "seed": seed,
    }
    training.collect(out, config, flags, resume)


@sft_app.command("train", epilog="Example: userrl sft train --data runs/experts --out runs/sft")
def sft_train(
    data: Annotated[Optional[Path], typer.Option(help="Folder of `sft collect`, or a JSONL file of episodes.")] = None,  # noqa: UP045
    model: Annotated[Optional[Path], typer.Option(help="Folder of a Hugging Face causal LM; a new tiny policy by default.")] = None,  # noqa: UP045
    out: Out = Path("runs/sft"),
    steps: Annotated[Optional[int], typer.Option(help="Optimizer steps.")] = None,  # noqa: UP045
    lr: Annotated[Optional[float], typer.Option(help="Highest learning rate.")] = None,  # noqa: UP045
    batch_size: Annotated[Optional[int], typer.Option(help="Episodes a step.")] = None,  # noqa: UP045
    seed: Seed = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Fine-tune a policy on episodes (loss on the agent's tokens only)."""
    from userrl.cli import training

    flags = {"data": data, "model": model, "sft.steps": steps, "sft.lr": lr, "sft.batch_size": batch_size, "sft.seed": seed}
    training.fine_tune(out, config, flags, resume)


@rl_app.command("train", epilog="Example: userrl rl train intention --model runs/sft/model --credit equalized --score r2g --out runs/rl")
def rl_train(
    gyms: Gyms = None,
    model: Annotated[Optional[Path], typer.Option(help="Folder of the policy to start from.")] = None,  # noqa: UP045
    out: Out = Path("runs/rl"),
    split: Annotated[Optional[str], typer.Option(help="Split of the tasks.")] = None,  # noqa: UP045
    steps: Annotated[Optional[int], typer.Option(help="GRPO steps.")] = None,  # noqa: UP045
    groups: Annotated[Optional[int], typer.Option(help="Tasks a step.")] = None,  # noqa: UP045
    group_size: Annotated[Optional[int], typer.Option(help="Episodes of each task.")] = None,  # noqa: UP045
    lr: Annotated[Optional[float], typer.Option(help="Learning rate.")] = None,  # noqa: UP045
    credit: Annotated[Optional[str], typer.Option(help="Turn credit: naive, equalized, r2g or em.")] = None,  # noqa: UP045
    score: Annotated[Optional[str], typer.Option(help="Trajectory score: sum, mean or r2g.")] = None,  # noqa: UP045
    gamma: Annotated[Optional[float], typer.Option(help="Discount of r2g.")] = None,  # noqa: UP045
    max_turns: Turns = None,
    user: User = None,
    judge: Judge = None,
    seed: Seed = None,
    resume: Resume = False,
    config: Config = None,
) -> None:
    """Train a policy by multi-turn GRPO."""
    from userrl.cli import training

    flags = {"gyms": gyms or None, "model": model, "split": split, "user": user, "judge": judge} | {
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
            "seed": seed,
        }.items()
    }
    training.reinforce(out, config, flags, resume)


@check_app.command("gyms", epilog="Example: userrl check gyms intention")
def check_gyms(gyms: Gyms = None) -> None:
    """Check that gyms keep the rules every gym must keep, over all their built-in tasks."""
    from userrl.cli import checking

    checking.gyms(gyms or [])


@check_app.command("golden", epilog="Example: userrl check golden tests/golden")
def check_golden(
    paths: Annotated[list[Path], typer.Argument(help="Golden files, or folders of them.", show_default=False)],
    data: Annotated[Optional[Path], typer.Option(help="Folder of tau-bench data, for tau's cases.")] = None,  # noqa: UP045
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Missing data is no failure.")] = False,
) -> None:
    """Replay the original's recorded behavior and compare."""
    from userrl.cli import checking

    checking.golden(paths, data, allow_missing)


@data_app.command("record", epilog="Example: userrl data record intention")
def data_record(gym: Annotated[str, typer.Argument(help="The gym whose task sets changed.", show_default=False)]) -> None:
    """Record counts and hashes of a gym's task sets after a change that is meant (for developers of gyms)."""
    from userrl.cli import checking

    checking.record(gym)


def main() -> None:
    """Run a command; errors made on purpose print as one message and exit with 1, Ctrl-C exits with 130."""
    from userrl.errors import UserRLError

    try:
        sys.exit(app(standalone_mode=False))
    except UserRLError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("\nInterrupted. What was written is kept; go on with the same command and --resume.", err=True)
        sys.exit(130)
    except typer.TyperException as error:
        typer.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
