"""`userrl verl check` is loud: each thing that would go wrong without a word is named, with what to do."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf, open_dict

from userrl.agents.policy import Policy
from userrl.errors import ConfigError
from userrl.gyms.base import find
from userrl.integrations.verl import check, data
from userrl.integrations.verl.settings import Play
from userrl.llm import fake

MODEL = "actor_rollout_ref.model.path=some/model"


@pytest.fixture(scope="module")
def right() -> Any:
    return check.composed([MODEL])


def wrongs(config: Any, name: str, value: Any) -> list[check.Finding]:
    config = copy.deepcopy(config)
    with open_dict(config):
        OmegaConf.update(config, name, value)
    return [finding for finding in check.options(config) if finding.state == "wrong"]


def test_a_right_configuration_has_nothing_wrong(right: Any) -> None:
    assert [finding.state for finding in check.options(right)] == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("trainer.use_v1", False, "must be true"),
        ("algorithm.adv_estimator", "grpo", "userrl_turn_grpo"),
        ("actor_rollout_ref.rollout.agent.default_agent_loop", "tool_agent", "userrl"),
        ("actor_rollout_ref.rollout.agent.agent_loop_config_path", "loops.yaml", "must be null"),
        ("algorithm.rollout_correction.rollout_rs", "token_k1", "two turns of one"),
        ("algorithm.rollout_correction.rollout_rs", "seq_mean_k3,token_k3", "token_k3"),
        ("algorithm.use_kl_in_reward", True, "use_kl_loss"),
        ("actor_rollout_ref.rollout.n", 1, "at least 2"),
        ("actor_rollout_ref.rollout.calculate_log_probs", False, "must be true"),
        ("actor_rollout_ref.rollout.enable_rollout_routing_replay", True, "must be false"),
        ("actor_rollout_ref.rollout.name", "sglang", "use vllm"),
        ("reward.reward_model.enable", True, "must be false"),
        ("actor_rollout_ref.rollout.max_model_len", 9343, "= 9344 tokens"),
        ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", 9343, "a whole episode (9344 tokens)"),
        ("algorithm.userrl.score", "composite", "score"),
        ("algorithm.userrl.gama", 0.8, "gama"),
        ("userrl.max_turns", 0, "max_turns"),
        ("userrl.usr", "scripted", "usr"),
    ],
)
def test_an_option_that_would_change_turns_or_rewards_is_named(right: Any, name: str, value: Any, said: str) -> None:
    [finding] = wrongs(right, name, value)
    assert said in f"{finding.what} {finding.text}"


@pytest.mark.parametrize("name", ["actor_rollout_ref.rollout.max_model_len", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"])
def test_room_for_a_whole_episode_is_enough(right: Any, name: str) -> None:
    assert wrongs(right, name, 9344) == []


def test_separate_async_without_vllm_on_the_trainers_node_is_named() -> None:
    recipe = "recipe=[qwen3_8b,separate_async]"
    states = [finding.state for finding in check.options(check.composed([recipe]))]
    assert states == ["ok", "ok", "ok"]
    [finding] = wrongs(check.composed([recipe]), "actor_rollout_ref.hybrid_engine", False)
    assert "verl 0.9.1 breaks at the start" in finding.text


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["recipe=qwen3_8b"], ["vLLM", "flash-attn"]),
        (["recipe=[qwen3_8b,separate_async]"], ["vLLM", "flash-attn", "cupy"]),
        (["recipe=qwen3_8b", "+actor_rollout_ref.model.override_config.attn_implementation=sdpa"], ["vLLM"]),
        ([MODEL, "actor_rollout_ref.rollout.name=trtllm"], ["flash-attn"]),
        ([MODEL, "trainer.device=cpu"], []),
    ],
)
@pytest.mark.parametrize("gpus", [0, 8])
def test_what_a_run_on_gpus_lacks_is_named_where_they_are(
    overrides: list[str], named: list[str], gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr(check, "find_spec", lambda module: None)
    found = list(check._hardware(check.composed(overrides)))[1:]
    assert [finding.what for finding in found] == named
    assert {finding.state for finding in found} <= {"wrong" if gpus else "note"}


def test_a_checkpoint_that_the_run_would_go_on_from_is_noted(tmp_path: Path) -> None:
    overrides = ["recipe=qwen3_8b", f"trainer.default_local_dir={tmp_path}"]
    assert list(check._earlier(check.composed(overrides))) == []
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("40", "utf-8")
    [finding] = check._earlier(check.composed(overrides))
    assert finding.state == "note"
    assert "goes on from step 40" in finding.text
    assert list(check._earlier(check.composed([*overrides, "trainer.resume_mode=disable"]))) == []


@pytest.mark.parametrize("mode", ["seq_mean_k3", "seq_sum_k1"])
def test_rejection_of_whole_sequences_is_fine(right: Any, mode: str) -> None:
    assert wrongs(right, "algorithm.rollout_correction.rollout_rs", mode) == []


def test_an_override_that_does_not_exist_is_named() -> None:
    found = {finding.what: finding for finding in check.check(["data.train_batchsize=3"])}
    assert found["plug-in"].state == "ok"
    assert found["configuration"].state == "wrong"
    assert "train_batchsize" in found["configuration"].text


def test_a_plug_in_that_verl_was_told_to_pass_over_is_named_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    [finding] = check._registered()
    assert finding.state == "wrong"
    assert "VERL_USE_EXTERNAL_PLUGINS is 'none'" in finding.text


@pytest.mark.parametrize(("version", "state"), [("0.9.1", "ok"), ("0.9.4", "ok"), ("0.9.0", "wrong"), ("0.10.0", "wrong")])
def test_another_release_of_verl_is_named(version: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.metadata, "version", lambda name: version)
    assert next(check._installed()).state == state


def files(tmp_path: Path, right: Any, **more: Any) -> Any:
    data.export(data.DataJob(gyms=("intention", "function"), train_tasks=3, val_tasks=2), tmp_path)
    config = copy.deepcopy(right)
    config.data.train_files, config.data.val_files = (str(tmp_path / name) for name in data.FILES.values())
    for name, value in more.items():
        OmegaConf.update(config, f"data.{name}", value)
    return config


def test_data_of_several_gyms_is_counted_and_its_longest_prompt_measured(tmp_path: Path, right: Any, untrained: Policy) -> None:
    train, val = check._tasks(files(tmp_path, right, max_prompt_length=9999), untrained)
    assert (train.state, val.state) == ("ok", "ok"), (train.text, val.text)
    assert "3 of intention, 3 of function" in train.text
    assert "tokens of 9999" in train.text
    short, _ = check._tasks(files(tmp_path, right, max_prompt_length=10), untrained)
    assert short.state == "wrong"
    assert "data.max_prompt_length is 10" in short.text


@pytest.mark.parametrize("rules", [{"compat": "userl"}, {"no_such": 1}, {"intention": {"no_such": 1}}])
def test_a_rule_that_a_gym_does_not_have_is_named(tmp_path: Path, right: Any, rules: dict[str, Any]) -> None:
    config = files(tmp_path, right)
    config.userrl.rules = rules
    for finding in check._tasks(config, None):
        assert finding.state == "wrong"
        assert "no_such" in finding.text or "userl" in finding.text


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"val": "official-test"}, "--val is 'official-test'"),
        ({"train": "test"}, "--train is 'test'"),
        ({"val": "train"}, "both 'train'"),
    ],
)
def test_test_tasks_are_not_trained_on_nor_are_checkpoints_chosen_by_them(
    splits: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        data.export(data.DataJob(**splits), tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_training_task_is_in_the_validation_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the official alltrain holds the tasks of the official validation."""
    gym = find("intention")
    held = gym.sets()["validation"]
    wide = replace(gym.sets()["train"], split="wide")
    tasks = [*gym.tasks("train")[:2], *gym.tasks("validation")[:3]]
    monkeypatch.setattr(gym, "sets", lambda: {"validation": held, "wide": wide})
    monkeypatch.setattr(gym, "tasks", lambda split: tasks if split == "wide" else held.load())
    counts = data.export(data.DataJob(train="wide", val_tasks=1), tmp_path)
    assert counts == {"train": {"intention": 2}, "val": {"intention": 1}}
    rows = [data.task_of(row["extra_info"]["task"]) for row in data.read(tmp_path / "train.parquet")]
    assert rows == tasks[:2]
    tasks[:2] = []
    with pytest.raises(ConfigError, match="All tasks of --train 'wide' are among those of --val 'validation'"):
        data.export(data.DataJob(train="wide"), tmp_path)


