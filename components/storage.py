"""Where files lie: in a local folder or below `s3://bucket/prefix`, read and written in the same way.

A `Place` is a `Path`, or an `ObjectPath` that answers to the same few names. Objects are read by ranges through a
cache on the local disk, so that looking at one clip of a long film does not fetch the film. Writing is atomic for
both: a reader sees the old file or the whole new one.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any, BinaryIO, TypeAlias, cast

from components import object_store
from components.block_cache import BlockCache
from components.errors import UserError
from components.object_store import Facts, ObjectError

__all__ = ["Facts", "ObjectError", "ObjectPath", "Place"]

SCHEME = "s3://"
BLOCK_BYTES = 8 << 20  # of an object, fetched and kept together
READERS = 32  # small files that are fetched at a time
CHUNK_BYTES = 1 << 20
CHECK_ATTEMPTS = 2
WRITE_MARK = ".reelforge-can-write"


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """An object, or all objects below a prefix, with the names of `pathlib.Path` that readers of files use.

    `facts` are what a listing said of it: then looking at it needs no request, and reading it fails when it has
    been changed since.
    """

    bucket: str
    key: str  # without a slash at either end
    cache: BlockCache
    facts: Facts | None = None
    listing: Mapping[str, Facts] | None = field(default=None, repr=False, compare=False)  # key -> facts

    @classmethod
    def parse(cls, uri: str, cache: BlockCache) -> "ObjectPath":
        """Of `s3://bucket/key`. Raises `UserError`."""
        bucket, _, key = uri.removeprefix(SCHEME).partition("/")
        if not uri.startswith(SCHEME) or not bucket:
            raise UserError(f"`{uri}` names no bucket: it must look like s3://bucket/prefix")
        return cls(bucket, key.strip("/"), cache)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}" if self.key else f"{SCHEME}{self.bucket}"

    def __truediv__(self, name: str) -> "ObjectPath":
        if name.startswith(SCHEME):
            return ObjectPath.parse(name, self.cache)
        return self._at("/".join(part for part in (self.key, name.strip("/")) if part))

    def _at(self, key: str) -> "ObjectPath":
        facts = self.listing.get(key) if self.listing is not None else None
        return replace(self, key=key, facts=facts)

    def __reduce__(self) -> tuple[Any, ...]:
        # a listing stays where it was made
        return ObjectPath, (self.bucket, self.key, self.cache, self.facts)

    @property
    def pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)

    @property
    def name(self) -> str:
        return self.pure.name

    @property
    def stem(self) -> str:
        return self.pure.stem

    @property
    def suffix(self) -> str:
        return self.pure.suffix

    def with_suffix(self, suffix: str) -> "ObjectPath":
        return self._at(str(self.pure.with_suffix(suffix)))

    def as_posix(self) -> str:
        return str(self)

    def stat(self) -> Facts:
        """Raises `FileNotFoundError`."""
        if self.facts is not None:
            return self.facts
        if self.listing is not None:
            raise FileNotFoundError(2, "no such object", str(self))
        return object_store.facts_of(self.bucket, self.key)

    def is_file(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        return object_store.has_keys(self.bucket, f"{self.key}/" if self.key else "")

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def read_bytes(self) -> bytes:
        """The whole object, past the cache: for small ones."""
        return object_store.read_bytes(self.bucket, self.key, self.facts)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def open(
        self,
        mode: str = "r",
        *,
        newline: str | None = None,
        encoding: str = "utf-8",
        errors: str = "strict",
    ) -> IO[Any]:
        """For reading, as text or with `rb` as bytes. Raises `FileNotFoundError`, `ObjectError`."""
        stream = io.BufferedReader(ObjectFile(self))
        if "b" in mode:
            return cast(IO[Any], stream)
        return io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline=newline)


Place: TypeAlias = Path | ObjectPath


class ObjectFile(io.RawIOBase):
    """An object as a file that can be read and sought in; its blocks are fetched when they are needed."""

    def __init__(self, place: ObjectPath) -> None:
        super().__init__()
        self.place = replace(place, facts=place.stat(), listing=None)
        self.facts = self.place.stat()
        self.name = place.name  # tells decoders the kind of file
        self._position = 0
        self._block = -1
        self.error: OSError | None = None  # that a decoder may have taken for the end of the file
        self._file: BinaryIO | None = None  # the block that was read last

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.facts.st_size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Bytes up to the end of a block; 0 at the end of the object."""
        if self._position >= self.facts.st_size:
            return 0
        block, offset = divmod(self._position, BLOCK_BYTES)
        if block != self._block:
            try:
                self._open_block(block)
            except OSError as error:
                self.error = error
                raise
        assert self._file is not None
        self._file.seek(offset)
        count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._position += count
        return count

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def _open_block(self, block: int) -> None:
        if self._file is not None:
            self._file.close()
        first = block * BLOCK_BYTES
        span = first, min(first + BLOCK_BYTES, self.facts.st_size)
        self._file, self._block = _cached(self.place, self.facts, span), block


