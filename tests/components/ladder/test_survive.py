"""Who goes on to the full evaluation, and why not: judged on ladders whose truth is known."""

import shutil

import numpy as np
import pytest

from components.artifacts import StagePaths, read_json, sha256_of, write_json
from components.errors import ContractError
from components.ladder import survive
from components.ladder.config import SurvivalConfig
from components.ladder.record import FILE, LadderRecord, Rung
from components.ladder.survive import TRANSFORMER, survival
from components.ladder.verdict import LadderVerdict
from components.registry.policy.verdict import Status
from models.generation import layout

LIMITS = SurvivalConfig(
    champion="ladder_baseline",
    min_motion_energy=0.002,
    min_temporal_flickering=0.9,
    max_loss_above=0.05,
    max_toy_fvd_times=2.0,
)
LIMITS_BY_NAME = ("min_motion_energy", "min_temporal_flickering", "max_loss_above", "max_toy_fvd_times")
IDENTITIES = {
    name: f"{name}@same" for name in ("validation_loss", "toy_fvd", "motion_energy", "temporal_flickering")
}


def rung(step, *, loss=0.3, spread=0.1, seed=0, clips=32, **metrics):
    """A look at clips whose losses differ by `spread`, as clips do, and are `loss` in the mean."""
    noise = np.random.default_rng(seed).normal(size=clips)
    losses = loss + spread * (noise - noise.mean())
    known = {"toy_fvd": 5.0, "motion_energy": 0.02, "temporal_flickering": 0.98, "validation_loss": loss}
    return Rung(
        step, known | metrics, loss, {f"{clip:02d}": float(value) for clip, value in enumerate(losses)}
    )


def ladder(*rungs, used=None, identities=IDENTITIES):
    best = min(rungs, key=lambda one: one.score)
    return LadderRecord(
        {"best_by": "validation_loss"}, identities, used or rungs[-1].step, best.step, list(rungs)
    )


def failures(record, champion=None, limits=LIMITS):
    return [one for one in survival(record, champion, limits) if one.status is Status.FAILED]


def test_a_model_that_gets_better_all_the_way_survives():
    record = ladder(rung(100, loss=0.4), rung(200, loss=0.3))
    assert failures(record, champion=ladder(rung(200, loss=0.31))) == []


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("motion_energy", 0.0001, "motion_energy of the small sample is 0.0001, at least 0.002 is asked"),
        ("temporal_flickering", 0.885, "temporal_flickering of the small sample is 0.885, at least 0.9"),
    ],
)
def test_still_videos_and_noise_are_turned_away(metric, value, said):
    (failure,) = failures(ladder(rung(100, **{metric: value})))
    assert said in failure.reason


def test_a_metric_that_was_no_number_speaks_against_the_model():
    record = ladder(rung(100))
    del record.rungs[0].metrics["motion_energy"]
    (failure,) = failures(record)
    assert "is not a number" in failure.reason


def test_one_that_has_fallen_behind_its_own_best_is_turned_away():
    record = ladder(rung(100, loss=0.3), rung(200, loss=0.36))
    (failure,) = failures(record)
    assert (failure.metric, failure.kind) == ("validation_loss", "ladder, own best")
    assert "its own step 100 has 0.3" in failure.reason
    assert failures(ladder(*record.rungs, used=100)) == []  # its best is what is used


def test_a_difference_that_paired_clips_cannot_show_turns_nobody_away():
    """6 % worse in the mean, on clips whose losses were drawn apart: that may be the clips."""
    worse = ladder(rung(100, loss=0.3), rung(200, loss=0.318, seed=1))
    assert failures(worse) == []
    same_clips = ladder(rung(100, loss=0.3), rung(200, loss=0.318))
    assert [one.metric for one in failures(same_clips)] == ["validation_loss"]


def test_equal_models_are_hardly_ever_turned_away():
    """The loss alone, with a margin of nothing: as often as one-sided bounds of 95 % are wrong."""
    strict = LIMITS.model_copy(update={"max_loss_above": 0.0, "max_toy_fvd_times": None})
    refused = sum(
        bool(failures(ladder(rung(100, seed=seed)), ladder(shaken(rung(100, seed=seed), seed)), strict))
        for seed in range(400)
    )
    assert refused <= 0.09 * 400