def test_data_that_is_not_there_or_not_ours_is_named(tmp_path: Path, right: Any) -> None:
    config = files(tmp_path, right, val_files=str(tmp_path / "none.parquet"))
    _, val = check._tasks(config, None)
    assert (val.state, "userrl verl data" in val.text) == ("wrong", True)


def test_a_row_has_the_columns_that_verl_selects_and_no_hidden_structure(tmp_path: Path, right: Any) -> None:
    files(tmp_path, right)
    rows = list(data.read(tmp_path / "train.parquet"))
    for row in rows:
        assert {"data_source", "agent_name", "prompt", "reward_model", "extra_info"} <= set(row)
        assert set(row["extra_info"]) == {"index", "split", "purpose", "task"}
        assert isinstance(row["extra_info"]["task"], str)
    assert {row["data_source"] for row in rows} == {"userrl/intention", "userrl/function"}
    assert [row["extra_info"]["index"] for row in rows] == list(range(6))


def test_a_model_whose_replies_do_not_end_with_its_eos_token_is_named(
    tmp_path: Path, right: Any, untrained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained.save(tmp_path / "model")
    config = copy.deepcopy(right)
    config.actor_rollout_ref.model.path = str(tmp_path / "model")
    found: list[check.Finding] = []
    assert check._model(config, found) is not None
    assert [finding.state for finding in found] == ["ok"]
    template = (tmp_path / "model" / "chat_template.jinja").read_text("utf-8")
    (tmp_path / "model" / "chat_template.jinja").write_text(template.replace("<|im_end|>", "<|pad|>"), "utf-8")
    found.clear()
    check._model(config, found)
    assert [finding.state for finding in found] == ["wrong"]
    assert "eos token is '<|im_end|>'" in found[0].text


def test_a_model_that_is_not_here_is_named_with_how_to_fetch_it(right: Any) -> None:
    found: list[check.Finding] = []
    assert check._model(right, found) is None
    assert [finding.state for finding in found] == ["wrong"]
    assert found[0].text.endswith("fetch it first: hf download some/model")


def test_a_model_that_thinks_is_noted(tmp_path: Path, right: Any, untrained: Policy) -> None:
    untrained.save(tmp_path / "model")
    path = tmp_path / "model" / "chat_template.jinja"
    path.write_text("{%- if enable_thinking is defined -%}{%- endif -%}" + path.read_text("utf-8"), "utf-8")
    config = copy.deepcopy(right)
    config.actor_rollout_ref.model.path = str(tmp_path / "model")
    found: list[check.Finding] = []
    check._model(config, found)
    assert [finding.what for finding in found] == ["model", "thinking"]
    config.data.apply_chat_template_kwargs = {"enable_thinking": False}
    found.clear()
    check._model(config, found)
    assert [finding.what for finding in found] == ["model"]


def test_an_endpoint_that_does_not_answer_is_named(right: Any) -> None:
    config = copy.deepcopy(right)
    config.userrl.user = "nobody@http://127.0.0.1:9/v1"
    config.userrl.endpoints = {"user": {"max_retries": 0}}
    user, judge = check._seats(config)
    assert (user.state, judge.state) == ("wrong", "ok")
    assert "127.0.0.1:9" in user.text


def test_a_scripted_user_that_is_none_and_a_key_among_the_settings_are_named(right: Any) -> None:
    config = copy.deepcopy(right)
    config.userrl.user = "scripted:grumpyy"
    user, judge = check._seats(config)
    assert (user.state, judge.state) == ("wrong", "ok")
    assert "grumpyy" in user.text
    config.userrl.user, config.userrl.endpoints = "scripted", {"user": {"key": "sk-secret"}}
    user, judge = check._seats(config)
    assert (user.state, judge.state) == ("wrong", "wrong")
    assert "USERRL_USER_API_KEY" in user.text
    assert "sk-secret" not in user.text


def test_a_seats_model_is_asked_for_the_form_that_queries_need() -> None:
    async def asked(reply: str) -> tuple[check.Finding, list[fake.Request]]:
        requests: list[fake.Request] = []
        async with fake.fake_server(lambda request: requests.append(request) or reply) as url:
            return await check._asked("judge", f"m@{url}", Play()), requests

    finding, requests = asyncio.run(asked('{"word": "ready"}'))
    assert (finding.state, len(requests)) == ("ok", 1)
    finding, requests = asyncio.run(asked("I am ready."))
    assert (finding.state, len(requests)) == ("wrong", 2)
    assert finding.text.startswith("judge: No usable reply")


def test_every_endpoint_of_a_pool_is_named() -> None:
    assert check._each("m@http://a:1/v1*2,http://b:1/v1") == ["m@http://a:1/v1", "m@http://b:1/v1"]
