"""The gate's decisions: what promotes, what rejects, and what it refuses to decide."""

from dataclasses import replace

import numpy as np
import pytest

from components.evaluation.record import Distance, Metric
from components.registry.policy.comparison import non_inferiority
from components.registry.policy.decide import decide
from components.registry.policy.verdict import Decision, Status
from tests.components.registry.contestants import (
    FEATURES,
    FLOORS,
    POLICY,
    contestant,
    shifted,
    with_features,
    with_metric,
)


def test_a_clearly_better_model_is_promoted():
    verdict = decide(shifted(1, 0.0), shifted(2, 2.0), POLICY)
    assert verdict.decision is Decision.PROMOTE
    assert "is better" in verdict.reason


def test_a_clearly_worse_model_is_rejected():
    verdict = decide(shifted(1, 2.0), shifted(2, 0.0), POLICY)
    assert verdict.decision is Decision.REJECT
    assert "toy_fvd" in verdict.reason


def test_equal_models_are_promoted_in_at_most_seven_percent_of_trials():
    policy = POLICY.model_copy(update={"margins": {}, "permutations": 39})
    promoted = sum(
        decide(shifted(2 * trial, 0.5), shifted(2 * trial + 1, 0.5), policy).decision is Decision.PROMOTE
        for trial in range(200)
    )
    assert promoted <= 14


def test_a_model_that_repeats_itself_for_a_quarter_of_the_prompts_is_rejected():
    for seed in range(10):
        honest = shifted(seed, 0.0)
        repeated = honest.features["toy/generated"].copy()
        repeated[: len(repeated) // 4] = repeated[0]
        candidate = with_features(contestant("repeats", seed=seed), repeated)
        assert decide(candidate, honest, POLICY).decision is Decision.REJECT


def test_the_first_model_is_promoted_by_the_floors_alone():
    verdict = decide(shifted(1, 0.0), None, POLICY)
    assert verdict.decision is Decision.PROMOTE
    assert {finding.kind for finding in verdict.findings} == {"floor"}


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("colour_accuracy", 0.7),
        ("motion_accuracy", 0.7),
        ("motion_energy", 0.001),
        ("reconstruction_psnr", 19.0),
    ],
)
def test_each_floor_rejects_even_without_a_champion(metric, value):
    verdict = decide(with_metric(shifted(1, 0.0), metric, value=value), None, POLICY)
    assert verdict.decision is Decision.REJECT
    assert metric in verdict.reason


def test_a_distance_near_that_of_an_untrained_model_is_rejected():
    verdict = decide(with_metric(shifted(1, 0.0), "toy_fvd_untrained", value=0.01), None, POLICY)
    assert verdict.decision is Decision.REJECT
    assert "max_toy_fvd_share_of_untrained" in verdict.reason


def test_a_floor_that_is_null_is_not_asked():
    floors = FLOORS.model_copy(update={"min_colour_accuracy": None})
    candidate = with_metric(shifted(1, 0.0), "colour_accuracy", value=0.1)
    assert decide(candidate, None, POLICY.model_copy(update={"floors": floors})).decision is Decision.PROMOTE


def test_prompts_without_colours_need_no_colour_accuracy():
    candidate, champion = shifted(1, 0.0), shifted(2, 2.0)
    silent = [
        with_metric(side, "colour_accuracy", value=None, n=0, per_item={}, chance=None)
        for side in (candidate, champion)
    ]
    verdict = decide(silent[0], silent[1], POLICY)
    assert verdict.decision is Decision.PROMOTE
    assert all(finding.metric != "colour_accuracy" for finding in verdict.findings)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("metric", ["toy_fvd", "colour_accuracy", "validation_loss"])
def test_a_number_that_is_none_or_not_finite_fails_closed(metric, value):
    verdict = decide(with_metric(shifted(1, 0.0), metric, value=value), shifted(2, 2.0), POLICY)
    assert verdict.decision is Decision.REJECT
    assert f"{metric} of the candidate is not a number" in verdict.reason


def test_features_that_are_not_finite_fail_closed():
    candidate = shifted(1, 0.0)
    candidate.features["toy/generated"][3, 2] = float("nan")
    verdict = decide(candidate, shifted(2, 2.0), POLICY)
    assert verdict.decision is Decision.REJECT
    assert "not finite" in verdict.reason


