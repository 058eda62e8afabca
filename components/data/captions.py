"""Captions from files: how they are read and matched to clips.

Captions come from people and from captioning models, as one table for a whole data set or as a file
beside each video, for a whole video or for a stretch of it. All of them become `CaptionRow`s here and
are matched by path and time, so that the stage does not know where a caption was written.
"""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from components.data.caption_text import clean_caption
from components.data.listing import caption_records, is_published
from components.errors import UserError
from components.storage import Place, files_below, read_many

COLUMNS = ("path", "text")
FILE_TYPES = (".csv", ".jsonl", ".parquet")
MIN_OVERLAP = 0.25  # of the shorter of clip and stretch: less is the next scene showing by a frame or two


class CaptionSource(StrEnum):
    """Where the caption of a clip comes from."""

    FILE = "file"
    SIDECAR = "sidecar"
    MODEL = "model"
    FALLBACK = "fallback"


class RowProblem(StrEnum):
    """Why a caption row was not used."""

    UNREADABLE = "row_unreadable"  # not JSON, no path, or a time that is no number
    EMPTY = "row_empty"  # no text, or none left after cleaning
    UNMATCHED = "row_unmatched"  # no clip is of a video of that path or name
    AMBIGUOUS = "row_ambiguous"  # a file name that several videos have; give the path


class CaptionProblem(StrEnum):
    """Why a captioning model gave a clip no caption."""

    OVER_BUDGET = "caption_over_budget"  # `caption.vision.max_requests` was spent
    UNAVAILABLE = "caption_unavailable"  # the server stayed busy or was not reached, after all retries
    TIMED_OUT = "caption_timed_out"
    REFUSED = "caption_refused"  # the server would not take this clip
    MALFORMED = "caption_malformed"  # what came back was no caption
    EMPTY = "caption_empty"  # nothing was left of it after cleaning


@dataclass(frozen=True)
class CaptionRow:
    """One caption: of a whole video where `start` and `end` are None, else of the stretch between them in seconds."""

    path: str  # of the video: relative to the videos folder, or its file name; the suffix may be left out
    text: str
    start: float | None = None
    end: float | None = None
    source: CaptionSource = CaptionSource.FILE


@dataclass
class Captions:
    """Rows that were read, and how many were not, by reason."""

    rows: list[CaptionRow] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)

    def add(self, record: dict[str, Any], source: CaptionSource) -> None:
        """Take one record with `path`, `text` and optional `start`, `end`, or count what is wrong with it."""
        path, text = record.get("path"), record.get("text")
        try:
            start, end = (_seconds(record.get(name)) for name in ("start", "end"))
        except (TypeError, ValueError):
            self.problems[RowProblem.UNREADABLE] += 1
            return
        if not isinstance(path, str) or not path.strip() or not isinstance(text, str | None):
            self.problems[RowProblem.UNREADABLE] += 1
        elif not (text or "").strip():
            self.problems[RowProblem.EMPTY] += 1
        else:
            self.rows.append(CaptionRow(path.strip(), text or "", start, end, source))


def _seconds(value: Any) -> float | None:
    if value is None or value == "" or value != value:  # pandas writes NaN where there is no value
        return None
    return float(value)


def read_captions(source: Place) -> Captions:
    """Every caption of a captions file, or of the sidecars in a folder; Panda-70M and WebVid files are such too.

    Raises `UserError` when the file is of another type or lacks a column.
    """
    if source.is_dir():
        return _read_sidecars(source)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(source.suffix.lower())
    if reader is None:
        raise UserError(
            f"caption.source {source} must be a folder of sidecars or a {', '.join(FILE_TYPES)} file"
        )
    captions = Captions()
    published = is_published(source)
    for record in caption_records(source) if published else reader(source):
        if record is None:
            captions.problems[RowProblem.UNREADABLE] += 1
        else:
            captions.add(record, CaptionSource.FILE)
    return captions


def _check_columns(source: Place, found: Iterable[str]) -> None:
    found = [name for name in found if name]
    if missing := [name for name in COLUMNS if name not in found]:
        raise UserError(
            f"{source} has no column {' and no column '.join(missing)}; found: {', '.join(found) or 'nothing'}."
            f" Needed: {', '.join(COLUMNS)}; optional: start, end (seconds)"
        )


def _read_csv(source: Place) -> Iterator[dict[str, Any] | None]:
    with source.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        try:
            _check_columns(source, reader.fieldnames or ())
            yield from reader
        except csv.Error as error:
            raise UserError(f"{source}, line {reader.line_num} is not CSV: {error}") from None


def _read_jsonl(source: Place) -> Iterator[dict[str, Any] | None]:
    checked = False
    with source.open(encoding="utf-8-sig", errors="replace") as stream:
        for line in stream:
            if not line.strip():
                continue
            record = _parse(line)
            if record is not None and not checked:
                _check_columns(source, record)
                checked = True
            yield record
    if not checked:
        _check_columns(source, ())


