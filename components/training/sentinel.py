"""Steps that must not reach the weights: a loss or gradient that is not finite, or far above its recent values.

All processes judge the same numbers, after the last backward pass and before the optimizer. A broken step is not
applied: the run goes back to a state before the steps it distrusts, leaves their batches out, and names their samples
for curation (see `incidents`). Which batches are left out is all that the rest of the run depends on, so its weights
are those of a run that never had them.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from components.training.config import SentinelConfig

TO_DEVIATION = (
    1.4826  # the median absolute deviation of normal values, times this, is their standard deviation
)
LEAST_SCALE = 0.1  # of logarithms: no value below exp(spike * 0.1) times the median is a spike
BLAMED = 10.0  # a sample with a loss of so many medians of its batch is to blame alone


@dataclass(frozen=True)
class Measured:
    """One optimizer step before it is applied: the loss of each process, and the norm of the common gradient."""

    losses: Sequence[float]
    norm: float

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a step, and the processes whose batches are to blame."""

    reason: str
    ranks: tuple[int, ...]
    usual_loss: float | None  # medians of the steps before; None where there were none
    usual_norm: float | None


class Sentinel:
    """Judges steps by the ones before them, whose values are its state."""

    def __init__(self, config: SentinelConfig, state: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.losses: list[float] = list(state["losses"]) if state else []
        self.norms: list[float] = list(state["norms"]) if state else []

    def judge(self, step: Measured) -> Finding | None:
        """What is wrong, or None. The same on all processes, which see the same numbers."""
        broken = tuple(rank for rank, loss in enumerate(step.losses) if not math.isfinite(loss))
        if broken:
            return self._finding("the loss is not finite", broken)
        everyone = tuple(range(len(step.losses)))
        if not math.isfinite(step.norm):
            return self._finding("the gradient is not finite", everyone)
        if self.config.spike is None or len(self.losses) < self.config.window:
            return None
        if deviation(step.loss, self.losses) > self.config.spike:
            high = tuple(r for r in everyone if deviation(step.losses[r], self.losses) > self.config.spike)
            return self._finding("the loss is far above its recent values", high or everyone)
        if deviation(step.norm, self.norms) > self.config.spike:
            return self._finding("the gradient is far above its recent values", everyone)
        return None

    def accept(self, step: Measured) -> None:
        """Take in a step that was applied."""
        for values, value in ((self.losses, step.loss), (self.norms, step.norm)):
            values.append(value)
            del values[: -self.config.window]

    def state(self) -> dict[str, Any]:
        """For JSON, which keeps every digit."""
        return {"losses": list(self.losses), "norms": list(self.norms)}

    def _finding(self, reason: str, ranks: tuple[int, ...]) -> Finding:
        return Finding(reason, ranks, _median(self.losses), _median(self.norms))


def deviation(value: float, before: Sequence[float]) -> float:
    """How many robust standard deviations `value` is above the median of `before`.

    Of logarithms where all are positive, since losses and norms vary by factors; else of the values themselves.
    """
    if value > 0 and min(before) > 0:
        value, values, least = math.log(value), [math.log(one) for one in before], LEAST_SCALE
    else:
        values, least = list(before), LEAST_SCALE * max(sys.float_info.min, *(abs(one) for one in before))
    middle = median(values)
    scale = TO_DEVIATION * median([abs(one - middle) for one in values])
    return (value - middle) / max(scale, least)


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


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
