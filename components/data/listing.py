"""Manifests: tables that say which files there are, and what is known of them, in the formats data sets come in.

Any CSV, JSONL or Parquet file with a column `path` will do. The published metadata of HD-VILA-100M (one JSON object
per video with its clips), Panda-70M (lists of time stamps and captions per video) and WebVid (one row per video) are
told apart by their columns. All of them become `Listed`: a name, the spans that are clips, and captions.
"""

import ast
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from components.errors import UserError
from components.storage import Place, files_below

FILE_TYPES = (".csv", ".jsonl", ".parquet")
BATCH_ROWS = 8192
Record = dict[str, Any]
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of a manifest. `name` is a path, or its end without suffix where `published`; times in seconds.

    `problem` says why a row cannot be used. `pieces` are names of files that were cut already, one per span.
    """

    name: str
    spans: tuple[Span, ...] = ()
    captions: tuple[str, ...] = ()  # one per span, or one of the whole file
    licence: str | None = None
    split: str | None = None
    pieces: tuple[str, ...] = ()
    published: bool = False
    problem: str = ""


def read_listing(manifest: Place) -> Iterator[Listed]:
    """Every row of a manifest file, or of the manifest files in a folder, in order.

    Raises `UserError` for a file of another type, and for columns that are none of the known formats.
    """
    for path in _files(manifest):
        records = _READERS[path.suffix.lower()](path)
        understand: Callable[[Record], Listed] | None = None
        for number, record in enumerate(records, start=1):
            if record is None:
                yield Listed(f"{path.name}, row {number}", problem="the row cannot be read")
                continue
            if understand is None:
                understand = _format_of(path, record)
            try:
                yield understand(record)
            except (KeyError, TypeError, ValueError, SyntaxError) as error:
                yield Listed(f"{path.name}, row {number}", problem=f"{type(error).__name__}: {error}")


def caption_records(manifest: Place) -> Iterator[dict[str, Any]]:
    """The captions of a manifest as records with `path`, `text`, and `start` and `end` where it has spans."""
    for row in read_listing(manifest):
        if row.problem or not row.captions:
            continue
        if not row.spans:
            yield {"path": row.name, "text": row.captions[0]}
            continue
        for (start, end), text in zip(row.spans, row.captions, strict=True):
            yield {"path": row.name, "text": text, "start": start, "end": end}


def is_published(manifest: Place) -> bool:
    """True for a file in the format of HD-VILA-100M, Panda-70M or WebVid, by its first row."""
    if not manifest.is_file() or manifest.suffix.lower() not in FILE_TYPES:
        return False
    columns = set(next(_READERS[manifest.suffix.lower()](manifest), None) or ())
    return any(needed <= columns for needed, _ in _FORMATS[:-1])


def _files(manifest: Place) -> list[Place]:
    if manifest.is_dir():
        every = (manifest / name for name in files_below(manifest))
        found = [path for path in every if path.suffix.lower() in FILE_TYPES]
        if not found:
            raise UserError(f"the manifest {manifest} is a folder without {', '.join(FILE_TYPES)} files")
        return found
    if not manifest.is_file():
        raise UserError(
            f"the manifest {manifest} does not exist; `ingest.manifest` is relative to ingest.videos, an absolute"
            " path or an s3:// URI"
        )
    if manifest.suffix.lower() not in FILE_TYPES:
        raise UserError(
            f"the manifest {manifest} must be a {', '.join(FILE_TYPES)} file, or a folder of them"
        )
    return [manifest]


def _read_csv(path: Place) -> Iterator[Record | None]:
    csv.field_size_limit(1 << 27)  # Panda-70M keeps all clips of a video in one field
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        try:
            for record in reader:
                yield (
                    None if None in record.values() else {key: value for key, value in record.items() if key}
                )
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num} is not CSV: {error}") from None


def _read_jsonl(path: Place) -> Iterator[Record | None]:
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        for line in stream:
            if line.strip():
                yield _parse(line)


def _parse(line: str) -> Record | None:
    """A JSON object; HD-VILA-100M prints some with single quotes, as Python does."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        try:
            value = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _read_parquet(path: Place) -> Iterator[Record | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as stream:
        try:
            file = pq.ParquetFile(stream)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path} is not a readable Parquet file: {error}") from None
        for batch in file.iter_batches(BATCH_ROWS):
            yield from batch.to_pylist()


