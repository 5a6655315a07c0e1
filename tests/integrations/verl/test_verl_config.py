"""The configurations compose on top of verl's own, pass verl's own check, and say what the paper says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from verl.trainer.ppo.v1 import trainer_separate_async

from userrl.integrations.verl import check
from userrl.integrations.verl.settings import ESTIMATOR, LOOP, Play, Scheme, table

RECIPES = sorted(path.stem for path in (Path(check.__file__).parent / "conf" / "recipe").glob("*.yaml"))
ON_TOP = ("two_nodes", "colocate_async", "separate_async")
"""Recipes that go on top of one that names a model."""
MODEL = "actor_rollout_ref.model.path=some/model"


def test_there_is_a_recipe_for_each_setting_that_the_docs_name() -> None:
    page = (Path(__file__).parents[3] / "docs" / "scale.md").read_text("utf-8")
    assert len(RECIPES) >= 6
    for name in RECIPES:
        assert name in page, name


@pytest.mark.parametrize("recipe", ["", *RECIPES, *(f"qwen3_8b,{name}" for name in ON_TOP)])
def test_a_recipe_composes_and_passes_verls_check_and_ours(recipe: str) -> None:
    config = check.composed([f"recipe=[{recipe}]", *([] if "qwen3" in recipe or "lora" in recipe else [MODEL])])
    assert check._validated(config).state == "ok", check._validated(config).text
    assert [finding for finding in check.options(config) if finding.state == "wrong"] == []
    assert (config.algorithm.adv_estimator, config.actor_rollout_ref.rollout.agent.default_agent_loop) == (ESTIMATOR, LOOP)


def test_the_defaults_are_the_papers() -> None:
    """UserRL, arXiv 2509.19736, section 4 and its scripts."""
    config = check.composed([MODEL])
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    assert (config.data.train_batch_size, rollout.n, actor.ppo_mini_batch_size) == (128, 8, 16)
    assert (config.data.max_prompt_length, config.data.max_response_length) == (1152, 8192)
    assert (actor.optim.lr, rollout.temperature, config.trainer.total_epochs) == (1e-6, 1.0, 15)
    assert not actor.use_kl_loss and not actor.entropy_coeff
    assert table(Play, config, "userrl").max_turns == 16
    assert table(Scheme, config.algorithm, "algorithm.userrl") == Scheme("equalized", "r2g", "grpo", 0.8)


@pytest.mark.parametrize("credit, score", [("equalized", "r2g"), ("em", "r2g"), ("r2g", "r2g"), ("equalized", "mean")])
def test_the_papers_four_shapings_are_two_settings(credit: str, score: str) -> None:
    config = check.composed(["recipe=qwen3_4b", f"algorithm.userrl.credit={credit}", f"algorithm.userrl.score={score}"])
    scheme = table(Scheme, config.algorithm, "algorithm.userrl")
    assert (scheme.credit, scheme.score) == (credit, score)
    assert config.trainer.default_local_dir == f"runs/verl/qwen3-4b-{credit}-{score}"


def test_separate_async_keeps_verls_rule_between_batch_and_updates() -> None:
    config = check.composed(["recipe=[qwen3_8b,separate_async]"])
    steps = config.trainer.v1.separate_async.parameter_sync_step
    assert config.data.train_batch_size == steps * config.actor_rollout_ref.actor.ppo_mini_batch_size
    assert config.actor_rollout_ref.rollout.checkpoint_engine.backend != "naive"


def test_verl_can_set_up_its_trainer_for_separate_async(monkeypatch: pytest.MonkeyPatch) -> None:
    """verl 0.9.1 breaks on its own log line where the trainer's node has no vLLM; what needs GPUs is left out here."""
    config = check.composed(["recipe=[qwen3_8b,separate_async]"])
    monkeypatch.setattr(trainer_separate_async.PPOTrainer, "_setup", lambda self: None)
    monkeypatch.setattr(trainer_separate_async, "CheckpointEngineManager", Mock())
    monkeypatch.setattr(trainer_separate_async, "LLMServerManager", Mock())
    monkeypatch.setattr(trainer_separate_async.PPOTrainerSeparateAsync, "add_replicas_to_balancer", lambda self: None)
    trainer = trainer_separate_async.PPOTrainerSeparateAsync.__new__(trainer_separate_async.PPOTrainerSeparateAsync)
    trainer.config, trainer._enable_hybrid_replicas = config, bool(config.actor_rollout_ref.hybrid_engine)
    trainer.llm_server_manager, trainer.actor_rollout_wg = Mock(rollout_replicas=[]), Mock()
    trainer._setup()


def test_the_lora_recipe_gives_vllm_room_for_a_whole_episode_and_no_more() -> None:
    config = check.composed(["recipe=lora_1gpu"])
    assert config.actor_rollout_ref.rollout.max_model_len == config.data.max_prompt_length + config.data.max_response_length


def test_what_the_docs_add_on_the_command_line_arrives() -> None:
    pool = "m@http://a:8000/v1,http://b:8000/v1*2"
    added = ["+userrl.endpoints.user.temperature=1.0", "+userrl.rules.compat=userrl", "algorithm.userrl.compat=userrl"]
    config = check.composed([MODEL, f'userrl.user="{pool}"', "userrl.judge=org/m@http://a:8000/v1", *added])
    settings = table(Play, config, "userrl")
    assert (settings.user, settings.judge) == (pool, "org/m@http://a:8000/v1")
    assert settings.endpoints == {"user": {"temperature": 1.0}}
    assert settings.rules == {"compat": "userrl"}
    assert table(Scheme, config.algorithm, "algorithm.userrl").compat == "userrl"


def registered(**env: str) -> Any:
    code = (
        "import verl; from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as E; "
        "from verl.experimental.agent_loop.agent_loop import _agent_loop_registry as L; "
        f"print({ESTIMATOR!r} in E, {LOOP!r} in L)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_fresh_process_that_imports_verl_has_the_plug_in() -> None:
    assert registered() == ["True", "True"]


def test_without_plug_ins_it_does_not_and_can_name_ours_itself() -> None:
    assert registered(VERL_USE_EXTERNAL_PLUGINS="none") == ["False", "False"]
    module = "userrl.integrations.verl.plugin"
    assert registered(VERL_USE_EXTERNAL_PLUGINS="none", VERL_USE_EXTERNAL_MODULES=module) == ["True", "True"]
