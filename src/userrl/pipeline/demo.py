"""The demo: a small policy learns, from random weights, to ask better questions. One thread, no network.

Expert episodes -> the best of them -> SFT -> multi-turn GRPO -> evaluation on held-out tasks, beside every agent
that has no skill. Each stage writes into the run folder and is not repeated on resume.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from userrl.agents.policy import PolicyAgent, set_threads
from userrl.agents.tiny import Shape, new_policy
from userrl.collect import select
from userrl.config import as_dict
from userrl.core import Agent, Episode, Task
from userrl.evaluate.metrics import Summary, share, summarize
from userrl.evaluate.statistics import RATE, Interval, paired_interval
from userrl.gyms.base import make
from userrl.pipeline.curve import Curve
from userrl.rollout import play_recorded, starts
from userrl.store import RunFolder
from userrl.train import checkpoint, grpo, sft

RANDOM, SFT, GRPO, SHUFFLED, EXPERT = "random weights", "after SFT", "after GRPO", "after GRPO, wrong opening", "expert"
SFT_GREEDY, GRPO_GREEDY, IMITATED = "after SFT, greedy", "after GRPO, greedy", "imitated expert"


@dataclass(frozen=True)
class DemoJob:
    """All settings of the demo."""

    gym: str = "intention"
    max_turns: int = 6
    skill: float = 0.5
    """Of the scripted expert that is imitated."""
    expert_episodes: int = 8000
    top_k: int = 4000
    shape: Shape = field(default_factory=Shape)
    sft: sft.SFTConfig = field(default_factory=lambda: sft.SFTConfig(steps=1200, lr=2e-3, warmup=30, save_every=500))
    grpo: grpo.GRPOConfig = field(
        default_factory=lambda: grpo.GRPOConfig(steps=120, lr=4e-4, warmup=10, max_turns=6, max_new=32, save_every=10)
    )
    test_tasks: int = 256
    curve_tasks: int = 96
    curve_every: int = 10
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Cost:
    """What the run took. Of a resumed one, only what its last part took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    """Of resident memory."""
    resumed: bool


@dataclass(frozen=True)
class Result:
    """What the demo found."""

    summaries: dict[str, Summary]
    """Agent -> figures on the test tasks, in the order of the table."""
    gain: Interval
    """After GRPO minus after SFT, share of the reachable reward, paired by task."""
    greedy_gain: Interval
    """The same with greedy decoding: what is left when sharpening alone cannot help."""
    lead: tuple[str, Interval]
    """The best agent without skill, and after GRPO minus it, paired by task."""
    samples: list[tuple[Episode, Episode]]
    """The same tasks before (SFT) and after (GRPO)."""
    plot: Path
    """The learning curve as a PNG."""
    folder: Path
    cost: Cost


Watch = Callable[[str, int, int, str], None]
"""Told of progress: stage, done, of how many, a note."""


