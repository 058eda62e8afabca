"""How long a step takes when every GPU has a batch of its own: as long as the slowest of them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A kind of batch: its share of all batches, and the seconds it takes one GPU."""

    share: float
    seconds: float


def mean_seconds(works: Sequence[Work]) -> float:
    """Of a batch."""
    total = sum(work.share for work in works)
    return sum(work.share * work.seconds for work in works) / total if total else 0.0


def slowest_seconds(works: Sequence[Work], gpus: int) -> float:
    """Expected seconds of the slowest of so many batches that are drawn independently.

    The largest of n draws is at most x with the probability that one is, to the power of n.
    """
    total = sum(work.share for work in works)
    below = expected = reached = 0.0
    for work in sorted(works, key=lambda each: each.seconds):
        reached += work.share / total if total else 0.0
        now = min(reached, 1.0) ** gpus
        expected += work.seconds * (now - below)
        below = now
    return expected
