"""What a threshold costs, asked of the stored scores: how many clips each value of it would keep.

The scores lie in the clip table, so no video is opened and nothing is written: each metric is sorted once,
and then any number of thresholds is a look-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data import store
from components.data.config import FilterConfig, Scorer
from components.data.filter import (
    MOVING,
    RULES,
    Marks,
    Rule,
    Values,
    enabled_rules,
    judge,
    quarantined,
    read_scores,
    select,
    still_clips,
    taken_down,
    wanted_rules,
)
from components.errors import UserError

SCORED = Path("artifacts/clips/score.json")
RANGE = (0.01, 0.99)  # quantiles that a sweep covers if it is not told otherwise


@dataclass(frozen=True)
class Trial:
    """One value of a threshold. `alone`: clips that its rule keeps; `joint`: clips that all rules keep."""

    threshold: float
    alone: int
    joint: int
    current: bool = False


@dataclass(frozen=True)
class Sweep:
    """The trials of one rule, from the value that keeps most to the one that keeps least."""

    rule: Rule
    clips: int
    scored: int
    mode: str  # of the scorer: one that is not `enable` would have to be switched first
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Range:
    """Thresholds to try: `steps` even values between two bounds, which default to quantiles of the scores."""

    low: float | None = None
    high: float | None = None
    steps: int = 9


def sweep_table(
    root: Path, config: FilterConfig, metric: str | None = None, values: Range | None = None
) -> list[Sweep]:
    """A sweep per rule that has scores and a threshold, or of a metric's rules.

    Raises `UserError` for a metric that no rule looks at, or that no clip has a score of.
    """
    path = root / SCORED
    manifest = store.Manifest.read(path)
    rules = matching_rules(metric) if metric else wanted_rules(config)
    scores = read_scores(root, path)
    enabled = enabled_rules(config, manifest)
    modes = manifest.notes.get("score", {})
    stills, gone = still_clips(root, path), taken_down(root, path) | quarantined(root, path)
    found = []
    for rule in rules:
        known = scores.get(rule.column)
        if known is None or np.isnan(known).all():
            continue
        others = tuple(other for other in enabled if other is not rule)
        against: Marks = judge(scores, others, config, stills=stills).any(axis=1) | gone
        spared = spared_by(rule, known, stills)
        current = getattr(config, rule.threshold)
        asked = thresholds(known, values or Range(), current)
        trials = try_thresholds(known, spared, against, rule, asked)
        marked = tuple(
            Trial(trial.threshold, trial.alone, trial.joint, trial.threshold == current) for trial in trials
        )
        mode = str(modes.get(rule.scorer, Scorer.ENABLE))
        found.append(Sweep(rule, len(known), int((~np.isnan(known)).sum()), mode, marked))
    if not found:
        named = metric or "any of " + ", ".join(dict.fromkeys(rule.column for rule in RULES))
        raise UserError(f"no clip has a score of {named}: switch its scorer on in `score:` and run the stage")
    return found


def selection_counts(root: Path, config: FilterConfig) -> dict[str, int | None]:
    """How many clips each named selection would have; None for one that asks for a score that no clip has."""
    path = root / SCORED
    scores = read_scores(root, path)
    rules = enabled_rules(config, store.Manifest.read(path))
    gone = taken_down(root, path) | quarantined(root, path)
    passed = ~(judge(scores, rules, config, stills=still_clips(root, path)).any(axis=1) | gone)
    counts: dict[str, int | None] = {}
    for name, selection in config.selections.items():
        alone = config.model_copy(update={"selections": {name: selection}})
        try:
            counts[name] = int(select(root, path, scores, alone, passed)[name].sum())
        except UserError:
            counts[name] = None
    return counts


def matching_rules(metric: str) -> tuple[Rule, ...]:
    """Rules of a score, a scorer or a threshold of that name, whether the threshold is set or not."""
    rules = tuple(rule for rule in RULES if metric in (rule.column, rule.scorer, rule.threshold))
    if not rules:
        known = ", ".join(dict.fromkeys(rule.column for rule in RULES))
        raise UserError(f"no rule of the filter looks at `{metric}`; metrics: {known}")
    return rules


def thresholds(values: Values, asked: Range, current: float | None) -> list[float]:
    """Even values over the range, and the current one where it lies in it or the range was not given."""
    known = values[~np.isnan(values)]
    low, high = (float(bound) for bound in np.quantile(known, RANGE))
    low = low if asked.low is None else asked.low
    high = high if asked.high is None else asked.high
    if low > high:
        raise UserError(
            f"the range of a sweep goes from {low:g} up to {high:g}: the first bound is the smaller"
        )
    even = [float(f"{value:.4g}") for value in np.linspace(low, high, max(asked.steps, 1))]
    open_range = asked.low is None and asked.high is None
    extra = [current] if current is not None and (open_range or low <= current <= high) else []
    return sorted({*even, *extra})


def spared_by(rule: Rule, values: Values, stills: Marks | None) -> Marks:
    """Clips that the rule never rejects: pictures where it asks for motion, and those that need no such score."""
    spared = np.isnan(values) & (not rule.complete)
    return spared if stills is None or rule.scorer not in MOVING else spared | stills


def try_thresholds(
    values: Values, spared: Marks, against: Marks, rule: Rule, asked: Sequence[float]
) -> list[Trial]:
    """What each threshold keeps. `against` marks the clips that another rule rejects."""
    alone = _kept(values[~spared], rule, asked) + spared.sum()
    joint = _kept(values[~spared & ~against], rule, asked) + (spared & ~against).sum()
    trials = [
        Trial(threshold, int(one), int(both))
        for threshold, one, both in zip(asked, alone, joint, strict=True)
    ]
    return trials if rule.bound == "min" else trials[::-1]


def _kept(values: Values, rule: Rule, asked: Sequence[float]) -> NDArray[np.int64]:
    """How many values are not on the wrong side of each threshold; a missing value is never kept."""
    known = np.sort(values[~np.isnan(values)])
    limits = np.asarray(asked, dtype=np.float32)
    if rule.bound == "min":
        return len(known) - np.searchsorted(known, limits, side="left").astype(np.int64)
    return np.searchsorted(known, limits, side="right").astype(np.int64)
