"""The best policy by validation: kept, named, loadable, the same after a break."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from userrl.agents.policy import LoRA, Policy
from userrl.errors import ConfigError, RunStopped, StoreError
from userrl.pipeline.jobs import Best, RLJob, best_policy, reinforce
from userrl.train import validation
from userrl.train.grpo import GRPOConfig
from userrl.train.monitors import MonitorConfig
from userrl.train.validation import Validation

pytestmark = pytest.mark.filterwarnings("ignore:Nothing was learned", "ignore:Step .*monitor")
SHARES = {0: 0.1, 2: 0.5, 4: 0.5, 6: 0.3, 7: 0.2}


@pytest.fixture
def model(policy: Policy, tmp_path: Path) -> str:
    policy.save(tmp_path / "start")
    return str(tmp_path / "start")


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Step -> the mean share that its validation is made to find; it may be changed."""
    told, validate = dict(SHARES), validation.validate

    async def finding(policy: Any, episodes: Any, cast: Any, run: Any, step: int, **options: Any) -> dict[str, Any]:
        found = await validate(policy, episodes, cast, run, step, **options)
        return found | {"share": {"mean": told[step], "low": 0.0, "high": 1.0}}

    monkeypatch.setattr(validation, "validate", finding)
    return told


def rl_job(model: str, **fields: Any) -> RLJob:
    settings = {"steps": 7, "groups": 4, "group_size": 4, "updates": 1, "max_turns": 3, "max_new": 16, "save_every": 3}
    config = GRPOConfig(**settings | {"lr": 5e-3, "warmup": 0})  # type: ignore[arg-type]
    return RLJob(model, grpo=config, validation=Validation(every=2, tasks=2), baselines=False, **fields)


def train(job: RLJob, folder: Path, **options: Any) -> Path:
    return asyncio.run(reinforce(job, folder, **options))


