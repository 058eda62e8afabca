"""The latent store: safetensors shards, one family per bucket, under a manifest that says what made them.

Shards hold latents of one shape; captions are encoded once and kept in shards of their own, since every
window and every bucket of a clip shares them. Values are float16 on disk (normalised latents have unit
variance) and float32 when read. A shard is named after everything that made it, so one that exists needs no
second encoding.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from components.artifacts import read_json, sha256_of, write_json
from components.errors import ContractError

OPEN_SHARDS = 256  # memory maps kept open


@dataclass(frozen=True)
class Shard:
    """One file: `file` is relative to the workspace."""

    file: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Family:
    """All latents of one bucket. `latent_shape` is (channels, frames, height, width) of the latent."""

    key: str
    resolution: str
    aspect: str
    frames: int
    height: int
    width: int
    latent_shape: tuple[int, int, int, int]
    rows: int
    shards: tuple[Shard, ...]

    @property
    def name(self) -> str:
        return f"{self.resolution} {self.key}"


@dataclass(frozen=True)
class TextTable:
    """Embeddings of every distinct caption: rows of (`max_tokens`, `width`)."""

    digest: str  # of the text encoder
    width: int
    max_tokens: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class LatentManifest:
    """What an encode stage made. `contract` is the autoencoder's; `counts` balance."""

    contract: dict[str, Any]
    text: TextTable
    fps: int
    families: tuple[Family, ...]
    counts: dict[str, int]

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "LatentManifest":
        """Raises `ContractError` when the file is not a latent manifest."""
        raw = read_json(path)
        try:
            text = TextTable(**{**raw["text"], "shards": _shards_in(raw["text"])})
            families = tuple(
                Family(**{**entry, "latent_shape": tuple(entry["latent_shape"]), "shards": _shards_in(entry)})
                for entry in raw["families"]
            )
            return cls(raw["contract"], text, raw["fps"], families, raw["counts"])
        except (KeyError, TypeError) as error:
            raise ContractError(
                f"{path} is not a manifest of latents ({error}); run the encode stage again"
            ) from None


def _shards_in(entry: Mapping[str, Any]) -> tuple[Shard, ...]:
    return tuple(Shard(**shard) for shard in entry["shards"])


def write_shard(path: Path, tensors: dict[str, Tensor], rows: Mapping[str, Sequence[Any]]) -> None:
    """Write tensors and per-row lists atomically; equal content gives an equal file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    # One metadata key: safetensors writes several in no fixed order.
    save_file(tensors, partial, metadata={"rows": json.dumps(rows, sort_keys=True)})
    partial.replace(path)


def describe_shard(path: Path, root: Path, tensor: str) -> Shard:
    """The manifest entry of a written shard; `tensor` names the tensor whose first axis counts its rows."""
    with safe_open(path, framework="pt") as file:
        rows = file.get_slice(tensor).get_shape()[0]
    return Shard(path.relative_to(root).as_posix(), sha256_of(path), rows)


def shard_rows(path: Path) -> dict[str, list[Any]]:
    """The per-row lists of a shard."""
    with safe_open(path, framework="pt") as file:
        lists: dict[str, list[Any]] = json.loads(file.metadata()["rows"])
    return lists


@dataclass(frozen=True)
class Rows:
    """Who the rows of a family are; arrays of equal length."""

    clip_ids: np.ndarray[Any, Any]
    splits: np.ndarray[Any, Any]
    windows: np.ndarray[Any, Any]  # first frame of the window, at the sampling rate

    def __len__(self) -> int:
        return len(self.clip_ids)


class LatentStore:
    """Random reads from the shards of a manifest. Raises `ContractError` when a shard is missing."""

    def __init__(self, manifest: Path, *, root: Path) -> None:
        self.manifest = LatentManifest.read(manifest)
        self.root = root
        self._open = lru_cache(maxsize=OPEN_SHARDS)(self._open_shard)
        self._text = _Place(self.manifest.text.shards)
        self._families = {family.name: _Place(family.shards) for family in self.manifest.families}
        for shard in self._shards():
            if not (root / shard.file).is_file():
                raise ContractError(
                    f"{manifest} names {shard.file}, which is missing here (DVC keeps the manifest only);"
                    f" encode again: `reelforge stage encode@{manifest.stem} --force`"
                )

    def rows(self, family: Family) -> Rows:
        """Clip, split and window of every row."""
        columns: dict[str, list[Any]] = {"clip_ids": [], "splits": [], "windows": []}
        for shard in family.shards:
            stored = shard_rows(self.root / shard.file)
            for name, values in columns.items():
                values.extend(stored[name])
        return Rows(
            np.array(columns["clip_ids"], dtype=str),
            np.array(columns["splits"], dtype=str),
            np.array(columns["windows"], dtype=np.int64),
        )

    def read(self, family: Family, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (N, C, t, h, w) float32, text (N, L, D) float32 and text mask (N, L) bool of these rows."""
        latents, captions = [], []
        for row in rows:
            file, offset = self._at(self._families[family.name], int(row))
            latents.append(file.get_slice("latents")[offset : offset + 1])
            captions.append(int(file.get_slice("caption")[offset : offset + 1]))
        text, mask = self._captions(captions)
        return torch.cat(latents).float(), text, mask

    def verify(self) -> list[str]:
        """Shards whose content is not what the manifest says."""
        return [shard.file for shard in self._shards() if sha256_of(self.root / shard.file) != shard.sha256]

    def _captions(self, captions: Sequence[int]) -> tuple[Tensor, Tensor]:
        text, mask = [], []
        for caption in captions:
            file, offset = self._at(self._text, caption)
            text.append(file.get_slice("text")[offset : offset + 1])
            mask.append(file.get_slice("text_mask")[offset : offset + 1])
        return torch.cat(text).float(), torch.cat(mask).bool()

    def _shards(self) -> list[Shard]:
        return [*self.manifest.text.shards, *(s for family in self.manifest.families for s in family.shards)]

    def _at(self, place: "_Place", row: int) -> tuple[Any, int]:
        shard, offset = place.find(row)
        return self._open(shard.file), offset

    def _open_shard(self, file: str) -> Any:
        return safe_open(self.root / file, framework="pt")


class _Place:
    """Where a row lies in a sequence of shards."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        self.ends = list(accumulate(shard.rows for shard in shards))

    def find(self, row: int) -> tuple[Shard, int]:
        index = bisect_right(self.ends, row)
        shard = self.shards[index]
        return shard, row - (self.ends[index] - shard.rows)


def digest_of(values: Sequence[str]) -> str:
    """Short digest of a list of strings, for folder names."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:12]
