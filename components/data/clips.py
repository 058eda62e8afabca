"""The clips that survived curation, as the stages after it read them from the clip table."""

from dataclasses import dataclass
from pathlib import Path

from components.data import store
from components.storage import Place

COLUMNS = (
    "clip_id",
    "source",
    "start_seconds",
    "end_seconds",
    "fps",
    "frames",
    "width",
    "height",
    "split",
    "caption",
    "caption_source",
    "kept",
)
IF_THERE = ("scored_caption", "selections")  # columns of what may be off


@dataclass(frozen=True)
class Clip:
    """One kept clip: seconds from the first frame of `path`; size in pixels as shown."""

    clip_id: str
    path: Place
    start_seconds: float
    end_seconds: float
    fps: float
    frames: int
    width: int
    height: int
    split: str  # "train" or "validation"
    caption: str
    caption_source: str  # "file", "sidecar" or "fallback"
    scored_caption: str = ""  # the same with scores at its end, where `caption.suffixes` names some
    selections: tuple[str, ...] = ()  # of `filter.selections`


def read_clips(manifest: Path, *, root: Path, videos: Place, split: str | None = None) -> list[Clip]:
    """Kept clips of a split (default: both), sorted by id. `videos` is the folder that sources are relative to.

    Raises `ContractError` when the table or the state that the manifest names is not in the workspace.
    """
    known = store.Manifest.read(manifest).columns
    rows = store.read(root, manifest, [*COLUMNS, *(name for name in IF_THERE if name in known)]).to_pylist()
    return [
        Clip(
            path=videos / row["source"],
            **{name: row[name] for name in COLUMNS if name not in {"source", "kept"}},
            scored_caption=row.get("scored_caption") or "",
            selections=tuple(row.get("selections") or ()),
        )
        for row in rows
        if row["kept"] and split in (None, row["split"])
    ]
