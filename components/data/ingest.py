"""Stage `ingest`: which files there are, which of them can be used, and which split each belongs to.

Each file is read in a worker process, so that one that crashes the decoder is a row with a reason and not the end
of the run. A file keeps its split whatever is added later: it follows from the sidecar, or from the digest.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.config import IngestConfig
from components.data.pool import Limits, Result, run_pool
from components.data.probe import Probe, probe
from components.data.reasons import SourceReason
from components.errors import DataQualityError, UserError
from components.params import Params
from components.report import Report

log = logging.getLogger(__name__)
STAGE = "ingest"
EXTENSIONS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
SPLITS = ("train", "validation")
NAMED = 5  # files that an error message names

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("digest", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("frames", pa.int64()),
        ("seconds", pa.float64()),
        ("licence", pa.string()),
        ("split", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class Sidecar:
    """What a file's sidecar says about the whole file; `problem` is set when it cannot be used."""

    split: str | None = None
    licence: str = "unknown"
    problem: str = ""


def run(config: IngestConfig, paths: StagePaths) -> Report:
    """Write the table of sources. Raises `UserError` if there is nothing to read, `DataQualityError` if too little."""
    folder = Path(paths.inputs["videos"])
    files = find_videos(folder)
    runtime = Params.load(paths.root / "params.yaml").runtime
    limits = Limits(runtime.workers, runtime.item_seconds)
    results = run_pool(probe, files, limits, title=STAGE)
    rows = source_rows(folder, files, results, config)
    report = _report(rows)
    _refuse_too_few(rows, config, folder)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    store.create(paths.root, "sources", table, STAGE, key="source").write(paths.output("clips"))
    log.info("%d of %d files are usable  %s", report.counts["usable"], report.counts["files"], report.reasons)
    return report


def find_videos(folder: Path) -> list[Path]:
    """Video files below the folder, sorted. Raises `UserError` saying what to do when there are none."""
    way_out = (
        "put videos there, set `ingest.videos` in params.yaml, or make some with `reelforge stage footage`"
    )
    if not folder.is_dir():
        raise UserError(f"the folder of videos {folder} does not exist; {way_out}")
    every = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path, folder)]
    if not every:
        raise UserError(f"the folder of videos {folder} is empty; {way_out}")
    videos = [path for path in every if path.suffix.lower() in EXTENSIONS]
    if not videos:
        raise UserError(
            f"none of the {len(every)} files in {folder} is a video; looked for {', '.join(EXTENSIONS)}; {way_out}"
        )
    return videos


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def source_rows(
    folder: Path, files: Sequence[Path], results: Sequence[Result[Probe]], config: IngestConfig
) -> list[dict[str, Any]]:
    """One row per file, in order; of files with equal bytes the first one is used."""
    rows = []
    first_with: dict[str, str] = {}
    validation_share = share_set_aside(config, len(files))
    for path, result in zip(files, results, strict=True):
        source = path.relative_to(folder).as_posix()
        facts = result.value or Probe("", reason=result.reason, detail=result.detail)
        sidecar = read_sidecar(path)
        reason, detail = facts.reason, facts.detail
        if not reason and sidecar.problem:
            reason, detail = SourceReason.BAD_SIDECAR, sidecar.problem
        if not reason and first_with.setdefault(facts.digest, source) != source:
            reason, detail = SourceReason.EXACT_DUPLICATE, f"same bytes as {first_with[facts.digest]}"
        row = {name: getattr(facts, name) for name in SCHEMA.names if hasattr(facts, name)}
        split = sidecar.split or split_of(facts.digest or source, config.seed, validation_share)
        reasons = [str(reason)] if reason else []
        rows.append(
            {
                **row,
                "source": source,
                "licence": sidecar.licence,
                "split": split,
                "reasons": reasons,
                "detail": detail,
            }
        )
    return rows


def share_set_aside(config: IngestConfig, files: int) -> float:
    """The validation share, or 0 where it is less than one of the files: then training gets them all."""
    return config.validation_share if files * config.validation_share >= 1 else 0.0


def split_of(digest: str, seed: int, validation_share: float) -> str:
    """The split of a source without one of its own: the same for the same bytes, whatever else is there."""
    drawn = hashlib.sha256(f"{seed}:{digest}".encode()).digest()
    return SPLITS[int.from_bytes(drawn[:7], "big") < validation_share * 2**56]


def read_sidecar(video: Path) -> Sidecar:
    """`<stem>.json` beside the video, if there is one."""
    path = video.with_suffix(".json")
    if not path.is_file():
        return Sidecar()
    try:
        raw = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return Sidecar(problem=f"{path.name} is not JSON: {error}")
    if not isinstance(raw, dict):
        return Sidecar(problem=f"{path.name} must hold an object, not {type(raw).__name__}")
    split = raw.get("split")
    if split not in (None, *SPLITS):
        return Sidecar(problem=f"{path.name}: split is {split!r}; valid: {', '.join(SPLITS)}")
    return Sidecar(split=split, licence=str(raw.get("licence", "unknown")))


def _report(rows: Sequence[dict[str, Any]]) -> Report:
    usable = [row for row in rows if not row["reasons"]]
    splits = Counter(row["split"] for row in usable)
    notes = [f"{row['source']}: {row['reasons'][0]}: {row['detail']}" for row in rows if row["reasons"]]
    notes += [f"no usable file is in the {split} split" for split in SPLITS if usable and not splits[split]]
    return Report(
        STAGE,
        metrics={"seconds": round(sum(row["seconds"] for row in usable), 3)},
        counts={
            "files": len(rows),
            "usable": len(usable),
            "rejected": len(rows) - len(usable),
            **{split: splits[split] for split in SPLITS},
        },
        reasons=dict(sorted(Counter(reason for row in rows for reason in row["reasons"]).items())),
        notes=notes,
    )


def _refuse_too_few(rows: Sequence[dict[str, Any]], config: IngestConfig, folder: Path) -> None:
    """A duplicate is no damage: only files that cannot be used for what they are count."""
    bad = [row for row in rows if row["reasons"] and row["reasons"] != [SourceReason.EXACT_DUPLICATE]]
    if not bad:
        return
    named = "\n".join(f"  {row['source']}: {row['reasons'][0]}: {row['detail']}" for row in bad[:NAMED])
    more = f"\n  and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    if len(bad) == len(rows):
        raise UserError(
            f"{STAGE}: none of the {len(rows)} videos in {folder} can be read:\n{named}{more}\n"
            "Check that they were copied whole (`ffprobe FILE`), or point `ingest.videos` at other files."
        )
    if len(bad) > config.max_unreadable_share * len(rows):
        raise DataQualityError(
            f"{STAGE}: {len(bad)} of {len(rows)} videos in {folder} cannot be used; ingest.max_unreadable_share is"
            f" {config.max_unreadable_share:.0%}:\n{named}{more}\nRepair or remove them, or raise that share."
        )
