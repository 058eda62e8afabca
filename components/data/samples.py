"""The table of samples of one encode: whose latents lie in which byte of which shard.

It is a Lance table beside the shards, a row per sample in the order of the shards, with the clip that the row was
made from: so a takedown finds what holds a clip, and training opens tens of millions of samples with one scan of
the columns it needs. DVC tracks the manifest of the latents, which names the table by the digest of its rows; the
version of the table is found by a tag made of the digest, so equal content is an equal manifest, whatever was
written and killed in between.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from components.data import tables
from components.data.store import column_digest
from components.errors import ContractError
from components.storage import Place, files_below

if TYPE_CHECKING:
    from lance import LanceDataset

TABLE = "samples.lance"
SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("split", pa.string()),
        ("family", pa.string()),  # name of the bucket
        ("window", pa.int32()),  # first frame, at the sampling rate
        ("variant", pa.string()),  # "plain" or "mirrored"
        ("file", pa.string()),  # the shard, relative to the store
        ("shard", pa.int32()),  # its number in the family
        ("row", pa.int64()),  # of the family
        ("offset", pa.int64()),  # first byte of the latents in the shard
        ("caption", pa.int64()),  # row of the text embeddings
        ("scored", pa.int64()),  # that of the caption with scores; where there are none, the same
        ("selections", pa.list_(pa.string())),  # of `filter.selections` that the clip is in
    ]
)
TAG_DIGITS = 16  # of the digest, in hex
SCAN_ROWS = 1 << 16  # read at a time


@dataclass(frozen=True)
class SampleTable:
    """Names one state of a table of samples; `uri` is relative to the store."""

    uri: str = ""
    version: str = ""
    rows: int = 0
    digest: str = ""


NO_SAMPLES = SampleTable()


def write_samples(store: Place, folder: str, parts: Callable[[], Iterable[pa.RecordBatch]]) -> SampleTable:
    """The table in the folder of the shards; rows that are there already are not written again.

    `parts` gives the rows from the start each time it is called; one part is in memory at a time.
    """
    table = _described(f"{folder}/{TABLE}", parts())
    location = store / table.uri
    if table.version in tables.tags_of(location):
        return table
    dataset = tables.write(location, pa.RecordBatchReader.from_batches(SCHEMA, parts()))
    dataset.tags.create(table.version, dataset.version)
    return table


def _described(uri: str, parts: Iterable[pa.RecordBatch]) -> SampleTable:
    digest, rows = hashlib.sha256(), 0
    for part in parts:
        rows += len(part)
        for name in SCHEMA.names:
            digest.update(f"{name}:{column_digest(pa.chunked_array([part[name]]))}\n".encode())
    return SampleTable(uri, digest.hexdigest()[:TAG_DIGITS], rows, digest.hexdigest())


def open_samples(store: Place, table: SampleTable) -> "LanceDataset":
    """The table at the state that a manifest names. Raises `ContractError` where it is not in this store."""
    location = store / table.uri
    if table.version not in tables.tags_of(location):
        raise ContractError(
            f"state {table.version} of the samples {location} is missing (DVC keeps the manifest only)"
        )
    dataset = tables.open_table(location, table.version)
    if (rows := dataset.count_rows()) != table.rows:
        raise ContractError(f"{location} has {rows} rows at {table.version}, its manifest {table.rows}")
    return dataset


def scan(store: Place, table: SampleTable, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """These columns in the order of the rows, by parts; nothing else is read."""
    dataset = open_samples(store, table)
    scanner = dataset.scanner(columns=list(columns), batch_size=SCAN_ROWS, scan_in_order=True)
    yield from scanner.to_batches()


def samples_of(location: Place, clips: Collection[str]) -> Counter[tuple[str, str]]:
    """Samples of these clips by (family, file), in the newest state of a table."""
    wanted = pa.array(sorted(clips), pa.string())
    found: Counter[tuple[str, str]] = Counter()
    columns = ["clip_id", "family", "file"]
    scanner = tables.open_table(location).scanner(columns=columns, batch_size=SCAN_ROWS)
    for batch in scanner.to_batches():
        rows = batch.filter(pc.is_in(batch["clip_id"], value_set=wanted))
        found.update(zip(rows["family"].to_pylist(), rows["file"].to_pylist(), strict=True))
    return found


def tables_below(folder: Place) -> list[Place]:
    """All tables of samples one level below a folder of the store."""
    versions = (PurePosixPath(name) for name in files_below(folder) if name.endswith(".manifest"))
    names = {path.parts[0] for path in versions if path.parts[1:3] == (TABLE, "_versions")}
    return [folder / name / TABLE for name in sorted(names)]


def part_of(values: dict[str, Any]) -> pa.RecordBatch:
    """Columns as a part of a table. Raises `pyarrow.ArrowInvalid` where one is missing or of another type."""
    return pa.RecordBatch.from_pydict(values, schema=SCHEMA)
