"""What was found out about single items, kept so that no run finds it out again.

A result is kept under what decides it: the key of the item (its content) and the version of the work (its
parameters, its code, the weights it reads). Each run appends to a file of its own and writes every result when it
is there, so a run that is killed loses what its workers held and nothing else; a line that was cut off is passed
over. Appending needs neither locks nor memory maps, which shared file systems do badly. A folder of a version that
nobody asks for any more can be deleted at any time.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from components.artifacts import sha256_of_json, write_json
from components.data import store
from components.data.item_places import ItemPlace, ItemPlaces
from components.data.pool import Limits, Outcome, Result, run_stream
from components.data.reasons import SourceReason
from components.storage import Place, stamp_of

In = TypeVar("In")
Out = TypeVar("Out")
Token = TypeVar("Token")
VERSION_DIGITS = 16  # of the version's digest, in hex
CHECK_DIGITS = 8  # of a line's checksum, in hex
# a record begins with its key and its outcome; within a string of JSON there is no quote that is not escaped
KEY, OUTCOME = b'{"key":"', b'","outcome":"'
FINE = OUTCOME + Outcome.OK.encode() + b'"'


def _same(value: Any) -> Any:
    return value


def items_folder(root: Path) -> Path:
    """Where results are kept, by the name of the work and the version of it; always on a local disk."""
    return root / store.STORE / "items"


@dataclass(frozen=True)
class Work(Generic[In, Out]):
    """A function of one item. `version` is all that decides its result beside the item; `pack` makes it JSON."""

    name: str
    function: Callable[[In], Out]
    version: Mapping[str, Any]
    pack: Callable[[Out], Any] = field(default=_same)
    unpack: Callable[[Any], Out] = field(default=_same)


class Items(Generic[Out]):
    """Kept results of one version of some work; to be used in a `with`."""

    def __init__(
        self,
        root: Path,
        name: str,
        version: Mapping[str, Any],
        *,
        pack: Callable[[Out], Any] = _same,
        unpack: Callable[[Any], Out] = _same,
    ) -> None:
        self.folder = items_folder(root) / name / sha256_of_json(dict(version))[:VERSION_DIGITS]
        self.version = version
        self.pack, self.unpack = pack, unpack
        self._places = ItemPlaces()
        self._late: dict[str, float] = {}  # key -> seconds that were not enough
        self._files: list[BinaryIO] = []
        self._own: BinaryIO | None = None

    def __enter__(self) -> "Items[Out]":
        for path in sorted(self.folder.glob("*.jsonl")):
            self._files.append(path.open("rb"))
            self._index(len(self._files) - 1)
        return self

    def __exit__(self, *_error: object) -> None:
        for file in self._files:
            file.close()
        if self._own is not None:
            self._own.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str, limits: Limits, *, stamp: str = "") -> Result[Out] | None:
        """The kept result, if there is one; an item that took too long is tried again with a longer limit.

        `stamp` is that of the file as it is now: a failure holds for the file that it was met in, see `stamp_of`.
        """
        return self.get_many([key], limits, lambda _row: stamp)[0]

    def get_many(
        self, keys: Sequence[str], limits: Limits, stamp: Callable[[int], str]
    ) -> list[Result[Out] | None]:
        """`get` for many keys; `stamp` of an index is asked for where there is no result for the content alone."""
        found = self._find(keys, stamp)
        return [self._read(*one, limits) if one else None for one in found]

    def lacking(self, keys: Sequence[str], limits: Limits, stamp: Callable[[int], str]) -> list[bool]:
        """True where there is no result; nothing is read."""
        return [
            one is None or self._late.get(one[0], limits.item_seconds) < limits.item_seconds
            for one in self._find(keys, stamp)
        ]

    def _find(self, keys: Sequence[str], stamp: Callable[[int], str]) -> list[tuple[str, ItemPlace] | None]:
        """The key that a result is kept under, and its place."""
        places = self._places.find(keys)
        without = [row for row, place in enumerate(places) if place is None]
        stamped = {row: f"{keys[row]}@{stamp(row)}" for row in without}
        others = dict(zip(without, self._places.find(list(stamped.values())), strict=True))
        return [
            (keys[row], place) if place else (stamped[row], other) if (other := others[row]) else None
            for row, place in enumerate(places)
        ]

    def _read(self, key: str, place: ItemPlace, limits: Limits) -> Result[Out] | None:
        record = json.loads(os.pread(self._files[place.file].fileno(), place.length, place.first))
        outcome = Outcome(record["outcome"])
        late = outcome is Outcome.TIMED_OUT and record["item_seconds"] < limits.item_seconds
        if late or record["key"] != key:
            return None
        value = self.unpack(record["value"]) if outcome is Outcome.OK else None
        return Result(outcome, value, record["reason"], record["detail"])

    def add(self, key: str, result: Result[Out], limits: Limits, *, stamp: str = "") -> None:
        """Keep a result; it is on its way to the disk when this returns, and a kill does not undo it."""
        if result.outcome is not Outcome.OK and stamp:
            key = f"{key}@{stamp}"
        record = {
            "key": key,
            "outcome": result.outcome,
            "value": self.pack(result.value) if result.value is not None else None,
            "reason": result.reason,
            "detail": result.detail,
            "item_seconds": limits.item_seconds,
        }
        text = json.dumps(record, separators=(",", ":")).encode()
        if self._own is None:
            self._own = self._new_file()
        first = self._own.tell() + CHECK_DIGITS + 1
        self._own.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._own.flush()
        self._keep(text, ItemPlace(len(self._files) - 1, first, len(text)), former=False)

    def _index(self, file: int) -> None:
        """Where the whole lines of a file are; a run that was killed may have left half of one."""
        position = 0
        for line in self._files[file]:
            text = line[CHECK_DIGITS + 1 : -1]
            if line.endswith(b"\n") and line[:CHECK_DIGITS] == b"%08x" % zlib.crc32(text):
                self._keep(text, ItemPlace(file, position + CHECK_DIGITS + 1, len(text)), former=True)
            position += len(line)

    def _keep(self, text: bytes, place: ItemPlace, *, former: bool) -> None:
        """Remember where a record is. Of most of them nothing but the key is read, since there may be millions."""
        outcome = text.index(OUTCOME)
        key = json.loads(text[len(KEY) - 1 : outcome + 1])
        self._late.pop(key, None)
        if not text.startswith(FINE, outcome):
            record = json.loads(text)
            if former and record["reason"] == SourceReason.UNREACHABLE:  # which another run may get
                return
            if record["outcome"] == Outcome.TIMED_OUT:
                self._late[key] = record["item_seconds"]
        self._places.add(key, place)

    def _new_file(self) -> BinaryIO:
        """The next free name, also when another run takes one at the same time."""
        if not (self.folder / "version.json").is_file():
            write_json(self.folder / "version.json", dict(self.version))
        number = len(list(self.folder.glob("*.jsonl")))
        while True:
            path = self.folder / f"{number:06d}.jsonl"
            try:
                own = path.open("xb")
            except FileExistsError:
                number += 1
                continue
            self._files.append(path.open("rb"))
            return own


@contextmanager
def kept_items(root: Path, work: Work[In, Out]) -> Iterator[Items[Out]]:
    """The kept results of a piece of work."""
    with Items[Out](root, work.name, work.version, pack=work.pack, unpack=work.unpack) as items:
        yield items


@dataclass(frozen=True)
class Batch(Generic[In]):
    """Some items, the key of each, and the file that it is read from."""

    items: Sequence[In]
    keys: Sequence[str]
    places: Sequence[Place]


Some = TypeVar("Some", bound=Batch[Any])


def run_items(
    root: Path, work: Work[In, Out], items: Sequence[In], keys: Sequence[tuple[str, str]], limits: Limits
) -> list[Result[Out]]:
    """One result per item, in order; only items that no run has finished are worked on.

    `keys` say what an item is, and the stamp of its file: two items of one key have one result.
    """
    with kept_items(root, work) as kept:
        stamp = {index: one[1] for index, one in enumerate(keys)}.__getitem__
        names = [key for key, _ in keys]
        first: dict[tuple[str, str], int] = {}
        for index, lacks in enumerate(kept.lacking(names, limits, stamp)):
            if lacks:
                first.setdefault(keys[index], index)
        waiting = list(first.values())

        def finished(index: int, result: Result[Out]) -> None:
            key, stamped = keys[waiting[index]]
            kept.add(key, result, limits, stamp=stamped)

        jobs = (items[index] for index in waiting)
        run_stream(work.function, jobs, limits, title=work.name, total=len(waiting), finished=finished)
        return [result for result in kept.get_many(names, limits, stamp) if result is not None]


def run_batches(
    root: Path, work: Work[In, Out], batches: Callable[[], Iterable[Some]], limits: Limits
) -> Iterator[tuple[Some, list[Result[Out]]]]:
    """`run_items` for more items than memory holds. `batches` makes them anew each time that it is called.

    They are asked for three times: to see which are known, to work on the others, and to hand out the results.
    """
    failed: dict[str, str] = {}  # key -> stamp of the file that the failure was met in
    with kept_items(root, work) as kept:
        seen: set[int] = set()
        lacking = [
            _first_of(seen, batch, kept.lacking(batch.keys, limits, _stamps(batch))) for batch in batches()
        ]

        def waiting() -> Iterator[tuple[tuple[str, Place], In]]:
            for batch, rows in zip(batches(), lacking, strict=True):
                yield from (((batch.keys[row], batch.places[row]), batch.items[row]) for row in rows)

        def finished(token: tuple[str, Place], result: Result[Out]) -> None:
            key, place = token
            if result.outcome is not Outcome.OK:
                failed[key] = stamp_of(place)
            kept.add(key, result, limits, stamp=failed.get(key, ""))

        total = sum(map(len, lacking))
        run_tokens(work.function, waiting(), limits, title=work.name, total=total, finished=finished)
        for batch in batches():
            found = kept.get_many(batch.keys, limits, _stamps(batch, failed))
            yield batch, [result for result in found if result is not None]


def _stamps(batch: Batch[Any], failed: Mapping[str, str] | None = None) -> Callable[[int], str]:
    """The stamp of the file of an index; that of its failure, where it failed in this run."""
    known = failed or {}
    return lambda row: known.get(batch.keys[row]) or stamp_of(batch.places[row])


def _first_of(seen: set[int], batch: Batch[Any], lacking: Sequence[bool]) -> NDArray[np.uint32]:
    """Indices of the items that lack a result; of equal keys the first one, over all batches."""
    rows = []
    for row, lacks in enumerate(lacking):
        if lacks and (one := hash(batch.keys[row])) not in seen:
            seen.add(one)
            rows.append(row)
    return np.array(rows, np.uint32)


def run_tokens(
    function: Callable[[In], Out],
    waiting: Iterable[tuple[Token, In]],
    limits: Limits,
    *,
    title: str,
    total: int,
    finished: Callable[[Token, Result[Out]], None],
) -> None:
    """`run_stream` for items that each carry something by which `finished` knows them."""
    tokens: dict[int, Token] = {}  # of the items that are under way

    def items() -> Iterator[In]:
        for index, (token, item) in enumerate(waiting):
            tokens[index] = token
            yield item

    def done(index: int, result: Result[Out]) -> None:
        finished(tokens.pop(index), result)

    run_stream(function, items(), limits, title=title, total=total, finished=done)
