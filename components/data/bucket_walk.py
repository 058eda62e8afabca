"""Assignment of clips to buckets as published with Open-Sora 1.2: at most one bucket per clip and epoch.

Resolutions are walked from large to small. At each, a video takes the first length, from long to short, that
it is longer than; where a keep is a pair, that length is passed over with probability 1 - p_time. It is then
accepted with probability p, or offered to the next smaller resolution, not to a shorter length. An image
needs an entry of one frame. What no bucket accepts is not seen in that epoch.

Draws are a function of (seed, epoch, clip, bucket), so they depend neither on the order of the rows nor on
how many processes ask. All clips are walked at once as arrays: a million take seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.buckets import COVERED, area_of
from components.data.config import BatchesConfig, keep_pair

Counts = NDArray[np.int64]
TAKEN, TOO_SMALL, TOO_SHORT, NOT_DRAWN, NO_IMAGES = range(5)
REASONS = {
    TOO_SMALL: "too_small",  # covers no resolution
    TOO_SHORT: "too_short",  # covers one, and is longer than none of its lengths
    NOT_DRAWN: "not_drawn",  # fits a bucket; the keep probabilities passed it over in this epoch
    NO_IMAGES: "no_image_bucket",  # an image where no resolution that it covers has an entry of one frame
}
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


@dataclass(frozen=True)
class Geometries:
    """Clips as arrays: a number that identifies each, its size in pixels, its frames at the sampling rate."""

    keys: NDArray[np.uint64]
    heights: Counts
    widths: Counts
    frames: Counts  # 1 for an image

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Slot:
    """A bucket without its aspect: what has a keep probability and a batch size."""

    resolution: str
    frames: int
    keep: float
    keep_length: float  # chance that this length is considered at all
    batch: int


@dataclass(frozen=True)
class Walked:
    """For each clip the index of its slot, or -1, and what became of it."""

    slots: tuple[Slot, ...]
    taken: Counts
    outcome: NDArray[np.int8]

    def reasons(self) -> dict[str, int]:
        """Clips that no bucket took, by reason."""
        found = np.bincount(self.outcome, minlength=len(REASONS) + 1)
        return {name: int(found[code]) for code, name in REASONS.items() if found[code]}


def slots_of(config: BatchesConfig) -> tuple[Slot, ...]:
    """The slots in the order of the walk."""
    return tuple(
        Slot(resolution, frames, *keep_pair(keep), batch)
        for resolution in sorted(config.buckets, key=area_of, reverse=True)
        for frames, (keep, batch) in sorted(config.buckets[resolution].items(), reverse=True)
    )


def walk(clips: Geometries, config: BatchesConfig, *, epoch: int) -> Walked:
    """Assign every clip for an epoch."""
    slots = slots_of(config)
    taken = np.full(len(clips), -1, dtype=np.int64)
    covered = np.zeros(len(clips), dtype=np.bool_)
    fitted = np.zeros(len(clips), dtype=np.bool_)
    area = clips.heights * clips.widths
    for resolution in dict.fromkeys(slot.resolution for slot in slots):
        large = area >= COVERED * area_of(resolution)
        covered |= large
        fitting = large & (taken < 0)  # clips that have not met their length at this resolution
        for index, slot in enumerate(slots):
            if slot.resolution != resolution:
                continue
            met = fitting & _fits(clips.frames, slot)
            fitted |= met
            met &= draws(clips.keys, config.seed, epoch, 2 * index) < slot.keep_length
            fitting &= ~met
            taken[met & (draws(clips.keys, config.seed, epoch, 2 * index + 1) < slot.keep)] = index
    outcome = np.select(
        [taken >= 0, ~covered, fitted, clips.frames == 1],
        [TAKEN, TOO_SMALL, NOT_DRAWN, NO_IMAGES],
        TOO_SHORT,
    )
    return Walked(slots, taken, outcome.astype(np.int8))


def _fits(frames: Counts, slot: Slot) -> NDArray[np.bool_]:
    """Images fit one frame, videos every length that they are longer than."""
    return frames == 1 if slot.frames == 1 else frames > slot.frames


def draws(keys: NDArray[np.uint64], seed: int, epoch: int, purpose: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one per key: splitmix64's mixing function over all that they depend on."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is what is wanted
        state = np.zeros_like(keys)
        for part in (seed % 2**63, epoch, purpose):
            state = _mixed(state + np.uint64(part) * _GOLDEN + _GOLDEN)
        mixed = _mixed(state ^ _mixed(keys + _GOLDEN))
    uniform: NDArray[np.float64] = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    return uniform


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for shift, factor in _MIX:
        values = (values ^ (values >> np.uint64(shift))) * factor
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def keys_of(clip_ids: Sequence[str]) -> NDArray[np.uint64]:
    """The 16 hexadecimal digits of each clip id as a number."""
    numbers: NDArray[Any] = np.fromiter((int(each, 16) for each in clip_ids), np.uint64, len(clip_ids))
    return numbers
