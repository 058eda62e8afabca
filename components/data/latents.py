"""The latent store: safetensors shards, one family per bucket and autoencoder, under a manifest that names them.

Shards hold latents of one shape; captions are encoded once and kept in shards of their own, since every
window and every bucket of a clip shares them. Values are float16 on disk (normalised latents have unit
variance) and float32 when read. Who the rows are, and at which byte they lie, is in a table of samples (see
`samples`), so opening a store reads no shard.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.artifacts import read_json, write_json
from components.data.mirror import VARIANTS
from components.data.samples import NO_SAMPLES, SampleTable, scan
from components.data.shards import Shard, ShardReader, TensorRows
from components.errors import ContractError, UserError
from components.params import store_of
from components.storage import Place, listed, sha256_of_file

SPLITS = ("train", "validation")
CaptionForm = Literal["plain", "scored"]
HALF = np.dtype(np.float16)


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
    """What an encode stage made. `contract` is the autoencoder's; `counts` balance; `origin` is what it read."""

    contract: dict[str, Any]
    text: TextTable
    fps: int
    families: tuple[Family, ...]
    counts: dict[str, int]
    samples: SampleTable = NO_SAMPLES
    selections: dict[str, int] = field(default_factory=dict)  # of `filter.selections` -> clips in it
    origin: dict[str, str] = field(default_factory=dict)  # name of an input -> where it lies in the workspace
    encode: dict[str, Any] = field(default_factory=dict)  # the section of the parameters that it was made by

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
            samples = SampleTable(**raw["samples"])
            return cls(**{**raw, "text": text, "families": families, "samples": samples})
        except (KeyError, TypeError) as error:
            raise ContractError(
                f"{path} is not a manifest of latents ({error}); run the encode stage again"
            ) from None

    def require_selection(self, name: str) -> None:
        """Raises `UserError` for a selection that is not known, or that no clip is in."""
        sizes = ", ".join(f"{known} ({clips} clips)" for known, clips in self.selections.items())
        if name not in self.selections:
            raise UserError(
                f"batches.selection: no selection is called `{name}`; the data has {sizes or 'none'}. Name one of"
                " these, or define it in `filter.selections` and run the data stages again"
            )
        if not self.selections[name]:
            raise UserError(
                f"batches.selection: no clip is in `{name}` (there are {sizes}); lower its thresholds in"
                f" `filter.selections.{name}`, or leave `selection` out to learn from all clips"
            )

    @property
    def shards(self) -> list[Shard]:
        """Those of the captions, then those of all families."""
        return [*self.text.shards, *(shard for family in self.families for shard in family.shards)]


def _shards_in(entry: Mapping[str, Any]) -> tuple[Shard, ...]:
    return tuple(Shard(**shard) for shard in entry["shards"])