async def demo(job: DemoJob, folder: Path, watch: Watch, *, resume: bool = False) -> Result:
    """Run the demo, or go on with it."""
    began, cpu, resumed = time.monotonic(), time.process_time(), (folder / "config.json").exists()
    set_threads(job.threads)
    run = RunFolder(folder, {"kind": "demo", **as_dict(job)}, resume=resume, defaults=as_dict(DemoJob()))
    gym = make(job.gym)
    data = {split: list(gym.tasks(f"demo-{split}")) for split in ("train", "validation", "test")}
    data["test"] = data["test"][: job.test_tasks]

    async def play(name: str, agent: Agent, tasks: Sequence[Task]) -> Sequence[Episode]:
        """Episodes of an agent, the same seed for all so that they can be paired."""
        done: list[Episode] = []

        def note(episode: Episode) -> None:
            done.append(episode)
            watch(f"play: {name}", len(done), len(tasks), "")

        plan = starts(tasks, seed=job.seed + 1, max_turns=job.max_turns)
        file = f"episodes/{name.replace(',', '').replace(' ', '-')}.jsonl"
        return await play_recorded(plan, agent, gym.cast(), run, name=file, at_once=128, on_end=note)

    experts = await play("expert for SFT", gym.expert(job.skill), data["train"][: job.expert_episodes])
    kept = list(select(experts, job.top_k).kept)
    watch("tokenizer", 0, 1, "")
    policy = new_policy(experts[:3000], job.shape, job.seed)
    watch("tokenizer", 1, 1, "")

    def player(temperature: float = 1.0) -> PolicyAgent:
        policy.model.eval()
        return PolicyAgent(policy, temperature=temperature, max_new=job.grpo.max_new, seed=job.seed + 1)

    played: dict[str, Sequence[Episode]] = {RANDOM: await play(RANDOM, player(), data["test"])}
    baselines = gym.baselines(data["train"])
    for name, agent in baselines.items():
        played[name] = await play(name, agent, data["test"])

    corpus = [policy.tokens(e, gym) for e in kept]
    sft.train(
        policy,
        corpus,
        replace(job.sft, seed=job.seed),
        folder=folder / "sft",
        on_step=lambda n, loss: watch("SFT", n, job.sft.steps, f"loss {loss:.3f}"),
    )
    played[SFT] = await play(SFT, player(), data["test"])
    played[SFT_GREEDY] = await play(SFT_GREEDY, player(0), data["test"])

    curve = Curve(run, gym, data["validation"][: job.curve_tasks], max_turns=job.max_turns, seed=job.seed + 1)
    if checkpoint.latest(folder / "grpo") is None:
        await curve.add(None, player())

    async def on_step(step: grpo.Step) -> None:
        due = step.number % job.curve_every == 0 or step.number == job.grpo.steps
        await curve.add(step, player() if due else None)
        watch("GRPO", step.number, job.grpo.steps, f"reward {summarize(step.episodes)[0].share.mean:.3f}")

    await grpo.train(
        policy,
        data["train"],
        gym.cast(),
        replace(job.grpo, seed=job.seed, max_turns=job.max_turns),
        folder=folder / "grpo",
        on_step=on_step,
    )
    played[GRPO] = await play(GRPO, player(), data["test"])
    played[GRPO_GREEDY] = await play(GRPO_GREEDY, player(0), data["test"])
    swapped = [
        replace(t, prompt=other.prompt) for t, other in zip(data["test"], data["test"][1:] + data["test"][:1], strict=True)
    ]
    played[SHUFFLED] = await play(SHUFFLED, player(), swapped)
    played[IMITATED] = await play(IMITATED, gym.expert(job.skill), data["test"])
    played[EXPERT] = await play(EXPERT, gym.expert(1.0), data["test"])
    levels = await curve.levels({**baselines, EXPERT: gym.expert(1.0)})
    plot = curve.draw(levels)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss: bytes there, kilobytes on Linux
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    cost = Cost(round(time.monotonic() - began, 1), round(time.process_time() - cpu, 1), round(peak_mb), resumed)
    return finish(list(baselines), run, played, plot, cost)


def finish(baselines: Sequence[str], run: RunFolder, played: dict[str, Sequence[Episode]], plot: Path, cost: Cost) -> Result:
    """The figures, also written to `results.json`."""
    summaries = {name: summarize(episodes)[0] for name, episodes in played.items()}
    best = max(baselines, key=lambda name: summaries[name].share.mean)
    result = Result(
        summaries,
        difference(played[GRPO], played[SFT]),
        difference(played[GRPO_GREEDY], played[SFT_GREEDY]),
        (best, difference(played[GRPO], played[best])),
        [(played[SFT][i], played[GRPO][i]) for i in spread([share(e) for e in played[SFT]])],
        plot,
        run.path,
        cost,
    )
    figures: dict[str, Any] = {name: asdict(s) for name, s in summaries.items()}
    lead = {"over": best, **asdict(result.lead[1])}
    gains = {"gain": asdict(result.gain), "greedy_gain": asdict(result.greedy_gain), "lead": lead}
    run.write_json("results.json", {"test": figures, **gains, "cost": asdict(cost)})
    return result


def difference(after: Sequence[Episode], before: Sequence[Episode]) -> Interval:
    """Mean difference in share over the tasks that both scored; a failed episode has no score."""
    pairs = [(a, b) for a, b in zip(after, before, strict=True) if "error" not in (a.stop, b.stop)]
    shares = [share(a) for a, _ in pairs], [share(b) for _, b in pairs]
    return paired_interval(*shares, [a.task.id for a, _ in pairs], within=RATE)


def spread(shares: Sequence[float]) -> list[int]:
    """Three episodes that stand for all: at the lower quartile, the median and the upper quartile."""
    order = sorted(range(len(shares)), key=lambda i: shares[i])
    return [order[len(order) * q // 4] for q in (1, 2, 3)]
