"""Where the large files of registered models lie: once each, below the store, under the name of their sha256.

A version in MLflow holds the small files and references to these (`models.generation.references`), so that another
version with the same autoencoder uploads nothing of it, and none of it passes through the tracking server.
"""

import shutil
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from components import object_store
from components.artifacts import sha256_of
from components.errors import UserError
from components.params import RuntimeConfig
from components.storage import ObjectPath, Place, new_file, place_of
from models.generation.references import Reference, put_together, write_references

FOLDER = "weights"  # below `runtime.store`
LOCAL = "file:"
MEGABYTE = 1_000_000


def pack(source: Path, folder: Path, root: Path, runtime: RuntimeConfig) -> None:
    """Copy a model's folder, its files above `runtime.registered_file_mb` as references.

    What the store does not hold yet is written to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shelf = runtime.store_place(root) / FOLDER
    references = []
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        name = file.relative_to(source)
        if (size := file.stat().st_size) > runtime.registered_file_mb * MEGABYTE:
            digest = sha256_of(file)
            place = _put(file, shelf / f"{digest}{file.suffix}")
            references.append(Reference(name.as_posix(), _address(place), size, digest))
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
    if references:
        write_references(folder, references)


def unpack(folder: Path, whole: Path, root: Path, runtime: RuntimeConfig) -> Path:
    """A folder with all files of a packed one: `whole`, where those of a local store are links, or itself.

    Raises `UserError` naming a file that is missing or was changed.
    """

    def fetch(reference: Reference, target: Path) -> None:
        if reference.uri.startswith(LOCAL):
            target.symlink_to(url2pathname(urlsplit(reference.uri).path))
            return
        place = place_of(reference.uri, root, runtime.block_cache(root))
        assert isinstance(place, ObjectPath), reference.uri
        object_store.download(place.bucket, place.key, target)

    try:
        return put_together(folder, whole, fetch)
    except ValueError as error:
        raise UserError(str(error)) from None


def _put(file: Path, place: Place) -> Place:
    """Write the file, unless one of its size is there."""
    if place.is_file() and place.stat().st_size == file.stat().st_size:
        return place
    if isinstance(place, ObjectPath):
        object_store.upload(file, place.bucket, place.key)
    else:
        with new_file(place) as copy:
            shutil.copyfile(file, copy)
    return place


def _address(place: Place) -> str:
    return place.resolve().as_uri() if isinstance(place, Path) else str(place)
