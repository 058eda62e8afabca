"""The data funnel of the page: how many files and clips are left after each stage, and why the others are not."""

from dataclasses import dataclass
from pathlib import Path

from components.page.words import reason_words
from components.report import Report


@dataclass(frozen=True)
class Step:
    """One bar. `share` of the first bar with the same unit."""

    title: str
    count: int
    unit: str
    share: float
    lost: list[tuple[str, int]]  # reason in words -> items; an item may have several


# stage, count that is left, title, unit, counts that are reasons by themselves
STEPS = (
    ("ingest", "files", "Found", "files", ()),
    ("ingest", "usable", "Readable", "files", ()),
    ("split", "clips", "Cut into clips", "clips", ()),
    ("filter", "passed", "Passed the filters", "clips", ()),
    ("dedup", "kept", "Kept once", "clips", ("unread",)),
    ("validate", "train", "For training", "clips", ()),
    ("validate", "validation", "For validation", "clips", ()),
)
WITH_REASONS = {"usable", "clips", "passed", "kept"}


def funnel(root: Path) -> list[Step]:
    """The steps whose stages have reported."""
    steps: list[Step] = []
    first: dict[str, int] = {}
    for stage, count, title, unit, also in STEPS:
        path = root / "reports" / f"{stage}.json"
        if not path.is_file():
            continue
        report = Report.read(path)
        left = report.counts.get(count, 0)
        whole = first.setdefault(unit, left) or 1
        reasons = dict(report.reasons) if count in WITH_REASONS else {}
        reasons |= {name: report.counts[name] for name in also if report.counts.get(name)}
        lost = sorted(reasons.items(), key=lambda item: -item[1])
        steps.append(Step(title, left, unit, left / whole, [(reason_words(code), n) for code, n in lost]))
    return steps
