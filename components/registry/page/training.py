"""The training curves of the page: what every stage of the model's lineage learned, on training and held-out clips."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from components.page.charts import Point, line_chart, short
from components.params import Params
from components.report import Report
from components.stage import Stage
from components.stages import stages_of
from components.training.program import VALIDATION_LOSS

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
    held_out: str  # the last loss on held-out clips; empty where none was taken


@dataclass(frozen=True)
class CurveGroup:
    title: str
    cards: list[CurveCard]


def curve_groups(root: Path, params: Params) -> list[CurveGroup]:
    """A small chart of the loss per training stage that the parameters run, in order."""
    groups = []
    lineage = stages_of(params)
    for key, title in GROUPS.items():
        cards = [card for stage in lineage.values() if stage.group == key and (card := _card(root, stage))]
        if cards:
            groups.append(CurveGroup(title, cards))
    return groups


def _card(root: Path, stage: Stage) -> CurveCard | None:
    path = root / stage.outputs.get("curve", "")
    points = read_curve(path) if path.is_file() else []
    if not points:
        return None
    title = (stage.name.partition("@")[2] or stage.name).replace("_", " ")
    first, last = short(points[0][1]), short(points[-1][1])
    held_out = _held_out(root / stage.report)
    label = f"Loss of {stage.name} over {points[-1][0]:.0f} steps: {first} to {last}"
    if held_out:
        label += f", on held-out clips {short(held_out[-1][1])}"
    chart = line_chart(points, label=label, beside=held_out)
    return CurveCard(title, chart, first, last, short(held_out[-1][1]) if held_out else "")


def _held_out(report: Path) -> list[Point]:
    """(step, loss of the averaged weights on held-out clips), where the stage has looked."""
    looks = Report.read(report).looks if report.is_file() else []
    return [(row["step"], row[VALIDATION_LOSS]) for row in looks if VALIDATION_LOSS in row]


def read_curve(path: Path) -> list[Point]:
    """(step, loss) rows of a curve file; rows whose loss is not finite are left out."""
    with path.open(newline="") as stream:
        rows = [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(stream)]
    return [row for row in rows if math.isfinite(row[1])]