_READERS: dict[str, Callable[[Place], Iterator[Record | None]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _plain(record: Record) -> Listed:
    """`path`, and where they are there `start` and `end`, `text` or `caption`, `licence`, `split`."""
    name = _text(record, "path")
    if not name:
        raise ValueError("`path` is empty")
    start, end = (_optional_seconds(record.get(column)) for column in ("start", "end"))
    spans = (_span(start or 0.0, end),) if end is not None else ()
    caption = _text(record, "text") or _text(record, "caption")
    return Listed(
        name,
        spans,
        (caption,) if caption else (),
        licence=_text(record, "licence") or _text(record, "license") or None,
        split=_text(record, "split") or None,
    )


def _hdvila(record: Record) -> Listed:
    """`video_id` and `clip`: a list of {clip_id, span: [from, to]}."""
    clips = [(_span(*map(_seconds, clip["span"])), str(clip["clip_id"])) for clip in record["clip"]]
    return Listed(
        str(record["video_id"]),
        tuple(span for span, _ in clips),
        pieces=tuple(name for _, name in clips),
        published=True,
    )


def _panda(record: Record) -> Listed:
    """`videoID`, and the lists `timestamp` and `caption`, written as Python writes them."""
    name = str(record["videoID"])
    times = _literal(record["timestamp"])
    captions = tuple(map(str, _literal(record.get("caption") or "[]")))
    spans = tuple(_span(*map(_seconds, pair)) for pair in times)
    if captions and len(captions) != len(spans):
        raise ValueError(f"{len(spans)} time stamps and {len(captions)} captions")
    return Listed(
        name,
        spans,
        captions,
        pieces=tuple(f"{name}_{index}.mp4" for index in range(len(spans))),
        published=True,
    )


def _webvid(record: Record) -> Listed:
    """`videoid` and `name`, the caption; a video lies in the folder `page_dir`, where there is one."""
    folder, caption = _text(record, "page_dir"), _text(record, "name")
    name = f"{folder}/{record['videoid']}" if folder else str(record["videoid"])
    return Listed(name, captions=(caption,) if caption else (), published=True)


_FORMATS: tuple[tuple[set[str], Callable[[Record], Listed]], ...] = (
    ({"video_id", "clip"}, _hdvila),
    ({"videoID", "timestamp"}, _panda),
    ({"videoid", "name"}, _webvid),
    ({"path"}, _plain),
)


def _format_of(path: Place, record: Record) -> Callable[[Record], Listed]:
    for needed, understand in _FORMATS:
        if needed <= set(record):
            return understand
    raise UserError(
        f"{path} has no column path; found: {', '.join(record) or 'nothing'}. Needed: path (optional: start, end in"
        " seconds, licence, split, text), or the columns of HD-VILA-100M (video_id, clip), Panda-70M (videoID,"
        " timestamp, caption) or WebVid (videoid, page_dir, name)"
    )


def _text(record: Record, column: str) -> str:
    value = record.get(column)
    return "" if value is None or value != value else str(value).strip()  # pandas writes NaN for nothing


def _literal(value: Any) -> list[Any]:
    found = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(found, list | tuple):
        raise ValueError(f"{str(value)[:60]!r} is no list")
    return list(found)


def _seconds(value: Any) -> float:
    """Seconds, or hours, minutes and seconds with colons between them."""
    seconds = 0.0
    for part in str(value).split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _optional_seconds(value: Any) -> float | None:
    return None if value is None or value == "" or value != value else _seconds(value)


def _span(start: float, end: float | None) -> Span:
    if end is None or not 0 <= start < end < float("inf"):
        raise ValueError(f"no span of time: {start} to {end}")
    return round(start, 6), round(end, 6)
