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
from typing import Any, Final

import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.balance import balance
from components.data.code_version import code_version
from components.data.config import DedupConfig
from components.data.items import Work, run_items
from components.data.near_pairs import near_pairs
from components.data.pool import Result, reason_counts
from components.data.reasons import RejectReason
from components.data.thumbnails import Embedding, Thumbnails, embed, pack, unpack
from components.errors import DataQualityError
from components.params import Params
from components.report import Report
from components.storage import stamp_of

log = logging.getLogger(__name__)
STAGE: Final = "dedup"
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
Row = dict[str, Any]


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
    paths = paths.listed("videos")
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
    videos = paths.place("videos")
    limits = Params.load(paths.root / "params.yaml").runtime.limits(STAGE)
    orders = [
        Thumbnails(
            videos / row["source"], row["start_seconds"], row["end_seconds"], config.frames, config.thumbnail
        )
        for row in rows
    ]
    keys = [(row["clip_id"], stamp_of(order.path)) for row, order in zip(rows, orders, strict=True)]
    return run_items(paths.root, work_of(config), orders, keys, limits)


def work_of(config: DedupConfig) -> Work[Thumbnails, Embedding]:
    """The work on one clip, and what decides its result."""
    version = {
        "frames": config.frames,
        "pixels": config.thumbnail,
        "code": code_version("components.data.thumbnails"),
    }
    return Work(STAGE, embed, version, pack=pack, unpack=unpack)


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
        balance={"clips": balance(STAGE, "clips", len(results), kept, reasons)},
    )
