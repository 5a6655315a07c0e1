"""The demo in small: every stage runs, nothing is done twice, and a broken run goes on to the same end."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from userrl.agents.tiny import Shape
from userrl.errors import ResumeError, StoreError
from userrl.pipeline.demo import EXPERT, GRPO, RANDOM, SFT, SHUFFLED, DemoJob, Result, demo, spread
from userrl.pipeline.plot import merged
from userrl.store import read
from userrl.train.grpo import GRPOConfig
from userrl.train.sft import SFTConfig

pytestmark = pytest.mark.filterwarnings("ignore:Nothing was learned")  # so small a policy may earn nothing

SMALL = DemoJob(
    expert_episodes=40,
    top_k=20,
    shape=Shape(hidden=32, layers=1, heads=2, feed_forward=32, vocabulary=400),
    sft=SFTConfig(steps=60, batch_size=8, lr=1e-2, warmup=5, save_every=20),
    grpo=GRPOConfig(steps=3, groups=4, group_size=4, updates=1, max_turns=6, max_new=32, save_every=1),
    test_tasks=6,
    curve_tasks=4,
    curve_every=2,
)
TOML = """
expert_episodes = 40
top_k = 20
test_tasks = 6
curve_tasks = 4
curve_every = 2
shape = { hidden = 32, layers = 1, heads = 2, feed_forward = 32, vocabulary = 400 }
sft = { steps = 60, batch_size = 8, lr = 1e-2, warmup = 5, save_every = 20 }
grpo = { steps = 3, groups = 4, group_size = 4, updates = 1, max_turns = 6, max_new = 32, save_every = 1 }
"""


class Killed(Exception):
    """Stands for a crash."""


def small_demo(folder: Path, *, resume: bool = False, die_at: str | None = None) -> Result:
    def watch(stage: str, done: int, total: int, note: str) -> None:
        if stage == die_at and done == max(1, total // 2):
            raise Killed(stage)

    return asyncio.run(demo(SMALL, folder, watch, resume=resume))


def figures(folder: Path) -> dict[str, object]:
    results = json.loads((folder / "results.json").read_text("utf-8"))
    del results["cost"]
    return dict(results)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "run"
    result = small_demo(folder)
    assert set(result.summaries) >= {
        RANDOM,
        SFT,
        GRPO,
        SHUFFLED,
        EXPERT,
        "random",
        "random_question",
        "fixed_list",
        "fixed_bundles",
        "repeat_one",
        "all_at_once",
    }
    assert result.gain.n == SMALL.test_tasks and result.cost.wall_s > 0 and result.cost.peak_mb > 0 and not result.cost.resumed
    return folder


def test_the_demo_leaves_figures_a_curve_and_every_episode(finished: Path) -> None:
    assert (finished / "curve.png").read_bytes().startswith(b"\x89PNG")
    points = [json.loads(line) for line in (finished / "curve.jsonl").read_text("utf-8").splitlines()]
    assert [p["step"] for p in points] == [0, 1, 2, 3]
    assert [p["step"] for p in points if "validation" in p] == [0, 2, 3]
    for agent in ("after-SFT", "after-GRPO", "after-GRPO-wrong-opening", "fixed_list", "expert"):
        assert len(list(read(finished / "episodes" / f"{agent}.jsonl"))) == SMALL.test_tasks


def test_all_agents_meet_the_same_tasks_but_in_the_control_they_read_another_ones_opening(finished: Path) -> None:
    after, control = ([e.task for e in read(finished / "episodes" / f"after-GRPO{end}.jsonl")] for end in ("", "-wrong-opening"))
    right = {t.id: t for t in after}
    assert all(t.hidden == right[t.id].hidden and t.prompt != right[t.id].prompt for t in control)


@pytest.mark.parametrize("stage", ["play: expert for SFT", "SFT", "GRPO", "play: after GRPO"])
def test_a_demo_that_broke_off_goes_on_to_the_very_same_figures(stage: str, finished: Path, tmp_path: Path) -> None:
    with pytest.raises((Killed, ExceptionGroup)):
        small_demo(tmp_path / "run", die_at=stage)
    small_demo(tmp_path / "run", resume=True)
    assert figures(tmp_path / "run") == figures(finished)


def test_a_second_demo_in_the_same_folder_is_refused_and_so_is_one_with_other_settings(finished: Path) -> None:
    with pytest.raises(StoreError, match="already holds a run"):
        small_demo(finished)
    with pytest.raises(ResumeError, match="seed was 0, now 1"):
        asyncio.run(demo(DemoJob(**{**vars(SMALL), "seed": 1}), finished, lambda *_: None, resume=True))


def test_a_demo_of_before_a_setting_was_added_can_be_gone_on_with(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    held = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    del held["grpo"]["kl"], held["sft"]["micro_batch"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(held), "utf-8")
    small_demo(tmp_path / "run", resume=True)
    assert figures(tmp_path / "run") == figures(finished)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["episodes/expert-for-SFT.jsonl", "sft/step-000020", "grpo/step-000001"])
def test_a_demo_killed_as_soon_as_something_is_there_goes_on_to_the_very_same_figures(
    when: str, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "small.toml").write_text(TOML, "utf-8")
    command = [sys.executable, "-c", "from userrl.cli import main; main()", "demo", "--config", str(tmp_path / "small.toml")]
    command += ["--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "run" / when).exists():
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (tmp_path / "run" / "results.json").exists()
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    assert figures(tmp_path / "run") == figures(finished)


def test_samples_stand_at_the_quartiles() -> None:
    assert spread([0.9, 0.1, 0.5, 0.3, 0.7, 0.0, 0.2, 1.0]) == [6, 2, 0]


def test_lines_too_close_for_two_labels_share_one() -> None:
    assert merged({"expert": 0.9, "repeat_one": 0.04, "blind_answer": 0.0, "random": 0.2}) == [
        (["blind answer", "repeat one"], 0.02),
        (["random"], 0.2),
        (["expert"], 0.9),
    ]
