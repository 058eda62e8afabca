"""The promotion policy as a pure function: two evaluations and the parameters in, a verdict out.

A candidate is promoted when it keeps every floor, is shown to be better on one named metric (superiority), and is
shown not to be worse than a margin on the others (non-inferiority). All must pass, so the level needs no
correction for many tests. Numbers that are missing or not finite fail; too few samples, or numbers measured in
another way than the champion's, decide nothing.
"""

from collections.abc import Iterable
from functools import partial

import numpy as np

from components.evaluation.frechet import frechet_distance
from components.evaluation.record import Metric
from components.registry.config import GateConfig
from components.registry.policy.contestant import Contestant
from components.registry.policy.floors import floor_findings, needed_metrics, not_applicable
from components.registry.policy.statistics import (
    MeanDifference,
    PermutationResult,
    mean_difference,
    permutation_test,
)
from components.registry.policy.verdict import Finding, Status, Verdict, conclude

DISTANCE = "toy_fvd"  # compared through its features; all other metrics are means over prompts


def decide(candidate: Contestant, champion: Contestant | None, policy: GateConfig) -> Verdict:
    """Promote, reject, or cannot decide. Without a champion the floors alone decide."""
    evidence = [*_unusable(candidate, policy, compared=champion is not None), *_too_few(candidate, policy)]
    if evidence:
        return conclude(evidence)
    floors = list(floor_findings(candidate, policy.floors))
    if champion is None:
        return conclude(floors)
    obstacles = list(_incomparable(candidate, champion, policy))
    if obstacles:
        return conclude([*floors, *obstacles])
    primary = _compare(policy.primary, candidate, champion, policy)
    guards = [
        _guard(metric, candidate, champion, policy)
        for metric in _compared(candidate, policy)
        if metric != policy.primary
    ]
    return conclude([*floors, primary, *guards])


def _compared(candidate: Contestant, policy: GateConfig) -> list[str]:
    """The primary metric and the guards, without those that no prompt asks for."""
    guards = {metric for metric in policy.margins if not not_applicable(candidate, metric)}
    return sorted({policy.primary, *guards})


def _unusable(candidate: Contestant, policy: GateConfig, *, compared: bool) -> Iterable[Finding]:
    """A number that is not there cannot speak for the candidate."""
    floors = {name for name in needed_metrics(policy.floors) if not not_applicable(candidate, name)}
    needed = {*floors, *(_compared(candidate, policy) if compared else ())}
    for metric in sorted(needed):
        if candidate.usable(metric) is None:
            found = candidate.record.metrics.get(metric)
            said = "missing" if found is None else "not a number"
            yield Finding(metric, "evidence", Status.FAILED, f"{metric} of the candidate is {said}")
    if not np.isfinite(candidate.generated).all():
        reason = "the features of the candidate's videos are not finite"
        yield Finding(DISTANCE, "evidence", Status.FAILED, reason)


def _too_few(candidate: Contestant, policy: GateConfig) -> Iterable[Finding]:
    if candidate.record.samples < policy.min_samples:
        needed = f"{candidate.record.samples} samples, {policy.min_samples} are needed"
        reason = f"{needed}: add videos, or raise evaluate.samples"
        yield Finding("samples", "evidence", Status.UNDECIDED, reason, float(candidate.record.samples))


def _incomparable(candidate: Contestant, champion: Contestant, policy: GateConfig) -> Iterable[Finding]:
    """What keeps the two from being compared, with the way out."""
    if candidate.model_sha256 == champion.model_sha256:
        yield Finding("model", "evidence", Status.UNDECIDED, "the candidate is the champion itself")
        return
    for metric in _compared(candidate, policy):
        mine, other = candidate.metric(metric), champion.usable(metric)
        if other is None:
            reason = f"the champion's evaluation has no usable {metric}; evaluate the champion again"
            yield Finding(metric, "evidence", Status.UNDECIDED, reason)
        elif mine.identity != other.identity and not _own_measure(metric, candidate, champion, policy):
            reason = (
                f"{metric} is `{mine.identity}` for the candidate and `{other.identity}` for the champion:"
                " two different measurements; evaluate the champion again under the present protocol"
            )
            yield Finding(metric, "evidence", Status.UNDECIDED, reason)
        elif metric != DISTANCE and set(mine.per_item) != set(other.per_item):
            reason = f"{metric}: candidate and champion were not scored on the same prompts or clips"
            yield Finding(metric, "evidence", Status.UNDECIDED, reason)
    if candidate.generated.shape != champion.generated.shape:
        shapes = f"{candidate.generated.shape} and {champion.generated.shape}"
        yield Finding(DISTANCE, "evidence", Status.UNDECIDED, f"features of {shapes} cannot be paired")


