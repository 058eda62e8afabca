"""The promotion policy as a pure function: two evaluations and the parameters in, a verdict out.

A candidate is promoted when it keeps every floor, is shown to be better on one named metric (superiority), and is
shown not to be worse than a margin on the others (non-inferiority). All must pass, so the level needs no
correction for many tests. Numbers that are missing or not finite fail; too few samples, or numbers measured in
another way than the champion's, decide nothing. A chain of champions, each a margin worse than the one before, is
stopped by a frozen baseline that all of them are compared with.
"""

from collections.abc import Iterable
from dataclasses import replace

from components.registry.config import GateConfig
from components.registry.policy.comparison import non_inferiority, superiority
from components.registry.policy.contestant import Contestant
from components.registry.policy.evidence import compared_metrics, incomparable, too_few, unusable
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
    compared = champion is not None
    evidence = [
        *unusable(candidate, policy, compared=compared),
        *too_few(candidate, policy, compared=compared),
    ]
    if evidence:
        return conclude(evidence)
    findings = [*floor_findings(candidate, policy.floors), *_against_frozen(candidate, frozen, policy)]
    if champion is None:
        return conclude(findings)
    obstacles = list(incomparable(candidate, champion, policy))
    if obstacles:
        return conclude([*findings, *obstacles])
    primary = superiority(policy.primary, candidate, champion, policy)
    guards = [
        non_inferiority(name, candidate, champion, policy, policy.margins[name])
        for name in compared_metrics(candidate, policy)
        if name != policy.primary
    ]
    return conclude([*findings, primary, *guards])


def _against_frozen(
    candidate: Contestant, frozen: Contestant | None, policy: GateConfig
) -> Iterable[Finding]:
    """The cumulative loss since the frozen baseline, metric by metric."""
    if frozen is None or not policy.frozen_margins or frozen.model_sha256 == candidate.model_sha256:
        return
    asked = policy.model_copy(
        update={"margins": policy.frozen_margins, "primary": next(iter(policy.frozen_margins))}
    )
    obstacles = list(unusable(candidate, asked, compared=True)) or list(
        incomparable(candidate, frozen, asked)
    )
    findings = obstacles or [
        non_inferiority(name, candidate, frozen, policy, policy.frozen_margins[name])
        for name in compared_metrics(candidate, asked)
    ]
    for finding in findings:
        yield replace(finding, kind=ANCHOR, reason=f"{ANCHOR}: {finding.reason}")
