"""The files of a checkpoint: one per process, in safetensors, each element of each parameter in exactly one of them.

The layout knows nothing of processes or ZeRO stages: a file holds runs of flat float32 parameters, of Adam's two
moments (or Adafactor's rows and columns) and of the averages, with the place where each run starts. So any number of
processes at any stage reads just the elements it needs, bit for bit what was saved, and there is no step of conversion.
Files are written in one pass that also takes their sha256; hashing and writing let other threads run.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from components.artifacts import CHUNK_BYTES, read_json, sha256_of, sha256_of_json, write_json

STATE = "state.json"
BUFFER = "buffer"  # kind of the module's persistent buffers, which rank 0 saves whole
STARTS = "starts"
DTYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Damaged(Exception):
    """A checkpoint is not what was written; the message names the file."""


@dataclass(frozen=True)
class Written:
    """A file as it was meant to be."""

    bytes: int
    sha256: str


def rank_file(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], starts: Mapping[str, int]) -> Written:
    """Write CPU tensors as a safetensors file and have it on disk. starts: where a run of a parameter begins."""
    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))
    header: dict[str, Any] = {"__metadata__": {STARTS: json.dumps(dict(starts), sort_keys=True)}}
    offset = 0
    for key in order:
        size = tensors[key].numel() * tensors[key].element_size()
        shape, dtype = list(tensors[key].shape), DTYPES[tensors[key].dtype]
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    digest = hashlib.sha256()
    with path.open("wb", buffering=0) as stream:
        for block in (struct.pack("<Q", len(encoded)) + encoded, *(_bytes_of(tensors[key]) for key in order)):
            _write(stream, memoryview(block), digest)
        os.fsync(stream.fileno())
    return Written(8 + len(encoded) + offset, digest.hexdigest())


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write what a checkpoint says of itself, with its own digest."""
    write_json(folder / STATE, {**state, "digest": sha256_of_json(state)})
    sync(folder / STATE)


def read_state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself. Raises `Damaged`."""
    try:
        state: dict[str, Any] = read_json(folder / STATE)
        digest = state.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise Damaged(f"{folder / STATE} cannot be read ({error})") from None
    if digest != sha256_of_json(state):
        raise Damaged(f"{folder / STATE} is not what was written")
    return state


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `Damaged` naming the first of `files` that is missing, cut short or changed."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{path} is missing")
        if path.stat().st_size != expected["bytes"]:
            raise Damaged(f"{path} has {path.stat().st_size} bytes and was written with {expected['bytes']}")
        if sha256_of(path) != expected["sha256"]:
            raise Damaged(f"{path} is not what was written: its sha256 differs")


def sync(path: Path) -> None:
    """Have a file or the names in a folder on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StoredTensors:
    """The tensors of a checkpoint, read from wherever they lie; see `shards.Stored`."""

    def __init__(self, folder: Path) -> None:
        """Raises `Damaged` where a file is no safetensors file."""
        self.folder = folder
        self.state = read_state(folder)
        self._pieces: dict[str, list[tuple[int, int, Any]]] = {}  # first element, count, file
        for name in self.state["files"]:
            try:
                file: Any = safe_open(folder / name, framework="pt")
            except (SafetensorError, OSError) as error:
                raise Damaged(f"{folder / name}: {error}") from None
            starts = json.loads(file.metadata()[STARTS])
            for key in file.keys():  # noqa: SIM118  # no mapping
                count = torch.Size(file.get_slice(key).get_shape()).numel()
                self._pieces.setdefault(key, []).append((starts.get(key, 0), count, file))

    def names(self, kind: str) -> list[str]:
        """Names that have tensors of a kind."""
        return [key.partition("/")[2] for key in self._pieces if key.startswith(f"{kind}/")]

    def read(self, kind: str, name: str, start: int, count: int) -> Tensor:
        """Elements of a flat tensor. Raises `Damaged` where the checkpoint has not all of them."""
        values = torch.empty(count)
        found = 0
        key = f"{kind}/{name}"
        for first, length, file in self._pieces.get(key, ()):
            low, high = max(first, start), min(first + length, start + count)
            if low < high:
                values[low - start : high - start] = file.get_slice(key)[low - first : high - first]
                found += high - low
        if found != count:
            raise Damaged(f"{self.folder} holds {found} of {count} elements of {kind}/{name}")
        return values

    def whole(self, kind: str, name: str) -> Tensor:
        """A parameter or an average in its shape."""
        shape = torch.Size(self.shapes[name])
        return self.read(kind, name, 0, shape.numel()).view(shape)

    def buffers(self) -> dict[str, Tensor]:
        """The module's persistent buffers."""
        keys = {name: f"{BUFFER}/{name}" for name in self.names(BUFFER)}
        return {name: self._pieces[key][0][2].get_tensor(key) for name, key in keys.items()}

    def steps(self, name: str) -> int:
        """Updates that the optimizer has given to a parameter."""
        return int(self.state["adam_steps"].get(name, 0))

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """Shapes of the trained parameters."""
        return dict(self.state["shapes"])


def _bytes_of(tensor: Tensor) -> Any:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def _write(stream: Any, block: memoryview, digest: Any) -> None:
    """All of a block: a raw stream may take less at a time, as on a full disk."""
    block = block.cast("B")
    for at in range(0, len(block), CHUNK_BYTES):
        chunk = block[at : at + CHUNK_BYTES]
        digest.update(chunk)
        while chunk:
            chunk = chunk[stream.write(chunk) :]