@dataclass(frozen=True)
class Rows:
    """Who the rows of a family are, and where they lie; arrays of equal length."""

    keys: NDArray[np.uint64]  # the clip's id as a number
    splits: NDArray[np.int8]  # index in SPLITS
    windows: NDArray[np.int32]  # first frame of the window, at the sampling rate
    variants: NDArray[np.int8]  # index in VARIANTS
    shards: NDArray[np.int32]  # index in the family's shards
    offsets: NDArray[np.int64]  # first byte in the shard
    captions: NDArray[np.int64]  # row of the text table

    def __len__(self) -> int:
        return len(self.keys)

    def clip_ids(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> list[str]:
        """Ids of the clips of these rows, or of all."""
        return [f"{key:016x}" for key in (self.keys if rows is None else self.keys[rows]).tolist()]

    def in_split(self, split: str) -> NDArray[np.int64]:
        """The rows of a split."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def samples(self) -> NDArray[np.int64]:
        """A number per row that names the same clip, window and variant at every resolution of a walk.

        Ids are hashes: two samples share a number with a probability of 2**-64.
        """
        number = self.windows.astype(np.int64) * len(VARIANTS) + self.variants
        mixed: NDArray[np.int64] = (self.keys ^ (number.astype(np.uint64) << np.uint64(40))).view(np.int64)
        return mixed


class LatentStore:
    """Random reads from the shards of a manifest."""

    def __init__(self, manifest: Path, *, root: Path, captions: CaptionForm = "plain") -> None:
        """Raises `ContractError` when a shard is missing or cut off, `UserError` without embeddings of `captions`."""
        self.manifest = LatentManifest.read(manifest)
        self._captions_column = "caption" if captions == "plain" else "scored"
        if captions == "scored" and not self.manifest.encode.get("scored_captions"):
            raise UserError(
                f"batches.captions is `scored`, and {manifest} has embeddings of plain captions alone; set"
                f" `scored_captions: true` in the section `encode` of {manifest.stem}, and scores in"
                " `caption.suffixes`, then run the encode stage again: it keeps the latents"
            )
        self.store = store_of(root)
        self._reader = ShardReader(self.store)
        self._text_ends = list(accumulate(shard.rows for shard in self.manifest.text.shards))
        self._text_layouts: dict[str, dict[str, TensorRows]] = {}
        self._selected: dict[str, dict[str, NDArray[np.bool_]]] = {}
        if self.manifest.families and not self.manifest.samples.rows:
            raise ContractError(
                f"{manifest} names buckets and no latents: it was made with `encode.*.precompute: false`; set that"
                " to true, or `batches.source: videos` for the stage that asks"
            )
        again = f"encode again: `reelforge stage encode@{manifest.stem} --force`"
        for folder, shards in self._folders().items():
            below = listed(self.store / folder)
            for shard in shards:
                place = below / PurePosixPath(shard.file).name
                if not place.is_file():
                    raise ContractError(
                        f"{manifest} names {shard.file}, which is missing in {self.store} (DVC keeps the manifest"
                        f" only); {again}"
                    )
                if (size := place.stat().st_size) != shard.size:
                    raise ContractError(f"{place} has {size} bytes, its manifest says {shard.size}; {again}")

    def _folders(self) -> dict[str, list[Shard]]:
        folders: dict[str, list[Shard]] = {}
        for shard in self.manifest.shards:
            folders.setdefault(str(PurePosixPath(shard.file).parent), []).append(shard)
        return folders

    def rows(self, family: Family) -> Rows:
        """Who the rows of a family are. The table is read once, for all families."""
        return self._rows[family.name]

    @cached_property
    def _rows(self) -> dict[str, Rows]:
        return read_rows(self.store, self.manifest, captions=self._captions_column)

    def selected(self, family: Family, selection: str) -> NDArray[np.bool_]:
        """Which rows of a family are of clips in a selection. Raises `UserError` for one that is empty or not known."""
        self.manifest.require_selection(selection)
        if selection not in self._selected:
            self._selected[selection] = read_selected(self.store, self.manifest, selection)
        return self._selected[selection][family.name]

    def read(self, family: Family, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (N, C, t, h, w) float32, text (N, L, D) float32 and text mask (N, L) bool of these rows."""
        known, chosen = self.rows(family), np.asarray(rows, dtype=np.int64)
        files = [family.shards[shard].file for shard in known.shards[chosen].tolist()]
        places = list(zip(files, known.offsets[chosen].tolist(), strict=True))
        latents = torch.from_numpy(self._reader.read(places, family.latent_shape, HALF)).float()
        return latents, *self._captions(known.captions[chosen].tolist())

    def verify(self) -> list[str]:
        """Shards whose content is not what the manifest says."""
        return [s.file for s in self.manifest.shards if sha256_of_file(self.store / s.file) != s.sha256]

    def _captions(self, captions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Embeddings and masks; a caption that comes twice is read once."""
        distinct, index = np.unique(captions, return_inverse=True)
        places = [self._text_place(caption) for caption in distinct.tolist()]
        text, mask = (self._read_text(name, places) for name in ("text", "text_mask"))
        if len(distinct) < len(captions) or not np.array_equal(distinct, captions):
            return text[index], mask[index]
        return text, mask

    def _read_text(self, name: str, places: Sequence[tuple[str, int]]) -> Tensor:
        tensors = [self._text_layout(file)[name] for file, _ in places]
        found = [(file, tensor.offset(row)) for (file, row), tensor in zip(places, tensors, strict=True)]
        values = torch.from_numpy(self._reader.read(found, tensors[0].shape, tensors[0].dtype))
        return values.clone() if values.dtype is torch.bool else values.float()

    def _text_place(self, caption: int) -> tuple[str, int]:
        index = bisect_right(self._text_ends, caption)
        shard = self.manifest.text.shards[index]
        return shard.file, caption - (self._text_ends[index] - shard.rows)

    def _text_layout(self, file: str) -> dict[str, TensorRows]:
        if file not in self._text_layouts:
            self._text_layouts[file] = self._reader.layout(file)
        return self._text_layouts[file]


COLUMNS = ("family", "clip_id", "split", "window", "variant", "shard", "offset")


def read_rows(store: Place, manifest: LatentManifest, *, captions: str = "caption") -> dict[str, Rows]:
    """The rows of every family from one scan of the table of samples; about 40 bytes a row stay in memory.

    captions: the column with the rows of the text table.
    """
    names = pa.array([family.name for family in manifest.families])
    parts: dict[str, list[tuple[NDArray[Any], ...]]] = {family.name: [] for family in manifest.families}
    for batch in scan(store, manifest.samples, [*COLUMNS, captions]) if manifest.samples.rows else ():
        codes = pc.index_in(batch["family"], value_set=names).to_numpy(zero_copy_only=False)
        columns = (
            keys_of(batch["clip_id"]),
            pc.index_in(batch["split"], value_set=pa.array(SPLITS)).to_numpy().astype(np.int8),
            batch["window"].to_numpy(),
            pc.index_in(batch["variant"], value_set=pa.array(VARIANTS)).to_numpy().astype(np.int8),
            *(batch[name].to_numpy() for name in ("shard", "offset", captions)),
        )
        for code in np.unique(codes).tolist():
            chosen = codes == code
            parts[names[code].as_py()].append(tuple(column[chosen] for column in columns))
    return {name: _joined(found) for name, found in parts.items()}


def read_selected(store: Place, manifest: LatentManifest, selection: str) -> dict[str, NDArray[np.bool_]]:
    """For every family which of its rows are in the selection, by one scan of two columns."""
    parts: dict[str, list[NDArray[np.bool_]]] = {family.name: [] for family in manifest.families}
    for batch in scan(store, manifest.samples, ("family", "selections")):
        inside = holds(batch["selections"], selection)
        for name in pc.unique(batch["family"]).to_pylist():
            of_family = pc.equal(batch["family"], name).to_numpy(zero_copy_only=False)
            parts[name].append(inside[of_family])
    return {name: np.concatenate(found) if found else np.zeros(0, bool) for name, found in parts.items()}


def holds(lists: pa.ListArray, name: str) -> NDArray[np.bool_]:
    """Which of the lists of names hold this one."""
    inside = np.zeros(len(lists), dtype=np.bool_)
    places = pc.filter(pc.list_parent_indices(lists), pc.equal(lists.flatten(), name))
    inside[places.to_numpy(zero_copy_only=False)] = True
    return inside


def _joined(parts: Sequence[tuple[NDArray[Any], ...]]) -> Rows:
    types = (np.uint64, np.int8, np.int32, np.int8, np.int32, np.int64, np.int64)
    empty = tuple(np.zeros(0, dtype) for dtype in types)
    return Rows(*(np.concatenate(columns) for columns in zip(*(parts or [empty]), strict=True)))


def keys_of(clip_ids: pa.Array) -> NDArray[np.uint64]:
    """The 16 hexadecimal digits of each id as a number."""
    digits = bytes.fromhex("".join(clip_ids.to_pylist()))
    return np.frombuffer(digits, dtype=">u8").astype(np.uint64)
