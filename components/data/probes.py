"""Facts about files, read once per content: a file that is as it was is not opened again, nor even hashed.

Facts are kept by digest. So that a second run over millions of files does not read them all to know their digests,
the digest is kept too, by what the file system says of a file: path, size and time of its last change.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from components.data.code_version import code_version
from components.data.items import Items
from components.data.pool import Limits, Outcome, RejectedError, Result, run_pool
from components.data.probe import Probe, probe
from components.data.reasons import SourceReason
from components.data.sources import Source
from components.storage import ObjectError, Place, sha256_of_file, stamp_of

Found = Result[Probe]


def _unpack(value: dict[str, Any]) -> Probe:
    return Probe(**value)


def digest_of(path: Place) -> str:
    """sha256 of a file. Raises `RejectedError` where the system does not let it be read."""
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise _rejected(error) from None


def probe_file(path: Place) -> Probe:
    """`probe`. Raises `RejectedError` where the system does not let the file be read."""
    try:
        return probe(path)
    except OSError as error:
        raise _rejected(error) from None


def _rejected(error: OSError) -> RejectedError:
    reason = SourceReason.UNREACHABLE if isinstance(error, ObjectError) else SourceReason.UNREADABLE
    return RejectedError(reason, error.strerror or str(error))


class Probes:
    """Probes the files of a folder; to be used in a `with`."""

    def __init__(self, root: Path, folder: Place, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        version = {"code": code_version("components.data.probe")}
        self.facts = Items[Probe](root, "ingest", version, pack=asdict, unpack=_unpack)
        self.digests = Items[str](root, "digests", {"format": 1})

    def __enter__(self) -> Self:
        self.facts.__enter__()
        self.digests.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.facts.__exit__(kind, error, trace)
        self.digests.__exit__(kind, error, trace)

    def of(self, sources: Sequence[Source]) -> list[Found]:
        """One result per source, in order; a source that has a reason of its own is not looked at."""
        results = [
            Result(Outcome.OK, Probe("", reason=source.reason, detail=source.detail))
            if source.reason
            else None
            for source in sources
        ]
        stamps = [
            None if result else self._stamp(source) for source, result in zip(sources, results, strict=True)
        ]
        unread = [index for index, stamp in enumerate(stamps) if stamp and stamp not in self.digests]
        if self.facts:  # some may be known under another name, or before they were touched
            self._hash([(self.folder / sources[i].name, stamps[i] or "") for i in unread])
        keys = [
            self._key(source.name, stamp) if stamp else ""
            for source, stamp in zip(sources, stamps, strict=True)
        ]
        for index, key in enumerate(keys):
            results[index] = results[index] or self.facts.get(key, self.limits)
        missing = [index for index, result in enumerate(results) if result is None]
        jobs = [(self.folder / sources[i].name, stamps[i] or "") for i in missing]
        for index, result in zip(missing, self._probe(jobs), strict=True):
            results[index] = result
        return [result for result in results if result is not None]

    def _stamp(self, source: Source) -> str:
        """What the file system, or the store, says of a file; one that went away is found missing when it is read."""
        return f"{source.name}\0{stamp_of(self.folder / source.name)}"

    def _key(self, name: str, stamp: str) -> str:
        """Content and kind of a file, or its stamp where the content could not be read."""
        known = self.digests.get(stamp, self.limits)
        if known is None or known.value is None:
            return stamp
        return known.value + PurePosixPath(name).suffix.lower()

    def _hash(self, jobs: Sequence[tuple[Place, str]]) -> None:
        def finished(index: int, result: Result[str]) -> None:
            if result.outcome is Outcome.OK:
                self.digests.add(jobs[index][1], result, self.limits)

        run_pool(digest_of, [path for path, _ in jobs], self.limits, title="hash", finished=finished)

    def _probe(self, jobs: Sequence[tuple[Place, str]]) -> list[Found]:
        def finished(index: int, result: Found) -> None:
            path, stamp = jobs[index]
            if result.value is not None:
                digest = result.value.digest
                self.facts.add(digest + path.suffix.lower(), result, self.limits)
                if stamp not in self.digests:
                    self.digests.add(stamp, Result(Outcome.OK, digest), self.limits)
            elif result.outcome is not Outcome.REJECTED:  # what the system refused it may allow next time
                self.facts.add(stamp, result, self.limits)

        return run_pool(
            probe_file, [path for path, _ in jobs], self.limits, title="ingest", finished=finished
        )
