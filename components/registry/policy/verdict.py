"""What the gate says: one finding per check, one verdict for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Decision(StrEnum):
    PROMOTE = "promote"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"
    LADDER = "rejected by the ladder"  # before it was evaluated


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"
    LEFT_OUT = "left out"  # says nothing either way; named so that nobody takes it for a pass


@dataclass(frozen=True)
class Finding:
    """One check. `kind`: what the metric was asked (`evidence`, `floor`, `primary`, `guard`)."""

    metric: str
    kind: str
    status: Status
    reason: str
    candidate: float | None = None
    champion: float | None = None
    limit: float | None = None  # of a floor, or the margin of a guard
    bound: float | None = (
        None  # one-sided confidence bound of candidate - champion, in the direction of worse
    )
    p_value: float | None = None


@dataclass(frozen=True)
class Verdict:
    """`reason` is the finding that decided, or what all of them together say."""

    decision: Decision
    reason: str
    findings: tuple[Finding, ...]


def conclude(findings: Sequence[Finding]) -> Verdict:
    """Promote only if every check passed; one failure rejects; otherwise nothing can be said yet."""
    for status, decision in ((Status.FAILED, Decision.REJECT), (Status.UNDECIDED, Decision.INCONCLUSIVE)):
        telling = [finding for finding in findings if finding.status is status]
        if telling:
            reason = "; ".join(finding.reason for finding in telling)
            return Verdict(decision, reason, tuple(findings))
    primary = [finding.reason for finding in findings if finding.kind == "primary"]
    reason = primary[0] if primary else "first model: every floor is kept"
    return Verdict(Decision.PROMOTE, reason, tuple(findings))
