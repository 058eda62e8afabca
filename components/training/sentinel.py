"""Steps that must not reach the weights: a loss or gradient that is not finite, or far above those of its kind.

All processes judge the same numbers, after the last backward pass and before the optimizer. A broken step is not
applied; what becomes of the run is decided in `guard`.

Losses are compared within a kind of batch (a bucket: pictures and long clips have losses of their own), gradients
within steps of one kind. A value deviates by the logarithm of its ratio to the median of the last values of its kind.
It is a spike where that is more than `spike` times, and several times the deviation that the kind has shown itself: so
the limit follows the noise and the tail of each kind. Where that tail is a power law, whatever its index, an honest
value passes for a spike about once in 10^4 times; for log-normal noise the odds are below 10^-9. A kind is judged from
its 12th value on, by a limit that is wide at first.
"""

import math
import sys
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from components.training.config import SentinelConfig

RECENT = 32  # values that the median is taken of
BEGUN = 4  # of them, before deviations are taken
LEAST = 8  # deviations, before a value is judged
WIDER = 64  # with so many deviations the limit is twice what it is with very many
REACH = 2.0  # times the largest usual deviation, with very many
MANY = 128  # deviations: the third largest counts from here on, the second before
GRADIENT = 4.0  # a gradient norm may be so many times `spike`: clipping bounds what it does
EXTREME = 10.0  # times the largest loss that was accepted: no leniency goes so far
OF_A_STEP = 8  # values of a kind that one step adds, so that the last ones come from several steps
SEVERAL = "several kinds"
BLAMED = 10.0  # a sample with a loss of so many medians of its batch is to blame alone


@dataclass(frozen=True)
class Batch:
    """What one batch of an optimizer step came to; `kind` and `terms` as in `program.StepResult`."""

    loss: float
    kind: str = ""
    terms: str = ""


