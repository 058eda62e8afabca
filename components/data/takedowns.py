"""What must leave the data set: a list in the repository that ingest and filter read.

An entry stays for ever, and the next version of the data leaves out what it names with the reason `taken_down`. It
names content and not only a path: a source with its digest, a clip with the stretch of the source it is. So a file
that was renamed, or a clip that another detector would cut a little differently, stays out too.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from components.errors import UserError

TAKEDOWNS = "registry/takedowns.jsonl"
QUARANTINE = "registry/quarantine.jsonl"  # the same for clips that training could not use
Kind = Literal["clip", "source", "licence"]
OVERLAP_SECONDS = 0.05  # two clips that touch share a rounding of the clock, and nothing else


@dataclass(frozen=True)
class Takedown:
    """One entry. `value` is a clip id, a source path or a licence; the rest says what it was when it was asked."""

    kind: Kind
    value: str
    reason: str
    digest: str = ""  # sha256 of the source of a clip, or of the source
    start: float = 0.0  # of a clip, in seconds
    end: float = 0.0

    def covers_clip(self, clip_id: str, digest: str, start: float, end: float) -> bool:
        """True where a clip is the one that has to go, or shows some of it."""
        if self.kind != "clip":
            return False
        shared = min(end, self.end) - max(start, self.start)
        return clip_id == self.value or (digest == self.digest and shared > OVERLAP_SECONDS)


def read_takedowns(path: Path) -> list[Takedown]:
    """All entries; none where there is no list. Raises `UserError` naming a line that is no entry."""
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = Takedown(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}, line {number} is no takedown ({error}); repair the line: it cannot be passed over"
            ) from None
        if entry.kind not in ("clip", "source", "licence"):
            raise UserError(f"{path}, line {number}: kind is {entry.kind!r}; valid: clip, source, licence")
        entries.append(entry)
    return entries


def add_takedowns(path: Path, entries: Sequence[Takedown]) -> list[Takedown]:
    """Append those that are not in the list yet, and say which these are."""
    known = set(read_takedowns(path))
    new = [entry for entry in entries if entry not in known]
    if not new:
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        for entry in new:
            stream.write(json.dumps(asdict(entry), sort_keys=True, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return new


class TakedownIndex:
    """Takedowns by what they name, for asking about millions of rows."""

    def __init__(self, entries: Iterable[Takedown]) -> None:
        entries = list(entries)
        self.clips = {entry.value for entry in entries if entry.kind == "clip"}
        self.sources = {entry.value for entry in entries if entry.kind == "source"}
        self.digests = {entry.digest for entry in entries if entry.kind == "source" and entry.digest}
        self.licences = {entry.value for entry in entries if entry.kind == "licence"}
        self.spans: dict[str, list[Takedown]] = {}
        for entry in entries:
            if entry.kind == "clip" and entry.digest:
                self.spans.setdefault(entry.digest, []).append(entry)

    def __bool__(self) -> bool:
        return bool(self.clips or self.sources or self.licences)

    def has_source(self, source: str, digest: str, licence: str) -> bool:
        """True where a whole file has to go."""
        return source in self.sources or digest in self.digests or licence in self.licences

    def has_clip(self, clip_id: str, digest: str, start: float, end: float) -> bool:
        """True where a clip is one that has to go, or shows some of it."""
        return clip_id in self.clips or any(
            entry.covers_clip(clip_id, digest, start, end) for entry in self.spans.get(digest, ())
        )
