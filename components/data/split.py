"""Stage `split`: the table of clips, one row per piece of a shot that is long enough to learn from."""

import hashlib
import logging
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from components.artifacts import StagePaths, sha256_of, sha256_of_json
from components.data import store
from components.data.balance import balance
from components.data.code_version import code_version
from components.data.config import SplitConfig
from components.data.items import Batch, Work, run_batches
from components.data.listing import Span
from components.data.pool import Result
from components.data.reasons import SourceReason
from components.data.scenes import Scene, check_detector, clock, detect_scenes
from components.data.sources import is_image
from components.errors import DataQualityError
from components.params import runtime_of
from components.report import Report
from components.storage import Place

log = logging.getLogger(__name__)
STAGE: Final = "split"
CARRIED = ("source", "width", "height", "codec", "licence", "split", "fps")  # from the source to its clips
DECIMALS = 6  # of times in seconds
BATCH_ROWS = 10_000  # files that are looked at together: what is held in memory of a long list
NOTED = 100  # files that the report names

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("source", pa.string()),
        ("source_digest", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("fps", pa.float64()),
        ("frames", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("codec", pa.string()),
        ("licence", pa.string()),
        ("split", pa.string()),
    ]
)


@dataclass(frozen=True)
class Piece:
    """A stretch of a file in seconds, [start, end), and the frames in it."""

    start: float
    end: float
    frames: int


@dataclass(frozen=True)
class Job:
    """One file to cut: where its shots change, or at the spans (seconds) that a manifest gives."""

    path: Place
    config: SplitConfig
    spans: tuple[Span, ...] | None = None


@dataclass(frozen=True)
class Cut:
    """What a file was cut into; `empty` spans hold no frame."""

    scenes: int
    pieces: tuple[Piece, ...]
    empty: int = 0


@dataclass(frozen=True)
class Sources(Batch[Job]):
    """Some of the files, with what the table says of them."""

    rows: Sequence[dict[str, Any]]


@dataclass
class Tally:
    """What became of the files so far."""

    files: int = 0
    used: int = 0
    scenes: int = 0
    pieces: int = 0
    empty: int = 0
    clips: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)  # files that are good, and give no clip
    notes: list[str] = field(default_factory=list)

    def add(self, source: dict[str, Any], result: Result[Cut], clips: int) -> None:
        self.files += 1
        if result.value is None:
            self.failed[str(result.reason)] += 1
            if len(self.notes) < NOTED:
                self.notes.append(f"{source['source']}: {result.reason}: {result.detail}")
            return
        self.scenes += result.value.scenes
        self.pieces += len(result.value.pieces)
        self.empty += result.value.empty
        self.clips += clips
        self.used += bool(clips)
        if not clips:
            self.without[SourceReason.TOO_SHORT if result.value.pieces else SourceReason.NO_FRAMES] += 1


def run(config: SplitConfig, paths: StagePaths) -> Report:
    """Write the table of clips. Raises `DataQualityError` when there is none."""
    check_detector(config)
    paths = paths.listed("videos")
    limits = runtime_of(paths.root).limits(STAGE)
    work, tally, batches = work_of(config, paths.root), Tally(), list[pa.RecordBatch]()
    for sources, results in run_batches(paths.root, work, lambda: _sources(config, paths), limits):
        rows: list[dict[str, Any]] = []
        for source, result in zip(sources.rows, results, strict=True):
            pieces = result.value.pieces if result.value else ()
            found = [clip_row(source, piece) for piece in pieces if is_clip(piece, source, config)]
            tally.add(source, result, len(found))
            rows += found
        batches += pa.Table.from_pylist(rows, schema=SCHEMA).to_batches()
    report = _report(tally)
    if not tally.clips:
        raise DataQualityError(
            f"{STAGE}: no clip of {config.min_seconds:g} s or more in {tally.files} files: {report.reasons};"
            " lower split.min_seconds, or raise split.threshold if shots are cut too often"
        )
    table = pa.Table.from_batches(batches, SCHEMA)
    store.create(paths.root, "clips", table, STAGE).write(paths.output("clips"))
    log.info("%d clips from %d files  %s", table.num_rows, tally.files, report.reasons)
    return report


def _sources(config: SplitConfig, paths: StagePaths) -> Iterator[Sources]:
    """The usable files, some at a time."""
    manifest, videos = paths.input("clips"), paths.place("videos")
    known = store.Manifest.read(manifest).columns
    columns = [*(name for name in CARRIED), "digest", "reasons", *({"spans"} & known.keys())]
    for part in store.read_parts(paths.root, manifest, columns, rows=BATCH_ROWS):
        rows = [row for row in part.to_pylist() if not row["reasons"]]
        jobs = [Job(videos / row["source"], config, _spans_of(row)) for row in rows]
        keys = [sha256_of_json([row["digest"], job.spans]) for row, job in zip(rows, jobs, strict=True)]
        yield Sources(jobs, keys, [job.path for job in jobs], rows)


