"""Everything that is known of one clip or one file, gathered from all that the stages left behind.

And what is touched when something leaves the data set: versions of the table and shards of latents hold it still.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from components.data import store
from components.data.samples import samples_of, tables_below
from components.data.takedowns import Takedown
from components.errors import ContractError, UserError
from components.params import store_of

CLIPS = Path("artifacts/clips")
LATENTS = "latents"  # below the store
SOURCES = CLIPS / "ingest.json"
STAGES = ("dedup", "caption", "filter", "score", "split")  # the last one that has run knows most
FINAL = "dedup"  # its states are the versions of the data set
NAMED = 10  # licences that a message names
Row = dict[str, Any]


@dataclass(frozen=True)
class Stored:
    """Rows of a latent shard that were made from clips. `file` is relative to the store."""

    family: str
    file: str
    rows: int


@dataclass(frozen=True)
class Dossier:
    """What is known. `stage` made the row of the clip; `clips` are the ids of a source's clips."""

    source: Row
    clip: Row = field(default_factory=dict)
    stage: str = ""
    clips: tuple[str, ...] = ()
    latents: tuple[Stored, ...] = ()
    versions: tuple[store.Version, ...] = ()


def dossier(root: Path, name: str) -> Dossier:
    """All about a clip id, or about a file by its path or sha256. Raises `UserError` where there is no such thing."""
    stage, manifest = latest(root)
    if rows := store.find(root, manifest, clip_id=name):
        (source, *_) = store.find(root, root / SOURCES, source=rows[0]["source"]) or [{}]
        latents = tuple(latents_of(root, {name}))
        versions = tuple(store.versions_with(root, "clips", FINAL, store.condition(clip_id=name)))
        return Dossier(source, rows[0], stage, (), latents, versions)
    if source_rows := source_named(root, name):
        source = source_rows[0]
        clips = tuple(row["clip_id"] for row in store.find(root, manifest, source=source["source"]))
        wanted = store.condition(source=source["source"])
        versions = tuple(store.versions_with(root, "clips", FINAL, wanted))
        return Dossier(source, {}, stage, clips, tuple(latents_of(root, set(clips))), versions)
    raise UserError(
        f"there is no clip and no file `{name}` in {manifest.relative_to(root)}; give the id of a clip, or the path of"
        " a file relative to ingest.videos (ids are in `reelforge data report`)"
    )


def latest(root: Path) -> tuple[str, Path]:
    """The last data stage that has run, and its manifest. Raises `UserError` when none has."""
    for stage in STAGES:
        manifest = root / CLIPS / f"{stage}.json"
        if manifest.is_file() and store.is_stored(root, manifest):
            return stage, manifest
    raise UserError(f"there is no clip table in {root} yet; `reelforge stage split` makes one")


def source_named(root: Path, name: str) -> list[Row]:
    """The row of a file by its path or its sha256, if there is one."""
    if not (root / SOURCES).is_file():
        return []
    return store.find(root, root / SOURCES, source=name) or store.find(root, root / SOURCES, digest=name)


def latents_of(root: Path, clips: set[str]) -> Iterator[Stored]:
    """The shards in the store that hold windows of these clips, also those of older encodes that were not deleted."""
    if not clips:
        return
    for table in tables_below(store_of(root) / LATENTS):
        for (family, file), rows in sorted(samples_of(table, clips).items()):
            yield Stored(f"{PurePosixPath(file).parent.name} {family}", file, rows)


def takedown_of(root: Path, kind: str, value: str, reason: str) -> list[Takedown]:
    """The entries that take something out, with its content as the tables know it.

    Raises `UserError` where nothing of that name is known: a misspelt takedown would take nothing down.
    """
    if kind == "clip":
        rows = store.find(root, latest(root)[1], clip_id=value)
        if not rows:
            raise UserError(f"there is no clip `{value}`; to remove a whole file use --source")
        row = rows[0]
        span = (row["start_seconds"], row["end_seconds"])
        return [Takedown("clip", value, reason, row["source_digest"], *span)]
    if kind == "source":
        rows = source_named(root, value)
        if not rows:
            raise UserError(
                f"there is no file `{value}`; give its path relative to ingest.videos, or its sha256"
            )
        return [Takedown("source", row["source"], reason, row["digest"]) for row in rows]
    if not store.find(root, root / SOURCES, licence=value):
        known = sorted(set(store.read(root, root / SOURCES, ["licence"])["licence"].to_pylist()))
        raise UserError(f"no file has the licence `{value}`; there are: {', '.join(known[:NAMED])}")
    return [Takedown("licence", value, reason)]


@dataclass(frozen=True)
class Touched:
    """What holds something that was taken down: `clips` ids of the current table, and what was made from them."""

    clips: tuple[str, ...]
    versions: tuple[store.Version, ...]
    latents: tuple[Stored, ...]


def touched_by(root: Path, entries: Sequence[Takedown]) -> Touched:
    """Versions of the data set and latents in this workspace that hold what the entries name."""
    clips: set[str] = set()
    versions: dict[str, store.Version] = {}
    for entry in entries:
        column = {"clip": "clip_id", "source": "source", "licence": "licence"}[entry.kind]
        wanted = store.condition(**{column: entry.value})
        if entry.kind == "source" and entry.digest:
            wanted = f"{wanted} OR {store.condition(source_digest=entry.digest)}"
        try:
            clips |= {row["clip_id"] for row in store.find(root, latest(root)[1], **{column: entry.value})}
        except ContractError:  # the table was made from other files since
            continue
        for version in store.versions_with(root, "clips", FINAL, f"({wanted}) AND kept"):
            versions[version.tag] = version
    found = tuple(versions[tag] for tag in sorted(versions))
    return Touched(tuple(sorted(clips)), found, tuple(latents_of(root, clips)))
