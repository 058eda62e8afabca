"""Stage `score`: numbers about each clip that the filter, and people, can judge it by.

Scoring opens every clip once and is slow; judging reads a table and is quick. So nothing is rejected here: a score
is stored, and thresholds are tried in the filter. A clip that cannot be decoded has no scores.
"""

import logging
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.balance import balance
from components.data.captions import CaptionIndex, Target, read_captions
from components.data.config import ScoreConfig, Scorer
from components.data.looks import Job
from components.data.pool import Result
from components.data.score_items import Clips, score_all
from components.data.scorers import Scores, check_weights, columns_of, modes_of
from components.errors import DataQualityError
from components.params import place_in, runtime_of
from components.report import Report

log = logging.getLogger(__name__)
STAGE: Final = "score"
COLUMNS = ("motion", "camera_motion", "sharpness", "text_share", "brightness")  # of every table
MATCHED_WORDS = 120  # of a caption, more than CLIP reads
READ = ("clip_id", "source", "start_seconds", "end_seconds", "fps")
BATCH_ROWS = 10_000  # clips that are looked at together: what is held in memory of a long table
NAMED = 20  # clips that failed, in the report


@dataclass
class Tally:
    """What became of the clips so far, and the scores as columns."""

    kinds: dict[str, pa.DataType]
    clips: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, "array[float]"] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    columns: dict[str, list[pa.Array]] = field(default_factory=lambda: defaultdict(list))

    def add(self, clips: Clips, results: Sequence[Result[Scores]]) -> None:
        for source, job, result in zip(clips.sources, clips.jobs, results, strict=True):
            self.clips += 1
            if result.reason:
                self.reasons[str(result.reason)] += 1
                if len(self.notes) < NAMED:
                    self.notes.append(f"{source} at {job.start:.3f} s: {result.reason}: {result.detail}")
        scores = [result.value or {} for result in results]
        for name, kind in self.kinds.items():
            values = [one.get(name) for one in scores]
            self.columns[name].append(pa.array(values, kind))
            self.numbers[name].extend(value for value in values if isinstance(value, float))
        self.columns["clip_id"].append(pa.array(clips.ids, pa.string()))


def run(config: ScoreConfig, paths: StagePaths) -> Report:
    """Add the columns of the scores. Raises `DataQualityError` when no clip could be scored."""
    check_weights(config)
    paths = paths.listed("videos")
    limits = runtime_of(paths.root).limits(STAGE)
    index, tally = captions_for(config, paths), Tally(columns_of(config))
    for clips, results in score_all(lambda: _clips(config, paths, index), config, limits, paths.root):
        tally.add(clips, results)
    report = _report(tally)
    if not report.counts["scored"]:
        raise DataQualityError(
            f"{STAGE}: none of {tally.clips} clips could be read: {report.reasons}; were files in"
            f" {paths.inputs['videos']} changed after `ingest`? `reelforge stage ingest` looks at them again"
        )
    added = pa.table({name: pa.chunked_array(parts) for name, parts in tally.columns.items()})
    modes = {name: str(mode) for name, mode in modes_of(config).items()}
    manifest = store.add_columns(paths.root, paths.input("clips"), added, STAGE, notes=modes)
    manifest.write(paths.output("clips"))
    log.info("%d of %d clips scored  %s", report.counts["scored"], tally.clips, report.reasons)
    return report


def _clips(config: ScoreConfig, paths: StagePaths, captions: CaptionIndex | None) -> Iterator[Clips]:
    """The clips, some at a time, and how they are to be looked at."""
    videos = paths.place("videos")
    for part in store.read_parts(paths.root, paths.input("clips"), READ, rows=BATCH_ROWS):
        rows = part.to_pylist()
        jobs = [
            Job(
                videos / row["source"],
                row["start_seconds"],
                row["end_seconds"],
                row["fps"],
                config,
                _caption_of(row, captions),
            )
            for row in rows
        ]
        yield Clips([row["clip_id"] for row in rows], jobs, [row["source"] for row in rows])


def captions_for(config: ScoreConfig, paths: StagePaths) -> CaptionIndex | None:
    """The captions that `match` compares with; None where it is off. Raises `UserError`."""
    if config.match is Scorer.DISABLE:
        return None
    read = read_captions(place_in(paths.root, str(config.captions)))
    sources = store.read(paths.root, paths.input("clips"), ["source"])["source"].unique().to_pylist()
    return CaptionIndex(read, sources, max_words=MATCHED_WORDS)


def _caption_of(clip: dict[str, Any], captions: CaptionIndex | None) -> str:
    """Empty where there is none."""
    target = Target(clip["source"], clip["start_seconds"], clip["end_seconds"])
    return row.text if captions and (row := captions.find(target)) else ""


def _report(tally: Tally) -> Report:
    failed = tally.reasons.total()
    scored = tally.clips - failed
    return Report(
        STAGE,
        metrics={
            f"{name}_median": float(np.median(values))
            for name, values in tally.numbers.items()
            if len(values)
        },
        counts={"clips": tally.clips, "scored": scored, "failed": failed},
        reasons=dict(sorted(tally.reasons.items())),
        notes=tally.notes,
        balance={"clips": balance(STAGE, "clips", tally.clips, scored, tally.reasons)},
    )
