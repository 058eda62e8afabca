"""Files between stages: where they lie, how they are written, and what identifies them.

Stages meet in files. Everything written here is atomic (a reader sees the old file or the new one, never a half)
and everything read can be identified by a sha256, which is what lineage, contracts and resume compare.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.errors import ContractError, UserError
from components.storage import Place, listed

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class StagePaths:
    """What one stage may read and write, by name. Relative paths in the stage table are resolved against `root`."""

    root: Path
    inputs: Mapping[str, Place]  # those that a parameter names may be `s3://`
    outputs: Mapping[str, Path]
    checkpoints: Path  # resumable state of this stage; not tracked, removed when the stage has finished

    def input(self, name: str) -> Path:
        """Path of a declared input. Raises `ContractError` if it has not been made yet."""
        path = self.inputs[name]
        if not isinstance(path, Path):
            raise UserError(f"{path} must be a local file or folder: `{name}` is not read from s3://")
        if not path.exists():
            raise ContractError(
                f"{path} is missing: an earlier stage makes it; run `reelforge run` or `dvc repro`"
            )
        return path

    def place(self, name: str) -> Place:
        """As `input`, for what may lie in an object store; such a place is looked at by those who read it."""
        return self.input(name) if isinstance(self.inputs[name], Path) else self.inputs[name]

    def listed(self, name: str) -> "StagePaths":
        """The same paths, the input of that name listed once where it lies in an object store."""
        return replace(self, inputs={**self.inputs, name: listed(self.inputs[name])})

    def output(self, name: str) -> Path:
        """Path of a declared output; its parent folder exists afterwards."""
        path = self.outputs[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def sha256_of(path: Path) -> str:
    """Digest of a file, or of a folder as the sorted (relative name, file digest) pairs."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """Digest of a JSON value, independent of key order and white space."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def write_json(path: Path, value: Any) -> None:
    """Write atomically, with sorted keys, so that equal content is an equal file for DVC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")
    partial.replace(path)


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under its name only when the block has succeeded; an older one is replaced."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    partial.replace(path)
