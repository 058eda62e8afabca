"""Which samples make up batch k: arithmetic on (seed, epoch, position), with nothing to save or restore.

A run that resumes, or runs on another number of devices, asks for the positions it needs and gets exactly
what the uninterrupted run would have had. A stream is one bucket's samples; the schedule mixes the streams
within an epoch.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
SmallBucket = Literal["repeat", "merge", "refuse"]


@dataclass(frozen=True, eq=False)
class Stream:
    """One bucket: `kept` of its samples make up an epoch, in batches of `batch`.

    `samples` names them equally at all resolutions, by numbers or strings; `above` is the stream of the next
    larger resolution, whose samples of the epoch are not taken again here.
    """

    name: str
    samples: Sequence[Any] | NDArray[Any]
    kept: int
    batch: int
    above: int | None = None


def permutation(seed: int, epoch: int, name: str, count: int) -> Indices:
    """The order of `count` things in an epoch; `name` tells streams of one seed apart."""
    return np.random.default_rng([seed % 2**63, epoch, *name.encode()]).permutation(count)


class Schedule:
    """Batches addressed by position, counted from 0 over all epochs.

    `merge` carries what is left over of a stream into the next epoch, so every sample comes once an epoch on
    average and a stream below one batch needs several epochs for it. The other policies drop a remainder
    (other samples are left over in the next epoch) and repeat a stream that is below one batch to fill it.
    """

    def __init__(self, streams: Sequence[Stream], *, seed: int, small_bucket: SmallBucket) -> None:
        self.streams = tuple(streams)
        self.seed = seed
        self.merges = small_bucket == "merge"
        self._plan = lru_cache(maxsize=4)(self._make_plan)
        self._taken = lru_cache(maxsize=4 * len(self.streams))(self._take)

    def at(self, position: int) -> tuple[int, Indices]:
        """(stream, its samples) of the batch at a position."""
        epoch = self.epoch_of(position)
        index, number = self._plan(epoch)[position - self.batches_before(epoch)]
        stream = self.streams[index]
        places = np.arange(number * stream.batch, (number + 1) * stream.batch)
        if not self.merges:
            first = self._stream_batches(stream, epoch) * stream.batch
            return index, self._taken(index, epoch)[(places - first) % stream.kept]
        epochs, offsets = places // stream.kept, places % stream.kept
        taken = [self._taken(index, int(e))[offset] for e, offset in zip(epochs, offsets, strict=True)]
        return index, np.array(taken, dtype=np.int64)

    def epoch_of(self, position: int) -> int:
        """The epoch that a position lies in; with `merge`, the one in which its batch becomes full."""
        if not self.merges:
            return position // self.batches_before(1)
        rate = sum(stream.kept / stream.batch for stream in self.streams)
        later = int((position + len(self.streams) + 1) / rate) + 1  # a batch per stream may be unfinished
        return bisect_right(range(later + 1), position, key=self.batches_before) - 1

    def batches_before(self, epoch: int) -> int:
        """Batches of all streams in epochs 0..epoch-1."""
        return sum(self._stream_batches(stream, epoch) for stream in self.streams)

    def _stream_batches(self, stream: Stream, epoch: int) -> int:
        if self.merges:
            return epoch * stream.kept // stream.batch
        return epoch * max(1, stream.kept // stream.batch)

    def _make_plan(self, epoch: int) -> list[tuple[int, int]]:
        """(stream, number of its batch) in the order of the epoch; numbers count over all epochs."""
        batches = [
            (index, number)
            for index, stream in enumerate(self.streams)
            for number in range(self._stream_batches(stream, epoch), self._stream_batches(stream, epoch + 1))
        ]
        return [batches[place] for place in permutation(self.seed, epoch, "schedule", len(batches))]

    def _take(self, index: int, epoch: int) -> Indices:
        """The samples that a stream keeps in an epoch, in order."""
        stream = self.streams[index]
        order = permutation(self.seed, epoch, stream.name, len(stream.samples))
        gone = self._taken_above(stream, epoch)
        if gone:
            order = order[~np.isin(np.asarray(stream.samples)[order], np.concatenate(gone))]
        return order[: stream.kept]

    def _taken_above(self, stream: Stream, epoch: int) -> list[NDArray[Any]]:
        """The samples that larger resolutions keep in an epoch."""
        gone = []
        while stream.above is not None:
            above = self.streams[stream.above]
            gone.append(np.asarray(above.samples)[self._taken(stream.above, epoch)])
            stream = above
        return gone
