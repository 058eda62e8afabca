"""From what training could not use to what the next data set leaves out.

Training names clips in its report, or beside its checkpoints when it stopped; a stage must not write tracked inputs of
other stages. The command `reelforge data quarantine` moves the names into registry/quarantine.jsonl, with the content
they stand for, and the filter leaves them out with the reason `quarantined`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from components.artifacts import read_json
from components.data.dossier import takedown_of
from components.data.takedowns import QUARANTINE, Takedown, add_takedowns
from components.errors import UserError


def reported_clips(root: Path) -> dict[str, str]:
    """Clip -> stage and reason, from the reports of this workspace and from runs that are under way or stopped."""
    found: dict[str, str] = {}
    for stage, clip, reason in (*_in_reports(root), *_beside_checkpoints(root)):
        found.setdefault(clip, f"{stage}, {reason}")
    return dict(sorted(found.items()))


def quarantine(root: Path, clips: dict[str, str]) -> tuple[list[Takedown], list[str]]:
    """Add clips to the list: the entries that are new, and the clips that the tables do not know any more."""
    entries: list[Takedown] = []
    unknown = []
    for clip, reason in clips.items():
        try:
            entries += takedown_of(root, "clip", clip, reason)
        except UserError:
            unknown.append(clip)
    return add_takedowns(root / QUARANTINE, entries), unknown


def _in_reports(root: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted((root / "reports").glob("*.json")):
        for row in read_json(path).get("quarantine", ()):
            yield path.stem, row["clip"], row["reason"]


def _beside_checkpoints(root: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted((root / "checkpoints").glob("*/incidents.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            for clip in row["clips"]:
                yield path.parent.name, clip, f"step {row['step']}: {row['reason']}"
