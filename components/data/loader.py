"""What training draws its batches from: latents and text of one bucket at a time, addressed by position.

No state has to be saved or restored: which samples make up batch k is arithmetic (see `schedule`). Where they come
from is one of two stores with the same face: latents that lie on a disk, or videos that are encoded as they come.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.buckets import area_of
from components.data.config import BatchesConfig, keep_pair
from components.data.latents import Family, LatentManifest, LatentStore, Rows
from components.data.schedule import Schedule, SmallBucket, Stream
from components.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatentBatch:
    """One bucket's samples: latents (B, C, t, h, w), text (B, L, D), text_mask (B, L), fps (B,), size (B, 2).

    `size` is height and width in pixels. All are float32 but the mask, which is bool. `rows` are those of the bucket's
    family in the latent store.
    """

    latents: Tensor
    text: Tensor
    text_mask: Tensor
    fps: Tensor
    size: Tensor
    clip_ids: tuple[str, ...]
    bucket: str
    rows: tuple[int, ...] = ()


class SampleStore(Protocol):
    """Where samples come from."""

    @property
    def manifest(self) -> LatentManifest: ...

    def rows(self, family: Family) -> Rows:
        """Who the rows of a family are."""
        ...

    def selected(self, family: Family, selection: str) -> NDArray[np.bool_]:
        """Which of them are in a selection. Raises `UserError` for one that is empty or not known."""
        ...


class LatentBatches:
    """Batches of one training stage, addressed by position.

    Keep probabilities follow the published walk: a sample is offered to the largest resolution first, taken
    there with that bucket's probability, else offered to the next smaller one. Images and each clip length
    walk apart. The shares are exact in every epoch, which makes epochs equally long and positions plain
    arithmetic.
    """

    def __init__(
        self,
        manifest: Path,
        *,
        root: Path,
        config: BatchesConfig,
        split: str = "train",
        store: SampleStore | None = None,
    ) -> None:
        """`store` is where samples come from, by default the latents that the manifest names.

        Raises `UserError` when no bucket has samples, or one is too small and the policy refuses, and for a selection
        that is empty or not known.
        """
        self.store: SampleStore = store or LatentStore(manifest, root=root, captions=config.captions)
        if config.selection is not None:
            self.store.manifest.require_selection(config.selection)
        self.config = config
        self._opened = _open_streams(self.store, config, split)
        if not self._opened:
            have = ", ".join(sorted({f"{f.resolution} x {f.frames}" for f in self.store.manifest.families}))
            of = "" if config.selection is None else f" of the selection `{config.selection}`"
            raise UserError(
                f"none of the requested buckets has {split} samples{of}; {manifest} holds {have or 'no latents'}."
                " Ask for one of these in `batches.buckets`, or add the bucket to `encode`"
            )
        for opened in self._opened:
            _check_fill(opened.stream, config.small_bucket)
        policy = cast(SmallBucket, config.small_bucket)
        streams = [opened.stream for opened in self._opened]
        self.schedule = Schedule(streams, seed=config.seed, small_bucket=policy)

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that batches come from."""
        return tuple(opened.family for opened in self._opened)

    @property
    def samples(self) -> int:
        """Samples per epoch."""
        return sum(opened.stream.kept for opened in self._opened)

    def batch(self, position: int) -> LatentBatch:
        """The batch at a position, counted from 0 over all epochs."""
        family, rows = self.chosen(position)
        assert isinstance(self.store, LatentStore)
        return read_batch(self.store, family, rows)

    def chosen(self, position: int) -> tuple[Family, NDArray[np.int64]]:
        """The bucket of the batch at a position, and the rows of its samples."""
        index, taken = self.schedule.at(position)
        return self._opened[index].family, self._opened[index].rows[taken]


def read_batch(store: LatentStore, family: Family, rows: NDArray[np.int64]) -> LatentBatch:
    """These rows of a family, with their conditions."""
    latents, text, mask = store.read(family, rows.tolist())
    count = len(rows)
    size = torch.tensor([family.height, family.width], dtype=torch.float32).expand(count, 2)
    fps = torch.full((count,), float(store.manifest.fps))
    return LatentBatch(
        latents,
        text,
        mask,
        fps,
        size,
        tuple(store.rows(family).clip_ids(rows)),
        family.key,
        tuple(int(row) for row in rows),
    )


