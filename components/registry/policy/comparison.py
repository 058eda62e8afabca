"""One metric of two models: is the candidate better beyond chance (superiority), is it not worse than a margin?"""

from functools import partial

import numpy as np
from scipy.special import stdtrit

from components.evaluation.frechet import frechet_from, kernel_distance
from components.evaluation.record import Distance, Metric
from components.evaluation.vbench.scores import aggregate
from components.registry.config import GateConfig
from components.registry.policy.contestant import Contestant
from components.registry.policy.statistics import (
    GROUPS,
    Array,
    MeanDifference,
    PermutationResult,
    composite_difference,
    jackknife_error,
    mean_difference,
    permutation_test,
)
from components.registry.policy.statistics import Distance as Measure
from components.registry.policy.verdict import Finding, Status


def superiority(name: str, candidate: Contestant, champion: Contestant, policy: GateConfig) -> Finding:
    """Is the candidate better beyond chance?"""
    if distance := candidate.metric(name).distance:
        test = _permuted(distance, candidate, champion, policy)
        status = _three_way(test.p_better <= policy.alpha, test.p_worse <= policy.alpha)
        detail = f"p = {test.p_better:.3f} for better, {test.p_worse:.3f} for worse"
        words = _words(name, status, detail, test.candidate, test.champion)
        return Finding(name, "primary", status, words, test.candidate, test.champion, p_value=test.p_better)
    mine, other = candidate.value(name), champion.value(name)
    gain = _gain(candidate.metric(name), champion.metric(name), policy)
    status = _three_way(gain.lower > 0, gain.upper < 0)
    detail = f"gain {gain.mean:+.4g}, at least {gain.lower:+.4g} with {1 - policy.alpha:.0%} confidence"
    words = _words(name, status, detail, mine, other)
    return Finding(name, "primary", status, words, mine, other, bound=gain.lower)


def non_inferiority(
    name: str,
    candidate: Contestant,
    champion: Contestant,
    policy: GateConfig,
    margin: float,
) -> Finding:
    """Is a loss of more than the margin excluded?"""
    mine, other = candidate.metric(name), champion.metric(name)
    if mine.identity != other.identity:
        reason = f"{name} is not comparable between these models, whose parts that it is measured on differ"
        return Finding(name, "guard", Status.LEFT_OUT, reason, mine.value)
    if mine.distance:
        return _distance_within(name, candidate, champion, policy, margin)
    gain = _gain(mine, other, policy)
    status = _three_way(gain.lower >= -margin, gain.upper < -margin)
    allowed = {Status.PASSED: "within", Status.FAILED: "beyond", Status.UNDECIDED: "not shown to be within"}
    reason = f"{name} may be {max(0.0, -gain.lower):.4g} worse, {allowed[status]} the margin {margin:g}"
    return Finding(name, "guard", status, reason, mine.value, other.value, margin, gain.lower)


def _distance_within(
    name: str, candidate: Contestant, champion: Contestant, policy: GateConfig, margin: float
) -> Finding:
    """Is a distance that is more than the margin longer excluded?"""
    distance = candidate.metric(name).distance
    assert distance is not None, name
    test = _permuted(distance, candidate, champion, policy)
    error = jackknife_error(
        candidate.generated(distance),
        champion.generated(distance),
        measure(distance, candidate.reference(distance)),
    )
    bound = test.difference + float(stdtrit(GROUPS - 1, 1 - policy.alpha)) * error
    worse = test.p_worse <= policy.alpha
    status = _three_way(bound <= margin, worse and test.difference > margin)
    reason = (
        f"{name} differs by {test.difference:+.4g}, by {bound:+.4g} at most with {1 - policy.alpha:.0%} confidence,"
        f" margin {margin:g}, p = {test.p_worse:.3f} for worse"
    )
    values = (test.candidate, test.champion, margin, -bound, test.p_worse)
    return Finding(name, "guard", status, reason, *values)


def _permuted(
    distance: Distance, candidate: Contestant, champion: Contestant, policy: GateConfig
) -> PermutationResult:
    return permutation_test(
        candidate.generated(distance),
        champion.generated(distance),
        measure(distance, candidate.reference(distance)),
        permutations=policy.permutations,
        seed=policy.seed,
    )


def measure(distance: Distance, reference: Array) -> Measure:
    """The distance of features from the reference's."""
    if distance.kind == "kernel":
        return partial(kernel_distance, reference)
    return frechet_from(reference, ddof=distance.ddof)


def _gain(mine: Metric, other: Metric, policy: GateConfig) -> MeanDifference:
    """Paired difference per prompt, positive where the candidate is better; of VBench's Total, within its lists."""
    if mine.parts:
        return composite_difference(
            mine.parts,
            other.parts,
            lambda raw: aggregate(raw)["total"],
            alpha=policy.alpha,
            replicates=policy.bootstrap,
            seed=policy.seed,
        )
    prompts = sorted(mine.per_item)
    sign = 1.0 if mine.higher_is_better else -1.0
    differences = np.array([sign * (mine.per_item[key] - other.per_item[key]) for key in prompts])
    return mean_difference(differences, alpha=policy.alpha, replicates=policy.bootstrap, seed=policy.seed)


def _three_way(passed: bool, failed: bool) -> Status:
    return Status.PASSED if passed else Status.FAILED if failed else Status.UNDECIDED


def _words(name: str, status: Status, detail: str, mine: float, other: float) -> str:
    both = f"{name} {mine:.4g} against the champion's {other:.4g}"
    said = {Status.PASSED: "is better", Status.FAILED: "is worse", Status.UNDECIDED: "may differ by chance"}
    return f"{both} {said[status]} ({detail})"
