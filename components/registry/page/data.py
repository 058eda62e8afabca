"""The data that the model learned from, in short: clips, hours, sources and licences. `data.html` tells the rest."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from components.data import store
from components.page.words import plural
from components.registry.lineage import CLIPS
from components.registry.page.cost import Total, hours

COLUMNS = ("source", "licence", "split", "kept", "start_seconds", "end_seconds")
SPLITS = {"train": "Training", "validation": "Validation"}


@dataclass(frozen=True)
class Licence:
    name: str
    clips: int
    sources: int


@dataclass(frozen=True)
class DataSummary:
    totals: list[Total]
    licences: list[Licence]  # of the training clips


def data_summary(root: Path) -> DataSummary | None:
    """None where the clip table is not here."""
    path = root / CLIPS
    if not path.is_file() or not store.is_stored(root, path):
        return None
    columns = [name for name in COLUMNS if name in store.Manifest.read(path).columns]
    rows = store.read(root, path, columns).to_pylist()
    kept = [row for row in rows if row["kept"]]
    totals = []
    for split, title in SPLITS.items():
        mine = [row for row in kept if row["split"] == split]
        sources = plural(len({row["source"] for row in mine}), "source")
        length = sum(row.get("end_seconds", 0.0) - row.get("start_seconds", 0.0) for row in mine) / 3600
        totals.append(Total(title, plural(len(mine), "clip"), f"{hours(length)} hours, {sources}"))
    dropped = len(rows) - len(kept)
    totals.append(Total("Dropped", plural(dropped, "clip"), f"of {len(rows):,}; why is told below"))
    return DataSummary(totals, _licences([row for row in kept if row["split"] == "train"]))


def _licences(trained: list[dict[str, str | None]]) -> list[Licence]:
    clips = Counter(row["licence"] or "not stated" for row in trained)
    sources = {(row["licence"] or "not stated", row["source"]) for row in trained}
    return [
        Licence(name, count, sum(licence == name for licence, _ in sources))
        for name, count in clips.most_common()
    ]
