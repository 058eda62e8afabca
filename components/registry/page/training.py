"""The training curves of the page, and the time every stage took."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from components.page.charts import Point, line_chart, short
from components.page.words import duration
from components.stage import Stage
from components.stages import STAGES
from components.tracking import RunSummary

GROUPS = {
    "autoencoder": "Autoencoder",
    "adaptation": "Image model and its adaptation to video",
    "training": "Video training",
    "evaluation": "Feature extractor",
}


@dataclass(frozen=True)
class CurveCard:
    title: str
    chart: Markup
    first: str
    last: str


@dataclass(frozen=True)
class CurveGroup:
    title: str
    cards: list[CurveCard]


def curve_groups(root: Path) -> list[CurveGroup]:
    """A small chart of the loss per training stage, in the order of the stages."""
    groups = []
    for key, title in GROUPS.items():
        cards = [card for stage in STAGES.values() if stage.group == key and (card := _card(root, stage))]
        if cards:
            groups.append(CurveGroup(title, cards))
    return groups


def _card(root: Path, stage: Stage) -> CurveCard | None:
    path = root / stage.outputs.get("curve", "")
    points = read_curve(path) if path.is_file() else []
    if not points:
        return None
    title = stage.name.partition("@")[2] or stage.name
    label = f"Loss of {stage.name} over {points[-1][0]:.0f} steps: {short(points[0][1])} to {short(points[-1][1])}"
    return CurveCard(
        title.replace("_", " "), line_chart(points, label=label), short(points[0][1]), short(points[-1][1])
    )


def read_curve(path: Path) -> list[Point]:
    """(step, loss) rows of a curve file; rows whose loss is not finite are left out."""
    with path.open(newline="") as stream:
        rows = [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(stream)]
    return [row for row in rows if math.isfinite(row[1])]


@dataclass(frozen=True)
class StageTime:
    """`share` of the longest stage, for the bar."""

    name: str
    time: str
    share: float
    memory: str


def stage_times(summaries: dict[str, RunSummary]) -> list[StageTime]:
    """Stages that were tracked, in order."""
    known = [(name, summaries[name]) for name in STAGES if name in summaries]
    longest = max((summary.seconds for _, summary in known), default=0.0) or 1.0
    return [
        StageTime(
            name,
            duration(summary.seconds),
            summary.seconds / longest,
            f"{summary.peak_memory_mb:,.0f} MB" if summary.peak_memory_mb else "",
        )
        for name, summary in known
    ]
