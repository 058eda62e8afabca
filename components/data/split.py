"""Stage `split`: the table of clips, one row per piece of a shot that is long enough to learn from."""

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.config import SplitConfig
from components.data.pool import Limits, Result, reason_counts, run_pool
from components.data.reasons import SourceReason
from components.data.scenes import Scene, check_detector, detect_scenes
from components.errors import DataQualityError
from components.params import Params
from components.report import Report

log = logging.getLogger(__name__)
STAGE = "split"
CARRIED = ("source", "width", "height", "codec", "licence", "split", "fps")  # from the source to its clips
DECIMALS = 6  # of times in seconds

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


def run(config: SplitConfig, paths: StagePaths) -> Report:
    """Write the table of clips. Raises `DataQualityError` when there is none."""
    check_detector(config)
    videos = paths.input("videos")
    rows = store.read(paths.root, paths.input("clips")).to_pylist()
    sources = [row for row in rows if not row["reasons"]]
    runtime = Params.load(paths.root / "params.yaml").runtime
    limits = Limits(runtime.workers, runtime.item_seconds)
    jobs = [(videos / source["source"], config) for source in sources]
    results = run_pool(scenes_of, jobs, limits, title=STAGE)
    pieces = [list(_pieces_of(result, config)) for result in results]
    clips = [
        clip_row(source, piece)
        for source, found in zip(sources, pieces, strict=True)
        for piece in found
        if is_long_enough(piece, config)
    ]
    report = _report(sources, results, pieces, len(clips))
    if not clips:
        raise DataQualityError(
            f"{STAGE}: no clip of {config.min_seconds:g} s or more in {len(sources)} files: {report.reasons};"
            " lower split.min_seconds, or raise split.threshold if shots are cut too often"
        )
    table = pa.Table.from_pylist(clips, schema=SCHEMA)
    store.create(paths.root, "clips", table, STAGE).write(paths.output("clips"))
    log.info("%d clips from %d files  %s", len(clips), len(sources), report.reasons)
    return report


def scenes_of(job: tuple[Path, SplitConfig]) -> list[Scene]:
    """The work on one file."""
    return detect_scenes(*job)


def _pieces_of(result: Result[list[Scene]], config: SplitConfig) -> Iterator[Piece]:
    for scene in result.value or ():
        yield from cut_scene(scene, config)


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


def _report(
    sources: Sequence[dict[str, Any]],
    results: Sequence[Result[list[Scene]]],
    pieces: Sequence[Sequence[Piece]],
    clips: int,
) -> Report:
    found = sum(map(len, pieces))
    failed = reason_counts(results)
    too_short = {str(SourceReason.TOO_SHORT): found - clips} if found > clips else {}
    notes = [
        f"{source['source']}: {result.reason}: {result.detail}"
        for source, result in zip(sources, results, strict=True)
        if result.reason
    ]
    return Report(
        STAGE,
        counts={
            "files": len(sources),
            "files_failed": sum(failed.values()),
            "scenes": sum(len(result.value or ()) for result in results),
            "pieces": found,
            "clips": clips,
            "rejected": found - clips,
        },
        reasons=failed | too_short,
        notes=notes,
    )
