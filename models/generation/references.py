"""A model's folder whose large files lie elsewhere, each named by its address, size and sha256.

Versions of a model share most of their bytes: text encoder and autoencoder stay while the transformer changes. So a
registered version may hold references, and whoever loads it puts the folder together and trusts nothing but digests.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

REFERENCES = "weights.json"  # in the folder, beside its small files
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Reference:
    """A file of the folder, by its path there, that lies at `uri`."""

    file: str
    uri: str
    size: int  # bytes
    sha256: str


Fetch = Callable[[Reference, Path], None]  # put the file of a reference at a path, as a copy or a link


def write_references(folder: Path, references: Sequence[Reference]) -> None:
    """Name the files that are not in the folder."""
    (folder / REFERENCES).write_text(json.dumps([asdict(one) for one in references], indent=2) + "\n")


def read_references(folder: Path) -> list[Reference]:
    """The files that are not in the folder; none where it is whole."""
    path = folder / REFERENCES
    return [Reference(**one) for one in json.loads(path.read_text())] if path.is_file() else []


def put_together(folder: Path, whole: Path, fetch: Fetch) -> Path:
    """A folder with all its files: itself where it is whole, else `whole`.

    Into that go copies of its small files, and what `fetch` gives of the others. Raises `ValueError` naming a file
    that cannot be read at its address, or is not the one that was registered.
    """
    references = read_references(folder)
    if not references:
        return folder
    for small in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != REFERENCES):
        copy = whole / small.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(small, copy)
    for reference in references:
        target = whole / reference.file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            fetch(reference, target)
            found = _sha256_of(target)
        except OSError as error:
            raise ValueError(
                f"{reference.file} of this model cannot be read at {reference.uri} ({error}); put the file with sha256"
                f" {reference.sha256} back there"
            ) from None
        if found != reference.sha256:
            raise ValueError(
                f"{reference.file} of this model was changed: {reference.uri} has sha256 {found}, and"
                f" {reference.sha256} was registered; put that file back there"
            )
    return whole


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
