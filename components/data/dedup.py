"""Stage `dedup`: one clip of each group of near-duplicates is kept.

Stock footage comes back re-encoded, resized and trimmed; a model that sees a clip fifty times repeats
it, and a validation clip whose copy was trained on measures memory. So groups are formed over both
splits, and where a group has a validation clip, its training clips go. Clips are compared as a few small
colour thumbnails, which re-encoding hardly changes.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.artifacts import StagePaths
from components.data import store
from components.data.config import DedupConfig
from components.data.frames import read_frames
from components.data.near_pairs import near_pairs
from components.data.pool import Limits, Result, reason_counts, run_pool
from components.data.reasons import RejectReason
from components.errors import DataQualityError
from components.params import Params
from components.report import Report

log = logging.getLogger(__name__)
STAGE = "dedup"
COLUMNS = (
    "clip_id",
    "source",
    "start_seconds",
    "end_seconds",
    "width",
    "height",
    "split",
    "sharpness",
    "reasons",
)
IF_THERE = ("aesthetic", "caption_reasons")  # columns of scorers and checks that may be off
FLAT = 1e-3  # length of an embedding below which a clip shows nothing but one colour
Row = dict[str, Any]
Embedding = NDArray[np.float32]  # (frames * thumbnail * thumbnail * 3,), of length 1


@dataclass(frozen=True)
class Thumbnails:
    """Work order: so many thumbnails, evenly spaced over a stretch of a file."""

    path: Path
    start_seconds: float
    end_seconds: float
    frames: int
    pixels: int


@dataclass(frozen=True)
class Candidate:
    """A clip that passes the filter, and what decides whether it is the one to keep."""

    clip_id: str
    split: str
    pixels: int
    seconds: float
    score: float

    @property
    def rank(self) -> tuple[bool, int, float, float, str]:
        """Smallest is best: validation, then large, then long, then a good score; the id makes it unique."""
        return self.split != "validation", -self.pixels, -self.seconds, -self.score, self.clip_id


Group = tuple[Candidate, list[Candidate]]


def run(config: DedupConfig, paths: StagePaths) -> Report:
    """Add the columns `duplicate_of` and `kept`. Raises `DataQualityError` when no clip is left."""
    source = paths.input("clips")
    known = store.Manifest.read(source).columns
    columns = [*COLUMNS, *(name for name in IF_THERE if name in known)]
    rows = store.read(paths.root, source, columns).to_pylist()
    passed = [row for row in rows if not row["reasons"] and not row.get("caption_reasons")]
    results = _embed_all(passed, config, paths)
    readable = [row for row, result in zip(passed, results, strict=True) if result.value is not None]
    candidates = [_candidate(row) for row in readable]
    embeddings = [result.value for result in results if result.value is not None]
    pairs = near_pairs(embeddings, config.max_cosine, exact=config.exact_clips, cluster=config.cluster_clips)
    groups = group(candidates, pairs)
    duplicate_of = {clip.clip_id: best.clip_id for best, rest in groups for clip in rest}
    kept = {clip.clip_id for clip in candidates} - duplicate_of.keys()
    report = _report(results, groups, len(kept))
    if not kept:
        raise DataQualityError(f"dedup: none of {len(passed)} clips is left: {report.reasons}")

    ids = [row["clip_id"] for row in rows]
    added = {
        "clip_id": pa.array(ids, pa.string()),
        "duplicate_of": pa.array([duplicate_of.get(clip_id) for clip_id in ids], pa.string()),
        "kept": pa.array([clip_id in kept for clip_id in ids], pa.bool_()),
    }
    store.add_columns(paths.root, source, pa.table(added), STAGE).write(paths.output("clips"))
    log.info("%d of %d clips are kept  %s", len(kept), len(passed), report.reasons)
    return report


def _embed_all(rows: Sequence[Row], config: DedupConfig, paths: StagePaths) -> list[Result[Embedding]]:
    videos = paths.input("videos")
    limits = Params.load(paths.root / "params.yaml").runtime
    orders = [
        Thumbnails(
            videos / row["source"], row["start_seconds"], row["end_seconds"], config.frames, config.thumbnail
        )
        for row in rows
    ]
    return run_pool(embed, orders, Limits(limits.workers, limits.item_seconds), title=STAGE)


def embed(order: Thumbnails) -> Embedding:
    """Unit vector of a clip's thumbnails, the mean colour taken off; zeros for a clip of one flat colour.

    The cosine of two clips is then the correlation of their pixels: a change of brightness or contrast, as
    another encoder makes, leaves it alone, and two dark clips are not alike for being dark.
    """
    seconds = order.end_seconds - order.start_seconds
    pixels = read_frames(
        order.path,
        order.start_seconds,
        order.end_seconds,
        fps=order.frames / seconds,
        height=order.pixels,
        width=order.pixels,
        max_frames=order.frames,
    )
    values = pixels.astype(np.float32) / 255
    values -= values.mean(axis=(0, 1, 2))
    length = float(np.linalg.norm(values))
    unit = values / length if length > FLAT else np.zeros_like(values)
    return unit.ravel().astype(np.float32)


def group(clips: Sequence[Candidate], pairs: Iterable[tuple[int, int]]) -> list[Group]:
    """(clip to keep, its duplicates) of each group of two or more.

    Groups are transitive: a chain of small differences is one group.
    """
    parents = list(range(len(clips)))

    def find(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for i, j in pairs:
        parents[find(i)] = find(j)
    members: dict[int, list[Candidate]] = defaultdict(list)
    for index, clip in enumerate(clips):
        members[find(index)].append(clip)
    ranked = (sorted(each, key=lambda clip: clip.rank) for each in members.values() if len(each) > 1)
    return sorted(((best, rest) for best, *rest in ranked), key=lambda each: each[0].clip_id)


def _candidate(row: Row) -> Candidate:
    """The score is the aesthetic one where there is one, else the sharpness."""
    seconds = row["end_seconds"] - row["start_seconds"]
    score = row.get("aesthetic") or row["sharpness"] or 0.0
    return Candidate(row["clip_id"], row["split"], row["width"] * row["height"], seconds, score)


def _report(results: Sequence[Result[Embedding]], groups: Sequence[Group], kept: int) -> Report:
    duplicates = sum(len(rest) for _, rest in groups)
    leaks = sum(
        best.split == "validation" and clip.split == "train" for best, rest in groups for clip in rest
    )
    reasons = reason_counts(results)
    if duplicates:
        reasons[RejectReason.DUPLICATE] = duplicates
    unread = sum(result.value is None for result in results)
    notes = [f"{leaks} training clips repeat a validation clip and are left out"] if leaks else []
    return Report(
        stage=STAGE,
        metrics={"duplicate_share": duplicates / len(results) if results else 0.0},
        counts={
            "clips": len(results),
            "kept": kept,
            "duplicates": duplicates,
            "unread": unread,
            "groups": len(groups),
            "train_copies_of_validation": leaks,
        },
        reasons=dict(sorted(reasons.items())),
        notes=notes,
    )