def test_a_missing_metric_fails_closed():
    candidate = shifted(1, 0.0)
    metrics = {name: metric for name, metric in candidate.record.metrics.items() if name != "validation_loss"}
    candidate = replace(candidate, record=replace(candidate.record, metrics=metrics))
    verdict = decide(candidate, shifted(2, 2.0), POLICY)
    assert verdict.decision is Decision.REJECT
    assert "validation_loss of the candidate is missing" in verdict.reason


def test_too_few_samples_decide_nothing_even_if_a_floor_is_missed():
    candidate = with_metric(contestant("few", seed=1, samples=32), "motion_energy", value=0.0)
    verdict = decide(candidate, contestant("old", seed=2, samples=32), POLICY)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "64 are needed" in verdict.reason


def test_another_metric_identity_decides_nothing_and_names_both():
    champion = with_metric(shifted(2, 2.0), "toy_fvd", identity="toy_fvd@old")
    verdict = decide(shifted(1, 0.0), champion, POLICY)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "toy_fvd@test" in verdict.reason
    assert "toy_fvd@old" in verdict.reason
    assert "evaluate the champion again" in verdict.reason


def asked_of(side, **generation):
    return replace(side, record=replace(side.record, protocol={"frames": 9, "generation": generation}))


def test_a_champion_that_makes_videos_in_another_way_is_not_to_be_evaluated_again():
    """As one of another system: it brings its sampler with it, and no evaluation changes that."""
    champion = with_metric(shifted(2, 2.0), "toy_fvd", identity="toy_fvd@other sampler")
    candidate = asked_of(shifted(1, 0.0), steps=20, sampler="euler")
    other_way = asked_of(champion, steps=20, sampler="ddim, trailing", guidance_rescale=0.7)
    verdict = decide(candidate, other_way, POLICY)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.reason == (
        "the candidate and the champion make videos in two ways (`euler` and `ddim, trailing, guidance rescale 0.7`),"
        " so these are not compared: toy_fvd; a person decides: look at both, then `reelforge promote --override`"
    )
    asked_less = asked_of(champion, steps=10, sampler="ddim, trailing")
    assert "evaluate the champion again" in decide(candidate, asked_less, POLICY).reason


def test_a_guard_that_depends_on_the_autoencoder_is_left_out_by_name_under_one_protocol():
    other = {"identity": "validation_loss@other autoencoder", "own": "another autoencoder"}
    champion = with_metric(shifted(2, 2.0), "validation_loss", **other)
    candidate = with_metric(shifted(1, 0.0), "validation_loss", own="an autoencoder")
    verdict = decide(candidate, champion, POLICY)
    assert verdict.decision is Decision.PROMOTE
    (left_out,) = [finding for finding in verdict.findings if finding.status is Status.LEFT_OUT]
    assert left_out.metric == "validation_loss"


def test_the_same_guard_decides_nothing_under_another_protocol():
    other = {"identity": "validation_loss@other clips", "own": "another autoencoder"}
    champion = with_metric(shifted(2, 2.0), "validation_loss", **other)
    champion = replace(champion, record=replace(champion.record, protocol={"frames": 17}))
    candidate = with_metric(shifted(1, 0.0), "validation_loss", own="an autoencoder")
    assert decide(candidate, champion, POLICY).decision is Decision.INCONCLUSIVE


def test_a_champion_without_a_number_decides_nothing():
    champion = with_metric(shifted(2, 2.0), "validation_loss", value=None)
    assert decide(shifted(1, 0.0), champion, POLICY).decision is Decision.INCONCLUSIVE


def test_the_champion_itself_is_not_promoted_again():
    model = shifted(1, 0.0)
    verdict = decide(model, model, POLICY)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "the champion itself" in verdict.reason


def test_a_better_distance_with_a_loss_beyond_the_margin_is_rejected():
    candidate = shifted(1, 0.0)
    loss = candidate.record.metrics["validation_loss"]
    worse = {key: score + 0.2 for key, score in loss.per_item.items()}
    candidate = with_metric(candidate, "validation_loss", value=loss.value + 0.2, per_item=worse)
    verdict = decide(candidate, shifted(2, 2.0), POLICY)
    assert verdict.decision is Decision.REJECT
    statuses = {finding.metric: finding.status for finding in verdict.findings if finding.kind != "floor"}
    assert statuses["toy_fvd"] is Status.PASSED
    assert statuses["validation_loss"] is Status.FAILED


