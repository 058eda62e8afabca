"""Stage `score`: numbers about each clip that the filter, and people, can judge it by.

Scoring opens every clip once and is slow; judging reads a table and is quick. So nothing is rejected here: a score
is stored, and thresholds are tried in the filter. A clip that cannot be decoded has no scores.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.balance import balance
from components.data.captions import CaptionIndex, Target, read_captions
from components.data.config import ScoreConfig, Scorer
from components.data.looks import Job
from components.data.pool import Result, reason_counts
from components.data.score_items import score_all
from components.data.scorers import Scores, check_weights, columns_of, modes_of
from components.errors import DataQualityError
from components.params import Params
from components.report import Report

log = logging.getLogger(__name__)
STAGE = "score"
COLUMNS = ("motion", "camera_motion", "sharpness", "text_share", "brightness")  # of every table
MATCHED_WORDS = 120  # of a caption, more than CLIP reads
NAMED = 20  # clips that failed, in the report


def run(config: ScoreConfig, paths: StagePaths) -> Report:
    """Add the columns of the scores. Raises `DataQualityError` when no clip could be scored."""
    check_weights(config)
    videos = paths.input("videos")
    table = store.read(
        paths.root, paths.input("clips"), ["clip_id", "source", "start_seconds", "end_seconds", "fps"]
    )
    clips = table.to_pylist()
    runtime = Params.load(paths.root / "params.yaml").runtime
    captions = captions_of(clips, config, paths.root)
    jobs = [
        Job(videos / clip["source"], clip["start_seconds"], clip["end_seconds"], clip["fps"], config, caption)
        for clip, caption in zip(clips, captions, strict=True)
    ]
    limits = runtime.limits("score")
    results = score_all(jobs, table["clip_id"].to_pylist(), config, limits, paths.root)
    report = _report(clips, results)
    if not report.counts["scored"]:
        raise DataQualityError(
            f"{STAGE}: none of {len(clips)} clips could be read: {report.reasons}; were files in {videos} changed"
            " after `ingest`? `reelforge stage ingest` looks at them again"
        )
    scores = [result.value or {} for result in results]
    columns = {
        name: pa.array([one.get(name) for one in scores], kind) for name, kind in columns_of(config).items()
    }
    added = pa.table({"clip_id": table["clip_id"], **columns})
    modes = {name: str(mode) for name, mode in modes_of(config).items()}
    manifest = store.add_columns(paths.root, paths.input("clips"), added, STAGE, notes=modes)
    manifest.write(paths.output("clips"))
    log.info("%d of %d clips scored  %s", report.counts["scored"], len(clips), report.reasons)
    return report


def captions_of(clips: Sequence[dict[str, Any]], config: ScoreConfig, root: Path) -> list[str]:
    """The caption of each clip for `match`, empty where there is none. Raises `UserError`."""
    if config.match is Scorer.DISABLE:
        return [""] * len(clips)
    read = read_captions(root / str(config.captions))
    index = CaptionIndex(read, [clip["source"] for clip in clips], max_words=MATCHED_WORDS)
    targets = [Target(clip["source"], clip["start_seconds"], clip["end_seconds"]) for clip in clips]
    return [row.text if (row := index.find(target)) else "" for target in targets]


def _report(clips: Sequence[dict[str, Any]], results: Sequence[Result[Scores]]) -> Report:
    scores = [result.value for result in results if result.value is not None]
    medians = {
        f"{name}_median": float(np.median(known))
        for name in (scores[0] if scores else ())
        if (known := [number for one in scores if isinstance(number := one[name], float)])
    }
    failed = [
        f"{clip['source']} at {clip['start_seconds']:.3f} s: {result.reason}: {result.detail}"
        for clip, result in zip(clips, results, strict=True)
        if result.reason
    ]
    return Report(
        STAGE,
        metrics=medians,
        counts={"clips": len(clips), "scored": len(scores), "failed": len(failed)},
        reasons=reason_counts(results),
        notes=failed[:NAMED],
        balance={"clips": balance(STAGE, "clips", len(clips), len(scores), reason_counts(results))},
    )
