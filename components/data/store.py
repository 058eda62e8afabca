"""The tables of sources and clips: one Lance table each in the store, a new version per stage.

The store is the folder or the `s3://` prefix that `runtime.store` or else the profile names. Manifests name tables
relative to it, so they are the same wherever it lies.

A stage adds its columns to the version its input manifest names; columns that were there are not written
again. DVC tracks the manifest, a small JSON file, and not the table. A manifest holds nothing but facts
about the content: a stage that makes the same rows again makes the same manifest, whatever was done to
the table in between. The version is found by a tag made of the stage and the digest. A tag is set last,
so a version without one is the rest of a run that was killed, and is never read. Lance runs threads of
its own and is not fork-safe: start workers with `spawn`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from components.artifacts import read_json, sha256_of_json, write_json
from components.data import tables
from components.errors import ContractError
from components.params import store_of

if TYPE_CHECKING:
    from lance import LanceDataset

STORE = "store"  # in the workspace: what is kept there wherever the tables lie
TAG_DIGITS = 16  # of the digest, in hex
BATCH_ROWS = 1 << 15  # read at a time
DIGEST_ROWS = 1 << 20  # hashed at a time, which keeps text columns below Arrow's 2 GiB per array


@dataclass(frozen=True)
class Manifest:
    """What identifies one state of a table, and where it lies. Equal content is an equal manifest."""

    uri: str  # of the table, relative to the store
    key: str  # column the rows are sorted by; unique
    rows: int
    columns: dict[str, str]  # name -> sha256 of its values in the order of the key
    notes: dict[str, dict[str, str]]  # stage -> what it tells the stages after it about the whole table
    history: tuple[str, ...]  # tags of the states this one was made from, and its own

    @property
    def digest(self) -> str:
        """sha256 of the content: key, number of rows, every column, and the notes."""
        facts = {"key": self.key, "rows": self.rows, "columns": self.columns, "notes": self.notes}
        return sha256_of_json(facts)

    @property
    def tag(self) -> str:
        return self.history[-1]

    @property
    def stages(self) -> list[str]:
        """The stages that made this table, in order."""
        return [stage_of(tag) for tag in self.history]

    def write(self, path: Path) -> None:
        write_json(path, {**asdict(self), "digest": self.digest, "tag": self.tag})

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Raises `ContractError` if the file is missing or is not a manifest of a table."""
        if not path.is_file():
            raise ContractError(f"{path} is missing: a data stage makes it; run `dvc repro`")
        raw = read_json(path)
        try:
            digest, _ = raw.pop("digest"), raw.pop("tag")
            raw["uri"] = raw["uri"].removeprefix(f"{STORE}/")  # as older versions wrote it
            manifest = cls(**{**raw, "history": tuple(raw["history"])})
        except (AttributeError, KeyError, TypeError):
            message = f"{path} is not the manifest of a clip table; run the stage that makes it again"
            raise ContractError(message) from None
        if digest != manifest.digest:
            raise ContractError(f"{path} was changed by hand: its digest is wrong; `dvc checkout {path}`")
        return manifest


def stage_of(tag: str) -> str:
    """The stage that made the state of that tag."""
    return tag.rpartition("-")[0]


def create(root: Path, name: str, table: pa.Table, stage: str, *, key: str = "clip_id") -> Manifest:
    """Store a new table, and say where it is. What it held before stays readable through its manifests.

    Raises `ValueError` when `key` is not unique or has nulls.
    """
    table = _by_key(table, key)
    empty = Manifest(f"{name}.lance", key, table.num_rows, columns={}, notes={}, history=())
    manifest = _extend(empty, table, stage)
    if _is_stored(root, manifest):
        return manifest
    dataset = tables.write(store_of(root) / manifest.uri, table)
    dataset.tags.create(manifest.tag, dataset.version)
    return manifest