def test_a_mean_can_be_the_primary_metric():
    policy = POLICY.model_copy(update={"primary": "validation_loss", "margins": {}})
    candidate, champion = shifted(1, 0.0), shifted(2, 0.0)
    loss = champion.record.metrics["validation_loss"]
    better = {key: score - 0.01 for key, score in loss.per_item.items()}
    candidate = with_metric(candidate, "validation_loss", value=loss.value - 0.01, per_item=better)
    assert decide(candidate, champion, policy).decision is Decision.PROMOTE
    assert decide(champion, candidate, policy).decision is Decision.REJECT


def test_the_verdict_does_not_depend_on_the_order_of_the_metrics():
    candidate, champion = shifted(1, 0.0), shifted(2, 1.0)
    turned = replace(
        candidate, record=replace(candidate.record, metrics=dict(reversed(candidate.record.metrics.items())))
    )
    assert decide(candidate, champion, POLICY) == decide(turned, champion, POLICY)


def test_more_features_than_samples_still_give_a_verdict():
    wide = np.random.default_rng(0)
    sides = [
        with_features(
            contestant(name, seed=seed),
            wide.normal(size=(64, 3 * FEATURES * 8)),
            wide.normal(size=(64, 3 * FEATURES * 8)),
        )
        for name, seed in (("a", 1), ("b", 2))
    ]
    policy = POLICY.model_copy(update={"permutations": 9, "margins": {}, "min_samples_per_feature": 0.0})
    assert decide(sides[0], sides[1], policy).decision is not Decision.PROMOTE


def test_small_losses_that_add_up_are_stopped_by_the_frozen_baseline():
    """Each champion is within the margin of the one before, the last is not within that of the first."""
    policy = POLICY.model_copy(
        update={
            "primary": "toy_fvd",
            "margins": {"validation_loss": 0.05},
            "frozen_margins": {"validation_loss": 0.1},
        }
    )

    def step(number):
        """Better in the distance, and a little worse in the loss, than the step before."""
        side = shifted(number + 1, 3.0 - number)
        scores = dict.fromkeys(side.record.metrics["validation_loss"].per_item, 0.3 + 0.04 * number)
        return with_metric(side, "validation_loss", value=0.3 + 0.04 * number, per_item=scores)

    first = step(0)
    decisions = [decide(step(n), step(n - 1), policy, frozen=first).decision for n in (1, 2, 3)]
    assert decisions == [Decision.PROMOTE, Decision.PROMOTE, Decision.REJECT]
    verdict = decide(step(3), step(2), policy, frozen=first)
    assert verdict.reason == "frozen baseline: validation_loss may be 0.12 worse, beyond the margin 0.1"


def test_a_frozen_baseline_of_another_protocol_decides_nothing():
    policy = POLICY.model_copy(update={"frozen_margins": {"colour_accuracy": 0.1}})
    frozen = with_metric(shifted(3, 0.0), "colour_accuracy", identity="colour_accuracy@old")
    frozen = replace(frozen, record=replace(frozen.record, protocol={"frames": 17}))
    verdict = decide(shifted(1, 0.0), shifted(2, 2.0), policy, frozen=frozen)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "colour_accuracy@old` for the frozen baseline" in verdict.reason
    assert "`reelforge registry freeze`" in verdict.reason


def test_a_kernel_distance_can_be_the_primary_metric():
    def with_kernel(side):
        kernel = Metric(0.1, "toy_kvd@test", False, 64, distance=Distance("toy", "kernel"))
        return replace(side, record=replace(side.record, metrics={**side.record.metrics, "toy_kvd": kernel}))

    policy = POLICY.model_copy(update={"primary": "toy_kvd", "margins": {}})
    better, worse = with_kernel(shifted(1, 0.0)), with_kernel(shifted(2, 2.0))
    assert decide(better, worse, policy).decision is Decision.PROMOTE
    assert decide(worse, better, policy).decision is Decision.REJECT


def test_a_covariance_of_more_features_than_the_samples_can_bear_decides_nothing():
    wide = np.random.default_rng(0).normal(size=(64, 17))
    sides = [with_features(contestant(name, seed=seed), wide, wide) for name, seed in (("a", 1), ("b", 2))]
    verdict = decide(sides[0], sides[1], POLICY)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "needs 4 per feature, 68: raise evaluate.samples" in verdict.reason


