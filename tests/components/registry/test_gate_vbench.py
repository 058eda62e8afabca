"""VBench's Total and dimensions at the gate: as what decides, as guards, and where some are missing."""

from dataclasses import replace

import numpy as np

from components.evaluation.record import Metric
from components.evaluation.vbench.measure import metrics_of
from components.evaluation.vbench.run import DimensionResult
from components.evaluation.vbench.run import Status as VbenchStatus
from components.evaluation.vbench.scores import DIMENSIONS, aggregate
from components.registry.policy.decide import decide
from components.registry.policy.verdict import Decision, Status
from tests.components.registry.contestants import POLICY, shifted, with_metric


def with_vbench(side, shift):
    """The same model with a VBench Total, of dimensions whose scores lie `shift` above the middle."""
    rng = np.random.default_rng(1)  # the same prompts are hard for both
    raw, parts = {}, {}
    for name, dimension in DIMENSIONS.items():
        scores = dimension.low + (0.5 + shift + rng.normal(0, 0.05, 40)) * (dimension.high - dimension.low)
        parts[name] = {f"prompt {index}": float(score) for index, score in enumerate(scores)}
        raw[name] = float(scores.mean())
    metric = Metric(aggregate(raw)["total"], "vbench_total@test", True, 40, parts=parts)
    return replace(side, record=replace(side.record, metrics={**side.record.metrics, "vbench_total": metric}))


def test_vbenchs_total_can_be_the_primary_metric_and_a_guard():
    better, worse = with_vbench(shifted(1, 0.0), 0.02), with_vbench(shifted(2, 0.0), 0.0)
    policy = POLICY.model_copy(update={"primary": "vbench_total", "margins": {}})
    assert decide(better, worse, policy).decision is Decision.PROMOTE
    assert decide(worse, better, policy).decision is Decision.REJECT
    guard = POLICY.model_copy(update={"primary": "toy_fvd", "margins": {"vbench_total": 0.01}})
    findings = {
        f.metric: f
        for f in decide(with_vbench(shifted(1, 0.0), 0.0), with_vbench(shifted(2, 2.0), 0.05), guard).findings
    }
    assert findings["vbench_total"].status is Status.FAILED


def test_a_total_over_other_prompts_decides_nothing():
    other = with_vbench(shifted(2, 2.0), 0.0)
    parts = {
        name: dict(list(part.items())[1:])
        for name, part in other.record.metrics["vbench_total"].parts.items()
    }
    policy = POLICY.model_copy(update={"primary": "vbench_total", "margins": {}})
    verdict = decide(
        with_vbench(shifted(1, 0.0), 0.1), with_metric(other, "vbench_total", parts=parts), policy
    )
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "same prompts of every dimension" in verdict.reason


def test_a_dimension_that_is_unavailable_fails_closed():
    result = DimensionResult("imaging_quality", VbenchStatus.UNAVAILABLE, "weights are missing")
    metrics = metrics_of({"imaging_quality": result}, {})
    candidate = shifted(1, 0.0)
    candidate = replace(
        candidate, record=replace(candidate.record, metrics={**candidate.record.metrics, **metrics})
    )
    policy = POLICY.model_copy(update={"margins": {"vbench_imaging_quality": 0.01}})
    verdict = decide(candidate, shifted(2, 2.0), policy)
    assert verdict.decision is Decision.REJECT
    assert (
        "vbench_imaging_quality of the candidate is not a number; see `reelforge vbench status`"
        in verdict.reason
    )


def test_a_total_of_which_a_dimension_is_missing_fails_closed_and_says_where_to_look():
    scored = {
        name: DimensionResult(name, VbenchStatus.OK, score=0.5, videos={"a.mp4": 0.5}) for name in DIMENSIONS
    }
    scored["scene"] = DimensionResult("scene", VbenchStatus.UNAVAILABLE, "weights are missing")
    metrics = metrics_of(scored, {"a.mp4": "a"})
    assert "vbench_total" not in metrics
    candidate = shifted(1, 0.0)
    record = replace(candidate.record, metrics={**candidate.record.metrics, **metrics})
    policy = POLICY.model_copy(update={"margins": {"vbench_total": 0.01}})
    verdict = decide(replace(candidate, record=record), shifted(2, 2.0), policy)
    assert verdict.decision is Decision.REJECT
    assert "vbench_total of the candidate is missing; see `reelforge vbench status`" in verdict.reason
