"""Stage `ingest`: which files there are, which of them can be used, and which split each belongs to.

Each file is read in a worker process, so that one that crashes the decoder is a row with a reason and not the end
of the run. A file keeps its split whatever is added later: it follows from the sidecar, or from the digest.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.balance import balance
from components.data.config import IngestConfig
from components.data.pool import Result
from components.data.probe import Probe
from components.data.probes import Probes
from components.data.reasons import SourceReason
from components.data.sources import Source, find_sources
from components.data.takedowns import TAKEDOWNS, TakedownIndex, read_takedowns
from components.errors import DataQualityError, UserError
from components.params import Params
from components.report import Report
from components.storage import Place, listed, read_many

log = logging.getLogger(__name__)
STAGE = "ingest"
SPLITS = ("train", "validation")
NAMED = 5  # files that an error message names
NOTED = 100  # files that the report names
CHUNK = 10_000  # files that are looked at together: what is held in memory of a long list
# left out, and nothing is wrong with them
UNDAMAGED = (SourceReason.EXACT_DUPLICATE, SourceReason.TAKEN_DOWN)

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
        ("rotation", pa.int32()),
        ("bits", pa.int32()),
        ("transfer", pa.string()),
        ("variable_rate", pa.bool_()),
        ("licence", pa.string()),
        ("split", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("detail", pa.string()),
    ]
)
SPANS = pa.field("spans", pa.list_(pa.list_(pa.float64())))  # where a manifest has cut the files


@dataclass(frozen=True)
class Sidecar:
    """What a file's sidecar says about the whole file; `problem` is set when it cannot be used."""

    split: str | None = None
    licence: str | None = None
    problem: str = ""


@dataclass
class Tally:
    """What became of the files so far."""

    files: int = 0
    usable: int = 0
    seconds: float = 0.0
    splits: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)  # notes of the first damaged files

    def add(self, row: dict[str, Any]) -> None:
        self.files += 1
        if not row["reasons"]:
            self.usable += 1
            self.seconds += row["seconds"]
            self.splits[row["split"]] += 1
            return
        reason = row["reasons"][0]
        self.reasons[reason] += 1
        note = f"{row['source']}: {reason}: {row['detail']}"
        if len(self.notes) < NOTED:
            self.notes.append(note)
        if reason not in UNDAMAGED:
            self.damaged += 1
            if len(self.damage) < NAMED:
                self.damage.append(note)


def run(config: IngestConfig, paths: StagePaths) -> Report:
    """Write the table of sources. Raises `UserError` if there is nothing to read, `DataQualityError` if too little."""
    folder = listed(paths.inputs["videos"])
    sources = find_sources(folder, config, paths.root)
    takedowns = TakedownIndex(read_takedowns(paths.root / TAKEDOWNS))
    runtime = Params.load(paths.root / "params.yaml").runtime
    schema = SCHEMA.append(SPANS) if any(source.spans for source in sources) else SCHEMA
    tally, rows = Tally(), Rows(folder, config, takedowns, share_set_aside(config, len(sources)))
    batches = []
    with Probes(paths.root, folder, runtime.limits("ingest")) as probes:
        for first in range(0, len(sources), CHUNK):
            some = sources[first : first + CHUNK]
            made = list(rows.of(some, probes.of(some)))
            for row in made:
                tally.add(row)
            batches += pa.Table.from_pylist(made, schema=schema).to_batches()
    report = _report(tally, len(sources))
    _refuse_too_few(tally, config, folder)
    table = pa.Table.from_batches(batches, schema)
    store.create(paths.root, "sources", table, STAGE, key="source").write(paths.output("clips"))
    log.info("%d of %d files are usable  %s", report.counts["usable"], report.counts["files"], report.reasons)
    return report


