"""Stage `gate`: read the candidate's evaluation and the champion's, and write the verdict."""

import logging
from dataclasses import asdict
from typing import Any

from threadpoolctl import threadpool_limits

from components.artifacts import StagePaths, write_json
from components.ladder.verdict import LadderVerdict
from components.registry.config import GateConfig
from components.registry.policy.contestant import Contestant, read_champion
from components.registry.policy.decide import decide
from components.registry.policy.verdict import Decision, Finding, Status, Verdict
from components.report import Report

log = logging.getLogger(__name__)
__all__ = ["decide", "judge", "run"]


def run(config: GateConfig, paths: StagePaths) -> Report:
    """Write `verdict.json`: the decision, its reason, and every check behind it.

    A model that the ladder turned away has no evaluation to judge: its reasons are the verdict.
    """
    champion, frozen = (read_champion(paths.input(name)) for name in ("baseline", "frozen"))
    rejected = LadderVerdict.of_rejected(paths.input("evaluation"))
    if rejected:
        findings = tuple(Finding(**{**one, "status": Status(one["status"])}) for one in rejected.findings)
        verdict = Verdict(Decision.LADDER, "; ".join(rejected.reasons), findings)
        side = {"model_sha256": rejected.model_sha256, "samples": 0, "identities": {}}
    else:
        candidate = Contestant.read(paths.input("evaluation"))
        verdict, side = judge(candidate, champion, config, frozen), _side(candidate)
    write_json(
        paths.output("verdict"),
        {
            "verdict": verdict.decision,
            "reason": verdict.reason,
            "findings": [asdict(finding) for finding in verdict.findings],
            "candidate": side,
            "champion": _side(champion) if champion else None,
            "policy": config.model_dump(mode="json"),
        },
    )
    log.info("verdict: %s (%s)", verdict.decision, verdict.reason)
    return _report(verdict)


def judge(
    candidate: Contestant, champion: Contestant | None, policy: GateConfig, frozen: Contestant | None = None
) -> Verdict:
    """`decide` on one thread: a thousand decompositions of small matrices, for which threads only wait."""
    with threadpool_limits(1):
        return decide(candidate, champion, policy, frozen=frozen)


def _side(contestant: Contestant) -> dict[str, Any]:
    metrics = contestant.record.metrics
    return {
        "model_sha256": contestant.model_sha256,
        "samples": contestant.record.samples,
        "identities": {name: metric.identity for name, metric in metrics.items()},
    }


def _report(verdict: Verdict) -> Report:
    numbers: dict[str, float] = {"promote": int(verdict.decision is Decision.PROMOTE)}
    for finding in verdict.findings:
        if finding.p_value is not None:
            numbers[f"{finding.kind}/{finding.metric}/p_value"] = finding.p_value
        if finding.bound is not None:
            numbers[f"{finding.kind}/{finding.metric}/bound"] = finding.bound
    counts = {status.value: 0 for status in Status}
    for finding in verdict.findings:
        counts[finding.status.value] += 1
    notes = [f"{verdict.decision}: {verdict.reason}"]
    return Report("gate", metrics=numbers, counts=counts, notes=notes)
