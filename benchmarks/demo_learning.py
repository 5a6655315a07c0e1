"""Does the demo learn? The whole demo over several seeds, with paired intervals and controls.

    python benchmarks/demo_learning.py --seeds 0 1 2 --out runs/learning

Each seed trains its own tokenizer, SFT start and GRPO run, and plays the same held-out test tasks. Differences are
paired by task: first averaged over seeds, then bootstrapped over tasks. Exits with 1 unless GRPO minus SFT is above
0 with its 95% interval, in every seed and over all, and GRPO is above the best agent without skill likewise.
A run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from userrl.evaluate.metrics import share
from userrl.evaluate.statistics import RATE, Interval, mean_interval, paired_interval
from userrl.store import read

BEFORE, AFTER, SHUFFLED = "after-SFT", "after-GRPO", "after-GRPO-wrong-opening"
BEFORE_GREEDY, AFTER_GREEDY = "after-SFT-greedy", "after-GRPO-greedy"
OTHERS = (BEFORE, AFTER, BEFORE_GREEDY, AFTER_GREEDY, SHUFFLED, "imitated-expert", "expert", "random-weights")
WITHOUT_SKILL = ("random", "random_question", "fixed_list", "fixed_bundles", "repeat_one", "all_at_once", "blind_answer")


def run(seed: int, out: Path, config: str | None) -> Path:
    folder = out / f"seed-{seed}"
    command = [str(Path(sys.executable).parent / "userrl"), "demo", "--seed", str(seed), "--out", str(folder)]
    command += ["--config", config] if config else []
    command += ["--resume"] if folder.exists() else []
    with (out / f"seed-{seed}.log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return folder


def shares(folder: Path, agent: str) -> dict[str, float]:
    """Task id -> share of the reachable reward; without the episodes that failed."""
    ended = {e.task.id: e for e in read(folder / "episodes" / f"{agent}.jsonl")}  # a later record stands for an earlier one
    return {task: share(e) for task, e in ended.items() if e.stop != "error"}


def pooled(folders: list[Path], agent: str) -> dict[str, float]:
    """Task id -> mean share over seeds, of the tasks that every seed scored."""
    of_seed = [shares(folder, agent) for folder in folders]
    scored = [task for task in of_seed[0] if all(task in s for s in of_seed)]
    return {task: sum(s[task] for s in of_seed) / len(of_seed) for task in scored}


def difference(after: dict[str, float], before: dict[str, float]) -> Interval:
    both = [task for task in before if task in after]
    return paired_interval([after[t] for t in both], [before[t] for t in both], both, within=RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once; one core each")
    parser.add_argument("--config", help="TOML file for `userrl demo`")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        folders = list(pool.map(lambda seed: run(seed, args.out, args.config), args.seeds))

    means = {name: pooled(folders, name) for name in (*WITHOUT_SKILL, *OTHERS)}
    best = max(WITHOUT_SKILL, key=lambda name: sum(means[name].values()))
    print(f"{len(folders)} seeds, {len(means[AFTER])} held-out tasks; share of the reachable reward [95%]")
    for name, of_task in means.items():
        print(f"  {name:26s} {mean_interval(list(of_task.values()), list(of_task), within=RATE)}")
    passed = []
    for seed, folder in zip(args.seeds, folders, strict=True):
        gain = difference(shares(folder, AFTER), shares(folder, BEFORE))
        lead = difference(shares(folder, AFTER), shares(folder, best))
        cost = json.loads((folder / "results.json").read_text("utf-8"))["cost"]
        passed += [gain.low > 0, lead.low > 0]
        print(f"seed {seed}: GRPO - SFT {gain}   GRPO - {best} {lead}   {cost['wall_s']:.0f} s, {cost['peak_mb']} MB")
    gain, lead = difference(means[AFTER], means[BEFORE]), difference(means[AFTER], means[best])
    control = difference(means[SHUFFLED], means[AFTER])
    passed += [gain.low > 0, lead.low > 0, control.high < 0]
    print(f"greedy: GRPO - SFT {difference(means[AFTER_GREEDY], means[BEFORE_GREEDY])}")
    print(f"all:    GRPO - SFT {gain}   GRPO - {best} {lead}   wrong opening - right one {control}")
    print("passed" if all(passed) else "FAILED")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
