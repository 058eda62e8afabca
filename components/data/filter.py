"""Stage `filter`: which clips are good enough, from the stored scores and nothing else.

No video is opened, so a threshold can be tried on millions of clips in seconds. A clip keeps every
reason that speaks against it, which shows what each threshold costs by itself. Whether a score may
reject is the scorer's mode, which the score stage hands over in its manifest: `score-only` is looked at
by people and never filtered.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.artifacts import StagePaths
from components.data import store
from components.data.balance import balance
from components.data.config import FilterConfig, Scorer, SelectionConfig
from components.data.reasons import RejectReason
from components.data.takedowns import QUARANTINE, TAKEDOWNS, TakedownIndex, read_takedowns
from components.errors import DataQualityError, UserError
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
    complete: bool = True  # False: a clip may rightly have no such score, and is then not judged by it


RULES = (
    Rule("motion", "motion", "min_motion", "min", RejectReason.TOO_STATIC),
    Rule("sharpness", "sharpness", "min_sharpness", "min", RejectReason.BLURRY),
    Rule("text", "text_share", "max_text_share", "max", RejectReason.TEXT_OVERLAY),
    Rule("brightness", "brightness", "min_brightness", "min", RejectReason.TOO_DARK),
    Rule("brightness", "brightness", "max_brightness", "max", RejectReason.TOO_BRIGHT),
    Rule("motion", "motion", "max_motion", "max", RejectReason.TOO_FAST),
    Rule("black", "black_share", "max_black_share", "max", RejectReason.BLACK),
    Rule("frozen", "frozen_share", "max_frozen_share", "max", RejectReason.FROZEN),
    Rule("aesthetic", "aesthetic", "min_aesthetic", "min", RejectReason.UNAESTHETIC),
    Rule("match", "match", "min_match", "min", RejectReason.CAPTION_MISMATCH, complete=False),
    Rule("size", "side", "min_side", "min", RejectReason.TOO_SMALL),
)
MOVING = ("motion", "frozen")  # scorers that say nothing about a clip of one frame
SIDES = ("height", "width")  # of which the column `side` is the smaller: it is known without a scorer
Thresholds = FilterConfig | SelectionConfig
SCORES = tuple(dict.fromkeys(rule.column for rule in RULES))
Values = NDArray[np.float32]
Scores = dict[str, Values]  # column -> value per clip, NaN where there is none
Marks = NDArray[np.bool_]


def run(config: FilterConfig, paths: StagePaths) -> Report:
    """Add the column `reasons`. Raises `DataQualityError` when no clip, or too small a share of them, is left."""
    source = paths.input("clips")
    scores = read_scores(paths.root, source)
    rules = enabled_rules(config, store.Manifest.read(source))
    judged = judge(scores, rules, config, stills=still_clips(paths.root, source))
    marks = np.column_stack([judged, taken_down(paths.root, source), quarantined(paths.root, source)])
    report = _report(scores, marks, rules, config)
    _refuse_too_few(report, rules, config)

    ids = store.read(paths.root, source, ["clip_id"])["clip_id"]
    added = pa.table({"clip_id": ids, "reasons": reason_lists(marks, rules)})
    if config.selections:
        passed: Marks = np.logical_not(marks.any(axis=1))
        chosen = select(paths.root, source, scores, config, passed)
        report.counts.update({f"selected_{name}": int(each.sum()) for name, each in chosen.items()})
        added = added.append_column("selections", name_lists(np.column_stack([*chosen.values()]), [*chosen]))
    known = dict.fromkeys(config.selections, "selection")
    store.add_columns(paths.root, source, added, STAGE, notes=known).write(paths.output("clips"))
    log.info("%d of %d clips pass  %s", report.counts["passed"], report.counts["clips"], report.reasons)
    return report


def read_scores(root: Path, manifest_path: Path) -> Scores:
    """The stored scores that rules look at; a table has those that its score stage knew."""
    known = store.Manifest.read(manifest_path).columns
    table = store.read(root, manifest_path, [name for name in SCORES if name in known])
    scores = {
        name: table[name].to_numpy(zero_copy_only=False).astype(np.float32) for name in table.column_names
    }
    if set(SIDES) <= set(known):
        sides = store.read(root, manifest_path, SIDES)
        scores["side"] = np.minimum(*(sides[name].to_numpy() for name in SIDES)).astype(np.float32)
    return scores


def select(
    root: Path, manifest_path: Path, scores: Scores, config: FilterConfig, passed: Marks
) -> dict[str, Marks]:
    """Which of the clips that passed are in each selection. Raises `UserError` for a score that nobody made."""
    stills = still_clips(root, manifest_path)
    chosen = {}
    for name, selection in config.selections.items():
        rules = wanted_rules(selection)
        for rule in rules:
            if rule.column not in scores or np.isnan(scores[rule.column]).all():
                raise UserError(
                    f"filter.selections.{name}.{rule.threshold}: no clip has a score of {rule.column};"
                    f" switch `{rule.scorer}` on in `score:`, or leave the threshold out"
                )
        against = judge(scores, rules, selection, stills=stills).any(axis=1)
        chosen[name] = passed & ~against
    return chosen


def name_lists(marks: Marks, names: Sequence[str]) -> pa.ListArray:
    """The names whose columns are marked, for each row of marks (rows, names)."""
    offsets = np.concatenate([[0], np.cumsum(marks.sum(axis=1))]).astype(np.int32)
    chosen = np.array(names, dtype=object)[np.nonzero(marks)[1]]
    return pa.ListArray.from_arrays(offsets, pa.array(chosen, pa.string()))


def enabled_rules(config: FilterConfig, manifest: store.Manifest) -> tuple[Rule, ...]:
    """The rules that have a threshold and a score whose scorer is switched to `enable`.

    A scorer that the manifest does not name is enabled.
    """
    modes = manifest.notes.get("score", {})
    return tuple(
        rule
        for rule in wanted_rules(config)
        if _is_known(rule, manifest) and modes.get(rule.scorer, Scorer.ENABLE) == Scorer.ENABLE
    )


def _is_known(rule: Rule, manifest: store.Manifest) -> bool:
    needed = SIDES if rule.column == "side" else (rule.column,)
    return set(needed) <= set(manifest.columns)


def wanted_rules(config: Thresholds) -> tuple[Rule, ...]:
    """The rules that have a threshold."""
    return tuple(rule for rule in RULES if getattr(config, rule.threshold) is not None)


def fails(values: Values, rule: Rule, threshold: float) -> Marks:
    """Which values are on the wrong side; one that equals the threshold passes, and so does a missing one."""
    limit = np.float32(threshold)
    return values < limit if rule.bound == "min" else values > limit


def judge(scores: Scores, rules: Sequence[Rule], config: Thresholds, *, stills: Marks | None = None) -> Marks:
    """(clips, rules + 1): what speaks against a clip; the last column marks clips that are `unscored`.

    A clip without a score that is filtered on could not be read when the others were. Clips that are `stills` are
    not asked how they move.
    """
    clips = len(next(iter(scores.values())))
    marks = np.zeros((clips, len(rules) + 1), dtype=np.bool_)
    for index, rule in enumerate(rules):
        asked = ~stills if stills is not None and rule.scorer in MOVING else np.ones(clips, dtype=np.bool_)
        marks[:, index] = asked & fails(scores[rule.column], rule, getattr(config, rule.threshold))
        if rule.complete:
            marks[:, -1] |= asked & np.isnan(scores[rule.column])
    return marks


def still_clips(root: Path, manifest_path: Path) -> Marks | None:
    """Which clips are pictures; None where the table does not say how long clips are."""
    if "frames" not in store.Manifest.read(manifest_path).columns:
        return None
    stills: Marks = store.read(root, manifest_path, ["frames"])["frames"].to_numpy() == 1
    return stills


def taken_down(root: Path, manifest_path: Path) -> Marks:
    """Which clips are in the list of takedowns."""
    return _listed(root, manifest_path, root / TAKEDOWNS)


def quarantined(root: Path, manifest_path: Path) -> Marks:
    """Which clips are in the list of those that training could not use."""
    return _listed(root, manifest_path, root / QUARANTINE)


def _listed(root: Path, manifest_path: Path, entries: Path) -> Marks:
    manifest = store.Manifest.read(manifest_path)
    index = TakedownIndex(read_takedowns(entries))
    if not index:
        return np.zeros(manifest.rows, dtype=np.bool_)
    columns = ["clip_id", "source", "source_digest", "licence", "start_seconds", "end_seconds"]
    rows = zip(*(store.read(root, manifest_path, [name])[name].to_pylist() for name in columns), strict=True)
    return np.array(
        [
            index.has_source(source, digest, licence) or index.has_clip(clip_id, digest, start, end)
            for clip_id, source, digest, licence, start, end in rows
        ],
        dtype=np.bool_,
    )


def reason_lists(marks: Marks, rules: Sequence[Rule]) -> pa.ListArray:
    """Reason codes of each clip, in the order of the rules; an empty list passes."""
    return name_lists(marks, _codes(rules))


def _codes(rules: Sequence[Rule]) -> list[str]:
    return [
        *(rule.reason.value for rule in rules),
        RejectReason.UNSCORED.value,
        RejectReason.TAKEN_DOWN.value,
        RejectReason.QUARANTINED.value,
    ]


def _report(scores: Scores, marks: Marks, rules: Sequence[Rule], config: FilterConfig) -> Report:
    clips, rejected = len(marks), int(marks.any(axis=1).sum())
    first = np.bincount(marks[marks.any(axis=1)].argmax(axis=1), minlength=marks.shape[1]).tolist()
    metrics: dict[str, int | float] = {"rejected_share": rejected / clips if clips else 0.0}
    for name, values in scores.items():
        if name == "side" and config.min_side is None:
            continue  # a size is no score, unless it is filtered on
        known = values[~np.isnan(values)]
        if known.size:
            for label, share in (("p05", 0.05), ("median", 0.5), ("p95", 0.95)):
                metrics[f"{name}_{label}"] = float(np.quantile(known, share))
    unfiltered = sorted({rule.scorer for rule in wanted_rules(config)} - {rule.scorer for rule in rules})
    counted = zip(_codes(rules), marks.sum(axis=0).tolist(), strict=True)
    return Report(
        stage=STAGE,
        metrics=metrics,
        counts={"clips": clips, "passed": clips - rejected, "rejected": rejected},
        reasons={code: number for code, number in sorted(counted) if number},
        notes=[f"not filtered on, by the parameters of `score`: {', '.join(unfiltered)}"]
        if unfiltered
        else [],
        balance={
            "clips": balance(
                STAGE, "clips", clips, clips - rejected, dict(zip(_codes(rules), first, strict=True))
            )
        },
    )


def _refuse_too_few(report: Report, rules: Sequence[Rule], config: FilterConfig) -> None:
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
