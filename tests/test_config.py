"""Settings: a file and flags make a job, and whatever does not fit is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from userrl.collect.run import CollectJob
from userrl.config import Above0, Count, Fraction, as_dict, pairs, resolve
from userrl.errors import ConfigError, UnknownName
from userrl.evaluate.run import EvalJob


@dataclass(frozen=True)
class Tuning:
    steps: Count = 100
    lr: Above0 = 0.1
    gamma: Fraction = 0.8
    credit: Literal["naive", "equalized"] = "equalized"
    rules: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    model: str
    gyms: tuple[str, ...] = ("intention",)
    limit: int | None = None
    tuning: Tuning = field(default_factory=Tuning)


def from_file(folder: Path, text: str, flags: Mapping[str, Any] | None = None) -> Job:
    (folder / "job.toml").write_text(text, "utf-8")
    return resolve(Job, folder / "job.toml", flags)


def test_defaults_stand_where_nothing_is_said() -> None:
    assert resolve(Job, flags={"model": "m"}) == Job("m")


def test_a_file_changes_defaults_and_flags_change_the_file(tmp_path: Path) -> None:
    text = 'model = "m"\ngyms = ["function", "intention"]\n[tuning]\nlr = 0.5\ngamma = 1\n'
    assert from_file(tmp_path, text) == Job("m", ("function", "intention"), None, Tuning(lr=0.5, gamma=1.0))
    flags = {"model": "n", "limit": 3, "tuning.lr": 0.7, "tuning.steps": 5, "gyms": None, "tuning.gamma": None}
    assert from_file(tmp_path, text, flags) == Job("n", ("function", "intention"), 3, Tuning(steps=5, lr=0.7, gamma=1.0))


def test_a_flag_changes_one_entry_of_a_free_table_and_leaves_the_others(tmp_path: Path) -> None:
    text = 'model = "m"\n[tuning.rules]\ncompat = "userrl"\npenalty = 0.2\n'
    assert from_file(tmp_path, text, {"tuning.rules.penalty": 0.1}).tuning.rules == {"compat": "userrl", "penalty": 0.1}


@pytest.mark.parametrize("value", ['"3"', "3.0", "true"])
def test_a_number_is_not_taken_from_a_text_or_another_kind(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tuning\.steps is .*valid integer"):
        from_file(tmp_path, f'model = "m"\n[tuning]\nsteps = {value}\n')


def test_a_job_cannot_be_changed_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        resolve(Job, flags={"model": "m"}).model = "n"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "m"', r"No setting in .*job\.toml named 'modle'\. Did you mean 'model'\?"),
        ('model = "m"\n[tuning]\nlearning = 1', r"No setting in .*job\.toml, table \[tuning\], named 'learning'"),
        ('model = "m"\n[tuning]\nstep = 1', r"table \[tuning\], named 'step'\. Did you mean 'steps'\?"),
        ('model = "m"\n[tunings]\nsteps = 1', r"named 'tunings'\. Did you mean 'tuning'\?"),
        ('model = "m"\nsteps = 1', r"No setting in .*job\.toml named 'steps'\. It belongs into the table \[tuning\]\."),
    ],
)
def test_an_unknown_setting_names_its_near_misses(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UnknownName, match=said):
        from_file(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = 3", r"job\.toml: model is 3: Input should be a valid string\."),
        ('model = "m"\ngyms = "intention"', r"job\.toml: gyms is 'intention': Input should be a valid tuple\."),
        ('model = "m"\ngyms = [1]', r"job\.toml: gyms\.0 is 1: "),
        ('model = "m"\ntuning = 3', r"job\.toml: tuning is 3; expected a table \[tuning\]\."),
        ('model = "m"\n[tuning]\nlr = "fast"', r"job\.toml: tuning\.lr is 'fast': Input should be a valid number"),
        ('model = "m"\n[tuning]\nlr = nan', r"job\.toml: tuning\.lr is nan: Input should be greater than 0\."),
        ('model = "m"\n[tuning]\nsteps = 0', r"job\.toml: tuning\.steps is 0: Input should be greater than or equal to 1\."),
        ('model = "m"\n[tuning]\nsteps = 1.5', r"job\.toml: tuning\.steps is 1\.5: "),
        ('model = "m"\n[tuning]\ngamma = 1.5', r"job\.toml: tuning\.gamma is 1\.5: "),
        ('model = "m"\n[tuning]\ncredit = "best"', r"tuning\.credit is 'best': Input should be 'naive' or 'equalized'\."),
        ("gyms = []", r"The setting 'model' is missing; give it as a flag, or in a file with --config\."),
        ('model = "m', r"job\.toml is not valid TOML: "),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_file(tmp_path, text)


def test_a_bad_flag_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the flags: tuning\.lr is -1: Input should be greater than 0\."):
        from_file(tmp_path, 'model = "m"\n[tuning]\nlr = 0.5', {"tuning.lr": -1})
    with pytest.raises(UnknownName, match=r"No setting in the flags, table \[tuning\], named 'lrate'"):
        from_file(tmp_path, 'model = "m"', {"tuning.lrate": 1})
    with pytest.raises(ConfigError, match=r"job\.toml: tuning is 3; expected a table"):
        from_file(tmp_path, 'model = "m"\ntuning = 3', {"tuning.lr": 1})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot read .*none\.toml: No such file or directory\. Check the path"):
        resolve(Job, tmp_path / "none.toml")
    (tmp_path / "odd.toml").write_bytes(b'model = "\xff"')
    with pytest.raises(ConfigError, match=r"odd\.toml is not valid TOML"):
        resolve(Job, tmp_path / "odd.toml")


@pytest.mark.parametrize(
    "job",
    [
        Job("m", ("function",), 3, Tuning(rules={"compat": "userrl"})),
        EvalJob("expert:0.5", tasks=3, temperature=0.7, rules={"compat": "userrl"}),
        CollectJob("expert", ("intention", "function"), top_k=4),
    ],
)
def test_a_saved_job_is_read_back_as_it_was(job: Any, tmp_path: Path) -> None:
    saved = json.loads(json.dumps(as_dict(job)))
    assert resolve(type(job), flags=saved) == job


def test_a_table_given_in_part_keeps_the_jobs_own_defaults_for_the_rest() -> None:
    from userrl.pipeline.demo import DemoJob

    job = resolve(DemoJob, None, {"sft.steps": 7})
    assert (job.sft.steps, job.sft.lr, job.grpo) == (7, DemoJob().sft.lr, DemoJob().grpo)


def test_words_of_an_option_are_a_table() -> None:
    assert pairs("--mix", ["a=1", "b=x=y", "c="], "GYM=WEIGHT") == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a=1", "b=3", "a=2"], "--mix is given twice for 'a': a=1 and a=2. Give one of the two."),
        (["a=1", "a=1"], "--mix is given twice for 'a': a=1 and a=1. Give one of the two."),
        (["a"], "--mix is 'a'; expected GYM=WEIGHT."),
        (["=1"], "--mix is '=1'; expected GYM=WEIGHT."),
    ],
)
def test_a_word_without_a_key_and_a_key_given_twice_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        pairs("--mix", words, "GYM=WEIGHT")
    assert str(error.value) == said
