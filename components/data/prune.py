"""What no run would read again: kept results of other code or parameters, and states of tables that nothing names.

Both are only there to save work. A state of a table that is gone is made again by its stages, and results are worked
out again; neither is lost where the videos are still there.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from components.data import dedup, split, store, tables
from components.data.items import Items, items_folder
from components.data.probes import Probes
from components.data.score_items import version_of
from components.data.scorers import SCORERS
from components.errors import ContractError
from components.params import Params, store_of
from components.storage import Place

if TYPE_CHECKING:
    from lance import LanceDataset

log = logging.getLogger(__name__)
TABLES = ("sources", "clips")


@dataclass(frozen=True)
class Removable:
    """Results of one version of some work, or states of a table."""

    kind: str  # "results" or "table"
    name: str
    what: str  # in words
    size: int  # bytes that it frees
    place: Place
    tags: tuple[str, ...] = ()  # of a table
    versions: tuple[int, ...] = ()


def find_removable(root: Path, params: Sequence[Params], *, others_too: bool = False) -> list[Removable]:
    """All that neither these parameter sets nor a manifest of the workspace ask for.

    `others_too`: states of tables also where the store may be that of other workspaces, whose manifests are not known.
    """
    return [*_results(root, params), *(_tables(root) if others_too or has_own_store(root) else ())]


def has_own_store(root: Path) -> bool:
    """True where the tables lie in the workspace, so that nobody else has manifests of their states."""
    place = store_of(root)
    return isinstance(place, Path) and place.resolve().is_relative_to(root.resolve())


def remove(found: Iterable[Removable]) -> None:
    """Delete it. Stages must not be running."""
    for one in found:
        if isinstance(one.place, Path) and one.kind == "results":
            shutil.rmtree(one.place)
        else:
            _remove_states(one)
        log.info("removed %s %s: %s", one.kind, one.name, one.what)


def _results(root: Path, params: Sequence[Params]) -> Iterator[Removable]:
    """Versions that are not current, of work that we know; a scorer whose weights are away is left alone."""
    base = items_folder(root)
    for name, folders in _current(root, params).items():
        for folder in sorted(base.joinpath(name).glob("*")):
            if folder.is_dir() and folder not in folders and (folder / "version.json").is_file():
                count = sum(_lines(path) for path in folder.glob("*.jsonl"))
                what = f"{count} results of other code, weights or parameters"
                yield Removable("results", name, what, _size(folder.rglob("*")), folder)


def _current(root: Path, params: Sequence[Params]) -> dict[str, set[Path]]:
    """Name of the work -> folders of the versions that a run would read."""
    probes = Probes(root, root, params[0].runtime.limits("ingest"))
    current = {"ingest": {probes.facts.folder}, "digests": {probes.digests.folder}}
    for one in params:
        works = {"dedup": dedup.work_of(one.dedup).version, "split": split.work_of(one.split, root).version}
        for name, version in works.items():
            current.setdefault(name, set()).add(Items[object](root, name, version).folder)
    for name in SCORERS:
        try:
            versions = [version_of(name, one.score) for one in params]
        except OSError as error:
            log.warning("results of score/%s are left alone: %s", name, error)
            continue
        known = {Items[object](root, f"score/{name}", version).folder for version in versions}
        current[f"score/{name}"] = known
    return current


def _tables(root: Path) -> Iterator[Removable]:
    """States that no manifest below `artifacts` names or was made from."""
    named = _named_tags(root)
    for name in TABLES:
        location = store_of(root) / f"{name}.lance"
        if not tables.exists(location):
            continue
        dataset = tables.open_table(location)
        tags = {tag: int(facts["version"]) for tag, facts in dataset.tags.list().items()}
        kept = {version for tag, version in tags.items() if tag in named} | {dataset.latest_version}
        old = tuple(tag for tag in sorted(tags) if tags[tag] not in kept)
        versions = tuple(one["version"] for one in dataset.versions() if one["version"] not in kept)
        if not versions:
            continue
        needed = {path for version in kept for path in _files(dataset, version)}
        gone = {path for version in versions for path in _files(dataset, version)} - needed
        size = _size(location / f"data/{path}" for path in gone)
        what = (
            f"{len(versions)} states that no manifest names ({', '.join(old) or 'of runs that were ended'})"
        )
        yield Removable("table", name, what, size, location, old, versions)


def _named_tags(root: Path) -> set[str]:
    tags: set[str] = set()
    for path in (root / "artifacts").rglob("*.json"):
        try:
            tags |= {*store.Manifest.read(path).history}
        except (ContractError, ValueError):
            continue  # another kind of file
    return tags


def _files(dataset: "LanceDataset", version: int) -> Iterator[str]:
    """The files that hold the values of a state."""
    for fragment in dataset.checkout_version(version).get_fragments():
        yield from (file.path for file in fragment.data_files())


def _remove_states(one: Removable) -> None:
    dataset = tables.open_table(one.place)
    for tag in one.tags:
        dataset.tags.delete(tag)
    dataset.cleanup_old_versions(
        timedelta(0), versions=list(one.versions), error_if_tagged_old_versions=False
    )


def _size(paths: Iterable[Place]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream)
