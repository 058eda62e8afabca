"""What a version was made from, and the question back: which versions saw this clip, source or licence.

A takedown request names a source; the answer has to name the versions that learned from it. So every version
carries the clips it was trained on, grouped by source, with the digests DVC recorded for each stage.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import read_json
from components.data import store
from components.params import Params
from components.provenance import git_revision, locked_stages
from components.registry.versions import TEXT_TO_VIDEO, Version, versions
from components.stages import stages_of
from components.tracking_writer import connect

CLIPS = Path("artifacts/clips/dedup.json")
LINEAGE_FILE = "lineage.json"
COLUMNS = ["clip_id", "source", "source_digest", "licence", "split", "kept"]


def build_lineage(root: Path, params: Params) -> dict[str, Any]:
    """Sources with their kept clips, digests of the stages that the parameters run, and the revision of the code.

    A JSON value. Of other systems that were trained in the same workspace nothing is told.
    """
    table = store.read(root, root / CLIPS, COLUMNS)
    rows = [row for row in table.to_pylist() if row["kept"]]
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_source[row["source"]].append(row)
    locked = locked_stages(root)
    stages = {
        name: {"reads": locked[name].reads, "writes": locked[name].writes}
        for name in stages_of(params)
        if name in locked
    }
    return {
        "code": git_revision(root),
        "counts": dict(Counter(row["split"] for row in rows)),
        "sources": [_source(source, clips) for source, clips in sorted(by_source.items())],
        "stages": stages,
    }


def _source(source: str, clips: list[dict[str, Any]]) -> dict[str, Any]:
    first = clips[0]
    return {
        "source": source,
        "digest": first["source_digest"],
        "licence": first["licence"],
        "split": first["split"],
        "clips": sorted(clip["clip_id"] for clip in clips),
    }


@dataclass(frozen=True)
class Sighting:
    """A version that saw clips of what was asked for: learned from (train) or scored on (validation)."""

    version: Version
    split: str
    clips: tuple[str, ...]


def versions_that_saw(
    root: Path, *, clip: str | None = None, source: str | None = None, licence: str | None = None
) -> list[Sighting]:
    """Versions that saw a clip id, a source (path or sha256) or a licence; all given conditions hold."""
    sightings: list[Sighting] = []
    for version in versions(root, TEXT_TO_VIDEO):
        seen: dict[str, list[str]] = defaultdict(list)
        for entry in lineage_of(root, version)["sources"]:
            if source is not None and source not in (entry["source"], entry["digest"]):
                continue
            if licence is not None and licence != entry["licence"]:
                continue
            seen[entry["split"]].extend(one for one in entry["clips"] if clip in (None, one))
        sightings.extend(Sighting(version, split, tuple(clips)) for split, clips in seen.items() if clips)
    return sightings


def lineage_of(root: Path, version: Version) -> dict[str, Any]:
    """The lineage stored with a version."""
    lineage: dict[str, Any] = read_json(Path(connect(root).download_artifacts(version.run_id, LINEAGE_FILE)))
    return lineage