def _cached(place: ObjectPath, facts: Facts, span: tuple[int, int]) -> BinaryIO:
    """These bytes of an object as an open file, which stays readable when the cache lets it go."""
    key = f"{object_store.endpoint()} {place} {facts.etag} {span[0]}-{span[1]}"

    def fill(file: BinaryIO) -> None:
        object_store.read_range(place.bucket, place.key, facts.etag, span, file.write)

    while True:
        path = place.cache.get(key) or place.cache.put(key, span[1] - span[0], fill)
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError:
            continue  # another process needed the room: fetch it again


def place_of(uri: str, root: Path, cache: BlockCache) -> Place:
    """The place that a parameter names: `s3://bucket/prefix`, or a path relative to the workspace."""
    return ObjectPath.parse(uri, cache) if uri.startswith(SCHEME) else root / uri


def listed(place: Place) -> Place:
    """The place with what is below it listed once: looking at an object of it then needs no request."""
    if isinstance(place, Path):
        return place
    prefix = f"{place.key}/" if place.key else ""
    return replace(place, listing=dict(object_store.list_keys(place.bucket, prefix)))


def files_below(place: Place) -> list[str]:
    """Names, relative to the place, of all files below it, in the order of a folder tree."""
    if isinstance(place, Path):
        return [path.relative_to(place).as_posix() for path in sorted(place.rglob("*")) if path.is_file()]
    whole = listed(place) if place.listing is None else place
    assert isinstance(whole, ObjectPath)
    assert whole.listing is not None
    start = len(place.key) + 1 if place.key else 0
    names = [key[start:] for key in whole.listing if not key.endswith("/") and len(key) > start]
    return sorted(names, key=lambda name: PurePosixPath(name).parts)


def names_below(place: ObjectPath) -> Iterator[str]:
    """As `files_below`, one by one while they are listed, in the order of the object store."""
    prefix = f"{place.key}/" if place.key else ""
    return (key[len(prefix) :] for key, _ in object_store.list_keys(place.bucket, prefix))


def check_readable(place: Place) -> None:
    """Raises `UserError` where objects below a place cannot be listed; asks twice, and waits no longer."""
    if isinstance(place, ObjectPath):
        object_store.has_keys(place.bucket, f"{place.key}/" if place.key else "", attempts=CHECK_ATTEMPTS)


def check_writable(place: Place) -> None:
    """Raises `UserError` where objects cannot be listed, written and deleted below a place. Writes one."""
    check_readable(place)
    if isinstance(place, ObjectPath):
        mark = place / WRITE_MARK
        try:
            with new_file(mark) as file:
                file.write_text("whether this can be written\n")
            remove(mark)
        except ObjectError as error:
            raise UserError(
                f"{error}; a store needs s3:PutObject and s3:DeleteObject below {place}: ask for them, or set"
                " runtime.store in params.yaml to another place"
            ) from None


def stamp_of(place: Place) -> str:
    """What decides, without reading it, whether a file is as it was: size and time of change, or size and ETag."""
    try:
        facts = place.stat()
    except OSError:
        return "gone"
    if isinstance(facts, Facts):
        return f"{facts.st_size}:{facts.etag}"
    return f"{facts.st_size}:{facts.st_mtime_ns}"


def sha256_of_file(place: Place) -> str:
    """Digest of a file's bytes."""
    with place.open("rb") as stream:
        return _sha256(stream)


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def read_many(places: Iterable[Place]) -> Iterator[bytes | OSError]:
    """The content of many small files, or why it cannot be read, in order; a few dozen objects at a time."""
    waiting = iter(places)
    with ThreadPoolExecutor(READERS, thread_name_prefix="small-files") as pool:
        while some := list(islice(waiting, 8 * READERS)):
            if isinstance(some[0], Path):
                yield from map(_content, some)
            else:
                yield from pool.map(_content, some)


def _content(place: Place) -> bytes | OSError:
    try:
        return place.read_bytes()
    except OSError as error:
        return error


def fetch(place: Place, *, sha256: str | None = None) -> Path:
    """A local file with the content of the place: itself, or a copy in the cache, which may go after it was opened.

    Raises `FileNotFoundError`, and `ObjectError` when the content has another digest than `sha256`.
    """
    if isinstance(place, Path):
        return place
    facts = place.stat()
    key = f"{object_store.endpoint()} {place} {facts.etag} whole"

    def fill(file: BinaryIO) -> None:
        object_store.read_range(place.bucket, place.key, facts.etag, (0, facts.st_size), file.write)
        file.seek(0)
        if sha256 and (found := _sha256(file)) != sha256:
            raise ObjectError(f"{place} was changed or damaged: its sha256 is {found}, {sha256} was expected")

    return place.cache.get(key) or place.cache.put(key, facts.st_size, fill)


@contextmanager
def new_file(place: Place) -> Iterator[Path]:
    """A local file to write; it is at its place, as a whole, when the block has succeeded.

    What an upload that was interrupted has sent is never seen: parts of objects are no objects.
    """
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
        try:
            yield partial
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
        return
    with TemporaryDirectory(prefix="upload-") as folder:
        local = Path(folder) / place.name
        yield local
        object_store.upload(local, place.bucket, place.key)


def remove(place: Place) -> None:
    """Delete a file, if it is there."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
    else:
        object_store.delete(place.bucket, place.key)
