"""Experiments in small: arms share their stages, a broken run goes on to the same end, seeds are the unit of every interval."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from userrl.agents.policy import Policy
from userrl.agents.tiny import Shape
from userrl.cli.experimenting import show
from userrl.config import resolve
from userrl.errors import ConfigError, ResumeError, StoreError, UnknownName
from userrl.evaluate.run import recorded_job
from userrl.evaluate.statistics import Interval, holm, runs_interval, runs_p
from userrl.gyms.base import find
from userrl.pipeline import experiment_plot, experiment_table
from userrl.pipeline.experiment import (
    COLD_START,
    EXPERT,
    GREEDY,
    IMITATED,
    SAMPLED,
    SHAPINGS,
    START,
    Arm,
    Baselines,
    ExperimentJob,
    Findings,
    Measured,
    Trained,
    gather,
    grid,
    run,
    shaping,
    splits,
)
from userrl.pipeline.experiment_table import Report
from userrl.rewards import CREDITS
from userrl.store import read
from userrl.train.grpo import GRPOConfig
from userrl.train.sft import SFTConfig

ROOT = Path(__file__).parents[2]
SMALL = ExperimentJob(
    max_turns=3,
    expert_episodes=40,
    top_k=20,
    shape=Shape(hidden=32, layers=1, heads=2, feed_forward=32, vocabulary=400),
    sft=SFTConfig(steps=40, batch_size=8, lr=1e-2, warmup=5, save_every=20),
    grpo=GRPOConfig(steps=3, groups=3, group_size=4, updates=1, max_turns=3, max_new=24, save_every=1),
    patience=2,
    device="cpu",
    test_tasks=6,
    curve_tasks=4,
    curve_every=2,
)
ARMS = (START, Arm("SFT + GRPO"), Arm("r2g/r2g", credit="r2g"))
little = pytest.mark.filterwarnings("ignore:Nothing was learned", "ignore:Step")  # so small a policy may earn nothing


class Killed(Exception):
    """Stands for a crash."""


def small(folder: Path, arms: tuple[Arm, ...] = ARMS, *, resume: bool = False, die_at: str = "-", seen: Any = None) -> Findings:
    def watch(stage: str, done: int, total: int, note: str) -> None:
        if seen is not None:
            seen.append(stage)
        if die_at in stage and done == max(1, total // 2):
            raise Killed(stage)

    return run(replace(SMALL, patience=9), arms, [0], folder, watch, resume=resume)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment") / "run"
    small(folder)
    return folder


def figures(folder: Path) -> dict[str, Any]:
    """All that was found, down to the loss of each step, but not what it cost."""
    found = gather(SMALL, ARMS, [0], folder)
    return {arm: [one.steps, one.test, one.curve] for (arm, _), one in found.trained.items()}


@little
def test_every_arm_leaves_its_episodes_its_curve_and_its_checkpoints(finished: Path) -> None:
    for arm in ARMS:
        for file in (SAMPLED, GREEDY):
            assert len(list(read(finished / "seed-0" / arm.folder / file / "episodes.jsonl"))) == SMALL.test_tasks
            assert recorded_job(finished / "seed-0" / arm.folder / file).split == "demo-test"
        assert Policy.load(finished / "seed-0" / arm.folder / "model").window == SMALL.shape.window
    found = gather(SMALL, ARMS, [0], finished)
    assert [found.trained[arm.folder, 0].steps for arm in ARMS] == [0, 3, 3]
    assert [p["step"] for p in found.trained[ARMS[1].folder, 0].curve] == [0, 1, 2, 3]
    assert [p["step"] for p in found.trained[ARMS[1].folder, 0].curve if "validation" in p] == [0, 2, 3]
    assert {"random", "fixed_bundles", EXPERT, IMITATED} <= set(found.baselines.test) == {IMITATED, *found.baselines.levels}
    assert found.baselines.test[EXPERT].share.mean > found.baselines.test["random"].share.mean


@little
def test_arms_with_the_same_start_share_it_and_play_the_same_test_tasks(finished: Path) -> None:
    found = gather(SMALL, ARMS, [0], finished)
    starts = [found.trained[arm.folder, 0].curve[0]["validation"] for arm in ARMS[1:]]
    assert starts[0] == starts[1]
    played = [[e.key for e in read(finished / "seed-0" / arm.folder / SAMPLED / "episodes.jsonl")] for arm in ARMS]
    assert sorted(played[0]) == sorted(played[1]) == sorted(played[2])


@little
def test_a_second_experiment_in_the_same_folder_does_only_what_is_new(finished: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    small(finished, resume=True, seen=seen)
    assert seen == []
    small(finished, (*ARMS[:2], COLD_START[2]), resume=True, seen=seen)
    assert any("GRPO only, GRPO" in stage for stage in seen)
    assert not any("SFT" in stage or "baseline" in stage for stage in seen)


@little
@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("test: random", marks=pytest.mark.slow),
        pytest.param("seed 0: expert", marks=pytest.mark.slow),
        "seed 0: SFT",
        "r2g/r2g, GRPO",
        pytest.param("test: SFT + GRPO, sampled", marks=pytest.mark.slow),
    ],
)
def test_an_experiment_that_broke_off_goes_on_to_the_very_same_figures(stage: str, finished: Path, tmp_path: Path) -> None:
    with pytest.raises((Killed, ExceptionGroup)):
        small(tmp_path / "run", die_at=stage)
    small(tmp_path / "run", resume=True)
    assert figures(tmp_path / "run") == figures(finished)


@little
def test_an_arm_that_cannot_learn_is_given_up_and_says_so(tmp_path: Path) -> None:
    steps = replace(SMALL.grpo, steps=6)
    found = run(replace(SMALL, grpo=steps), [COLD_START[2]], [0], tmp_path / "run", lambda *_: None)
    one = found.trained[COLD_START[2].folder, 0]
    assert (one.steps, one.stopped) == (2, True)
    assert one.test[SAMPLED].share.mean == 0


@little
def test_a_run_given_up_after_a_crash_stops_at_the_same_step(tmp_path: Path) -> None:
    job = replace(SMALL, grpo=replace(SMALL.grpo, steps=6, save_every=1), patience=3)

    def die(stage: str, done: int, total: int, note: str) -> None:
        if "GRPO only, GRPO" in stage and done == 2:
            raise Killed

    with pytest.raises(Killed):
        run(job, [COLD_START[2]], [0], tmp_path / "run", die)
    found = run(job, [COLD_START[2]], [0], tmp_path / "run", lambda *_: None, resume=True)
    assert found.trained[COLD_START[2].folder, 0].steps == 3


@little
@pytest.mark.slow
def test_seeds_at_once_find_what_they_find_one_after_the_other(finished: Path, tmp_path: Path) -> None:
    job = replace(SMALL, patience=9)
    found = run(job, ARMS, [0, 1], tmp_path / "run", lambda *_: None, jobs=2)
    assert set(found.trained) == {(arm.folder, seed) for arm in ARMS for seed in (0, 1)}
    assert figures(tmp_path / "run") == figures(finished)


@little
def test_other_settings_in_the_same_folder_are_refused(finished: Path) -> None:
    with pytest.raises(StoreError, match="already holds a run"):
        small(finished)
    with pytest.raises(ResumeError, match="top_k was 20, now 10"):
        run(replace(SMALL, patience=9, top_k=10), ARMS, [0], finished, lambda *_: None, resume=True)


@pytest.mark.parametrize(("arms", "seeds"), [((), [0]), (ARMS, []), (ARMS, [1, 1]), ((START, replace(START, name="b")), [0])])
def test_no_arm_no_seed_or_one_twice_is_refused(arms: tuple[Arm, ...], seeds: list[int], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one, and none twice"):
        run(SMALL, arms, seeds, tmp_path / "run", lambda *_: None)
    assert not (tmp_path / "run").exists()


def test_no_process_for_the_seeds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jobs is 0; expected at least 1"):
        run(SMALL, ARMS, [0], tmp_path / "run", lambda *_: None, jobs=0)
    assert not (tmp_path / "run").exists()


def test_an_arm_is_named_by_its_credit_and_score() -> None:
    assert shaping("r2g/mean") == Arm("r2g/mean", True, "r2g", "mean")
    assert [arm.name for arm in grid(["naive", "em"], ["r2g", "sum"])] == ["naive/r2g", "naive/sum", "em/r2g", "em/sum"]
    assert [arm.name for arm in map(shaping, SHAPINGS)] == list(SHAPINGS)
    with pytest.raises(ConfigError, match="'equalized' is no credit and score"):
        shaping("equalized")
    with pytest.raises(UnknownName, match="Did you mean 'equalized'"):
        shaping("equalised/r2g")
    with pytest.raises(UnknownName, match="No trajectory score named 'total'"):
        shaping("r2g/total")


def test_an_arm_may_name_its_estimator_and_only_what_that_reads() -> None:
    assert shaping("r2g/mean/rloo") == Arm("r2g/mean/rloo", True, "r2g", "mean", "rloo")
    assert shaping("-/-/mt_grpo") == Arm("-/-/mt_grpo", True, "equalized", "r2g", "mt_grpo")
    assert shaping("equalized/r2g/rloo").folder == "sft-equalized-r2g-rloo"
    grown = [arm.name for arm in grid(["naive", "em"], ["r2g"], ["grpo", "mt_grpo"])]
    assert grown == ["naive/r2g/grpo", "em/r2g/grpo", "-/-/mt_grpo"]
    with pytest.raises(ConfigError, match="names the credit 'naive', of which the estimator 'mt_grpo' makes no use; write '-'"):
        shaping("naive/-/mt_grpo")
    with pytest.raises(UnknownName, match="Did you mean 'rloo'"):
        shaping("r2g/r2g/rlo")
    for wrong in ("r2g/r2g/", "r2g/r2g/rloo/x", "r2g/"):
        with pytest.raises(ConfigError, match="is no credit and score"):
            shaping(wrong)


def test_an_arm_with_the_estimator_of_the_job_is_the_arm_that_names_none() -> None:
    assert shaping("equalized/r2g/grpo").under(SMALL).folder == shaping("equalized/r2g").folder
    other = replace(SMALL, grpo=replace(SMALL.grpo, estimator="rloo"))
    assert shaping("equalized/r2g/grpo").under(other).folder == "sft-equalized-r2g-grpo"


def test_settings_that_do_not_go_together_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    job = replace(SMALL, grpo=replace(SMALL.grpo, estimator="mt_grpo"))
    with pytest.raises(ConfigError, match="`credit` is 'r2g', but the estimator 'mt_grpo' makes no use of it"):
        run(job, [shaping("r2g/r2g")], [0], tmp_path / "run", lambda *_: None)
    assert not (tmp_path / "run").exists()


def test_a_scheme_of_this_process_alone_is_refused_in_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CREDITS, "late", lambda rewards, /, **_: rewards)
    with pytest.raises(
        ConfigError, match="turn credit 'late' was added in this process and is not known in those of other seeds"
    ):
        run(SMALL, [shaping("late/r2g")], [0, 1], tmp_path / "run", lambda *_: None, jobs=2)
    assert not (tmp_path / "run").exists()


def test_the_arm_that_both_experiments_have_is_one() -> None:
    assert COLD_START[1].folder == shaping("equalized/r2g").folder
    assert len({arm.folder for arm in (*COLD_START, *map(shaping, SHAPINGS))}) == 6


def test_a_gym_is_played_on_its_pinned_splits_where_it_has_them() -> None:
    assert splits(find("intention"))["test"] == "demo-test"
    assert splits(find("function")) == {"train": "train", "validation": "validation", "test": "test"}


def test_the_settings_for_a_pretrained_model_are_settings_of_an_experiment() -> None:
    job = resolve(ExperimentJob, ROOT / "configs" / "experiment-model.toml", {"model": "runs/smollm2"})
    assert job.sft.micro_batch and job.grpo.micro_batch  # else a whole update is one forward pass
    assert job.sft.lr < 1e-3 and job.grpo.lr < 1e-4 and job.grpo.max_new > SMALL.grpo.max_new


# --- the table -------------------------------------------------------------------------------------------------


def measured(share: float, mix: Mapping[str, float] | None = None) -> Measured:
    return Measured(10, 0, Interval(share, share, share, 10), 3.0, 1.0, dict(mix or {}))


def findings(shares: Mapping[Arm, list[float]], stopped: bool = False) -> Findings:
    """Made up: sampled shares by seed; greedy ones are .1 higher."""
    trained = {}
    for arm, values in shares.items():
        for seed, share in enumerate(values):
            test = {SAMPLED: measured(share, {"relevant": 1.0}), GREEDY: measured(share + 0.1)}
            curve = [{"step": s, "validation": {"share": {"mean": share * s, "low": 0.0, "high": 1.0}}} for s in (0, 1)]
            trained[arm.folder, seed] = Trained(7, stopped, 1.0, test, [*curve, {"step": 2, "mix": {"repeated": share}}])
    test = {"random": measured(0.1), "fixed_list": measured(0.2), IMITATED: measured(0.5), EXPERT: measured(0.9)}
    seeds = tuple(range(len(next(iter(shares.values())))))
    levels = {name: one.share.mean for name, one in test.items() if name != IMITATED}
    return Findings(SMALL, tuple(shares), seeds, trained, Baselines(test, levels))


REFERENCE, OTHER, THIRD = shaping("equalized/r2g"), shaping("equalized/mean"), shaping("r2g/r2g")
FOUND = findings({
    START: [0.30, 0.40, 0.35],
    REFERENCE: [0.50, 0.62, 0.54],
    OTHER: [0.45, 0.55, 0.50],
    THIRD: [0.51, 0.60, 0.56],
})  # fmt: skip


def reported(found: Findings, reference: Arm, others: list[Arm]) -> Report:
    return experiment_table.report(found, reference, experiment_table.default_pairs(found.arms, reference, others))


def test_a_row_is_the_mean_over_seeds_with_an_interval_over_them() -> None:
    report = reported(FOUND, REFERENCE, [OTHER, THIRD])
    row = next(row for row in report.rows if row.name == REFERENCE.name)
    assert row.sampled == runs_interval([0.50, 0.62, 0.54]) and row.sampled.n == 3
    assert row.greedy.mean == pytest.approx(row.sampled.mean + 0.1)
    assert row.lead.mean == pytest.approx(row.sampled.mean - 0.2)
    assert report.best_without_skill == "fixed_list"
    assert row.mix["relevant"].mean == 1 and row.mix["invalid"].mean == 0
    assert row.seeds[SAMPLED] == (0.50, 0.62, 0.54)


def test_differences_are_paired_by_seed_and_adjusted_over_all_lines_of_the_primary_figure() -> None:
    report = reported(FOUND, REFERENCE, [OTHER, THIRD])
    sampled = [c for c in report.contrasts if c.figure == SAMPLED]
    named = [(c.of, c.minus) for c in sampled]
    assert named[:2] == [("equalized/r2g", "equalized/mean"), ("equalized/r2g", "r2g/r2g")]
    assert named[2:] == [(arm.name, START.name) for arm in (REFERENCE, OTHER, THIRD)]
    assert sampled[0].difference.mean == pytest.approx((0.05 + 0.07 + 0.04) / 3)
    assert sampled[0].p == pytest.approx(runs_p([0.05, 0.07, 0.04])) and 0.01 < sampled[0].p < 0.05
    assert math.isnan(sampled[3].p), "equalized/mean gained .15 in each seed, which has no spread to go by"
    tested = [c for c in sampled if not math.isnan(c.p)]
    assert [c.p_adjusted for c in tested] == holm([c.p for c in tested])
    assert sampled[0].p_adjusted == pytest.approx(2 * sampled[0].p), "of four lines two have a smaller p"
    assert all(math.isnan(c.p) and math.isnan(c.p_adjusted) for c in report.contrasts if c.figure != SAMPLED)


@pytest.mark.parametrize("seeds", [2, 3])
def test_nothing_is_tested_with_fewer_than_three_seeds(seeds: int, capsys: pytest.CaptureFixture[str]) -> None:
    few = findings({START: [0.30, 0.40, 0.35][:seeds], REFERENCE: [0.50, 0.62, 0.54][:seeds]})
    report = reported(few, REFERENCE, [START])
    assert math.isnan(report.contrasts[0].p_adjusted) is (seeds < 3)
    show(report, "shaping")
    said = " ".join(capsys.readouterr().out.split())
    assert ("Nothing is tested with fewer than 3 seeds" in said) is (seeds < 3)
    assert ("adjusted (Holm) over all lines at T = 1" in said) is (seeds >= 3)


def test_seeds_that_all_differ_by_the_same_have_no_p_of_0(capsys: pytest.CaptureFixture[str]) -> None:
    same = findings({START: [0.1, 0.2, 0.3], REFERENCE: [0.35, 0.45, 0.55], OTHER: [0.1, 0.2, 0.3]})
    report = reported(same, REFERENCE, [START])
    assert math.isnan(report.contrasts[0].p)
    show(report, "shaping")
    said = " ".join(capsys.readouterr().out.split())
    assert "+0.250 (all alike)" in said and "<0.001" not in said
    assert reported(same, OTHER, [START]).contrasts[0].p == 1.0, "no seed differs at all"


def test_any_two_arms_can_be_contrasted() -> None:
    arms = [START, REFERENCE, OTHER, THIRD]
    pairs = experiment_table.named_pairs(arms, ["r2g/r2g:equalized/mean", "r2g/r2g:sft"])
    report = experiment_table.report(FOUND, REFERENCE, pairs)
    sampled = [c for c in report.contrasts if c.figure == SAMPLED]
    assert [(c.of, c.minus) for c in sampled] == [("r2g/r2g", "equalized/mean"), ("r2g/r2g", "SFT only")]
    assert sampled[0].difference == runs_interval([0.51 - 0.45, 0.60 - 0.55, 0.56 - 0.50])
    for wrong, error in (("r2g/r2g", ConfigError), ("sft:sft", ConfigError), ("r2g/r2g:r2g/men", UnknownName)):
        with pytest.raises(error):
            experiment_table.named_pairs(arms, [wrong])
    with pytest.raises(ConfigError, match="a pair twice"):
        experiment_table.named_pairs(arms, ["r2g/r2g:sft", "sft:r2g/r2g"])


def test_a_report_of_fewer_seeds_does_not_take_the_place_of_one_of_more(tmp_path: Path) -> None:
    path = tmp_path / "shaping.json"
    whole = reported(FOUND, REFERENCE, [OTHER])
    assert experiment_table.kept(whole, path) == (path, "")
    experiment_table.write(whole, path)
    assert experiment_table.kept(whole, path) == (path, "")
    part = reported(replace(FOUND, seeds=(0,)), REFERENCE, [OTHER])
    own, said = experiment_table.kept(part, path)
    assert own == tmp_path / "shaping-seeds-0.json" and "seeds that this one lacks (1, 2) and stays as it is" in said
    fewer = reported(replace(FOUND, arms=(START, REFERENCE, OTHER)), REFERENCE, [OTHER])
    own, said = experiment_table.kept(fewer, path)
    assert own == path and "it also had r2g/r2g, whose runs are still there" in said
    path.write_text("{", "utf-8")
    assert experiment_table.kept(whole, path) == (path, "shaping.json could not be read as a report, and is replaced.")


def test_the_table_names_the_estimator(capsys: pytest.CaptureFixture[str]) -> None:
    own = shaping("equalized/r2g/rloo")
    report = reported(findings({START: [0.3] * 3, REFERENCE: [0.5, 0.6, 0.4], own: [0.4, 0.6, 0.5]}), REFERENCE, [own])
    assert [row.estimator for row in report.rows] == [None, "grpo", "rloo"]
    show(report, "shaping")
    assert "estimator grpo where an arm names none" in " ".join(capsys.readouterr().out.split())
    assert experiment_table.estimators(reported(FOUND, REFERENCE, [OTHER])) == "estimator grpo"


def test_the_arm_without_reinforcement_is_contrasted_once_when_it_is_one_of_the_others() -> None:
    report = reported(FOUND, REFERENCE, [START])
    assert [(c.of, c.minus, c.figure) for c in report.contrasts] == [
        ("equalized/r2g", "SFT only", SAMPLED),
        ("equalized/r2g", "SFT only", GREEDY),
        ("equalized/r2g", "SFT only", experiment_table.EARLY),
    ]


def test_one_seed_has_no_interval_and_no_p(tmp_path: Path) -> None:
    report = reported(findings({START: [0.3], REFERENCE: [0.5], OTHER: [0.4]}), REFERENCE, [OTHER])
    assert math.isnan(report.rows[0].sampled.low) and math.isnan(report.contrasts[0].p)
    held = json.loads(experiment_table.write(report, tmp_path / "report.json").read_text("utf-8"))
    assert held["arms"]["equalized/r2g"]["sampled"]["low"] is None
    assert held["arms"]["equalized/r2g"]["seeds"]["greedy"] == [0.6]
    experiment_plot.draw(report, tmp_path / "report.png")


def test_failed_test_episodes_are_told_beside_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    show(reported(FOUND, REFERENCE, [OTHER]), "shaping")
    assert "failed" not in capsys.readouterr().out
    one = FOUND.trained[OTHER.folder, 1]
    lossy = replace(one, test={**one.test, GREEDY: replace(one.test[GREEDY], errors=2)})
    found = replace(FOUND, trained={**FOUND.trained, (OTHER.folder, 1): lossy})
    show(reported(found, REFERENCE, [OTHER]), "shaping")
    assert "2 test episodes failed and have no part in the figures" in capsys.readouterr().out


def test_a_curve_holds_the_steps_that_every_seed_reached() -> None:
    short = replace(FOUND.trained[REFERENCE.folder, 0], curve=[{"step": 0, "validation": {"share": {"mean": 0.1}}}])
    full = FOUND.trained[REFERENCE.folder, 1]
    assert list(experiment_table.learning([full, full])) == [0, 1]
    assert list(experiment_table.learning([short, full])) == [0]
    assert experiment_table.during([full, replace(full, curve=[{"step": 2, "mix": {}}])], "repeated") == {2: pytest.approx(0.31)}


def test_the_picture_is_a_png_of_every_arm(tmp_path: Path) -> None:
    report = reported(FOUND, REFERENCE, [OTHER, THIRD])
    assert experiment_plot.draw(report, tmp_path / "a" / "report.png").read_bytes().startswith(b"\x89PNG")