def _parse(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _read_parquet(source: Place) -> Iterator[dict[str, Any] | None]:
    import pyarrow.parquet as pq

    with source.open("rb") as stream:
        try:
            file = pq.ParquetFile(stream)
        except (OSError, ValueError) as error:
            raise UserError(f"{source} is not a readable Parquet file: {error}") from None
        names = file.schema_arrow.names
        _check_columns(source, names)
        for batch in file.iter_batches(
            columns=[name for name in (*COLUMNS, "start", "end") if name in names]
        ):
            yield from batch.to_pylist()


def _read_sidecars(folder: Place) -> Captions:
    """`<stem>.json` with `scenes` or a whole-file `caption`, and `<stem>.txt`; other JSON files are passed over."""
    captions = Captions()
    names = [name for name in files_below(folder) if name.endswith((".txt", ".json"))]
    for name, read in zip(names, read_many(folder / name for name in names), strict=True):
        stem = PurePosixPath(name).with_suffix("").as_posix()
        text = "" if isinstance(read, OSError) else read.decode("utf-8-sig", "replace")
        content = None if isinstance(read, OSError) else _parse(text)
        if name.endswith(".txt") and not isinstance(read, OSError):
            captions.add({"path": stem, "text": text}, CaptionSource.SIDECAR)
        elif content is None:
            captions.problems[RowProblem.UNREADABLE] += 1
        else:
            for record in _sidecar_records(content):
                captions.add({**record, "path": stem}, CaptionSource.SIDECAR)
    return captions


def _sidecar_records(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    scenes = content.get("scenes")
    for scene in scenes if isinstance(scenes, list) else ():
        if isinstance(scene, dict) and "caption" in scene:
            yield {"text": scene["caption"], "start": scene.get("start"), "end": scene.get("end")}
    if "caption" in content:
        yield {"text": content["caption"]}


@dataclass(frozen=True)
class Target:
    """What a caption is looked for: a stretch of a video, whose path is relative to the videos folder."""

    path: str
    start: float
    end: float


class CaptionIndex:
    """Captions by video, cleaned. Built once for all videos, then asked for each clip."""

    def __init__(self, captions: Captions, videos: Iterable[str], *, max_words: int) -> None:
        self.problems = Counter(captions.problems)
        self._whole: dict[str, CaptionRow] = {}
        self._timed: dict[str, list[CaptionRow]] = defaultdict(list)
        names = _Names(videos)
        for row in captions.rows:
            found = names.find(row.path)
            text = clean_caption(row.text, max_words=max_words)
            if isinstance(found, RowProblem) or not text:
                self.problems[found if isinstance(found, RowProblem) else RowProblem.EMPTY] += 1
                continue
            for video in found:
                self._add(video, replace(row, text=text))

    def _add(self, video: str, row: CaptionRow) -> None:
        if row.start is None and row.end is None:
            self._whole.setdefault(video, row)  # of several captions the first one
        else:
            self._timed[video].append(row)

    def find(self, target: Target) -> CaptionRow | None:
        """The caption whose stretch overlaps the clip most, else that of the whole video, else None."""
        best, most, enough = None, 0.0, False
        for row in self._timed.get(target.path, ()):
            start = row.start or 0.0
            end = target.end if row.end is None else row.end
            overlap = min(target.end, end) - max(target.start, start)
            if overlap > most:
                shorter = min(target.end - target.start, end - start)
                best, most, enough = row, overlap, overlap >= MIN_OVERLAP * shorter
        return best if enough else self._whole.get(target.path)


class _Names:
    """Videos by the names that a caption row may use for them."""

    def __init__(self, videos: Iterable[str]) -> None:
        # Without their suffix too: the sidecar `a.json` belongs to every video of its stem, `a.mp4` and `a.mkv`.
        self._paths: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, str | None] = {}  # None where several videos have the name
        # by name and the folder it is in, "" at the top
        self._in_folders: dict[str, list[str]] = defaultdict(list)
        for video in sorted(set(videos)):
            path = PurePosixPath(video)
            for key in (video, path.with_suffix("").as_posix()):
                self._paths[key].append(video)
            for name in {path.name, path.stem}:
                self._names[name] = None if name in self._names else video
                self._in_folders[f"{path.parent.name}/{name}"].append(video)

    def find(self, name: str) -> list[str] | RowProblem:
        """The videos of a relative path, else the one video whose path ends as `name` does, or the other way round.

        So `cat.mp4` and `/data/raw/pets/cat.mp4` find `pets/cat.mp4`, and `dogs/cat.mp4` does not.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        if exact := self._paths.get(path.as_posix()):
            return exact
        if len(path.parts) == 1:
            if path.name not in self._names:
                return RowProblem.UNMATCHED
            alone = self._names[path.name]
            return RowProblem.AMBIGUOUS if alone is None else [alone]
        alike = [
            video
            for folder in (path.parent.name, "")
            for video in self._in_folders.get(f"{folder}/{path.name}", ())
        ]
        shared = {video: _shared_folders(path, PurePosixPath(video)) for video in alike}
        known = {video: count for video, count in shared.items() if count is not None}
        if not known:
            return RowProblem.UNMATCHED
        most = [video for video, count in known.items() if count == max(known.values())]
        return RowProblem.AMBIGUOUS if len(most) > 1 else most


def _shared_folders(one: PurePosixPath, other: PurePosixPath) -> int | None:
    """How many folders the end of two paths has in common; None where neither path is the end of the other."""
    ours, theirs = one.parts[-2::-1], other.parts[-2::-1]
    count = min(len(ours), len(theirs))
    return count if ours[:count] == theirs[:count] else None
