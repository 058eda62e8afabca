"""The report: one HTML file with everything in it, that can be mailed, archived and opened without a server."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.artifacts import read_json
from components.evaluation.record import RECORD_FILE, EvaluationRecord
from components.page.funnel import funnel
from components.page.render import write_page
from components.params import Params
from components.registry.fetch import fetch_evaluation
from components.registry.page import origins, scores
from components.registry.page.training import curve_groups, stage_times
from components.registry.register import EVALUATION, PIPELINE, VERDICT
from components.registry.versions import CHAMPION, TEXT_TO_VIDEO
from components.tracking import stage_summaries

log = logging.getLogger(__name__)

PAGE = Path("reports") / "index.html"
TEMPLATES = Path(__file__).with_name("templates")


def write_report(root: Path) -> Path:
    """Write `reports/index.html` from what the workspace holds; parts that are not there yet are left out."""
    page = write_page(root.resolve() / PAGE, TEMPLATES, "report.html", _contents(root))
    log.info("report: %s (%.1f MB)", page, page.stat().st_size / 1e6)
    return page


def _contents(root: Path) -> dict[str, Any]:
    summaries = stage_summaries(root)
    version = origins.present_version(root, TEXT_TO_VIDEO, PIPELINE)
    judged = read_json(root / VERDICT) if (root / VERDICT).is_file() else None
    return {
        "recipe": Params.load(root / "params.yaml").recipe,
        "date": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        "version": version,
        "verdict": scores.verdict_of(judged, is_champion=bool(version and CHAMPION in version.aliases)),
        "evaluation": _evaluation(root, judged),
        "curves": curve_groups(root),
        "times": stage_times(summaries),
        "funnel": funnel(root),
        "licences": origins.licences(root),
        "facts": origins.facts(root, summaries),
        "outputs": origins.outputs(root),
        "history": origins.history(root),
    }


def _evaluation(root: Path, judged: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the evaluation found; None before there was one."""
    folder = root / EVALUATION
    if not (folder / RECORD_FILE).is_file():
        return None
    record = EvaluationRecord.read(folder)
    rival = (judged or {}).get("champion") or {}
    gallery = scores.clips(record, folder, fetch_evaluation(root, rival["model_sha256"]) if rival else None)
    return {
        "has_duels": any(clip.champion for clip in gallery),
        "has_champion": bool(judged and judged["champion"]),
        "tiles": scores.tiles(record),
        "clips": gallery,
        "agreement": scores.agreement(gallery),
        "pairs": scores.reconstructions(record, folder),
        "rows": scores.metric_rows(record, judged),
        "samples": record.samples,
        "has_toy_metrics": any(name.startswith("toy_") for name in record.metrics),
    }
