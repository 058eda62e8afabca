"""Stage `score`: numbers about each clip that the filter, and people, can judge it by.

Scoring opens every clip once and is slow; judging reads a table and is quick. So nothing is rejected here: a score
is stored, and thresholds are tried in the filter. A clip that cannot be decoded has no scores.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.config import ScoreConfig, Scorer
from components.data.motion import MotionMeter
from components.data.pool import Limits, Result, reason_counts, run_pool
from components.data.text_overlay import text_share
from components.data.video import Pixels, VideoFile, scaled
from components.errors import DataQualityError
from components.params import Params
from components.report import Report

log = logging.getLogger(__name__)
STAGE = "score"
COLUMNS = ("motion", "camera_motion", "sharpness", "text_share", "brightness")
PAIR_SECONDS = 0.125  # between the two frames that motion compares: the same at every frame rate
MOTION_PAIRS = 5  # compared per clip, about; more change the median little
NAMED = 20  # clips that failed, in the report

Scores = dict[str, float]


@dataclass(frozen=True)
class Job:
    """One clip to score; seconds from the first frame of the file."""

    path: Path
    start: float
    end: float
    fps: float
    config: ScoreConfig


@dataclass(frozen=True)
class Look:
    """A moment of a clip: the frame then in RGB, the one a little later, and the seconds between them."""

    before: Pixels
    after: Pixels
    seconds: float


def run(config: ScoreConfig, paths: StagePaths) -> Report:
    """Add the columns of the scores. Raises `DataQualityError` when no clip could be scored."""
    videos = paths.input("videos")
    table = store.read(
        paths.root, paths.input("clips"), ["clip_id", "source", "start_seconds", "end_seconds", "fps"]
    )
    clips = table.to_pylist()
    runtime = Params.load(paths.root / "params.yaml").runtime
    jobs = [
        Job(videos / clip["source"], clip["start_seconds"], clip["end_seconds"], clip["fps"], config)
        for clip in clips
    ]
    results = run_pool(score_clip, jobs, Limits(runtime.workers, runtime.item_seconds), title=STAGE)
    report = _report(clips, results)
    if not report.counts["scored"]:
        raise DataQualityError(
            f"{STAGE}: none of {len(clips)} clips could be read: {report.reasons}; were files in {videos} changed"
            " after `ingest`? `reelforge stage ingest` looks at them again"
        )
    scores = [result.value or {} for result in results]
    columns = {name: pa.array([one.get(name) for one in scores], pa.float32()) for name in COLUMNS}
    added = pa.table({"clip_id": table["clip_id"], **columns})
    modes = {name: str(mode) for name, mode in modes_of(config).items()}
    manifest = store.add_columns(paths.root, paths.input("clips"), added, STAGE, notes=modes)
    manifest.write(paths.output("clips"))
    log.info("%d of %d clips scored  %s", report.counts["scored"], len(clips), report.reasons)
    return report


def modes_of(config: ScoreConfig) -> Mapping[str, Scorer]:
    """How each scorer is switched."""
    return {
        "motion": config.motion,
        "sharpness": config.sharpness,
        "text": config.text,
        "brightness": config.brightness,
    }


def score_clip(job: Job) -> Scores:
    """The scores that are switched on. Raises `UndecodableError`."""
    cv2.setNumThreads(1)
    wanted = {name for name, mode in modes_of(job.config).items() if mode is not Scorer.DISABLE}
    looks = look_at(job) if wanted else []
    frames = [cv2.cvtColor(look.before, cv2.COLOR_RGB2GRAY) for look in looks]
    scores: Scores = {}
    if "motion" in wanted:
        moments = looks[:: max(1, round(len(looks) / MOTION_PAIRS))]
        pairs = [
            (value(look.before), value(look.after), look.seconds) for look in moments if look.seconds > 0
        ]
        motion = MotionMeter().measure(pairs)
        scores |= {"motion": motion.objects, "camera_motion": motion.camera}
    if "sharpness" in wanted:
        scores["sharpness"] = float(np.median([sharpness(frame) for frame in frames]))
    if "text" in wanted:
        scores["text_share"] = text_share(frames)
    if "brightness" in wanted:
        scores["brightness"] = float(np.mean([frame.mean() for frame in frames])) / 255
    return scores


def value(frame: Pixels) -> Pixels:
    """(H, W): the strongest colour. A red thing on green moss is no darker than the moss, but it stands out here."""
    strongest: Pixels = frame.max(axis=2)
    return strongest


def sharpness(frame: Pixels) -> float:
    """Variance of the Laplacian at the analysed size: low for a picture without edges."""
    return float(cv2.Laplacian(frame, cv2.CV_32F).var())


def look_at(job: Job) -> list[Look]:
    """`frames` evenly spaced moments of the clip, `analysis_width` wide."""
    gap = max(PAIR_SECONDS, 1 / job.fps)
    room = max(0.0, job.end - job.start - gap)
    count = job.config.frames
    moments = [job.start + (index + 0.5) / count * room for index in range(count)]
    times = sorted([*moments, *(moment + gap for moment in moments)])
    seen: dict[float, tuple[float, Pixels]] = {}
    with VideoFile(job.path) as video:
        found = video.nearest(times, start=job.start, end=job.end)
        for asked, timed in zip(times, found, strict=True):
            height, width = video.shown_size(timed.frame)
            height = max(2, round(job.config.analysis_width * height / width))
            seen[asked] = (timed.seconds, scaled(timed.frame, height, job.config.analysis_width))
    return [
        Look(seen[moment][1], seen[moment + gap][1], seen[moment + gap][0] - seen[moment][0])
        for moment in moments
    ]


def _report(clips: Sequence[dict[str, Any]], results: Sequence[Result[Scores]]) -> Report:
    scores = [result.value for result in results if result.value is not None]
    medians = {
        f"{name}_median": float(np.median([one[name] for one in scores]))
        for name in COLUMNS
        if scores and name in scores[0]
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
    )
