"""The jobs behind `userrl sft train` and `userrl rl train`: what they write, and that a broken one goes on."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from userrl.agents.policy import LoRA, Policy
from userrl.agents.tiny import Shape
from userrl.config import resolve
from userrl.core import Episode
from userrl.errors import ConfigError, DataError, ResumeError, RunStopped, StoreError, UnknownName
from userrl.evaluate.metrics import share
from userrl.gyms.base import find, make
from userrl.pipeline.jobs import RLJob, SFTJob, best_policy, figures, fine_tune, reinforce
from userrl.store import dump, read
from userrl.train.grpo import GRPOConfig, Step
from userrl.train.sft import SFTConfig
from userrl.train.validation import Validation, plan, results

SHAPE = Shape(hidden=32, layers=1, heads=2, feed_forward=32, vocabulary=400)


@pytest.fixture
def data(experts: list[Episode], tmp_path: Path) -> str:
    return str(dump(tmp_path / "experts" / "selected.jsonl", experts[:20]).parent)


@pytest.fixture
def model(policy: Policy, tmp_path: Path) -> str:
    policy.save(tmp_path / "start")
    return str(tmp_path / "start")


def sft_job(data: str, **fields: Any) -> SFTJob:
    return SFTJob(data, shape=SHAPE, sft=SFTConfig(**{"steps": 6, "batch_size": 4, "save_every": 2, **fields}))


def rl_job(model: str, **fields: Any) -> RLJob:
    settings = {"steps": 3, "groups": 4, "group_size": 4, "updates": 1, "max_turns": 3, "max_new": 16, "save_every": 1}
    return RLJob(model, grpo=GRPOConfig(**{**settings, **fields}))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def same(one: Path, other: Path) -> bool:
    weights, others = Policy.load(one).model.state_dict(), Policy.load(other).model.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def test_fine_tuning_leaves_settings_losses_checkpoints_and_a_policy(data: str, tmp_path: Path) -> None:
    seen: list[int] = []
    out = fine_tune(sft_job(data), tmp_path / "run", on_step=lambda step, loss: seen.append(step))
    assert out == tmp_path / "run" / "model" and seen == [1, 2, 3, 4, 5, 6]
    log = lines(tmp_path / "run" / "train.jsonl")
    assert [line["step"] for line in log] == seen and all(line["loss"] > 0 for line in log)
    config = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert (config["kind"], config["data"], config["sft"]["steps"], config["shape"]["hidden"]) == ("sft", data, 6, 32)
    assert same(out, tmp_path / "run" / "checkpoints" / "step-000006")
    assert Policy.load(out).model.config.hidden_size == 32


def test_fine_tuning_goes_on_from_a_given_policy(data: str, model: str, tmp_path: Path) -> None:
    out = fine_tune(replace(sft_job(data, steps=1, lr=1e-9), model=model), tmp_path / "run")
    start, end = Policy.load(Path(model)).model, Policy.load(out).model
    assert end.config.hidden_size == 48
    for one, other in zip(start.parameters(), end.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_run_that_cannot_begin_leaves_no_folder_to_resume(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Cannot read"):
        fine_tune(SFTJob(str(tmp_path / "nowhere.jsonl")), tmp_path / "run")
    empty = dump(tmp_path / "empty.jsonl", [])
    with pytest.raises(ConfigError, match=r"holds no episodes; collect some with `userrl sft collect`"):
        fine_tune(SFTJob(str(empty)), tmp_path / "run")
    (tmp_path / "odd.jsonl").write_text('{"schema": 1}\n', "utf-8")
    with pytest.raises(DataError, match=r"odd\.jsonl, line 1"):
        fine_tune(SFTJob(str(tmp_path / "odd.jsonl")), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        asyncio.run(reinforce(RLJob(str(tmp_path / "nowhere")), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_reinforcing_leaves_figures_episodes_checkpoints_and_a_policy(model: str, tmp_path: Path) -> None:
    seen: list[tuple[Any, dict[str, Any]]] = []
    out = asyncio.run(reinforce(rl_job(model), tmp_path / "run", on_step=lambda step, line: seen.append((step, line))))
    log = lines(tmp_path / "run" / "train.jsonl")
    assert log == [line for _, line in seen] and [line["step"] for line in log] == [1, 2, 3]
    episodes = list(read(tmp_path / "run" / "episodes.jsonl"))
    assert len(episodes) == 3 * 4 * 4
    assert [e.key for e in episodes] == [e.key for step, _ in seen for e in step.episodes]
    assert not any(turn.action.tokens for e in episodes for turn in e.turns)
    assert same(out, tmp_path / "run" / "checkpoints" / "step-000003")
    assert not same(out, Path(model))


def test_failed_episodes_have_no_part_in_a_steps_figures(experts: list[Episode]) -> None:
    good = experts[:3]
    told: dict[str, Any] = {
        "loss": 0.5,
        "entropy": 1.5,
        "clipped": 0.1,
        "grad_norm": 3.0,
        "cut": 0.25,
        "kl": None,
        "lr": 1e-3,
        "max_turns": 4,
    }
    step = Step(7, [*good, experts[3].fail("user: gone")], skipped=2, groups=4, **told)
    line = figures(step)
    assert line["reward"] == pytest.approx(sum(sum(e.rewards) for e in good) / 3)
    assert (line["step"], line["errors"], line["skipped_groups"]) == (7, 1, 2)
    assert {name: line[name] for name in told} == told and line["groups"] == 4
    assert line["gyms"] == {"intention": {"episodes": 3, "reward": line["reward"], "share": line["share"]}}
    assert list(line["mix"]) == list(make("intention").labels)
    assert sum(line["mix"].values()) == pytest.approx(1.0)
    idle = figures(replace(step, skipped=4))
    assert {name for name in told if idle[name] is None} == {"loss", "entropy", "clipped", "grad_norm", "kl"}, "no update"


def test_a_resumed_job_logs_each_step_and_ends_in_the_same_policy(data: str, model: str, tmp_path: Path) -> None:
    def die(*seen: Any) -> None:
        if seen[0] == 3 or getattr(seen[0], "number", 0) == 2:
            raise RunStopped("died")

    whole = fine_tune(sft_job(data), tmp_path / "whole")
    with pytest.raises(RunStopped):
        fine_tune(sft_job(data), tmp_path / "sft", on_step=die)
    assert same(fine_tune(sft_job(data), tmp_path / "sft", resume=True), whole)
    assert [line["step"] for line in lines(tmp_path / "sft" / "train.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines(tmp_path / "sft" / "train.jsonl.redone")] == [3]

    whole = asyncio.run(reinforce(rl_job(model), tmp_path / "whole-rl"))
    assert not same(whole, Path(model))
    with pytest.raises(RunStopped):
        asyncio.run(reinforce(rl_job(model), tmp_path / "rl", on_step=die))
    assert same(asyncio.run(reinforce(rl_job(model), tmp_path / "rl", resume=True)), whole)
    assert lines(tmp_path / "rl" / "train.jsonl") == lines(tmp_path / "whole-rl" / "train.jsonl")
    assert list(read(tmp_path / "rl" / "episodes.jsonl")) == list(read(tmp_path / "whole-rl" / "episodes.jsonl"))
    assert [line["step"] for line in lines(tmp_path / "rl" / "train.jsonl.redone")] == [2]
    assert len(list(read(tmp_path / "rl" / "episodes.jsonl.redone"))) == 16


def test_a_folder_with_a_run_is_refused_unless_it_is_resumed_with_the_same_settings(data: str, tmp_path: Path) -> None:
    fine_tune(sft_job(data), tmp_path / "run")
    with pytest.raises(StoreError, match="already holds a run"):
        fine_tune(sft_job(data), tmp_path / "run")
    with pytest.raises(ResumeError, match=r"sft\.lr was 0\.0015, now 0\.1"):
        fine_tune(sft_job(data, lr=0.1), tmp_path / "run", resume=True)


def test_a_fine_tuning_whose_episodes_or_policy_have_changed_is_not_gone_on_with(data: str, model: str, tmp_path: Path) -> None:
    job = replace(sft_job(data), model=model)
    fine_tune(job, tmp_path / "run")
    chosen = Path(data) / "selected.jsonl"
    (Path(data) / "episodes.jsonl").write_text("not read by training\n", "utf-8")
    fine_tune(job, tmp_path / "run", resume=True)
    whole = chosen.read_bytes()
    dump(chosen, list(read(chosen))[1:])
    with pytest.raises(ResumeError, match=r"contents\.data was '\w{64}', now '\w{64}'"):
        fine_tune(job, tmp_path / "run", resume=True)
    chosen.write_bytes(whole)
    changed(model)
    with pytest.raises(ResumeError, match=r"contents\.model was '\w{64}', now '\w{64}'"):
        fine_tune(job, tmp_path / "run", resume=True)


def test_a_reinforcement_whose_policy_was_replaced_is_not_gone_on_with(model: str, tmp_path: Path) -> None:
    job = rl_job(model, steps=1)
    asyncio.run(reinforce(job, tmp_path / "run"))
    asyncio.run(reinforce(job, tmp_path / "run", resume=True))
    changed(model)
    with pytest.raises(ResumeError, match=r"contents\.model was '\w{64}', now '\w{64}'"):
        asyncio.run(reinforce(job, tmp_path / "run", resume=True))


def test_a_reinforcement_whose_tasks_have_changed_is_not_gone_on_with(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rl_job(model, steps=1)
    asyncio.run(reinforce(job, tmp_path / "run"))
    sets = find("intention").sets()
    other = {**sets, "train": replace(sets["train"], sha256="0" * 64)}
    monkeypatch.setattr(find("intention"), "sets", lambda: other)
    with pytest.raises(ResumeError, match=r"contents\.tasks\.intention was '\w{64}', now '0{64}'"):
        asyncio.run(reinforce(job, tmp_path / "run", resume=True))


def changed(model: str) -> None:
    policy = Policy.load(Path(model))
    with torch.no_grad():
        next(policy.model.parameters()).add_(0.5)
    policy.save(Path(model))


def test_fine_tuning_on_episodes_played_under_compat_is_warned_of(experts: list[Episode], tmp_path: Path) -> None:
    bent = [replace(e, rules={"compat": "userrl"}) for e in experts[:4]]
    path = dump(tmp_path / "bent.jsonl", [*experts[4:8], *bent])
    with pytest.warns(UserWarning, match="Training under compat"):
        fine_tune(sft_job(str(path), steps=1), tmp_path / "run")


# --- killed ----------------------------------------------------------------------------------------------------


def killed_and_gone_on_with(arguments: list[str], folder: Path, *, at: str) -> None:
    """Run a command, kill it as soon as the checkpoint `at` is there, then run it to its end with --resume."""
    command = [sys.executable, "-c", "from userrl.cli import main; main()", *arguments, "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "checkpoints" / at).exists():
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert process.returncode == -9 and not (folder / "model").exists(), "it ended before it could be killed"
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    steps = [line["step"] for line in lines(folder / "train.jsonl")]
    assert steps == list(range(steps[0], steps[0] + len(steps))), "a step stands there twice, or is missing"


@pytest.mark.slow
def test_a_killed_fine_tuning_goes_on_to_the_same_policy(data: str, tmp_path: Path) -> None:
    settings = tmp_path / "sft.toml"
    shape = "shape = { hidden = 32, layers = 1, heads = 2, feed_forward = 32, vocabulary = 400 }"
    settings.write_text(f'data = "{data}"\n{shape}\n[sft]\nsteps = 400\nbatch_size = 4\nsave_every = 20\n', "utf-8")
    killed_and_gone_on_with(["sft", "train", "--config", str(settings)], tmp_path / "killed", at="step-000040")
    whole = fine_tune(sft_job(data, steps=400, save_every=20), tmp_path / "whole")
    assert same(tmp_path / "killed" / "model", whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Nothing was learned", "ignore:Step .*monitor")
def test_a_killed_reinforcement_goes_on_to_the_same_policy(model: str, tmp_path: Path) -> None:
    settings = tmp_path / "rl.toml"
    settings.write_text(
        f'model = "{model}"\n[grpo]\nsteps = 30\ngroups = 4\ngroup_size = 4\nupdates = 1\n'
        "max_turns = 3\nmax_new = 16\nsave_every = 2\n",
        "utf-8",
    )
    killed_and_gone_on_with(["rl", "train", "--config", str(settings)], tmp_path / "killed", at="step-000004")
    whole = asyncio.run(reinforce(rl_job(model, steps=30, save_every=2), tmp_path / "whole"))
    assert same(tmp_path / "killed" / "model", whole) and not same(whole, Path(model))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Nothing was learned", "ignore:Step .*monitor")
def test_a_killed_reinforcement_with_all_settings_goes_on_to_the_same_policy_and_validations(
    two_gyms: Path, tmp_path: Path
) -> None:
    """An adapter, a reference, validation, two gyms by weight, a curriculum, several forward passes an update."""
    settings = tmp_path / "rl.toml"
    settings.write_text(
        f'model = "{two_gyms}"\ngyms = ["intention", "telepathy"]\nlora = {{ r = 2 }}\nvalidation = {{ every = 3, tasks = 3 }}\n'
        "[grpo]\nsteps = 12\ngroups = 4\ngroup_size = 4\nupdates = 2\nmax_new = 40\nsave_every = 2\nlr = 2e-3\nkl = 0.05\n"
        "micro_batch = 400\nturns = [[0, 2], [5, 3]]\nweights = { intention = 3 }\n"
        "rules = { telepathy = { show_reward = true } }\n",
        "utf-8",
    )
    arguments = ["rl", "train", "--config", str(settings)]
    killed_and_gone_on_with(arguments, tmp_path / "killed", at="step-000006")
    asyncio.run(reinforce(resolve(RLJob, settings), tmp_path / "whole"))
    one, other = tmp_path / "killed", tmp_path / "whole"
    assert same(one / "model", other / "model") and not same(one / "model", two_gyms)
    best = [best_policy(resolve(RLJob, settings), folder) for folder in (one, other)]
    assert best[0] and best[0].policy and best[1] and best[1].policy and best[0].step == best[1].step
    assert same(best[0].policy, best[1].policy)
    kept = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (one, other)]
    assert kept[0] == kept[1], "the newest two, and the best"
    assert lines(one / "train.jsonl") == lines(other / "train.jsonl")
    names = [f"validation/step-{step:06d}.jsonl" for step in (0, 3, 6, 9, 12)]
    for name in [*names, "episodes.jsonl"]:
        episodes = [sorted(read(folder / name), key=lambda e: (e.seed, e.key)) for folder in (one, other)]
        assert episodes[0] == episodes[1]


# --- validation ------------------------------------------------------------------------------------------------


def validated(model: str, every: int = 2, **fields: Any) -> RLJob:
    return replace(rl_job(model, **fields), validation=Validation(every=every, tasks=5))


def test_a_policy_is_validated_before_training_then_every_so_many_steps_and_at_the_end(model: str, tmp_path: Path) -> None:
    seen: list[tuple[Any, dict[str, Any]]] = []
    asyncio.run(reinforce(validated(model), tmp_path / "run", on_step=lambda step, line: seen.append((step, line))))
    log = lines(tmp_path / "run" / "train.jsonl")
    assert [line["step"] for line in log] == [0, 1, 2, 3] and [line for _, line in seen] == log
    assert [line["step"] for line in log if "validation" in line] == [0, 2, 3]
    assert set(log[0]) == {"step", "validation"} and seen[0][0] is None
    tasks = [task.id for task in make("intention").tasks("validation")[:5]]
    for line in (log[0], log[2], log[3]):
        episodes = list(read(tmp_path / "run" / "validation" / f"step-{line['step']:06d}.jsonl"))
        assert [e.task.id for e in sorted(episodes, key=lambda e: tasks.index(e.task.id))] == tasks
        held = line["validation"]
        assert held["share"]["mean"] == pytest.approx(sum(map(share, episodes)) / 5)
        assert held["share"]["low"] <= held["share"]["mean"] <= held["share"]["high"]
        assert held["reward"] == pytest.approx(sum(sum(e.rewards) for e in episodes) / 5)
        assert held["gyms"] == {"intention": {"share": held["share"], "reward": held["reward"], "episodes": 5}}
        assert held["invalid"] == pytest.approx(held["mix"]["invalid"]) and held["errors"] == 0


def test_validation_changes_nothing_in_training(model: str, tmp_path: Path) -> None:
    plain, watched = rl_job(model, steps=2), validated(model, steps=2, every=1)
    one = asyncio.run(reinforce(plain, tmp_path / "plain"))
    assert same(asyncio.run(reinforce(watched, tmp_path / "watched")), one)


def test_a_resumed_job_neither_repeats_nor_loses_a_validation(model: str, tmp_path: Path) -> None:
    job = validated(model, every=1, steps=4, save_every=2)

    def files(folder: Path) -> dict[str, list[Episode]]:
        found = {file.name: list(read(file)) for file in (folder / "validation").glob("*.jsonl")}
        return {name: sorted(episodes, key=lambda e: e.key) for name, episodes in found.items()}

    whole = asyncio.run(reinforce(job, tmp_path / "whole"))
    for died_after in (0, 1, 3):

        def die(step: Any, line: dict[str, Any], last: int = died_after) -> None:
            if line["step"] == last:
                raise RunStopped("died")

        folder = tmp_path / str(died_after)
        with pytest.raises(RunStopped):
            asyncio.run(reinforce(job, folder, on_step=die))
        first = folder / "validation" / "step-000000.jsonl"
        before = first.stat().st_mtime_ns
        assert same(asyncio.run(reinforce(job, folder, resume=True)), whole)
        assert files(folder) == files(tmp_path / "whole")
        assert lines(folder / "train.jsonl") == lines(tmp_path / "whole" / "train.jsonl")
        assert first.read_bytes() and first.stat().st_mtime_ns == before, "the first validation is not played again"
        redone = sorted(file.name for file in (folder / "validation").glob("*.redone"))
        assert redone == {0: [], 1: ["step-000001.jsonl.redone"], 3: ["step-000003.jsonl.redone"]}[died_after]


def test_a_first_validation_that_was_broken_off_is_gone_on_with(model: str, tmp_path: Path) -> None:
    job = validated(model, every=1, steps=1)
    asyncio.run(reinforce(job, tmp_path / "run"))
    whole = lines(tmp_path / "run" / "train.jsonl")
    played = tmp_path / "run" / "validation" / "step-000000.jsonl"
    kept = played.read_bytes().splitlines(keepends=True)[:3]
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        shutil.rmtree(path)
    played.write_bytes(b"".join(kept) + b'{"torn')
    (tmp_path / "run" / "train.jsonl").write_bytes(b'{"step":0,"valid')
    asyncio.run(reinforce(job, tmp_path / "run", resume=True))
    assert played.read_bytes().splitlines(keepends=True)[:3] == kept and len(list(read(played))) == 5
    assert lines(tmp_path / "run" / "train.jsonl") == whole


@pytest.mark.parametrize(
    ("split", "why"),
    [("test", "test tasks are for evaluation alone"), ("demo-test", "for evaluation alone"), ("train", "training tasks show no")],
)
def test_validation_on_test_tasks_or_training_tasks_is_refused(model: str, tmp_path: Path, split: str, why: str) -> None:
    job = replace(rl_job(model), validation=Validation(every=1, split=split))
    with pytest.raises(ConfigError, match=why):
        asyncio.run(reinforce(job, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_training_on_test_tasks_is_warned_of(model: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'test' that is trained on holds test tasks"):
        asyncio.run(reinforce(replace(rl_job(model, steps=1), split="test", baselines=False), tmp_path / "run"))


def test_validation_may_have_rules_of_its_own_and_plays_to_the_last_limit_of_a_curriculum() -> None:
    rules = {"show_reward": True, "travel": {"rewards": "training"}}
    settings = {"trained_on": "train", "max_turns": 8, "rules": rules, "seed": 1}
    [intention, travel] = plan(Validation(every=1, tasks=1), ("intention", "travel"), **settings)  # type: ignore[arg-type]
    assert intention.rules == {"show_reward": True} and travel.rules == {"show_reward": True, "rewards": "training"}
    own = Validation(every=1, tasks=1, rules={"travel": {"rewards": "evaluation"}})
    [travel] = plan(own, ("travel",), **settings)  # type: ignore[arg-type]
    assert travel.rules == {"rewards": "evaluation"} and travel.max_turns == 8
    with pytest.raises(UnknownName, match="preset of rewards"):
        plan(Validation(rules={"travel": {"rewards": "evaluating"}}), ("travel",), **settings)  # type: ignore[arg-type]


def test_with_several_gyms_each_counts_the_same_in_validation(experts: list[Episode]) -> None:
    other = [replace(e, task=replace(e.task, gym="telepathy")) for e in experts[20:21]]
    found = results([*experts[:3], *other, experts[4].fail("user: gone")])
    means = [found["gyms"][gym]["share"]["mean"] for gym in ("intention", "telepathy")]
    assert found["share"]["mean"] == pytest.approx(sum(means) / 2) and found["errors"] == 1
    assert [found["gyms"][gym]["episodes"] for gym in ("intention", "telepathy")] == [3, 1]


# --- adapters, settings that came later ------------------------------------------------------------------------


def test_an_adapter_is_merged_into_a_model_that_plays_as_it_did(data: str, model: str, tmp_path: Path) -> None:
    job = replace(sft_job(data, lr=1e-2), model=model, lora=LoRA(r=4, keep_adapter=True))
    out = fine_tune(job, tmp_path / "run")
    start, end = Policy.load(Path(model)), Policy.load(out)
    assert not same(out, Path(model)) and not (out / "adapter_config.json").exists()
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    start.prepare("float32", LoRA(r=4))
    start.restore(tmp_path / "run" / "adapter")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.allclose(start.model(ids).logits, end.model(ids).logits, atol=1e-5)

    rl = replace(rl_job(model, steps=2, lr=1e-2, kl=0.1), lora=LoRA(r=2), dtype="bfloat16", gradient_checkpointing=True)
    asyncio.run(reinforce(rl, tmp_path / "rl"))
    assert not (tmp_path / "rl" / "adapter").exists()
    log = lines(tmp_path / "rl" / "train.jsonl")
    assert 0 < log[1]["kl"] < 1 and log[1]["loss"] == pytest.approx(log[1]["loss"])
    merged = Policy.load(tmp_path / "rl" / "model").model
    assert merged.dtype == torch.float32 and not same(tmp_path / "rl" / "model", Path(model))


def test_a_run_begun_before_a_setting_existed_goes_on_with_its_default_alone(model: str, tmp_path: Path) -> None:
    job = rl_job(model, steps=1)
    asyncio.run(reinforce(job, tmp_path / "run"))
    saved = tmp_path / "run" / "config.json"
    config = json.loads(saved.read_text("utf-8"))
    for table, names in ((config, ("lora", "dtype", "device", "validation")), (config["grpo"], ("kl", "turns", "weights"))):
        for name in names:
            del table[name]
    saved.write_text(json.dumps(config), "utf-8")
    asyncio.run(reinforce(job, tmp_path / "run", resume=True))
    with pytest.raises(ResumeError, match=r"grpo\.kl was 0\.0, now 0\.1"):
        asyncio.run(reinforce(replace(job, grpo=replace(job.grpo, kl=0.1)), tmp_path / "run", resume=True))
    with pytest.raises(ResumeError, match=r"lora\.r was 0, now 2"):
        asyncio.run(reinforce(replace(job, lora=LoRA(r=2)), tmp_path / "run", resume=True))
