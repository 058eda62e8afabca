"""`reports/data.html`: the data set explained on one page that can be mailed and opened without a server."""

import logging
from pathlib import Path
from typing import Any

from components.data.forecast import Forecast, Row, by_length, forecast, of_video_training, read_clips
from components.data.report.contact_sheets import contact_sheets
from components.data.report.data_set import DataSet
from components.data.report.distributions import distributions
from components.data.report.near_misses import near_misses
from components.data.report.reasons import balance
from components.data.report.words import caption_facts, licence_shares, source_shares
from components.page.funnel import funnel
from components.page.render import write_page
from components.params import place_in

log = logging.getLogger(__name__)
PAGE = Path("reports") / "data.html"
TEMPLATES = Path(__file__).with_name("templates")


def write_data_report(root: Path) -> Path:
    """Write the page from the newest clip table of the workspace. Raises `ContractError` where there is none."""
    page = write_page(root.resolve() / PAGE, TEMPLATES, "data.html", contents(DataSet.load(root)))
    log.info("data report: %s (%.1f MB)", page, page.stat().st_size / 1e6)
    return page


def contents(data: DataSet) -> dict[str, Any]:
    """Everything that the page shows."""
    account = balance(data)
    hours = float(data.seconds[data.kept].sum()) / 3600
    return {
        "recipe": data.params.recipe,
        "state": data.manifest.tag,
        "finished": data.has("kept"),
        "balance": account,
        "hours": hours,
        "funnel": funnel(data.root),
        "distributions": distributions(data),
        "near_misses": near_misses(data, place_in(data.root, data.params.ingest.videos)),
        "sources": source_shares(data),
        "licences": licence_shares(data),
        "captions": caption_facts(data),
        "forecasts": _forecasts(data),
        "sheets": contact_sheets(data.root),
    }


def _forecasts(data: DataSet) -> list[dict[str, Any]]:
    """Per training stage its buckets, those of the same length together."""
    wanted = of_video_training(data.params)
    clips = read_clips(data.root, captions=any(request.encode.flips for request in wanted))
    return [_forecast_rows(forecast(clips, request)) for request in wanted]


def _forecast_rows(found: Forecast) -> dict[str, Any]:
    groups = by_length(found.rows)
    most = max((sum(row.batches for row in rows) for _, _, rows in groups), default=0) or 1
    return {
        "forecast": found,
        "rows": [_forecast_row(f"{name} × {frames}", rows, most) for name, frames, rows in groups],
        "nothing": [f"{name} × {frames}" for name, frames in found.nothing],
        "unused": [(reason.replace("_", " "), count) for reason, count in found.unused.items()],
    }


def _forecast_row(name: str, rows: list[Row], most: float) -> dict[str, Any]:
    batches = sum(row.batches for row in rows)
    return {
        "name": name,
        "kept": sum(row.kept for row in rows),
        "batch": rows[0].batch,
        "batches": batches,
        "share": batches / most,
        "dropped": sum(row.dropped for row in rows),
        "repeated": sum(row.repeated for row in rows),
        "refused": any(row.refused for row in rows),
    }