def shaken(one, seed):
    """The same clips, each a little better or worse by chance."""
    noise = np.random.default_rng((seed, 1)).normal(scale=0.02, size=len(one.clips))
    clips = {clip: value + float(more) for (clip, value), more in zip(one.clips.items(), noise, strict=True)}
    return Rung(one.step, one.metrics, one.score, clips)


def test_one_that_is_clearly_worse_than_the_champion_is_turned_away():
    champion = ladder(rung(900, loss=0.25, toy_fvd=2.0))
    found = failures(ladder(rung(300, loss=0.35, toy_fvd=5.0)), champion)
    assert {one.metric: one.kind for one in found} == dict.fromkeys(
        ("validation_loss", "toy_fvd"), "ladder, champion"
    )
    assert "toy_fvd of the small sample is 5, the champion has 2; 2 times that is allowed" in found[1].reason


def test_ladders_that_were_measured_in_two_ways_are_not_compared():
    other = {**IDENTITIES, "validation_loss": "validation_loss@other", "toy_fvd": "toy_fvd@other"}
    champion = ladder(rung(900, loss=0.1, toy_fvd=0.1), identities=other)
    findings = survival(ladder(rung(300)), champion, LIMITS)
    told = [one.reason for one in findings if one.status is Status.LEFT_OUT]
    assert len(told) == 2
    assert all("two different measurements" in reason for reason in told)
    assert all(one.status is not Status.FAILED for one in findings)


def test_a_run_that_found_no_number_has_no_best_and_is_turned_away():
    record = LadderRecord({"best_by": "validation_loss"}, IDENTITIES, 100, None, [Rung(100, {}, None, {})])
    assert any("no look found a validation_loss" in one.reason for one in failures(record))


@pytest.fixture
def paths(tmp_path):
    write_json(tmp_path / "ladder_baseline/champion.json", {"champion": None})
    write_json(tmp_path / "pipeline/model_index.json", {})
    return StagePaths(
        root=tmp_path,
        inputs={"pipeline": tmp_path / "pipeline", "champion": tmp_path / "ladder_baseline"},
        outputs={"verdict": tmp_path / "verdict.json"},
        checkpoints=tmp_path / "checkpoints",
    )


def test_the_stage_names_the_model_and_the_reasons(paths):
    ladder(rung(100, motion_energy=0.0)).write(paths.root / "pipeline" / TRANSFORMER)
    report = survive.run(LIMITS, paths)
    verdict = LadderVerdict.read(paths.output("verdict"))
    assert not verdict.survives
    assert verdict.model_sha256 == sha256_of(paths.input("pipeline"))
    assert verdict.reasons == ["motion_energy of the small sample is 0, at least 0.002 is asked"]
    assert [finding["status"] for finding in verdict.findings] == ["failed"]
    assert report.metrics["survives"] == 0
    assert f"failed: {verdict.reasons[0]}" in report.notes


def test_another_champion_leaves_the_verdict_on_a_survivor_as_it_was(paths):
    ladder(rung(100)).write(paths.root / "pipeline" / TRANSFORMER)
    survive.run(LIMITS, paths)
    before = paths.output("verdict").read_bytes()
    ladder(rung(100, loss=0.31)).write(paths.root / "ladder_baseline")
    report = survive.run(LIMITS, paths)
    assert paths.output("verdict").read_bytes() == before
    assert any("the champion has 0.31" in note for note in report.notes)


def test_a_model_without_a_ladder_goes_on_and_the_report_says_so(paths):
    report = survive.run(LIMITS, paths)
    assert read_json(paths.output("verdict"))["survives"] is True
    assert "no ladder was kept" in report.notes[0]


def test_a_ladder_of_which_nothing_is_asked_is_not_called_missing(paths):
    ladder(rung(100)).write(paths.root / "pipeline" / TRANSFORMER)
    limits = SurvivalConfig(champion="ladder_baseline", **dict.fromkeys(LIMITS_BY_NAME))
    report = survive.run(limits, paths)
    assert report.notes == [survive.NOTHING_ASKED]


def test_a_ladder_of_another_version_is_refused(paths):
    shutil.rmtree(paths.root / "ladder_baseline")
    write_json(paths.root / "ladder_baseline" / FILE, {"rungs": []})
    with pytest.raises(ContractError, match="not a ladder of this version"):
        survive.run(LIMITS, paths)


def test_the_transformer_lies_where_pipelines_have_it():
    assert TRANSFORMER == layout.TRANSFORMER
