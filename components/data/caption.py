"""Stage `caption`: each clip gets the caption of its scene, of its video, of a model, or the fallback.

People's captions come first: a model is asked only about clips that pass the filter and have none. What it said
is kept outside of the table (`captioning.answers`), so that a run which was stopped, or a stage that runs again
for another reason, asks about no clip twice.
"""

import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.balance import balance
from components.data.caption_suffix import is_said, with_suffix
from components.data.caption_text import clean_caption
from components.data.captioning.write import Written, write_captions
from components.data.captions import CaptionIndex, CaptionProblem, CaptionSource, Target, read_captions
from components.data.config import CaptionConfig, CaptionSuffix
from components.data.language import UNDETERMINED, detect_language
from components.data.reasons import RejectReason
from components.errors import DataQualityError, UserError
from components.params import Params
from components.report import Report

log = logging.getLogger(__name__)
STAGE = "caption"
COLUMNS = ("clip_id", "source", "start_seconds", "end_seconds", "reasons")
SUFFIX_COLUMNS = {
    CaptionSuffix.AESTHETIC: "aesthetic",
    CaptionSuffix.MOTION: "motion",
    CaptionSuffix.CAMERA: "camera_label",
}
PER_CENT = (
    100  # motion is said in per cent of the width per second: usual clips have a few, as published ones
)
NONE_WRITTEN = Written({}, {}, 0, 0)


@dataclass(frozen=True)
class Caption:
    """Of one clip. `foreign`: it is certainly not in the language that was asked for."""

    text: str
    source: CaptionSource
    foreign: bool = False


def run(config: CaptionConfig, paths: StagePaths) -> Report:
    """Add the columns `caption` and `caption_source`; with `suffixes` also `scored_caption`, with `language` reasons.

    Raises `UserError` for a captions file or a model it cannot use, `DataQualityError` where a model fails on
    too many clips.
    """
    read = read_captions(paths.place("captions"))
    source = paths.input("clips")
    clips = store.read(paths.root, source, COLUMNS)
    index = CaptionIndex(read, clips["source"].to_pylist(), max_words=config.max_words)
    targets = zip(*(clips[name].to_pylist() for name in COLUMNS[1:4]), strict=True)
    captions = [_caption(index, Target(*target), config) for target in targets]
    passed = [not reasons for reasons in clips["reasons"].to_pylist()]

    written = NONE_WRITTEN
    if config.vision is not None:
        rows = clips.filter(pa.array(_is_asked(captions, passed))).to_pylist()
        runtime = Params.load(paths.root / "params.yaml").runtime
        written = write_captions(rows, config.vision, paths.root, paths.place("videos"), runtime)
        captions, problems = _with_written(clips["clip_id"].to_pylist(), captions, written, config)
        written = replace(written, problems=problems)
        _refuse_too_many_failures(written, config)
    if config.language:
        captions = [replace(each, foreign=_is_foreign(each, config)) for each in captions]
    added = _columns(clips["clip_id"], captions, config)
    if config.suffixes:
        scored = _scored(clips["clip_id"].to_pylist(), captions, config, (paths.root, source))
        added = added.append_column("scored_caption", pa.array(scored, pa.string()))
    store.add_columns(paths.root, source, added, STAGE).write(paths.output("clips"))

    kept = [caption for caption, good in zip(captions, passed, strict=True) if good]
    report = _report(kept, index, written, config)
    log.info("captions of %d clips that pass: %s", len(kept), report.counts)
    for note in report.notes:
        log.warning("%s", note)
    return report


def _caption(index: CaptionIndex, target: Target, config: CaptionConfig) -> Caption:
    row = index.find(target)
    if row is None:
        return Caption(config.fallback, CaptionSource.FALLBACK)
    return Caption(row.text.lower() if config.lower_case else row.text, row.source)


def _is_asked(captions: list[Caption], passed: list[bool]) -> list[bool]:
    """The clips that a model is asked about: those that pass and have no caption of their own."""
    return [
        good and caption.source is CaptionSource.FALLBACK
        for caption, good in zip(captions, passed, strict=True)
    ]


