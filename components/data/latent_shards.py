"""One shard of latents and the record beside it: who its rows are, and what was left out for which reason.

The record is written after the shard, so a shard with a record is finished. It is all that has to be read to go on
after a kill, and to make the table of samples: no shard is opened for either.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.data.outcomes import Outcome
from components.data.reasons import SourceReason
from components.data.samples import part_of
from components.data.shards import Shard, layout_of, write_shard
from components.storage import Place, new_file

LATENTS = "latents"


@dataclass(frozen=True)
class Members:
    """Who the rows of a shard are: lists of equal length."""

    clip_ids: list[str]
    splits: list[str]
    windows: list[int]
    variants: list[str]
    captions: list[int]

    @classmethod
    def none(cls) -> "Members":
        return cls([], [], [], [], [])


@dataclass(frozen=True)
class ShardRecord:
    """What is written beside a shard. `offset`: first byte of its first row; `left_out`: (clip, reason).

    `item_seconds` is what the reading of a clip was allowed to take.
    """

    shard: Shard
    offset: int
    row_bytes: int
    members: Members
    left_out: list[tuple[str, str]]
    item_seconds: float = 0.0

    def may_gain(self, item_seconds: float) -> bool:
        """True where a clip was left out that is not to blame: another run, or a longer limit, may get it."""
        longer = self.item_seconds < item_seconds
        return any(
            reason == SourceReason.UNREACHABLE or (reason == Outcome.TIMED_OUT and longer)
            for _, reason in self.left_out
        )


def write_latents(
    store: Place,
    file: str,
    latents: NDArray[np.float16],
    members: Members,
    left_out: Sequence[tuple[str, str]] = (),
    *,
    item_seconds: float = 0.0,
) -> ShardRecord:
    """Write a shard and its record; latents: (N, C, t, h, w)."""
    shard = write_shard(store, file, {LATENTS: latents})
    place = layout_of(store / file)[LATENTS]
    record = ShardRecord(shard, place.start, place.row_bytes, members, list(left_out), item_seconds)
    _write_record(store, file, asdict(record))
    return record


def read_record(store: Place, file: str) -> ShardRecord | None:
    """The record of a shard that is finished, and none where it has to be made."""
    raw = _read_record(store, file)
    if raw is None or not _is_whole(store / file, shard := Shard(**raw["shard"])):
        return None
    left_out = [(clip, reason) for clip, reason in raw["left_out"]]
    members, seconds = Members(**raw["members"]), raw.get("item_seconds", 0.0)
    return ShardRecord(shard, raw["offset"], raw["row_bytes"], members, left_out, seconds)


def write_text(store: Place, file: str, text: NDArray[np.float16], mask: NDArray[np.bool_]) -> Shard:
    """Write a shard of embeddings (N, L, D) with their masks (N, L), and its record."""
    shard = write_shard(store, file, {"text": text, "text_mask": mask})
    _write_record(store, file, asdict(shard))
    return shard


def read_text_record(store: Place, file: str) -> Shard | None:
    """The facts of a shard of embeddings that is finished."""
    raw = _read_record(store, file)
    return None if raw is None or not _is_whole(store / file, shard := Shard(**raw)) else shard


def _record_file(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(".json"))


def _write_record(store: Place, file: str, record: dict[str, Any]) -> None:
    with new_file(store / _record_file(file)) as local:
        local.write_text(json.dumps(record, sort_keys=True) + "\n")


def _read_record(store: Place, file: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((store / _record_file(file)).read_text())
    except (FileNotFoundError, ValueError):  # a machine that lost its power may leave an empty file
        return None
    return record


def _is_whole(place: Place, shard: Shard) -> bool:
    try:
        return place.stat().st_size == shard.size
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class Marks:
    """What the table of samples says of a clip beside its shard: it may change while the latents stay."""

    scored: int  # row of the text table with the caption that ends with scores
    selections: tuple[str, ...]


def sample_parts(
    records: Mapping[str, Iterable[ShardRecord]], marks: Mapping[str, Marks] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of the table of samples, a part per shard; `records` are those of each family, by its name.

    marks: of each clip, by its id; without them a clip has one form of its caption and is in no selection.
    """
    for family, found in records.items():
        first = 0
        for number, record in enumerate(found):
            members, count = record.members, record.shard.rows
            rows = np.arange(count, dtype=np.int64)
            columns: dict[str, Any] = {
                "clip_id": members.clip_ids,
                "split": members.splits,
                "family": [family] * count,
                "window": members.windows,
                "variant": members.variants,
                "file": [record.shard.file] * count,
                "shard": np.full(count, number, dtype=np.int32),
                "row": rows + first,
                "offset": record.offset + rows * record.row_bytes,
                "caption": members.captions,
                "scored": members.captions if marks is None else [marks[c].scored for c in members.clip_ids],
                "selections": [() if marks is None else marks[c].selections for c in members.clip_ids],
            }
            first += count
            yield part_of(columns)
