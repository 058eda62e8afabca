"""Shards: safetensors files whose tensors have one row per sample, read row by row as ranges of bytes.

The layout of safetensors is a header that names each tensor's first byte, then the values as they lie in memory.
So row k of a tensor is a range of bytes that is known beforehand: a table of offsets is all that a reader needs,
on a disk as on an object store, and any other reader of safetensors still opens the file.
"""

import json
import math
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from components.artifacts import sha256_of
from components.errors import ContractError
from components.storage import ObjectError, ObjectPath, Place, new_file

LENGTH_BYTES = 8  # little-endian length of the header, at the start of the file
OPEN_SHARDS = 256  # files kept open
READERS = 16  # rows that are fetched at a time from an object store
TYPES = {"F16": np.float16, "BOOL": np.bool_}


@dataclass(frozen=True)
class Shard:
    """One file: `file` is relative to the store."""

    file: str
    sha256: str
    rows: int
    size: int  # bytes of the file


@dataclass(frozen=True)
class TensorRows:
    """Where the rows of a tensor lie in a file. `shape` is that of one row, `start` the first byte of the first."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def offset(self, row: int) -> int:
        """First byte of a row."""
        return self.start + row * self.row_bytes


def write_shard(store: Place, file: str, tensors: Mapping[str, NDArray[Any]]) -> Shard:
    """Write tensors with a row per sample, atomically; equal content gives an equal file."""
    with new_file(store / file) as local:
        save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, local)
        rows = len(next(iter(tensors.values())))
        return Shard(file, sha256_of(local), rows, local.stat().st_size)


def layout_of(place: Place) -> dict[str, TensorRows]:
    """The tensors of a shard by name. Raises `ContractError` when the file is no shard."""
    try:
        with place.open("rb") as stream:
            length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        return {name: _rows(entry, LENGTH_BYTES + length) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise ContractError(f"{place} is no shard of safetensors ({error}); encode again") from None


def _rows(entry: Mapping[str, Any], start: int) -> TensorRows:
    _, *shape = entry["shape"]
    return TensorRows(np.dtype(TYPES[entry["dtype"]]), tuple(shape), start + entry["data_offsets"][0])


class ShardReader:
    """Rows of the shards of a store. Files stay open, and each thread reads into memory that it keeps."""

    def __init__(self, store: Place) -> None:
        self.store = store
        self._kept = threading.local()
        self._file = lru_cache(maxsize=OPEN_SHARDS)(self._open_file)
        self._object = lru_cache(maxsize=None)(self._look_at)

    def layout(self, file: str) -> dict[str, TensorRows]:
        return layout_of(self.store / file)

    def read(
        self, places: Sequence[tuple[str, int]], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """One row per place (file, first byte), stacked; to be copied before this thread reads again.

        Raises `ContractError` where a file is too short.
        """
        row_bytes = dtype.itemsize * math.prod(shape)
        memory = self._buffer(len(places) * row_bytes).data
        targets = [memory[start : start + row_bytes] for start in range(0, len(memory), row_bytes)]
        if isinstance(self.store, Path):
            for (file, offset), target in zip(places, targets, strict=True):
                held = self._file(file)  # stays open while it is read, whatever other threads open
                if os.preadv(held.number, [target], offset) != row_bytes:
                    raise ContractError(
                        f"{self.store / file} ends before byte {offset + row_bytes}; encode again"
                    )
        else:
            list(self._readers.map(self._fetch, places, targets))
        return np.frombuffer(memory, dtype=dtype).reshape(len(places), *shape)

    def _buffer(self, size: int) -> NDArray[np.uint8]:
        """The memory of this thread: fresh pages cost more than reading into them."""
        kept: NDArray[np.uint8] | None = getattr(self._kept, "buffer", None)
        if kept is None or len(kept) < size:
            kept = self._kept.buffer = np.empty(size, dtype=np.uint8)
        return kept[:size]

    def _open_file(self, file: str) -> "_File":
        assert isinstance(self.store, Path)
        return _File(self.store / file)

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(READERS, thread_name_prefix="rows")

    def _look_at(self, file: str) -> ObjectPath:
        """The object with its facts, so that reading a row of it asks for nothing else."""
        place = self.store / file
        assert isinstance(place, ObjectPath)
        return replace(place, facts=place.stat())

    def _fetch(self, place: tuple[str, int], target: memoryview) -> None:
        file, offset = place
        with self._object(file).open("rb") as stream:
            stream.seek(offset)
            if stream.readinto(target) != len(target):  # type: ignore[attr-defined]
                raise ObjectError(
                    f"{self.store / file} ends before byte {offset + len(target)}; encode again"
                )


class _File:
    """A file descriptor that closes when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb", buffering=0)
        self.number = self._stream.fileno()
