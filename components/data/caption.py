"""Stage `caption`: each clip gets the caption of its scene, of its video, or the fallback."""

import logging
from collections import Counter
from pathlib import Path

import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.captions import CaptionIndex, CaptionSource, Target, read_captions
from components.data.config import CaptionConfig
from components.report import Report

log = logging.getLogger(__name__)
STAGE = "caption"
COLUMNS = ("clip_id", "source", "start_seconds", "end_seconds", "reasons")
Caption = tuple[str, CaptionSource]


def run(config: CaptionConfig, paths: StagePaths) -> Report:
    """Add the columns `caption` and `caption_source`. Raises `UserError` for a captions file it cannot use."""
    read = read_captions(paths.input("captions"))
    source = paths.input("clips")
    clips = store.read(paths.root, source, COLUMNS)
    index = CaptionIndex(read, clips["source"].to_pylist(), max_words=config.max_words)
    targets = zip(*(clips[name].to_pylist() for name in COLUMNS[1:4]), strict=True)
    captions = [_caption(index, Target(*target), config.fallback) for target in targets]

    added = {"clip_id": clips["clip_id"], "caption": pa.array([text for text, _ in captions], pa.string())}
    added["caption_source"] = pa.array([origin.value for _, origin in captions], pa.string())
    store.add_columns(paths.root, source, pa.table(added), STAGE).write(paths.output("clips"))
    passed = [
        caption
        for caption, reasons in zip(captions, clips["reasons"].to_pylist(), strict=True)
        if not reasons
    ]
    report = _report(passed, index, config)
    log.info("captions of %d clips that pass: %s", len(passed), report.counts)
    for note in report.notes:
        log.warning("%s", note)
    return report


def _caption(index: CaptionIndex, target: Target, fallback: str) -> Caption:
    row = index.find(target)
    return (fallback, CaptionSource.FALLBACK) if row is None else (row.text, row.source)


def _report(captions: list[Caption], index: CaptionIndex, config: CaptionConfig) -> Report:
    """Counts are of the clips that pass the filter; reasons are of the caption rows that could not be used."""
    counts = Counter(origin.value for _, origin in captions)
    own = [text for text, origin in captions if origin is not CaptionSource.FALLBACK]
    return Report(
        stage=STAGE,
        metrics={
            "coverage": len(own) / len(captions) if captions else 0.0,
            "distinct": len(set(own)),
            "mean_words": sum(len(text.split()) for text in own) / len(own) if own else 0.0,
        },
        counts={"clips": len(captions), **{origin.value: counts[origin.value] for origin in CaptionSource}},
        reasons={str(reason): number for reason, number in sorted(index.problems.items())},
        notes=_notes(len(own), len(captions), config),
    )


def _notes(own: int, clips: int, config: CaptionConfig) -> list[str]:
    source = Path(config.source).as_posix()
    if not own:
        return [
            f'no caption in {source} matched a clip: all {clips} clips fell back to "{config.fallback}".'
            " Rows match by the path of the video relative to ingest.videos, or by its file name"
        ]
    if own < clips:
        return [
            f'{clips - own} of {clips} clips have no caption in {source} and fell back to "{config.fallback}"'
        ]
    return []