def add_columns(
    root: Path, manifest_path: Path, table: pa.Table, stage: str, *, notes: dict[str, str] | None = None
) -> Manifest:
    """The table of a manifest with the columns of `table` added, whose rows are matched by the key column.

    `notes` are handed to the stages after this one, in the manifest, as `notes[stage]`.
    Columns that are there already are not rewritten, and later states of the table are left alone. Raises
    `ValueError` unless `table` has exactly the rows of the manifest and only new columns.
    """
    base = Manifest.read(manifest_path)
    dataset = _open(root, base)
    added = _by_key(table, base.key)
    if not added[base.key].equals(dataset.to_table(columns=[base.key])[base.key]):
        raise ValueError(f"{stage}: {added.num_rows} rows are not the {base.rows} of {base.tag}")
    added = added.drop_columns([base.key])
    if again := sorted(set(added.column_names) & set(base.columns)):
        raise ValueError(f"{stage}: {base.tag} has the columns {', '.join(again)} already")
    manifest = _extend(base, added, stage, notes)
    if _is_stored(root, manifest):
        return manifest
    if dataset.version != dataset.latest_version:
        dataset.restore()
    dataset.add_columns(added.to_reader())
    dataset.tags.create(manifest.tag, dataset.version)
    return manifest


def read(root: Path, manifest_path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a manifest, sorted by its key; `columns` in the order asked for, or all of them.

    Raises `ContractError` when the table, this state of it or a column is missing.
    """
    manifest = Manifest.read(manifest_path)
    if missing := sorted(set(columns or ()) - set(manifest.columns)):
        raise ContractError(
            f"{manifest_path} has no column {', '.join(missing)}; it has {', '.join(manifest.columns)}."
            " It comes from an earlier stage or an older version of the code: run `dvc repro`"
        )
    return _open(root, manifest).to_table(columns=None if columns is None else list(columns))


def read_parts(
    root: Path, manifest_path: Path, columns: Sequence[str], *, rows: int, where: str | None = None
) -> Iterator[pa.Table]:
    """The rows of a manifest by parts of `rows`, sorted by its key: for tables that are larger than memory.

    `where` is a condition on columns, as `kept`. Raises `ContractError` as `read` does.
    """
    waiting: list[pa.RecordBatch] = []
    scanner = _open(root, Manifest.read(manifest_path)).scanner(
        columns=list(columns), filter=where, batch_size=min(rows, BATCH_ROWS), scan_in_order=True
    )
    count = 0
    for batch in scanner.to_batches():
        while count + len(batch) >= rows:
            yield pa.Table.from_batches([*waiting, batch.slice(0, rows - count)])
            batch, waiting, count = batch.slice(rows - count), [], 0  # noqa: PLW2901
        if len(batch):
            waiting.append(batch)
            count += len(batch)
    if waiting:
        yield pa.Table.from_batches(waiting)


def find(root: Path, manifest_path: Path, **values: str) -> list[dict[str, Any]]:
    """The rows of a manifest whose columns have these values; the table is not read as a whole."""
    manifest = Manifest.read(manifest_path)
    if missing := set(values) - set(manifest.columns):
        raise ContractError(f"{manifest_path} has no column {', '.join(sorted(missing))}")
    rows: list[dict[str, Any]] = _open(root, manifest).to_table(filter=condition(**values)).to_pylist()
    return rows


def condition(**values: str) -> str:
    """`source = 'a.mp4' AND split = 'train'` for a search in a table."""
    return " AND ".join(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in values.items())


@dataclass(frozen=True)
class Version:
    """One state of a table that is still stored, and how many of its rows were looked for."""

    tag: str
    rows: int


def versions_with(root: Path, name: str, stage: str, wanted: str) -> list[Version]:
    """The states of a table made by a stage that hold rows for which the condition `wanted` is true."""
    location = store_of(root) / f"{name}.lance"
    return [
        Version(tag, rows)
        for tag in sorted(tables.tags_of(location))
        if stage_of(tag) == stage and (rows := tables.open_table(location, tag).count_rows(wanted))
    ]


def is_stored(root: Path, manifest_path: Path) -> bool:
    """True when the state that a manifest names can be read in this workspace."""
    return _is_stored(root, Manifest.read(manifest_path))


def _is_stored(root: Path, manifest: Manifest) -> bool:
    return manifest.tag in tables.tags_of(store_of(root) / manifest.uri)


def _open(root: Path, manifest: Manifest) -> "LanceDataset":
    """The dataset at the state of a manifest. Raises `ContractError` naming the stages to run again."""
    location = store_of(root) / manifest.uri
    tags = tables.tags_of(location)
    if manifest.tag not in tags:
        first = next(index for index, tag in enumerate(manifest.history) if tag not in tags)
        again = " && ".join(f"reelforge stage {stage} --force" for stage in manifest.stages[first:])
        what = f"state {manifest.tag} of {location}" if tags else f"table {location}"
        raise ContractError(f"{what} is missing here (DVC keeps the manifest only); make it again: `{again}`")
    dataset = tables.open_table(location, manifest.tag)
    if (rows := dataset.count_rows()) != manifest.rows:
        raise ContractError(f"{location} has {rows} rows at {manifest.tag}, its manifest {manifest.rows}")
    return dataset


def _by_key(table: pa.Table, key: str) -> pa.Table:
    import pyarrow.compute as pc

    keys = table[key]
    if keys.null_count or len(keys.unique()) != len(keys):
        raise ValueError(f"`{key}` must name each row once: {len(keys)} rows, {len(keys.unique())} names")
    # as a stage has read them: nothing is copied
    if len(keys) < 2 or pc.all(pc.less(keys[:-1], keys[1:])).as_py():
        return table
    order = pc.sort_indices(keys)
    columns = [_taken(column, order) for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _taken(column: pa.ChunkedArray, rows: pa.Array) -> pa.ChunkedArray:
    """These rows of a column; text of any length, where Arrow takes from an array of 2 GiB at most."""
    if not pa.types.is_string(column.type):
        return column.take(rows)
    whole = column.cast(pa.large_string()).combine_chunks()
    parts = (rows.slice(start, BATCH_ROWS) for start in range(0, len(rows), BATCH_ROWS))
    return pa.chunked_array([whole.take(part).cast(column.type) for part in parts], column.type)


def _extend(base: Manifest, added: pa.Table, stage: str, notes: dict[str, str] | None = None) -> Manifest:
    """The manifest of `base` with the columns of `added`, which are in the order of the key."""
    columns = {**base.columns, **{name: column_digest(added[name]) for name in added.column_names}}
    all_notes = {**base.notes, stage: notes} if notes else base.notes
    untagged = replace(base, columns=dict(sorted(columns.items())), notes=all_notes)
    return replace(untagged, history=(*base.history, f"{stage}-{untagged.digest[:TAG_DIGITS]}"))


def column_digest(column: pa.ChunkedArray) -> str:
    """sha256 of a column's type and values; how they are cut into chunks and buffers makes no difference."""
    digest = hashlib.sha256(f"{column.type}:{len(column)}".encode())
    for start in range(0, len(column), DIGEST_ROWS):
        _feed(digest, column.slice(start, DIGEST_ROWS).combine_chunks())
    return digest.hexdigest()


def _feed(digest: Any, array: pa.Array) -> None:
    """Type, length and nulls, then the values: lengths and text, lengths and items of lists, raw numbers."""
    import pyarrow.compute as pc

    digest.update(f"{array.type}:{len(array)}:".encode())
    digest.update(array.is_valid().to_numpy(zero_copy_only=False).tobytes())
    values = array.drop_null()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        digest.update(pc.binary_length(values).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        digest.update("".join(values.to_pylist()).encode())
    elif pa.types.is_list(array.type):
        digest.update(pc.list_value_length(values).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes())
        _feed(digest, values.flatten())
    elif pa.types.is_primitive(array.type):
        digest.update(values.to_numpy(zero_copy_only=False).tobytes())
    else:
        raise ValueError(
            f"a column of type {array.type} is not supported: use numbers, text, or lists of them"
        )