def _own_measure(metric: str, candidate: Contestant, champion: Contestant, policy: GateConfig) -> bool:
    """True for a guard that differs in identity although the protocols are equal.

    Then it is measured on a part of the models themselves: the validation loss on latents of the autoencoder.
    Evaluating again would not make the two comparable, so such a guard has nothing to say.
    """
    same_protocol = candidate.record.protocol == champion.record.protocol
    return same_protocol and metric != policy.primary


def _compare(metric: str, candidate: Contestant, champion: Contestant, policy: GateConfig) -> Finding:
    """Superiority: is the candidate better beyond chance?"""
    if metric == DISTANCE:
        test = _permuted(candidate, champion, policy)
        status = _three_way(test.p_better <= policy.alpha, test.p_worse <= policy.alpha)
        detail = f"p = {test.p_better:.3f} for better, {test.p_worse:.3f} for worse"
        words = _words(metric, status, detail, test.candidate, test.champion)
        return Finding(metric, "primary", status, words, test.candidate, test.champion, p_value=test.p_better)
    mine, other = candidate.value(metric), champion.value(metric)
    gain = _gain(candidate.metric(metric), champion.metric(metric), policy)
    status = _three_way(gain.lower > 0, gain.upper < 0)
    detail = f"gain {gain.mean:+.4g}, at least {gain.lower:+.4g} with {1 - policy.alpha:.0%} confidence"
    words = _words(metric, status, detail, mine, other)
    return Finding(metric, "primary", status, words, mine, other, bound=gain.lower)


def _guard(metric: str, candidate: Contestant, champion: Contestant, policy: GateConfig) -> Finding:
    """Non-inferiority: is a loss of more than the margin excluded?"""
    margin = policy.margins[metric]
    if candidate.metric(metric).identity != champion.metric(metric).identity:
        reason = f"{metric} is not comparable between these models, whose autoencoders differ"
        return Finding(metric, "guard", Status.LEFT_OUT, reason, candidate.value(metric))
    mine, other = candidate.metric(metric), champion.metric(metric)
    if metric == DISTANCE:
        test = _permuted(candidate, champion, policy)
        within, worse = test.difference <= margin, test.p_worse <= policy.alpha
        status = _three_way(within and not worse, worse and not within)
        chance = f"p = {test.p_worse:.3f} for worse"
        reason = f"{metric} differs by {test.difference:+.4g}, margin {margin:g}, {chance}"
        values = (test.candidate, test.champion)
        return Finding(metric, "guard", status, reason, *values, margin, p_value=test.p_worse)
    gain = _gain(mine, other, policy)
    status = _three_way(gain.lower >= -margin, gain.upper < -margin)
    allowed = {Status.PASSED: "within", Status.FAILED: "beyond", Status.UNDECIDED: "not shown to be within"}
    reason = f"{metric} may be {max(-gain.lower, 0.0):.4g} worse, {allowed[status]} the margin {margin:g}"
    return Finding(metric, "guard", status, reason, mine.value, other.value, margin, gain.lower)


def _permuted(candidate: Contestant, champion: Contestant, policy: GateConfig) -> PermutationResult:
    return permutation_test(
        candidate.generated,
        champion.generated,
        partial(frechet_distance, candidate.reference),
        permutations=policy.permutations,
        seed=policy.seed,
    )


def _gain(mine: Metric, other: Metric, policy: GateConfig) -> MeanDifference:
    """Paired difference per prompt, positive where the candidate is better."""
    prompts = sorted(mine.per_item)
    sign = 1.0 if mine.higher_is_better else -1.0
    differences = np.array([sign * (mine.per_item[key] - other.per_item[key]) for key in prompts])
    return mean_difference(differences, alpha=policy.alpha, replicates=policy.bootstrap, seed=policy.seed)


def _three_way(passed: bool, failed: bool) -> Status:
    return Status.PASSED if passed else Status.FAILED if failed else Status.UNDECIDED


def _words(metric: str, status: Status, detail: str, mine: float, other: float) -> str:
    both = f"{metric} {mine:.4g} against the champion's {other:.4g}"
    said = {Status.PASSED: "is better", Status.FAILED: "is worse", Status.UNDECIDED: "may differ by chance"}
    return f"{both} {said[status]} ({detail})"
