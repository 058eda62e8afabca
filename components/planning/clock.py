"""How long a step takes when every GPU, or group of GPUs, has a batch of its own: as long as the slowest of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from components.training.config import LoopConfig


@dataclass(frozen=True)
class Work:
    """A kind of batch: its share of all batches, and the seconds it takes one GPU."""

    share: float
    seconds: float


def accumulation_on(config: LoopConfig, gpus: int) -> int:
    """Batches of a step that each GPU takes; rounded up where they cannot share them equally."""
    if config.step_batches is None:
        return config.accumulation
    return -(-config.step_batches // readers_on(config, gpus))


def refusal(config: LoopConfig, gpus: int) -> str:
    """Why training will not start on so many GPUs; empty where it will."""
    group = config.sequence_parallel
    if gpus % group:
        return f"its sequence_parallel of {group} does not divide {gpus} GPUs"
    batches, readers = config.step_batches, readers_on(config, gpus)
    if batches is None or batches % readers == 0:
        return ""
    fewer = max(count for count in range(1, readers) if batches % count == 0)
    return f"{gpus} processes cannot share its step_batches of {batches} equally; {fewer * group} can"


def readers_on(config: LoopConfig, gpus: int) -> int:
    """How many batches so many GPUs have at a time: each has one of its own, or shares one with others."""
    return max(1, gpus // config.sequence_parallel)


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