def work_of(config: SplitConfig, root: Path) -> Work[Job, Cut]:
    """The work on one file, and what decides its result."""
    version = {
        "config": config.model_dump(mode="json"),
        "code": code_version("components.data.split"),
        "weights": sha256_of(root / config.weights) if config.weights else None,
    }
    return Work(STAGE, cut, version, pack=asdict, unpack=_unpack)


def _unpack(value: dict[str, Any]) -> Cut:
    return Cut(**{**value, "pieces": tuple(Piece(**piece) for piece in value["pieces"])})


def _spans_of(source: dict[str, Any]) -> tuple[Span, ...] | None:
    """Where a manifest cuts the file; None where the shots decide."""
    spans = source.get("spans")
    return tuple((start, end) for start, end in spans) if spans else None


def cut(job: Job) -> Cut:
    """The pieces of one file, each of them once. Raises `UndecodableError`."""
    if is_image(job.path.name):
        times, end = clock(job.path)
        return Cut(1, (Piece(0.0, round(end, DECIMALS), len(times)),))
    scenes = detect_scenes(job.path, job.config) if job.spans is None else scenes_at(job.path, job.spans)
    pieces = dict.fromkeys(piece for scene in scenes for piece in cut_scene(scene, job.config))
    return Cut(len(scenes), tuple(pieces), len(job.spans or ()) - len(scenes) if job.spans else 0)


def scenes_at(path: Place, spans: Sequence[Span]) -> list[Scene]:
    """The frames in each span: from the first at or after its start, up to its end. Spans without any are left out."""
    times, end = clock(path)
    found = []
    for start, stop in spans:
        first, after = (bisect_left(times, seconds - 1e-3) for seconds in (start, stop))
        if first < after:
            found.append(Scene(tuple(times[first:after]), times[after] if after < len(times) else end))
    return found


def cut_scene(scene: Scene, config: SplitConfig) -> list[Piece]:
    """The scene as equal pieces of at most `max_seconds`, cut at frames; together they are the whole scene.

    Where equal pieces would be shorter than `min_seconds`, all but the last one have `max_seconds`.
    """
    seconds = scene.end - scene.start
    count = max(1, math.ceil(round(seconds / config.max_seconds, DECIMALS)))
    length = seconds / count if seconds / count >= config.min_seconds else config.max_seconds
    starts = [scene.start + index * length for index in range(count)]
    # a piece begins at the first frame at or after its time
    firsts = [
        next((i for i, time in enumerate(scene.times) if time >= start - 1e-3), len(scene.times))
        for start in starts
    ]
    firsts = sorted({first for first in firsts if first < len(scene.times)})
    bounds = [*(scene.times[first] for first in firsts), scene.end]
    counts = [after - first for first, after in zip(firsts, [*firsts[1:], len(scene.times)], strict=True)]
    return [
        Piece(round(start, DECIMALS), round(end, DECIMALS), frames)
        for start, end, frames in zip(bounds[:-1], bounds[1:], counts, strict=True)
    ]


def is_clip(piece: Piece, source: dict[str, Any], config: SplitConfig) -> bool:
    """True for a piece that can be learned from; a picture has no length."""
    return is_image(source["source"]) or is_long_enough(piece, config)


def is_long_enough(piece: Piece, config: SplitConfig) -> bool:
    return round(piece.end - piece.start, DECIMALS) >= config.min_seconds


def clip_row(source: dict[str, Any], piece: Piece) -> dict[str, Any]:
    """The row of a clip; its id follows from the bytes of the file and the place in it."""
    digest = source["digest"]
    name = f"{digest}:{piece.start:.{DECIMALS}f}:{piece.end:.{DECIMALS}f}"
    return {
        **{column: source[column] for column in CARRIED},
        "clip_id": hashlib.sha256(name.encode()).hexdigest()[:16],
        "source_digest": digest,
        "start_seconds": piece.start,
        "end_seconds": piece.end,
        "frames": piece.frames,
    }


def _report(tally: Tally) -> Report:
    dropped = {
        str(SourceReason.TOO_SHORT): tally.pieces - tally.clips,
        str(SourceReason.NO_FRAMES): tally.empty,
    }
    more = tally.failed.total() - len(tally.notes)
    return Report(
        STAGE,
        counts={
            "files": tally.files,
            "files_failed": tally.failed.total(),
            "scenes": tally.scenes,
            "pieces": tally.pieces,
            "clips": tally.clips,
            "rejected": tally.pieces - tally.clips,
        },
        reasons=dict(sorted(tally.failed.items()))
        | {code: count for code, count in dropped.items() if count},
        notes=tally.notes + ([f"and {more} more"] if more else []),
        balance={
            "files": balance(STAGE, "files", tally.files, tally.used, tally.without + tally.failed),
            "pieces": balance(STAGE, "pieces", tally.pieces + tally.empty, tally.clips, dropped),
        },
    )