def requested(manifest: LatentManifest, config: BatchesConfig) -> Iterator[tuple[Family, int]]:
    """The families of the buckets that a stage asks for, with their batch sizes."""
    for family in manifest.families:
        keep, size = config.buckets.get(family.resolution, {}).get(family.frames, (0.0, 1))
        if math.prod(keep_pair(keep)) > 0:
            yield family, size


def first_of_each(
    store: LatentStore, config: BatchesConfig, *, split: str, count: int
) -> Iterator[LatentBatch]:
    """At most `count` samples of each requested bucket in batches, by clip id: the same in every run on this data.

    They are of all clips, whatever selection the stage learns from, so that the losses of stages compare.
    """
    for family, size in requested(store.manifest, config):
        every = store.rows(family)
        chosen = every.in_split(split)
        order = chosen[np.argsort(every.keys[chosen], kind="stable")][:count]
        for start in range(0, len(order), size):
            yield read_batch(store, family, order[start : start + size])


@dataclass(frozen=True)
class _Opened:
    """A stream, and where its samples lie."""

    stream: Stream
    family: Family
    rows: NDArray[np.int64]  # of the family


def _open_streams(store: SampleStore, config: BatchesConfig, split: str) -> list[_Opened]:
    """Streams of all requested families that have samples, larger resolutions first."""
    wanted = {
        (size, frames): bucket
        for size, lengths in config.buckets.items()
        for frames, bucket in lengths.items()
    }
    opened: list[_Opened] = []
    seen: set[tuple[str, int]] = set()
    for family in sorted(store.manifest.families, key=lambda family: -area_of(family.resolution)):
        keep, batch = wanted.get((family.resolution, family.frames), (0.0, 1))
        share = math.prod(keep_pair(keep))
        chosen = _chosen(store, family, config, split) if share > 0 else np.array([], dtype=np.int64)
        if not len(chosen):
            continue
        seen.add((family.resolution, family.frames))
        same = [i for i, other in enumerate(opened) if _same_walk(other.family, family)]
        offered = len(chosen) - sum(opened[i].stream.kept for i in same)
        if offered <= 0:
            log.warning("bucket %s gets nothing: larger resolutions keep every sample", family.name)
            continue
        kept = min(max(round(share * offered), 1), offered)
        samples = store.rows(family).samples()[chosen]
        stream = Stream(family.name, samples, kept, batch, same[-1] if same else None)
        opened.append(_Opened(stream, family, chosen))
    for resolution, frames in sorted(set(wanted) - seen):
        if math.prod(keep_pair(wanted[resolution, frames][0])) > 0:
            log.warning(
                "bucket %s with %d frames has no %s samples; it is left out", resolution, frames, split
            )
    return opened


def _chosen(store: SampleStore, family: Family, config: BatchesConfig, split: str) -> NDArray[np.int64]:
    """The rows of a family that a stage may draw."""
    rows = store.rows(family).in_split(split)
    if config.selection is None:
        return rows
    return rows[store.selected(family, config.selection)[rows]]


def _same_walk(one: Family, other: Family) -> bool:
    return (one.frames, one.aspect) == (other.frames, other.aspect)


def _check_fill(stream: Stream, policy: str) -> None:
    """Log how full a bucket is; raises `UserError` when it cannot fill a batch and the policy is `refuse`."""
    name, kept, batch = stream.name, stream.kept, stream.batch
    if kept >= batch:
        left = kept % batch if policy != "merge" else 0
        rest = f", {left} of them left over, others in each epoch" if left else ""
        log.info("bucket %s  %d samples an epoch, batch %d%s", name, kept, batch, rest)
    elif policy == "refuse":
        raise UserError(
            f"bucket {name} keeps {kept} samples, less than its batch of {batch}; lower the batch,"
            " add clips, or set `small_bucket` to repeat or merge"
        )
    elif policy == "repeat":
        log.warning("bucket %s  %d samples, repeated to fill a batch of %d", name, kept, batch)
    else:
        log.warning("bucket %s  %d samples: a batch of %d takes several epochs", name, kept, batch)
