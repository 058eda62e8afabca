"""Which buckets a stage's batches come from: told from the clip table, or from clips that are assumed."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.data.bucket_walk import slots_of
from components.data.buckets import Bucket, area_of, buckets_of, sides
from components.data.config import BatchesConfig, EncodeConfig
from components.data.forecast import Forecast, Request, Row, Walk, by_length, forecast, read_clips
from components.errors import ContractError
from components.params import Params

CLIPS = 20_000
IMAGES = 0.1  # of them (Open-Sora 1.2: about 3 M images beside 30 M clips)
ASPECT = "9:16"  # height:width


@dataclass(frozen=True)
class Slot:
    """One bucket of a stage in its most frequent aspect. `share`: of the stage's batches."""

    bucket: Bucket
    batch: int
    share: float


@dataclass(frozen=True)
class Mix:
    """Buckets of a stage, largest share first where there are several aspects."""

    slots: tuple[Slot, ...]
    not_encoded: tuple[tuple[str, int], ...]  # (resolution, frames) that `encode` makes no latents of
    forecast: Forecast


def clips_at_hand(root: Path) -> pa.Table | None:
    """The newest clip table of a workspace, if one has been made."""
    try:
        clips = read_clips(root)
    except ContractError:
        return None
    return clips if len(clips) else None


@cache
def assumed_clips(shortest: float, longest: float, video: int, image: int) -> pa.Table:
    """Clips as long as the splitter may make them, all lengths alike, large enough for buckets of so many pixels.

    `video` and `image` are the areas of the largest buckets that a stage asks for.
    """
    count = round(CLIPS * (1 - IMAGES))
    seconds = np.concatenate([np.linspace(shortest, longest, count), np.ones(CLIPS - count)])
    videos = np.arange(CLIPS) < count
    areas = np.where(videos, video, image)
    return pa.table(
        {
            "clip_id": [f"{index:016x}" for index in range(CLIPS)],
            "height": np.ceil(np.sqrt(areas * 9 / 16)).astype(np.int64),
            "width": np.ceil(np.sqrt(areas * 16 / 9)).astype(np.int64),
            "start_seconds": np.zeros(CLIPS),
            "end_seconds": seconds,
            "frames": np.where(videos, 2, 1),
            "split": ["train"] * CLIPS,
        }
    )


def clips_for(params: Params, batches: BatchesConfig) -> pa.Table:
    """The assumed clips of a stage."""
    wanted = [slot for slot in slots_of(batches) if slot.keep * slot.keep_length > 0]
    areas = {
        kind: max((area_of(slot.resolution) for slot in wanted if (slot.frames > 1) == kind), default=1)
        for kind in (True, False)
    }
    split = params.split
    return assumed_clips(split.min_seconds, split.max_seconds, areas[True], areas[False])


def mix_of(request: Request, clips: pa.Table, walk: Walk) -> Mix:
    """The buckets of a stage with a share of its batches; those that no clip reaches have none."""
    found = forecast(clips, request, walk)
    batches, rows = found.batches or 1.0, by_length(found.rows)
    groups = {(resolution, frames): group for resolution, frames, group in rows}
    made = {(bucket.resolution, bucket.frames) for bucket in buckets_of(request.encode.buckets)}
    slots, missing = [], []
    for slot in slots_of(request.batches):
        key = (slot.resolution, slot.frames)
        if slot.keep * slot.keep_length <= 0:
            continue
        if key not in made:
            missing.append(key)
            continue
        group = groups.get(key, [])
        share = sum(row.batches for row in group) / batches
        slots.append(Slot(_bucket(key, group, request.encode), slot.batch, share))
    return Mix(tuple(slots), tuple(missing), found)


def _bucket(key: tuple[str, int], rows: list[Row], encode: EncodeConfig) -> Bucket:
    """The shape that most samples of a bucket have."""
    config, (resolution, frames) = encode.buckets, key
    usual = ASPECT if ASPECT in config.aspects else config.aspects[0]
    aspect = max(rows, key=lambda row: row.kept).aspect if rows else usual
    return Bucket(resolution, frames, aspect, *sides(resolution, aspect, config.multiple))