def _with_written(
    clip_ids: list[str], captions: list[Caption], written: Written, config: CaptionConfig
) -> tuple[list[Caption], dict[str, str]]:
    """Captions with the model's in place, cleaned, and the problems with those of which nothing was left."""
    problems = dict(written.problems)
    merged = []
    for clip_id, caption in zip(clip_ids, captions, strict=True):
        said = written.texts.get(clip_id)
        text = clean_caption(said, max_words=config.max_words, lower_case=config.lower_case) if said else ""
        if said and not text:
            problems[clip_id] = CaptionProblem.EMPTY.value
        merged.append(Caption(text, CaptionSource.MODEL) if text else caption)
    return merged, problems


def _refuse_too_many_failures(written: Written, config: CaptionConfig) -> None:
    assert config.vision is not None
    asked = len(written.texts.keys() | written.problems.keys())
    failed = len(written.problems)
    if failed <= config.vision.max_failed_share * asked:
        return
    found = dict(sorted(Counter(written.problems.values()).items()))
    raise DataQualityError(
        f"caption: the model gave no caption for {failed} of {asked} clips: {found}"
        f" (caption.vision.max_failed_share is {config.vision.max_failed_share:.0%}). What it said is kept:"
        " run the stage again to ask about the others, with a larger `max_requests` if that was spent"
    )


def _is_foreign(caption: Caption, config: CaptionConfig) -> bool:
    found = detect_language(caption.text)
    return caption.source is not CaptionSource.FALLBACK and found not in (config.language, UNDETERMINED)


def _scored(
    ids: list[str], captions: list[Caption], config: CaptionConfig, table: tuple[Path, Path]
) -> list[str]:
    """The captions with scores at their ends. Raises `UserError` for a score that `table` has not."""
    root, source = table
    known = store.Manifest.read(source).columns
    if missing := [name for name in config.suffixes if SUFFIX_COLUMNS[name] not in known]:
        raise UserError(
            f"caption.suffixes: no clip has a score for {', '.join(missing)}; switch the scorer on in `score:`"
        )
    scores = store.read(root, source, [SUFFIX_COLUMNS[name] for name in config.suffixes])
    texts = []
    for clip_id, caption, *row in zip(ids, captions, *(c.to_pylist() for c in scores.columns), strict=True):
        said = {
            name: score * PER_CENT if name is CaptionSuffix.MOTION and score is not None else score
            for name, score in zip(config.suffixes, row, strict=True)
            if is_said(clip_id, name, config.suffix_share)
        }
        texts.append(with_suffix(caption.text, said))
    return texts


def _columns(ids: pa.ChunkedArray, captions: list[Caption], config: CaptionConfig) -> pa.Table:
    texts = [caption.text for caption in captions]
    added = {"clip_id": ids, "caption": pa.array(texts, pa.string())}
    added["caption_source"] = pa.array([caption.source.value for caption in captions], pa.string())
    if config.language:
        foreign = [RejectReason.FOREIGN_LANGUAGE.value]
        reasons = [foreign if caption.foreign else [] for caption in captions]
        added["caption_reasons"] = pa.array(reasons, pa.list_(pa.string()))
    return pa.table(added)


def _report(captions: list[Caption], index: CaptionIndex, written: Written, config: CaptionConfig) -> Report:
    """Counts are of the clips that pass the filter; reasons are of caption rows, answers and captions left out."""
    counts = Counter(caption.source.value for caption in captions)
    own = [caption.text for caption in captions if caption.source is not CaptionSource.FALLBACK]
    reasons = Counter(str(reason) for reason in index.problems.elements())
    reasons.update(written.problems.values())
    foreign = sum(caption.foreign for caption in captions)
    dropped = {RejectReason.FOREIGN_LANGUAGE.value: foreign}
    metrics: dict[str, int | float] = {
        "coverage": len(own) / len(captions) if captions else 0.0,
        "distinct": len(set(own)),
        "mean_words": sum(len(text.split()) for text in own) / len(own) if own else 0.0,
    }
    if config.language:
        reasons[RejectReason.FOREIGN_LANGUAGE.value] += foreign
    sources = [each for each in CaptionSource if each is not CaptionSource.MODEL or config.vision]
    return Report(
        stage=STAGE,
        metrics=metrics,
        counts={"clips": len(captions), **{origin.value: counts[origin.value] for origin in sources}},
        reasons={reason: number for reason, number in sorted(reasons.items()) if number},
        notes=_notes(len(own), len(captions), config),
        balance={"clips": balance(STAGE, "clips", len(captions), len(captions) - foreign, dropped)},
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
