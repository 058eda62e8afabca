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
from components.registry.page.cost import cost_of, summaries_of
from components.registry.page.data import data_summary
from components.registry.page.ladder import ladder_table
from components.registry.page.training import curve_groups
from components.registry.register import EVALUATION, PIPELINE, VERDICT
from components.registry.versions import CHAMPION, TEXT_TO_VIDEO
from components.tracking_writer import connect

log = logging.getLogger(__name__)

PAGE = Path("reports") / "index.html"
TEMPLATES = Path(__file__).with_name("templates")
PAGE_FOLDER = "page"  # in the run of a version
PAGE_TAG = "page"  # of a version: where its page is


def write_report(root: Path) -> Path:
    """Write `reports/index.html` from what the workspace holds; parts that are not there yet are left out."""
    page = write_page(root.resolve() / PAGE, TEMPLATES, "report.html", _contents(root))
    log.info("report: %s (%.1f MB)", page, page.stat().st_size / 1e6)
    return page


def publish_report(root: Path) -> Path:
    """Write the page, and attach it to the version that it is about: to its run, and as the version's tag `page`."""
    page = write_report(root)
    version = origins.present_version(root, TEXT_TO_VIDEO, PIPELINE)
    if version:
        client = connect(root)
        client.log_artifact(version.run_id, str(page), PAGE_FOLDER)
        place = f"runs:/{version.run_id}/{PAGE_FOLDER}/{page.name}"
        client.set_model_version_tag(version.name, str(version.number), PAGE_TAG, place)
    return page


def _contents(root: Path) -> dict[str, Any]:
    params = Params.load(root / "params.yaml")
    summaries = summaries_of(root, params)
    version = origins.present_version(root, TEXT_TO_VIDEO, PIPELINE)
    judged = read_json(root / VERDICT) if (root / VERDICT).is_file() else None
    return {
        "recipe": params.recipe,
        "date": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        "version": version,
        "verdict": scores.verdict_of(judged, is_champion=bool(version and CHAMPION in version.aliases)),
        "evaluation": _evaluation(root, judged),
        "ladder": ladder_table(root),
        "curves": curve_groups(root, params),
        "data": data_summary(root),
        "funnel": funnel(root),
        "cost": cost_of(summaries, params),
        "facts": origins.facts(root, params, summaries),
        "lineage": origins.lineage(root, params, summaries),
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