@dataclass
class Rows:
    """Makes rows of sources, in order: of files with equal bytes the first one is used."""

    folder: Place
    config: IngestConfig
    takedowns: TakedownIndex
    validation_share: float
    first_with: dict[bytes, str] = field(default_factory=dict)  # digest -> source

    def of(self, sources: Sequence[Source], results: Sequence[Result[Probe]]) -> Iterator[dict[str, Any]]:
        sidecars = read_sidecars([None if source.reason else self.folder / source.name for source in sources])
        for source, result, sidecar in zip(sources, results, sidecars, strict=True):
            facts = result.value or Probe("", reason=result.reason, detail=result.detail)
            licence = source.licence or sidecar.licence or "unknown"
            reason, detail = self._reason(source, facts, sidecar, licence)
            split = source.split or sidecar.split
            yield {
                **{name: getattr(facts, name) for name in SCHEMA.names if hasattr(facts, name)},
                "source": source.name,
                "licence": licence,
                "split": split
                or split_of(facts.digest or source.name, self.config.seed, self.validation_share),
                "reasons": [str(reason)] if reason else [],
                "detail": detail,
                "spans": source.spans and [list(span) for span in sorted(set(source.spans))],
            }

    def _reason(self, source: Source, facts: Probe, sidecar: Sidecar, licence: str) -> tuple[str, str]:
        """Why a file is left out, and in words; empty where it is used."""
        if self.takedowns.has_source(source.name, facts.digest, licence):
            return SourceReason.TAKEN_DOWN, f"see {TAKEDOWNS}"
        if facts.reason:
            return facts.reason, facts.detail
        if sidecar.problem:
            return SourceReason.BAD_SIDECAR, sidecar.problem
        if source.split not in (None, *SPLITS):
            return SourceReason.BAD_ROW, f"split is {source.split!r}; valid: {', '.join(SPLITS)}"
        first = self.first_with.setdefault(bytes.fromhex(facts.digest), source.name)
        if first != source.name:
            return SourceReason.EXACT_DUPLICATE, f"same bytes as {first}"
        return "", ""


def share_set_aside(config: IngestConfig, files: int) -> float:
    """The validation share, or 0 where it is less than one of the files: then training gets them all."""
    return config.validation_share if files * config.validation_share >= 1 else 0.0


def split_of(digest: str, seed: int, validation_share: float) -> str:
    """The split of a source without one of its own: the same for the same bytes, whatever else is there."""
    drawn = hashlib.sha256(f"{seed}:{digest}".encode()).digest()
    return SPLITS[int.from_bytes(drawn[:7], "big") < validation_share * 2**56]


def read_sidecars(videos: Sequence[Place | None]) -> list[Sidecar]:
    """`<stem>.json` beside each video, where there is one."""
    places = [video and video.with_suffix(".json") for video in videos]
    there = [place for place in places if place is not None and place.is_file()]
    found = {
        str(place): _sidecar(place.name, read) for place, read in zip(there, read_many(there), strict=True)
    }
    return [found.get(str(place), Sidecar()) for place in places]


def _sidecar(name: str, read: bytes | OSError) -> Sidecar:
    if isinstance(read, OSError):
        return Sidecar(problem=f"{name} cannot be read: {read.strerror or read}")
    try:
        raw = json.loads(read.decode())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return Sidecar(problem=f"{name} is not JSON: {error}")
    if not isinstance(raw, dict):
        return Sidecar(problem=f"{name} must hold an object, not {type(raw).__name__}")
    split = raw.get("split")
    if split not in (None, *SPLITS):
        return Sidecar(problem=f"{name}: split is {split!r}; valid: {', '.join(SPLITS)}")
    return Sidecar(split=split, licence=str(raw["licence"]) if raw.get("licence") else None)


def _report(tally: Tally, given: int) -> Report:
    empty = [f"no usable file is in the {split} split" for split in SPLITS if not tally.splits[split]]
    more = sum(tally.reasons.values()) - len(tally.notes)
    return Report(
        STAGE,
        metrics={"seconds": round(tally.seconds, 3)},
        counts={
            "files": tally.files,
            "usable": tally.usable,
            "rejected": tally.files - tally.usable,
            **{split: tally.splits[split] for split in SPLITS},
        },
        reasons=dict(sorted(tally.reasons.items())),
        notes=tally.notes + ([f"and {more} more"] if more else []) + (empty if tally.usable else []),
        balance={"files": balance(STAGE, "files", given, tally.usable, tally.reasons)},
    )


def _refuse_too_few(tally: Tally, config: IngestConfig, folder: Place) -> None:
    """A duplicate is no damage: only files that cannot be used for what they are count."""
    named = "\n".join(f"  {note}" for note in tally.damage)
    more = f"\n  and {tally.damaged - NAMED} more" if tally.damaged > NAMED else ""
    if not tally.usable:
        raise UserError(
            f"{STAGE}: none of the {tally.files} videos in {folder} can be used"
            f" ({', '.join(f'{count} {reason}' for reason, count in sorted(tally.reasons.items()))}):\n{named}{more}\n"
            "Check that they were copied whole (`ffprobe FILE`), or point `ingest.videos` at other files."
        )
    if tally.damaged > config.max_unreadable_share * tally.files:
        raise DataQualityError(
            f"{STAGE}: {tally.damaged} of {tally.files} videos in {folder} cannot be used;"
            f" ingest.max_unreadable_share is {config.max_unreadable_share:.0%}:\n{named}{more}\n"
            "Repair or remove them, or raise that share."
        )
