"""What was found out about single items, kept so that no run finds it out again.

A result is kept under what decides it: the key of the item (its content) and the version of the work (its
parameters, its code, the weights it reads). Each run appends to a file of its own and writes every result when it
is there, so a run that is killed loses what its workers held and nothing else; a line that was cut off is passed
over. Appending needs neither locks nor memory maps, which shared file systems do badly. A folder of a version that
nobody asks for any more can be deleted at any time.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from components.artifacts import sha256_of_json, write_json
from components.data import store
from components.data.pool import Limits, Outcome, Result, run_pool

In = TypeVar("In")
Out = TypeVar("Out")
VERSION_DIGITS = 16  # of the version's digest, in hex
CHECK_DIGITS = 8  # of a line's checksum, in hex


def _same(value: Any) -> Any:
    return value


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
        self.folder = root / store.STORE / "items" / name / sha256_of_json(dict(version))[:VERSION_DIGITS]
        self.version = version
        self.pack, self.unpack = pack, unpack
        self._places: dict[str, tuple[int, int, int]] = {}  # key -> file, first byte, length
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

    def keys(self) -> frozenset[str]:
        return frozenset(self._places)

    def get(self, key: str, limits: Limits, *, stamp: str = "") -> Result[Out] | None:
        """The kept result, if there is one; an item that took too long is tried again with a longer limit.

        `stamp` is that of the file as it is now: a failure holds for the file that it was met in, see `stamp_of`.
        """
        place = self._places.get(key) or self._places.get(f"{key}@{stamp}")
        if place is None:
            return None
        file, first, length = place
        self._files[file].seek(first)
        record = json.loads(self._files[file].read(length))
        outcome = Outcome(record["outcome"])
        if outcome is Outcome.TIMED_OUT and record["item_seconds"] < limits.item_seconds:
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
        self._places[key] = (len(self._files) - 1, first, len(text))

    def _index(self, file: int) -> None:
        """Where the whole lines of a file are; a run that was killed may have left half of one."""
        position = 0
        for line in self._files[file]:
            text = line[CHECK_DIGITS + 1 : -1]
            if line.endswith(b"\n") and line[:CHECK_DIGITS] == b"%08x" % zlib.crc32(text):
                key = json.loads(text)["key"]
                self._places[key] = (file, position + CHECK_DIGITS + 1, len(text))
            position += len(line)

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


def stamp_of(path: Path) -> str:
    """What the file system says of a file. A file that cannot be read may be whole again tomorrow, with its old
    digest: then its stamp is another one.
    """
    try:
        facts = path.stat()
    except OSError:
        return "gone"
    return f"{facts.st_size}:{facts.st_mtime_ns}"


def run_items(
    root: Path, work: Work[In, Out], items: Sequence[In], keys: Sequence[tuple[str, str]], limits: Limits
) -> list[Result[Out]]:
    """One result per item, in order; only items that no run has finished are worked on.

    `keys` say what an item is, and the stamp of its file: two items of one key have one result.
    """
    with kept_items(root, work) as kept:
        known = {key: kept.get(key[0], limits, stamp=key[1]) for key in set(keys)}
        first = {key: index for index, key in reversed(list(enumerate(keys))) if known[key] is None}
        waiting = sorted(first.values())

        def finished(index: int, result: Result[Out]) -> None:
            key, stamp = keys[waiting[index]]
            kept.add(key, result, limits, stamp=stamp)

        jobs = [items[index] for index in waiting]
        results = run_pool(work.function, jobs, limits, title=work.name, finished=finished)
        known |= {keys[index]: result for index, result in zip(waiting, results, strict=True)}
    return [result for key in keys if (result := known[key]) is not None]