def test_missing_features_fail_closed():
    candidate = replace(shifted(1, 0.0), features={})
    verdict = decide(candidate, shifted(2, 2.0), POLICY)
    assert verdict.decision is Decision.REJECT
    assert "no generated features of toy" in verdict.reason


@pytest.mark.parametrize("name", ["colour_accuracy", "validation_loss"])
def test_a_guard_that_was_measured_in_another_way_under_one_protocol_is_not_left_out(name):
    """As after other weights of a published network: nothing of the models themselves differs, so it is no excuse."""
    champion = with_metric(shifted(2, 2.0), name, identity=f"{name}@other weights")
    verdict = decide(shifted(1, 0.0), champion, POLICY)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert f"{name}@other weights" in verdict.reason


@pytest.mark.parametrize(
    "names", [("validation_loss", "colour_accuracy"), ("colour_accuracy", "validation_loss")]
)
def test_what_the_frozen_baseline_says_does_not_depend_on_the_order_of_its_margins(names):
    policy = POLICY.model_copy(update={"frozen_margins": dict.fromkeys(names, 0.1)})
    frozen = with_metric(
        shifted(3, 0.0), "validation_loss", identity="validation_loss@latents of another", own="b"
    )
    candidate = with_metric(shifted(1, 0.0), "validation_loss", own="a")
    verdict = decide(candidate, shifted(2, 2.0), policy, frozen=frozen)
    statuses = {one.metric: one.status for one in verdict.findings if one.kind == "frozen baseline"}
    assert statuses == {"validation_loss": Status.LEFT_OUT, "colour_accuracy": Status.PASSED}


@pytest.mark.parametrize("items", [1, 2, 20])
def test_a_mean_of_few_items_decides_nothing_however_many_samples_there_are(items):
    """As the colour accuracy of footage of which two captions name a colour: a bootstrap of two is no interval."""
    few = {"value": 1.0, "n": items, "per_item": {str(index): 1.0 for index in range(items)}}
    candidate, champion = (
        with_metric(shifted(seed, shift), "colour_accuracy", **few) for seed, shift in ((1, 0.0), (2, 2.0))
    )
    for side in (champion, None):
        verdict = decide(candidate, side, POLICY)
        assert verdict.decision is Decision.INCONCLUSIVE
        assert f"colour_accuracy has {items} items, 30 are needed" in verdict.reason


@pytest.mark.parametrize("place", ["primary", "margins"])
def test_a_number_that_is_no_mean_and_no_distance_is_not_compared_and_said_to_be_none(place):
    asked = {"primary": "toy_is"} if place == "primary" else {"margins": {"toy_is": 0.1}}

    def scored(side):
        score = Metric(3.0, "toy_is@test", True, 64)
        return replace(side, record=replace(side.record, metrics={**side.record.metrics, "toy_is": score}))

    verdict = decide(scored(shifted(1, 0.0)), scored(shifted(2, 2.0)), POLICY.model_copy(update=asked))
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "toy_is is neither a mean over items nor a distance" in verdict.reason


def test_of_models_that_are_worse_by_the_margin_of_a_distance_at_most_seven_percent_pass():
    """Non-inferiority: that the point is within the margin would be true of every other such model."""
    policy = POLICY.model_copy(update={"alpha": 0.05, "permutations": 59})
    damage = 0.35
    off = shifted(0, 0.0).features["toy/reference"][:, 0].mean()
    margin = (damage - off) ** 2 - off**2  # how much farther from the reference the worse distribution is
    passed = sum(
        non_inferiority(
            "toy_fvd", shifted(2 * seed, damage), shifted(2 * seed + 1, 0.0), policy, margin
        ).status
        is Status.PASSED
        for seed in range(100)
    )
    assert passed <= 7


def test_equal_models_are_within_a_margin_that_is_wide_for_their_noise():
    policy = POLICY.model_copy(update={"permutations": 59})
    findings = [
        non_inferiority("toy_fvd", shifted(2 * n, 0.0), shifted(2 * n + 1, 0.0), policy, 1.0)
        for n in range(20)
    ]
    assert all(finding.status is Status.PASSED for finding in findings)
