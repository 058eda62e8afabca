"""What became of the footage: files, clips and captions, stage by stage, from the reports."""

from dataclasses import dataclass
from pathlib import Path

from components.report import Report


@dataclass(frozen=True)
class FunnelRow:
    """How many were left after a step, how many the step took out, and why. An item may have several reasons."""

    stage: str
    label: str
    count: int
    lost: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class _Step:
    """Which counts of a stage's report make a row."""

    stage: str
    label: str
    left: tuple[str, ...]
    lost: tuple[str, ...] = ()


_STEPS = (
    _Step("ingest", "files", ("files",)),
    _Step("ingest", "usable files", ("usable",), ("rejected",)),
    _Step("split", "clips", ("clips",), ("rejected",)),
    _Step("filter", "clips that pass the filter", ("passed",), ("rejected",)),
    _Step("caption", "with a caption of their own", ("file", "sidecar")),
    _Step("dedup", "clips kept", ("kept",), ("duplicates", "unread")),
)


def funnel(root: Path) -> list[FunnelRow]:
    """The rows in the order of the stages, up to the first stage that has no report yet.

    Captions take nothing out: a clip without one of its own has the fallback, so the row after it may be larger.
    """
    rows = []
    for step in _STEPS:
        path = root / "reports" / f"{step.stage}.json"
        if not path.is_file():
            break
        report = Report.read(path)
        counts = report.counts
        left, lost = (sum(counts[name] for name in names) for names in (step.left, step.lost))
        reasons = report.reasons if step.lost else {}
        rows.append(FunnelRow(step.stage, step.label, left, lost, reasons))
    return rows
