"""Stage `ladder`: does a candidate deserve the full evaluation, by what was measured while it trained?

Full evaluations take long, and most candidates that are hopeless show it on the way. One is turned away where its few
videos stand still or flicker like noise, or where it is clearly worse than an earlier look of its own run or than the
champion at the same place. What cannot be compared speaks against nobody: the gate comes after.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import sqrt

from components.artifacts import StagePaths, sha256_of
from components.ladder.config import SurvivalConfig
from components.ladder.record import (
    FLICKERING,
    MOTION_ENERGY,
    TOY_FVD,
    VALIDATION_LOSS,
    LadderRecord,
    Rung,
)
from components.ladder.verdict import LadderVerdict
from components.registry.policy.verdict import Finding, Status
from components.report import Report

log = logging.getLogger(__name__)
TRANSFORMER = "transformer"  # a pipeline's folder of it, as in diffusers
ONE_SIDED = 1.645  # standard errors below which the mean lies with a probability of 5 %
FLOOR, OWN_BEST, CHAMPION = "ladder floor", "ladder, own best", "ladder, champion"
NO_LADDER = (
    "no ladder was kept while it trained (ladder.steps is 0), so it goes to the full evaluation unseen"
)
NOTHING_ASKED = "no limit of the section `ladder` applies, so it goes to the full evaluation"


def run(config: SurvivalConfig, paths: StagePaths) -> Report:
    """Write the verdict on the packaged model."""
    pipeline = paths.input("pipeline")
    record = LadderRecord.read(pipeline / TRANSFORMER)
    champion = LadderRecord.read(paths.input("champion"))
    findings = survival(record, champion, config) if record else []
    failed = [finding for finding in findings if finding.status is Status.FAILED]
    verdict = LadderVerdict(
        sha256_of(pipeline), not failed, [one.reason for one in failed], [asdict(one) for one in failed]
    )
    verdict.write(paths.output("verdict"))
    notes = [f"{one.status}: {one.reason}" for one in findings] or [NOTHING_ASKED if record else NO_LADDER]
    log.info("%s", "survives" if verdict.survives else f"rejected: {'; '.join(verdict.reasons)}")
    counts = {status.value: sum(one.status is status for one in findings) for status in Status}
    return Report("ladder", {"survives": int(verdict.survives), **_measured(record)}, counts, notes=notes)


def survival(record: LadderRecord, champion: LadderRecord | None, config: SurvivalConfig) -> list[Finding]:
    """Every check of the look whose weights are used."""
    rung = record.at(record.used)
    if rung is None:
        reason = f"step {record.used}, whose weights are used, was not looked at; train the stage again"
        return [Finding("ladder", FLOOR, Status.FAILED, reason)]
    findings = list(_floors(rung, record, config))
    best = record.at(record.best)
    if best is None:
        reason = f"no look found a {record.rule['best_by']} that is a number"
        findings.append(Finding(record.rule["best_by"], OWN_BEST, Status.FAILED, reason))
    elif best.step != rung.step:
        findings += _against(rung, best, config, (OWN_BEST, f"its own step {best.step}"))
    if champion is not None:
        findings += _against_champion(rung, record, champion, config)
    return findings


def _floors(rung: Rung, record: LadderRecord, config: SurvivalConfig) -> Iterator[Finding]:
    for metric, floor in (
        (MOTION_ENERGY, config.min_motion_energy),
        (FLICKERING, config.min_temporal_flickering),
    ):
        if floor is None or metric not in record.identities:
            continue
        value = rung.metrics.get(metric)
        kept = value is not None and value >= floor
        said = "is not a number" if value is None else f"is {value:.4g}"
        reason = f"{metric} of the small sample {said}, at least {floor:g} is asked"
        yield Finding(metric, FLOOR, _status(kept), reason, candidate=value, limit=floor)


def _against_champion(
    rung: Rung, record: LadderRecord, champion: LadderRecord, config: SurvivalConfig
) -> Iterator[Finding]:
    """As far as both ladders were measured in the same way."""
    theirs = champion.at(champion.used)
    if theirs is None:
        return
    for metric in (VALIDATION_LOSS, TOY_FVD):
        mine, other = record.identities.get(metric), champion.identities.get(metric)
        if mine is None or mine == other:
            continue
        reason = (
            f"{metric} is `{mine}` here and `{other}` in the champion's ladder: two different measurements"
        )
        yield Finding(metric, CHAMPION, Status.LEFT_OUT, reason)
    same = {name for name, one in record.identities.items() if champion.identities.get(name) == one}
    for finding in _against(rung, theirs, config, (CHAMPION, "the champion")):
        if finding.metric in same:
            yield finding


def _against(rung: Rung, other: Rung, config: SurvivalConfig, who: tuple[str, str]) -> Iterator[Finding]:
    """Clearly worse than another look? `who`: the kind of finding, and the other one in words."""
    kind, name = who
    if config.max_loss_above is not None:
        yield _loss(rung, other, config.max_loss_above, who)
    ours, theirs = rung.metrics.get(TOY_FVD), other.metrics.get(TOY_FVD)
    if config.max_toy_fvd_times is None or theirs is None:
        return
    limit = config.max_toy_fvd_times * theirs
    said = "is not a number" if ours is None else f"is {ours:.4g}"
    reason = (
        f"{TOY_FVD} of the small sample {said}, {name} has {theirs:.4g};"
        f" {config.max_toy_fvd_times:g} times that is allowed"
    )
    kept = ours is not None and ours <= limit
    yield Finding(TOY_FVD, kind, _status(kept), reason, candidate=ours, champion=theirs, limit=limit)


def _loss(rung: Rung, other: Rung, margin: float, who: tuple[str, str]) -> Finding:
    """Paired clip by clip: worse where even the lower bound of the mean difference is above the margin."""
    kind, name = who
    if set(rung.clips) != set(other.clips) or not rung.clips:
        reason = f"{VALIDATION_LOSS} is not a number on some clips, which {name} does not have"
        return Finding(VALIDATION_LOSS, kind, Status.FAILED, reason)
    mean, theirs = _mean(rung.clips), _mean(other.clips)
    bound = _lower_bound({clip: rung.clips[clip] - other.clips[clip] for clip in rung.clips})
    reason = (
        f"{VALIDATION_LOSS} is {mean:.4g}, {name} has {theirs:.4g}: with 95 % confidence {bound / theirs:+.1%} or more,"
        f" {margin:.1%} is allowed"
    )
    status = _status(bound <= margin * theirs)
    return Finding(VALIDATION_LOSS, kind, status, reason, mean, theirs, limit=margin * theirs, bound=bound)


def _lower_bound(differences: Mapping[str, float]) -> float:
    """One-sided bound of the mean; the mean itself of a single clip."""
    mean, count = _mean(differences), len(differences)
    if count < 2:
        return mean
    variance = sum((value - mean) ** 2 for value in differences.values()) / (count - 1)
    return mean - ONE_SIDED * sqrt(variance / count)


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _status(kept: bool) -> Status:
    return Status.PASSED if kept else Status.FAILED


def _measured(record: LadderRecord | None) -> dict[str, float]:
    rung = record.at(record.used) if record else None
    return (
        {"used_step": rung.step, **{f"ladder/{n}": value for n, value in rung.metrics.items()}}
        if rung
        else {}
    )