@dataclass(frozen=True)
class Measured:
    """One optimizer step before it is applied: its batches in the order of the data, and the norm of their gradient."""

    batches: Sequence[Batch]
    norm: float

    @property
    def loss(self) -> float:
        return fmean(batch.loss for batch in self.batches)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a step, and the batches to blame, as they are numbered in `Measured`."""

    reason: str
    batches: tuple[int, ...]
    usual_loss: float | None  # of the first of these, and of such a gradient; None where none came before
    usual_norm: float | None
    series: str = ""  # that judged it; empty where no number was needed


class Series:
    """The last values of one kind, and how far each was from the median of those before it."""

    def __init__(self, window: int, state: Mapping[str, Any] | None = None) -> None:
        self.window = window
        # a value was not positive: differences instead of ratios
        self.signed = bool(state and state["signed"])
        self.recent: deque[float] = deque(state["recent"] if state else (), maxlen=RECENT)
        self.deviations: deque[float] = deque(state["deviations"] if state else ())
        self._ordered = sorted(self.deviations)
        self._measure()

    def deviation(self, value: float) -> float:
        """How far a value is above the median of the last ones."""
        if self.usual is None:
            return 0.0
        if not self.signed:
            return math.log(value / self.usual) if value > 0 else -math.inf
        return (value - self.usual) / self._size

    def is_spike(self, value: float, times: float, lenience: int) -> bool:
        """True for a value above `times` the usual one and far out of the others.

        Each count of `lenience` doubles what is far.
        """
        seen = len(self._ordered)
        if seen < LEAST:
            return False
        quarter = (self._ordered[3 * seen // 4] - self._ordered[seen // 4]) / 2
        largest = max(self._ordered[-3 if seen >= MANY else -2], quarter)
        far = REACH * (1 + WIDER / seen) * largest
        least = times - 1 if self.signed else math.log(times)
        found = self.deviation(value)
        if found <= max(least, far):
            return False
        return found > far * 2**lenience or value > EXTREME * max(map(abs, self.recent))

    def _measure(self) -> None:
        """The median of the last values, and how large they are."""
        self.usual = median(self.recent) if self.recent else None
        self._size = max(fmean(map(abs, self.recent)), sys.float_info.min) if self.signed else 1.0

    def add(self, value: float) -> None:
        """Take in a value of a step that was applied."""
        if value <= 0 and not self.signed:
            self.signed = True
            self.deviations.clear()
            self._ordered.clear()
        if len(self.recent) >= BEGUN:
            deviation = self.deviation(value)
            self.deviations.append(deviation)
            insort(self._ordered, deviation)
            if len(self.deviations) > self.window:
                del self._ordered[bisect_left(self._ordered, self.deviations.popleft())]
        self.recent.append(value)
        self._measure()

    def state(self) -> dict[str, Any]:
        """For JSON, which keeps every digit."""
        return {"signed": self.signed, "recent": list(self.recent), "deviations": list(self.deviations)}


class Sentinel:
    """Judges steps by the ones before them, whose values are its state."""

    def __init__(self, config: SentinelConfig, state: Mapping[str, Any] | None = None) -> None:
        self.config = config
        known = (state or {}).get("series", {})
        self.series = {name: Series(config.window, one) for name, one in known.items()}

    def judge(self, step: Measured, lenience: Mapping[str, int] | None = None) -> Finding | None:
        """What is wrong, or None. The same on all processes, which see the same numbers.

        lenience: how many values of a series were lately refused and stood alone (see `Series.is_spike`).
        """
        everyone = tuple(range(len(step.batches)))
        broken = tuple(i for i, batch in enumerate(step.batches) if not math.isfinite(batch.loss))
        if broken:
            return self._finding("the loss is not finite", step, broken)
        if not math.isfinite(step.norm):
            return self._finding("the gradient is not finite", step, everyone)
        if self.config.spike is None:
            return None
        allowed = lenience or {}
        losses = [_loss_series(batch) for batch in step.batches]
        high = tuple(
            i for i in everyone if self._is_high(losses[i], step.batches[i].loss, self.config.spike, allowed)
        )
        if high:
            reason = "the loss is far above those of its kind"
            return self._finding(reason, step, high, losses[high[0]])
        for name, value, reason, times in self._of_all(step):
            if self._is_high(name, value, times * self.config.spike, allowed):
                return self._finding(reason, step, everyone, name)
        return None

    def accept(self, step: Measured) -> None:
        """Take in a step that was applied."""
        shared = self._of_all(step)
        added: dict[str, int] = {}
        for batch in step.batches:
            name = _loss_series(batch)
            added[name] = added.get(name, 0) + 1
            if added[name] <= OF_A_STEP:
                self._add(name, batch.loss)
        for name, value, _, _ in shared:
            self._add(name, value)

    def state(self) -> dict[str, Any]:
        """For JSON."""
        return {"series": {name: one.state() for name, one in self.series.items()}}

    def _of_all(self, step: Measured) -> list[tuple[str, float, str, float]]:
        """Series, value, reason and factor of what is judged once a step.

        Of several batches that is also the mean of their losses, each over what is usual in its kind: a rise on all
        processes is seen in it long before it stands out on one.
        """
        found = []
        if len(step.batches) > 1:
            usual = [(batch.loss, self._usual(_loss_series(batch))) for batch in step.batches]
            known = [loss / often for loss, often in usual if often is not None and often > 0]
            if len(known) == len(usual):
                name = f"all losses {_terms(step)}".rstrip()
                found.append((name, fmean(known), "the losses are far above those before", 1.0))
        reason = "the gradient is far above those of its kind"
        return [*found, (_norm_series(step), step.norm, reason, GRADIENT)]

    def _is_high(self, name: str, value: float, times: float, lenience: Mapping[str, int]) -> bool:
        series = self.series.get(name)
        return series is not None and series.is_spike(value, times, lenience.get(name, 0))

    def _add(self, name: str, value: float) -> None:
        self.series.setdefault(name, Series(self.config.window)).add(value)

    def _usual(self, name: str) -> float | None:
        return self.series[name].usual if name in self.series else None

    def _finding(self, reason: str, step: Measured, batches: tuple[int, ...], series: str = "") -> Finding:
        loss, norm = _loss_series(step.batches[batches[0]]), _norm_series(step)
        return Finding(reason, batches, self._usual(loss), self._usual(norm), series)


def samples_to_blame(clip_ids: Sequence[str], losses: Sequence[float] | None) -> list[str]:
    """Which samples of a batch to name: those that stand out, or all where none does.

    losses: one per sample, where the program has them.
    """
    if losses is None or len(losses) != len(clip_ids):
        return sorted(set(clip_ids))
    pairs = list(zip(clip_ids, losses, strict=True))
    broken = {clip for clip, loss in pairs if not math.isfinite(loss)}
    if broken:
        return sorted(broken)
    usual = median(losses) if pairs else 0.0
    return sorted({clip for clip, loss in pairs if loss > BLAMED * usual > 0} or set(clip_ids))


class Detour:
    """Which batches an optimizer step is made of, when some are left out.

    The batches of the data are numbered in sets of one optimizer step each. Step s takes the s-th set that is not left
    out, which does not depend on when it was left out.
    """

    def __init__(self, left_out: Iterable[int] = ()) -> None:
        self.left_out = set(left_out)

    def place(self, step: int) -> int:
        """The set of batches that optimizer step `step` takes; both count from 0."""
        place = step
        for gone in sorted(self.left_out):
            place += gone <= place
        return place

    def step_at(self, place: int) -> int:
        """The optimizer step that takes `place`, or the first one after it if it is left out."""
        return place - sum(gone < place for gone in self.left_out)


def _loss_series(batch: Batch) -> str:
    return " ".join(part for part in ("loss of", batch.kind, batch.terms) if part)


def _norm_series(step: Measured) -> str:
    kinds = {batch.kind for batch in step.batches}
    kind = kinds.pop() if len(kinds) == 1 else SEVERAL
    return " ".join(part for part in ("gradient of", kind, _terms(step)) if part)


def _terms(step: Measured) -> str:
    return " | ".join(sorted({batch.terms for batch in step.batches} - {""}))
