"""Stage `validate`: the finished table is what the training stages rely on, checked by Great Expectations.

Hours of training follow on these rows, so an expectation that fails stops the pipeline here, in words.
The documentation is written either way. `result.json` exists only for a table that passed: the stages
after this one depend on it.
"""

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts import StagePaths, fresh_folder, write_json
from components.data import store, table_parts
from components.data.config import ValidateConfig
from components.data.drift import drift, read_previous, summarise
from components.data.expectations import expectations, needs_all_rows
from components.data.standalone_docs import make_standalone, write_index
from components.data.table_parts import Parts
from components.errors import DataQualityError
from components.imports import lasting
from components.report import Report

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

log = logging.getLogger(__name__)
STAGE = "validate"
TABLE = "clips"  # what the documentation calls it
# stands for the time of the run, which is in MLflow and not in outputs
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
Finding = dict[str, Any]


def run(config: ValidateConfig, paths: StagePaths) -> Report:
    """Write `result` and `docs`. Raises `DataQualityError` with every expectation that failed, in words."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # its import alone says 300 lines
    source = paths.input("clips")
    result = paths.output("result")
    result.unlink(missing_ok=True)
    paths.output("summary").unlink(missing_ok=True)
    manifest = store.Manifest.read(source)
    previous = read_previous(paths.input("previous"))
    parts = Parts.read(paths.root, source)
    moved = drift(previous, parts.whole) if previous else {}
    with lasting:
        expected = expectations(config, parts.whole)
    with fresh_folder(paths.output("docs")) as docs:
        findings = check_parts(parts, expected, docs, name=manifest.tag)
        judged = [*findings, *drift_findings(moved, config)]
        write_index(docs, f"Validation of {manifest.tag}", judged)
    failed = [finding for finding in judged if not finding["success"]]
    if failed:
        where = paths.output("docs") / "index.html"
        lines = "\n".join(f"  {finding['words']}: {finding['found']}" for finding in failed)
        raise DataQualityError(
            f"validate: {len(failed)} of {len(judged)} expectations fail:\n{lines}\nDetails: {where}"
        )
    write_json(paths.output("summary"), summarise(parts.whole, manifest.digest))
    write_json(result, {"clips": manifest.digest, "rows": len(parts.whole), "expectations": findings})
    log.info("%d clips meet all %d expectations", len(parts.whole), len(judged))
    return _report(parts, findings, moved)


def drift_findings(moved: dict[str, float], config: ValidateConfig) -> list[Finding]:
    """What has moved since the previous version, as expectations; without `max_drift` it is only shown."""
    limit = config.max_drift
    asked = "" if limit is None else f" by at most {limit:g} (validation.max_drift)"
    return [
        {
            "words": f"{column} is distributed as in the previous version{asked}",
            "expectation": "population_stability_index",
            "column": column,
            "success": limit is None or index <= limit,
            "found": f"population stability index {index:.3g}",
        }
        for column, index in moved.items()
    ]


def check_parts(parts: Parts, expected: list["Expectation"], docs: Path, *, name: str) -> list[Finding]:
    """What was found for each expectation over all parts, in their order.

    A table of one part is checked as it is. Of a longer one each part meets the expectations of rows, and the few
    columns that are in memory as a whole those of the table; each has documentation of its own.
    """
    if len(parts.whole) <= table_parts.PART_ROWS:
        frames = list(parts.frames()) or [parts.whole]
        return [as_finding([each]) for each in observe(frames[0], expected, docs, name=name)]
    of_table = [each for each in expected if needs_all_rows(each)]
    of_rows = [each for each in expected if not needs_all_rows(each)]
    asked = {getattr(each, "column", None) for each in of_table}
    # the library copies what it is given
    columns = [column for column in parts.whole.columns if column in asked]
    found = observe(parts.whole[columns], of_table, docs / "table", name=name)
    for index, frame in enumerate(parts.frames()):
        found += observe(frame, of_rows, docs / f"part_{index:03}", name=name)
    by_words: dict[str, list[Observed]] = {}
    for each in found:
        by_words.setdefault(each.words, []).append(each)
    return [as_finding(by_words[each.meta["words"]]) for each in expected]


def check(frame: "pd.DataFrame", expected: list["Expectation"], docs: Path, *, name: str) -> list[Finding]:
    """What was found for each expectation of one frame, in their order."""
    return [as_finding([each]) for each in observe(frame, expected, docs, name=name)]


def observe(
    frame: "pd.DataFrame", expected: list["Expectation"], docs: Path, *, name: str
) -> list["Observed"]:
    """What Great Expectations sees; its HTML documentation is written into `docs`.

    `name` is what the documentation calls the rows.
    """
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction
    from great_expectations.core.run_identifier import RunIdentifier

    context = gx.get_context(project_config=_project(docs), mode="ephemeral")
    asset = context.data_sources.add_pandas("store").add_dataframe_asset(TABLE)
    suite = context.suites.add(
        gx.ExpectationSuite(name=TABLE, expectations=[copy(each) for each in expected])
    )
    batch = asset.add_batch_definition_whole_dataframe("kept")
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=TABLE, data=batch, suite=suite)
    )
    actions = [UpdateDataDocsAction(name="docs")]
    checkpoint = gx.Checkpoint(name=TABLE, validation_definitions=[definition], actions=actions)
    identity = RunIdentifier(run_name=name, run_time=EPOCH)
    outcome = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame}, run_id=identity)
    make_standalone(docs, clock=EPOCH.strftime("%Y-%m-%dT%H:%M:%SZ"))
    results = [result for each in outcome.run_results.values() for result in each.results]
    by_words = {result.expectation_config.meta["words"]: result for result in results}
    return [_observed(by_words[expectation.meta["words"]]) for expectation in expected]


def _project(docs: Path) -> Any:
    """A project in memory: nothing on disk but the documentation, no progress bars, no telemetry."""
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": backend,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    return DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={"docs": site},
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )


@dataclass(frozen=True)
class Observed:
    """What was seen for one expectation in one frame, in plain values."""

    words: str
    expectation: str
    column: str | None
    success: bool
    broken: tuple[str, ...]
    unexpected: int
    elements: int
    examples: tuple[str, ...]
    value: Any


def _observed(result: Any) -> Observed:
    config, details = result.expectation_config, result.result
    unexpected = details.get("unexpected_count") or 0
    values = details["partial_unexpected_list"] if unexpected else []
    return Observed(
        words=config.meta["words"],
        expectation=config.type,
        column=config.kwargs.get("column"),
        success=bool(result.success),
        broken=tuple(_exceptions(result.exception_info)),
        unexpected=unexpected,
        elements=details.get("element_count") or 0,
        examples=tuple(str(value) for value in values[:3] if value == value),
        value=details.get("observed_value"),
    )


def as_finding(seen: Sequence[Observed]) -> Finding:
    """One finding of what was seen in the parts. What could not be worked out is a failure that says why."""
    first = seen[0]
    finding: Finding = {
        "words": first.words,
        "expectation": first.expectation,
        "column": first.column,
        "success": all(each.success for each in seen),
    }
    if broken := sorted({reason for each in seen for reason in each.broken}):
        return {**finding, "success": False, "found": f"could not be worked out: {'; '.join(broken)}"}
    if unexpected := sum(each.unexpected for each in seen):
        values = [value for each in seen for value in each.examples][:3]
        examples = f", as {', '.join(values)}" if values else ""
        elements = sum(each.elements for each in seen)
        return {**finding, "found": f"{unexpected} of {elements} do not{examples}"}
    return {**finding, "found": "as expected" if first.value is None else _plain(first.value)}


def _exceptions(info: dict[str, Any]) -> list[str]:
    """Messages of metrics that broke; Great Expectations gives one record, or one per metric."""
    records = [info] if "raised_exception" in info else list(info.values())
    return sorted({str(record["exception_message"]) for record in records if record["raised_exception"]})


def _plain(value: Any) -> Any:
    """JSON for numpy scalars and lists of them; floats with the digits that a float32 has."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if value == value else "no values"
    return value


def _report(parts: Parts, findings: list[Finding], moved: dict[str, float]) -> Report:
    frame = parts.whole
    metrics = {
        "expectations": len(findings),
        "caption_coverage": float(frame["own_caption"].mean()),
        "seconds": float(frame["seconds"].sum()),
        **{f"drift_{column}": index for column, index in moved.items()},
    }
    return Report(
        stage=STAGE,
        metrics=metrics,
        counts={
            "clips": len(frame),
            "train": int((frame["split"] == "train").sum()),
            "validation": int((frame["split"] == "validation").sum()),
            "sources": parts.sources,
        },
    )
