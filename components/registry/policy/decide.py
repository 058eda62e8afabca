"""The promotion policy as a pure function: two evaluations and the parameters in, a verdict out.

A candidate is promoted when it keeps every floor, is shown to be better on one named metric (superiority), and is
shown not to be worse than a margin on the others (non-inferiority). All must pass, so the level needs no
correction for many tests. Numbers that are missing or not finite fail; too few samples, or numbers measured in
another way than the champion's, decide nothing. A chain of champions, each a margin worse than the one before, is
stopped by a frozen baseline that all of them are compared with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from components.registry.config import GateConfig
from components.registry.policy.comparison import non_inferiority, superiority
from components.registry.policy.contestant import Contestant
from components.registry.policy.evidence import (
    FROZEN,
    asked_of,
    compared_metrics,
    incomparable,
    needed_for_floors,
    too_few,
    unusable,
)
from components.registry.policy.floors import floor_findings
from components.registry.policy.verdict import Finding, Verdict, conclude

ANCHOR = "frozen baseline"


def decide(
    candidate: Contestant,
    champion: Contestant | None,
    policy: GateConfig,
    *,
    frozen: Contestant | None = None,
) -> Verdict:
    """Promote, reject, or cannot decide. Without a champion the floors alone decide.

    `frozen` is the baseline against ratcheting: a model that no candidate may fall behind by more than
    `policy.frozen_margins`, however many champions came after it.
    """
    compared = compared_metrics(candidate, policy) if champion else []
    since = _asked_since(candidate, frozen, policy)
    floors = needed_for_floors(candidate, policy)
    evidence = [
        *unusable(candidate, [*floors, *compared]),
        *too_few(candidate, floors, [*compared, *since], policy),
    ]
    if evidence:
        return conclude(evidence)
    findings = [*floor_findings(candidate, policy.floors), *_against_frozen(candidate, frozen, since, policy)]
    if champion is None:
        return conclude(findings)
    obstacles = list(incomparable(candidate, champion, compared, primary=policy.primary))
    if obstacles:
        return conclude([*findings, *obstacles])
    primary = superiority(policy.primary, candidate, champion, policy)
    guards = [
        non_inferiority(name, candidate, champion, policy, policy.margins[name])
        for name in compared
        if name != policy.primary
    ]
    return conclude([*findings, primary, *guards])


def _asked_since(candidate: Contestant, frozen: Contestant | None, policy: GateConfig) -> list[str]:
    """What is compared with the frozen baseline; nothing without one, and of the very model in it."""
    if frozen is None or frozen.model_sha256 == candidate.model_sha256:
        return []
    return asked_of(candidate, policy.frozen_margins)


def _against_frozen(
    candidate: Contestant, frozen: Contestant | None, names: Sequence[str], policy: GateConfig
) -> Iterable[Finding]:
    """The cumulative loss since the frozen baseline, metric by metric."""
    if frozen is None:
        return
    findings = (
        list(unusable(candidate, names))
        or list(incomparable(candidate, frozen, names, rival=FROZEN))
        or [non_inferiority(name, candidate, frozen, policy, policy.frozen_margins[name]) for name in names]
    )
    for finding in findings:
        yield replace(finding, kind=ANCHOR, reason=f"{ANCHOR}: {finding.reason}")
