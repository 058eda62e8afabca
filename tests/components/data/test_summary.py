"""The funnel: read from reports as the stages write them."""

from components.data.summary import FunnelRow, funnel
from components.report import Report

REPORTS = (
    Report("ingest", counts={"files": 10, "usable": 9, "rejected": 1}, reasons={"truncated": 1}),
    Report("split", counts={"files": 9, "clips": 40, "rejected": 2}, reasons={"too_short": 2}),
    Report("filter", counts={"clips": 40, "passed": 35, "rejected": 5}, reasons={"blurry": 4, "too_dark": 2}),
    Report(
        "caption",
        counts={"clips": 35, "file": 0, "sidecar": 20, "fallback": 15},
        reasons={"row_unmatched": 3},
    ),
    Report("dedup", counts={"clips": 35, "kept": 33, "duplicates": 1, "unread": 1}, reasons={"duplicate": 1}),
)
ROWS = [
    FunnelRow("ingest", "files", 10, 0, {}),
    FunnelRow("ingest", "usable files", 9, 1, {"truncated": 1}),
    FunnelRow("split", "clips", 40, 2, {"too_short": 2}),
    FunnelRow("filter", "clips that pass the filter", 35, 5, {"blurry": 4, "too_dark": 2}),
    FunnelRow("caption", "with a caption of their own", 20, 0, {}),
    FunnelRow("dedup", "clips kept", 33, 2, {"duplicate": 1}),
]


def test_the_funnel_ends_at_the_first_stage_without_a_report(tmp_path):
    assert funnel(tmp_path) == []
    for number, report in enumerate(REPORTS, start=1):
        report.write(tmp_path / "reports" / f"{report.stage}.json")
        assert funnel(tmp_path) == ROWS[: number + 1]
