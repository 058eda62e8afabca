"""Stage `filter`: which clips are good enough, from the stored scores and nothing else.

No video is opened, so a threshold can be tried on millions of clips in seconds. A clip keeps every
reason that speaks against it, which shows what each threshold costs by itself. Whether a score may
reject is the scorer's mode, which the score stage hands over in its manifest: `score-only` is looked at
by people and never filtered.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.artifacts import StagePaths
from components.data import store
from components.data.config import FilterConfig, Scorer
from components.data.reasons import RejectReason
from components.errors import DataQualityError
from components.report import Report

log = logging.getLogger(__name__)
STAGE = "filter"


@dataclass(frozen=True)
class Rule:
    """A score on the wrong side of its threshold is a reason to reject."""

    scorer: str  # parameter of `score:` that switches it
    column: str
    threshold: str  # parameter of `filter:`
    bound: Literal["min", "max"]
    reason: RejectReason


RULES = (
    Rule("motion", "motion", "min_motion", "min", RejectReason.TOO_STATIC),
    Rule("sharpness", "sharpness", "min_sharpness", "min", RejectReason.BLURRY),
    Rule("text", "text_share", "max_text_share", "max", RejectReason.TEXT_OVERLAY),
    Rule("brightness", "brightness", "min_brightness", "min", RejectReason.TOO_DARK),
    Rule("brightness", "brightness", "max_brightness", "max", RejectReason.TOO_BRIGHT),
)
SCORES = tuple(dict.fromkeys(rule.column for rule in RULES))
Scores = dict[str, NDArray[np.float32]]  # column -> value per clip, NaN where there is none


def run(config: FilterConfig, paths: StagePaths) -> Report:
    """Add the column `reasons`. Raises `DataQualityError` when no clip, or too small a share of them, is left."""
    source = paths.input("clips")
    modes = store.Manifest.read(source).notes.get("score", {})
    table = store.read(paths.root, source, ["clip_id", *SCORES])
    scores = {name: table[name].to_numpy(zero_copy_only=False).astype(np.float32) for name in SCORES}
    rules = enabled_rules(modes)
    reasons = reject(scores, rules, config)
    report = _report(scores, reasons, rules)
    _refuse_too_few(report, rules, config)

    added = pa.table({"clip_id": table["clip_id"], "reasons": pa.array(reasons, pa.list_(pa.string()))})
    store.add_columns(paths.root, source, added, STAGE).write(paths.output("clips"))
    log.info("%d of %d clips pass  %s", report.counts["passed"], report.counts["clips"], report.reasons)
    return report


def enabled_rules(modes: dict[str, str]) -> tuple[Rule, ...]:
    """The rules whose scorer is switched to `enable`; a scorer that the manifest does not name is."""
    return tuple(rule for rule in RULES if modes.get(rule.scorer, Scorer.ENABLE) == Scorer.ENABLE)


def reject(scores: Scores, rules: tuple[Rule, ...], config: FilterConfig) -> list[list[str]]:
    """Reason codes of each clip, in the order of the rules; an empty list passes.

    A clip without a score that is filtered on could not be read when the others were: it is `unscored`.
    """
    reasons: list[list[str]] = [[] for _ in next(iter(scores.values()))]
    for rule in rules:
        threshold = np.float32(getattr(config, rule.threshold))  # a score equal to it passes
        values = scores[rule.column]
        wrong = values < threshold if rule.bound == "min" else values > threshold
        for index in np.flatnonzero(wrong):
            reasons[index].append(rule.reason.value)
    unscored = [np.isnan(scores[column]) for column in {rule.column for rule in rules}]
    for index in np.flatnonzero(np.any(unscored, axis=0)) if unscored else ():
        reasons[index].append(RejectReason.UNSCORED.value)
    return reasons


def _report(scores: Scores, reasons: list[list[str]], rules: tuple[Rule, ...]) -> Report:
    rejected = sum(map(bool, reasons))
    metrics: dict[str, int | float] = {"rejected_share": rejected / len(reasons) if reasons else 0.0}
    for name, values in scores.items():
        known = values[~np.isnan(values)]
        if known.size:
            for label, share in (("p05", 0.05), ("median", 0.5), ("p95", 0.95)):
                metrics[f"{name}_{label}"] = float(np.quantile(known, share))
    unfiltered = sorted({rule.scorer for rule in RULES} - {rule.scorer for rule in rules})
    return Report(
        stage=STAGE,
        metrics=metrics,
        counts={"clips": len(reasons), "passed": len(reasons) - rejected, "rejected": rejected},
        reasons=dict(sorted(Counter(reason for each in reasons for reason in each).items())),
        notes=[f"not filtered on, by the parameters of `score`: {', '.join(unfiltered)}"]
        if unfiltered
        else [],
    )


def _refuse_too_few(report: Report, rules: tuple[Rule, ...], config: FilterConfig) -> None:
    counts = report.counts
    share = report.metrics["rejected_share"]
    if counts["passed"] and share <= config.max_rejected_share:
        return
    if not counts["clips"]:
        raise DataQualityError(
            "filter: there are no clips to filter; see reports/split.json for what became of them"
        )
    lines = [
        f"filter: {counts['rejected']} of {counts['clips']} clips are rejected ({share:.0%};"
        f" filter.max_rejected_share is {config.max_rejected_share:.0%}):"
    ]
    for rule in rules:
        if rejected := report.reasons.get(rule.reason):
            quantiles = (report.metrics[f"{rule.column}_{label}"] for label in ("p05", "median", "p95"))
            low, middle, high = (f"{value:.4g}" for value in quantiles)
            lines.append(
                f"  {rejected} {rule.reason}: {rule.column} is {low} / {middle} / {high} (5 % / median / 95 %),"
                f" filter.{rule.threshold} is {getattr(config, rule.threshold):g}"
            )
    if unscored := report.reasons.get(RejectReason.UNSCORED):
        lines.append(f"  {unscored} {RejectReason.UNSCORED}: they could not be read; see reports/score.json")
    lines.append("Move these thresholds in params.yaml, or set the scorer in `score:` to score-only.")
    raise DataQualityError("\n".join(lines))
