"""The candidate's ladder as the page shows it: every look, which one is used, and what the ladder decided."""

from dataclasses import dataclass
from pathlib import Path

from components.ladder.record import FLICKERING, MOTION_ENERGY, TOY_FVD, VALIDATION_LOSS, LadderRecord
from components.ladder.survive import TRANSFORMER
from components.registry.page.scores import STATUS_TONES, Check, sentence
from components.registry.page.words import METRIC_TITLES, number
from components.registry.register import PIPELINE
from components.report import Report

SHOWN = (VALIDATION_LOSS, TOY_FVD, MOTION_ENERGY, FLICKERING)
MOST = 12  # looks; of a longer run the last ones


@dataclass(frozen=True)
class Look:
    step: str
    values: list[str]
    marks: list[str]  # of "best" and "used"


@dataclass(frozen=True)
class LadderTable:
    titles: list[str]
    looks: list[Look]
    earlier: int  # looks that are not shown
    rule: str
    checks: list[Check]


def ladder_table(root: Path) -> LadderTable | None:
    """None where no ladder was kept."""
    record = LadderRecord.read(root / PIPELINE / TRANSFORMER)
    if record is None:
        return None
    shown = [name for name in SHOWN if name in record.identities]
    kept = record.rungs[-MOST:]
    pinned = [one for one in (record.at(record.best), record.at(record.used)) if one and one not in kept]
    looks = [
        Look(
            f"{rung.step:,}",
            [number(rung.metrics.get(name), name) for name in shown],
            _marks(rung.step, record),
        )
        for rung in [*pinned, *kept]
    ]
    titles = [METRIC_TITLES[name] for name in shown]
    rule = METRIC_TITLES[record.rule["best_by"]].lower()
    return LadderTable(titles, looks, len(record.rungs) - len(looks), rule, _checks(root))


def _marks(step: int, record: LadderRecord) -> list[str]:
    return [word for word, at in (("best", record.best), ("used", record.used)) if at == step]


def _checks(root: Path) -> list[Check]:
    """Each finding of the stage `ladder`, from its report."""
    path = root / "reports/ladder.json"
    told = [note.partition(": ") for note in Report.read(path).notes] if path.is_file() else []
    return [
        Check(sentence(reason), STATUS_TONES[status]) for status, _, reason in told if status in STATUS_TONES
    ]
