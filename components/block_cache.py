"""What was fetched from an object store, kept on the local disk for all processes of this machine.

fsspec's `blockcache` keeps one sparse file per object with a list of its blocks that two processes overwrite for each
other, and it has no limit. Here an entry is a file that appears whole under its name, so processes share the folder
without talking to each other, and the space of an entry is taken under a lock before its bytes are fetched, so the
folder never holds more than its limit. The entry that was used longest ago goes first.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from components.errors import UserError

USED = "used"  # file with the number of bytes that entries take
PARTIAL = ".partial"
STALE_SECONDS = 3600.0  # a partial entry this old was left by a process that was killed
ROOM_SHARE = 0.1  # of the limit: what a sweep frees beyond what is needed, so that sweeps are rare


@dataclass(frozen=True)
class BlockCache:
    """A folder of entries by key, of at most `limit` bytes. It may be deleted at any time."""

    folder: Path
    limit: int  # bytes

    def get(self, key: str) -> Path | None:
        """The entry of a key, which counts as used now. It may be gone when it is opened: then ask again."""
        path = self._path(key)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def put(self, key: str, size: int, fill: Callable[[BinaryIO], object]) -> Path:
        """Make the entry of a key: `fill` writes its `size` bytes to the file it is given, which has that length.

        Raises `UserError` for an entry that is larger than the whole cache.
        """
        path = self._path(key)
        partial = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}{PARTIAL}")
        self._reserve(partial, size)
        try:
            with partial.open("r+b") as file:
                fill(file)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            with self._locked():
                self._set_used(max(0, self._used() - size))
            raise
        return path

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / name

    def _reserve(self, partial: Path, size: int) -> None:
        """Take the space; the partial file has its full length from now on, so that a sweep counts it."""
        if size > self.limit:
            raise UserError(
                f"the cache {self.folder} may hold {self.limit / 1e9:g} GB, and one entry of it is"
                f" {size / 1e9:g} GB: raise runtime.cache_gb"
            )
        with self._locked():
            used = self._used()
            if used + size > self.limit:
                used = self._sweep(int(self.limit * (1 - ROOM_SHARE)) - size)
            partial.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.truncate(size)
            self._set_used(used + size)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            yield

    def _used(self) -> int:
        """Bytes as they were counted; the folder is looked at where there is no count yet."""
        with suppress(FileNotFoundError, ValueError):
            return int((self.folder / USED).read_text())
        return sum(size for _, size, _ in self._entries())

    def _set_used(self, used: int) -> None:
        (self.folder / USED).write_text(str(used))

    def _sweep(self, target: int) -> int:
        """Delete the entries used longest ago until `target` bytes are left, and say how many are."""
        entries = sorted(self._entries())
        left = sum(size for _, size, _ in entries)
        for used_at, size, path in entries:
            if left <= max(0, target):
                break
            if path.name.endswith(PARTIAL) and time.time() - used_at < STALE_SECONDS:
                continue  # somebody is filling it
            path.unlink(missing_ok=True)
            left -= size
        return left

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Time of last use, bytes and path of every entry."""
        for path in self.folder.glob("??/*"):
            with suppress(FileNotFoundError):
                facts = path.stat()
                yield facts.st_mtime, facts.st_size, path