def same(one: Path, other: Path) -> bool:
    weights, others = Policy.load(one).model.state_dict(), Policy.load(other).model.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def saved(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").iterdir())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text("utf-8"))
    return found


def test_the_checkpoint_of_the_best_validation_is_kept_and_named(model: str, shares: Mapping[int, float], tmp_path: Path) -> None:
    """It is written though no other is due at its step; of equal ones the earlier is the best."""
    out = train(rl_job(model), tmp_path / "run")
    assert saved(tmp_path / "run") == [2, 6, 7]
    held = tmp_path / "run" / "checkpoints" / "step-000002"
    tested = {line["step"]: line["validation"]["best_step"] for line in lines(tmp_path / "run") if "validation" in line}
    assert tested == {0: 0, 2: 2, 4: 2, 6: 2, 7: 2}
    share = {"mean": 0.5, "low": 0.0, "high": 1.0}
    assert best_policy(rl_job(model), tmp_path / "run") == Best(2, share, held)
    assert str(best_policy(rl_job(model), tmp_path / "run")) == f"step 2, share 0.500 [0.000, 1.000]: {held}"
    found = results(tmp_path / "run")
    assert (found["kind"], found["kept"], found["step"], found["steps"]) == ("training", "last", 7, 7)
    assert found["best"] == {"step": 2, "share": share, "policy": str(held)}
    assert same(out, tmp_path / "run" / "checkpoints" / "step-000007") and not same(out, held)


def test_what_is_kept_changes_nothing_in_training(model: str, shares: Mapping[int, float], tmp_path: Path) -> None:
    plain = replace(rl_job(model), validation=Validation())
    assert same(train(rl_job(model), tmp_path / "best"), train(plain, tmp_path / "plain"))
    assert saved(tmp_path / "plain") == [6, 7] and results(tmp_path / "plain")["best"] is None
    assert best_policy(plain, tmp_path / "plain") is None


def test_the_best_policy_is_written_where_it_is_asked_for_also_of_a_finished_run(
    model: str, shares: Mapping[int, float], tmp_path: Path
) -> None:
    job, run = rl_job(model, keep="best"), tmp_path / "run"
    held = run / "checkpoints" / "step-000002"
    assert same(train(job, run), held)
    assert (results(run)["kept"], results(run)["step"]) == ("best", 2)
    assert not same(train(replace(job, keep="last"), run, resume=True), held) and results(run)["step"] == 7
    assert same(train(job, run, resume=True), held)


@pytest.mark.parametrize("lora", [LoRA(), LoRA(r=2)])
def test_where_training_never_helped_the_best_policy_is_the_one_it_began_with(
    model: str, shares: dict[int, float], tmp_path: Path, lora: LoRA
) -> None:
    shares[0] = 0.5
    job = rl_job(model, keep="best", lora=lora)
    out = train(job, tmp_path / "run")
    assert same(out, Path(model)) and saved(tmp_path / "run") == [6, 7]
    assert best_policy(job, tmp_path / "run") == Best(0, {"mean": 0.5, "low": 0.0, "high": 1.0}, Path(model))


def test_a_broken_run_ends_with_the_same_best_policy_wherever_it_broke(
    model: str, shares: Mapping[int, float], tmp_path: Path
) -> None:
    job = rl_job(model, keep="best")
    whole = train(job, tmp_path / "whole")
    for last in (0, 2, 4):

        def die(step: Any, line: dict[str, Any], last: int = last) -> None:
            if line["step"] == last:
                raise KeyboardInterrupt

        folder = tmp_path / f"broken-{last}"
        with pytest.raises(KeyboardInterrupt):
            train(job, folder, on_step=die)
        assert same(train(job, folder, resume=True), whole)
        assert saved(folder) == [2, 6, 7] and lines(folder) == lines(tmp_path / "whole")
        assert same(folder / "checkpoints" / "step-000002", tmp_path / "whole" / "checkpoints" / "step-000002")


def test_a_checkpoint_of_an_adapter_plays_as_the_model_that_it_becomes(
    model: str, shares: Mapping[int, float], tmp_path: Path
) -> None:
    job, run = rl_job(model, keep="best", lora=LoRA(r=4)), tmp_path / "run"
    out, checkpoint = train(job, run), run / "checkpoints" / "step-000002"
    assert not (checkpoint / "config.json").exists() and not same(out, Path(model))
    assert same(checkpoint, out)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        one, other = Policy.load(checkpoint), Policy.load(out)
        assert torch.equal(one.model(ids).logits, other.model(ids).logits)
    assert Policy.load(checkpoint, dtype="bfloat16").dtype == torch.bfloat16
    shutil.move(model, tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"a LoRA adapter of the model in .*start, which is not there"):
        Policy.load(checkpoint)
    (checkpoint / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(ConfigError, match="holds no LoRA adapter that can be loaded: 'base_model_name_or_path'"):
        Policy.load(checkpoint)


def test_a_run_that_a_monitor_stops_says_which_validation_was_the_best(
    model: str, shares: Mapping[int, float], tmp_path: Path
) -> None:
    job = rl_job(model, monitors=MonitorConfig(window=2, invalid="stop", invalid_most=0.0))
    with pytest.raises(RunStopped, match=r"The best validation so far: 0\.500 at step 2 \(.*/checkpoints/step-000002\)"):
        train(job, tmp_path / "run")


def test_without_validation_there_is_no_best_to_keep(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing is validated\. Add --validate-every 10"):
        train(replace(rl_job(model, keep="best"), validation=Validation()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_best_checkpoint_that_an_earlier_version_did_not_keep_is_told_of(
    model: str, shares: Mapping[int, float], tmp_path: Path
) -> None:
    job, run = rl_job(model), tmp_path / "run"
    train(job, run)
    shutil.rmtree(run / "checkpoints" / "step-000002")
    assert str(best_policy(job, run)).endswith(": its checkpoint was not kept")
    with pytest.raises(StoreError, match=r"The best validation was at step 2, but .* Give the same command with --keep last"):
        train(replace(job, keep="best"), run, resume=True)
    assert train(job, run, resume=True) == run / "model"
