"""How full every bucket of a training stage will be, told from the clip table: before latents or a GPU exist.

A bucket that cannot fill a batch, and samples that fall through all of them, are what people find out about
last in bucketed training. Two walks are known: `loader` is what a run here draws, with shares that are exact
in every epoch and a clip offered at each of its lengths; `published` is the assignment of Open-Sora 1.2, one
bucket per clip and epoch, by chance.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data import store
from components.data.bucket_walk import Geometries, keys_of, walk
from components.data.buckets import ROUNDING, Bucket, area_of, assign, nearest_aspect
from components.data.config import BatchesConfig, EncodeConfig, keep_pair
from components.data.latents import holds
from components.data.mirror import may_be_mirrored
from components.data.windows import window_starts
from components.errors import ContractError, UserError
from components.params import Params
from components.stage import CLIPS
from components.stages import stages_of

Walk = Literal["loader", "published"]
SOURCES = (("dedup", "kept"), ("caption", "reasons"), ("filter", "reasons"), ("score", ""), ("split", ""))
COLUMNS = ("clip_id", "height", "width", "start_seconds", "end_seconds", "frames", "split")


@dataclass(frozen=True)
class Row:
    """A bucket in an epoch. `offered`: samples that reach it; `kept`: those that make up its epoch."""

    resolution: str
    frames: int
    aspect: str
    offered: int
    kept: int
    batch: int
    policy: str  # what happens to a bucket below one batch: repeat, merge or refuse

    @property
    def batches(self) -> float:
        """Per epoch; with `merge` what is left over goes into the next epoch, so it is a mean."""
        if self.policy == "merge":
            return self.kept / self.batch
        return max(1, self.kept // self.batch) if self.kept else 0

    @property
    def dropped(self) -> int:
        """Samples of an epoch that are left over after the last whole batch."""
        return self.kept % self.batch if self.policy != "merge" and self.kept > self.batch else 0

    @property
    def repeated(self) -> int:
        """Samples that come twice or more to fill the only batch."""
        return max(0, self.batch - self.kept) if self.policy == "repeat" and self.kept else 0

    @property
    def refused(self) -> bool:
        """True where training will not start because of this bucket."""
        return self.policy == "refuse" and 0 < self.kept < self.batch


@dataclass(frozen=True)
class Forecast:
    """The buckets of one training stage; every clip is in `used` or in one of `unused`, by reason."""

    stage: str
    clips: int
    used: int
    unused: dict[str, int]
    rows: tuple[Row, ...]
    nothing: tuple[tuple[str, int], ...]  # (resolution, frames) that were asked for and get no sample

    @property
    def batches(self) -> float:
        return sum(row.batches for row in self.rows)


@dataclass(frozen=True)
class Request:
    """A training stage, its batches, and the encode section that its latents are made by."""

    stage: str
    batches: BatchesConfig
    encode: EncodeConfig


def requests_of(params: Params, stage: str | None = None) -> list[Request]:
    """All stages that draw from buckets, or the one of that name. Raises `UserError` for an unknown one."""
    stages = stages_of(params)
    encoded = {s.outputs["latents"]: s.section for s in stages.values() if "latents" in s.outputs}
    drawing = {
        s.name: (s.section, encoded[s.inputs["latents"]])
        for s in stages.values()
        if "transformer" in s.outputs and "latents" in s.inputs
    }
    if stage is not None and stage not in drawing:
        raise UserError(f"stage `{stage}` draws from no buckets; stages that do: {', '.join(drawing)}")
    return [
        Request(name, params.section(section).batches, params.section(encode))
        for name, (section, encode) in drawing.items()
        if stage in (None, name)
    ]


def of_video_training(params: Params) -> list[Request]:
    """Of the stages that train the model on video: their buckets are what people look at first."""
    stages = stages_of(params)
    return [request for request in requests_of(params) if stages[request.stage].group == "training"]


def read_clips(root: Path, *, captions: bool = False) -> pa.Table:
    """Training clips of the newest state of the clip table that has been made. Raises `ContractError`.

    `captions`: with their captions where there are some, which decide what may be mirrored.
    """
    for stage, mark in SOURCES:
        path = root / CLIPS / f"{stage}.json"
        if path.is_file() and store.is_stored(root, path):
            known = store.Manifest.read(path).columns
            wanted = ("selections", *(("caption", "scored_caption") if captions else ()))
            more = [*([mark] if mark else []), *(name for name in wanted if name in known)]
            table = store.read(root, path, [*COLUMNS, *more])
            training = pc.equal(table["split"], "train")
            if mark == "reasons":
                training = pc.and_(training, pc.equal(pc.list_value_length(table[mark]), 0))
            elif mark:
                training = pc.and_(training, table[mark])
            return table.filter(training)
    raise ContractError("there is no clip table yet: `reelforge stage split` makes one; then ask again")


def geometries(clips: pa.Table, fps: float) -> Geometries:
    """The clips as they look at a sampling rate; a clip of one frame is an image at any rate."""
    seconds = pc.subtract(clips["end_seconds"], clips["start_seconds"]).to_numpy()
    own = clips["frames"].to_numpy()
    frames = np.where(own == 1, 1, np.maximum(1, np.floor(seconds * fps + ROUNDING).astype(np.int64)))
    heights, widths = (clips[name].to_numpy().astype(np.int64) for name in ("height", "width"))
    return Geometries(keys_of(clips["clip_id"].to_pylist()), heights, widths, frames)


def forecast(clips: pa.Table, request: Request, kind: Walk = "loader") -> Forecast:
    """What an epoch of a training stage is made of."""
    if request.batches.selection is not None and "selections" in clips.column_names:
        inside = holds(clips["selections"].combine_chunks(), request.batches.selection)
        clips = clips.filter(pa.array(inside))
    seen = geometries(clips, request.encode.fps)
    if kind == "published":
        rows, unused = _published(seen, request)
    else:
        rows, unused = _loaded(seen, request, variants_of(clips, request))
    filled = {(row.resolution, row.frames) for row in rows if row.kept}
    asked = {
        (resolution, frames)
        for resolution, lengths in request.batches.buckets.items()
        for frames, (keep, _) in lengths.items()
        if math.prod(keep_pair(keep)) > 0
    }
    empty = sorted(asked - filled, key=lambda each: (-area_of(each[0]), each[1]))
    used = len(seen) - sum(unused.values())
    return Forecast(request.stage, len(seen), used, unused, tuple(rows), tuple(empty))


def variants_of(clips: pa.Table, request: Request) -> NDArray[np.int64]:
    """How many samples a window of each clip makes: itself, and its mirror image where there is to be one."""
    if not request.encode.flips or request.batches.source == "videos" or "caption" not in clips.column_names:
        return np.ones(clips.num_rows, dtype=np.int64)
    forms = ["caption"]
    if request.encode.scored_captions and "scored_caption" in clips.column_names:
        forms.append("scored_caption")
    read = zip(*(clips[form].to_pylist() for form in forms), strict=True)
    return np.array([1 + may_be_mirrored(*captions) for captions in read], dtype=np.int64)


def _published(clips: Geometries, request: Request) -> tuple[list[Row], dict[str, int]]:
    walked = walk(clips, request.batches, epoch=0)
    counts: Counter[tuple[int, str]] = Counter()
    aspects = request.encode.buckets.aspects
    shapes = np.stack([walked.taken, clips.heights, clips.widths])[:, walked.taken >= 0]
    for (index, height, width), number in _unique(shapes):
        counts[index, nearest_aspect(height, width, aspects)] += number
    policy = request.batches.small_bucket
    rows = []
    for (index, aspect), number in sorted(counts.items()):
        slot = walked.slots[index]
        rows.append(Row(slot.resolution, slot.frames, aspect, number, number, slot.batch, policy))
    return rows, walked.reasons()


def _loaded(
    clips: Geometries, request: Request, variants: NDArray[np.int64]
) -> tuple[list[Row], dict[str, int]]:
    """As `LatentBatches` will draw from what `encode` makes of these clips; from videos, a clip is one sample."""
    online = request.batches.source == "videos"
    samples: Counter[Bucket] = Counter()
    unused: Counter[str] = Counter()
    wanted = {
        (resolution, frames)
        for resolution, lengths in request.batches.buckets.items()
        for frames, (keep, _) in lengths.items()
        if math.prod(keep_pair(keep)) > 0
    }
    shapes = np.stack([clips.heights, clips.widths, clips.frames, variants])
    for (height, width, frames, variant), number in _unique(shapes):
        assignment = assign(height, width, frames, request.encode.buckets)
        for bucket in assignment.buckets:
            starts = window_starts(frames, bucket.frames, request.encode.windows)
            samples[bucket] += number * (1 if online else variant * len(starts))
        if not any((bucket.resolution, bucket.frames) in wanted for bucket in assignment.buckets):
            unused[assignment.reason or "no_bucket_asked_for"] += number
    return _kept_rows(samples, request.batches), dict(sorted(unused.items()))


def _kept_rows(samples: Counter[Bucket], config: BatchesConfig) -> list[Row]:
    """Larger resolutions take their share first, smaller ones get what is left, each length by itself."""
    rows: list[Row] = []
    for bucket in sorted(samples, key=lambda each: (-area_of(each.resolution), -each.frames, each.aspect)):
        keep, batch = config.buckets.get(bucket.resolution, {}).get(bucket.frames, (0.0, 1))
        share = math.prod(keep_pair(keep))
        above = sum(row.kept for row in rows if (row.frames, row.aspect) == (bucket.frames, bucket.aspect))
        offered = samples[bucket] - above
        if share > 0 and offered > 0:
            kept = min(max(round(share * offered), 1), offered)
            place = (bucket.resolution, bucket.frames, bucket.aspect)
            rows.append(Row(*place, offered, kept, batch, config.small_bucket))
    return rows


def _unique(
    columns: "np.ndarray[tuple[int, int], np.dtype[np.int64]]",
) -> Iterable[tuple[Sequence[int], int]]:
    """Distinct columns and how often each comes."""
    if not columns.shape[1]:
        return []
    values, counts = np.unique(columns, axis=1, return_counts=True)
    return zip(values.T.tolist(), counts.tolist(), strict=True)


def by_length(rows: Sequence[Row]) -> list[tuple[str, int, list[Row]]]:
    """Rows of the same resolution and length together, whatever their aspect."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.resolution, row.frames), []).append(row)
    return [(resolution, frames, group) for (resolution, frames), group in groups.items()]
