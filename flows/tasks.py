"""Prefect tasks: one per DVC stage, and the side effects on shared services that DVC must not cache."""

import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import State, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.states import Completed

from components.params import Params
from components.progress import heard_by
from components.report import Report
from components.stages import STAGES
from components.tracking import note_cached
from flows.dvc import StageFailed, reproduce
from flows.observe import observer, parse_progress
from flows.share import how_to_share

RETRY_SECONDS = 5


@dataclass(frozen=True)
class Workspace:
    """Where a pipeline runs, and what the flow already knows of it."""

    root: Path
    params: Params
    parent_run: str | None = None  # MLflow run of this pipeline run


def _logger() -> "logging.Logger | logging.LoggerAdapter[Any]":
    try:
        return get_run_logger()
    except MissingContextError:  # called as a plain function
        return logging.getLogger(__name__)


def _may_help(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Retry what may pass the second time, not what a user must mend first."""
    failure = state.result(raise_on_failure=False)
    return isinstance(failure, StageFailed) and failure.mendable


@task(
    name="stage",
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    retry_condition_fn=_may_help,
    persist_result=False,
)
def run_stage(name: str, workspace: Workspace, *, stale: bool, force: bool = False) -> State[Any] | bool:
    """Bring one DVC stage up to date. A stage that is not stale ends as `Cached` without a process."""
    watcher = observer()
    if not stale:
        watcher.finished(name, ran=False, seconds=0.0)
        if workspace.parent_run:
            note_cached(workspace.root, workspace.parent_run, name)
        return Completed(
            name="Cached", message="inputs, parameters and code are those of dvc.lock", data=False
        )
    watcher.started(name)
    started = time.monotonic()
    ran = reproduce(
        name,
        workspace.root,
        on_line=lambda line: _hear(name, line),
        parent_run=workspace.parent_run,
        hours=workspace.params.runtime.stage_hours,
        force=force,
    )
    seconds = time.monotonic() - started
    watcher.finished(name, ran=ran, seconds=seconds)
    if not ran:
        return Completed(name="Cached", message="DVC found it up to date", data=False)
    _publish(name, workspace.root, seconds)
    return True


def tell_how_to_share(root: Path, params: Params) -> None:
    """In the log of a flow run that nobody watches; the command line says it at its end."""
    for line in how_to_share(root, params):
        _logger().info(line)


def _hear(name: str, line: str) -> None:
    if progress := parse_progress(line):
        observer().progressed(name, progress)
        return
    observer().said(name, line)
    _logger().info(line)


def _publish(name: str, root: Path, seconds: float) -> None:
    """The stage's report as a Prefect artifact."""
    path = root / STAGES[name].report
    report = Report.read(path)
    numbers = {
        **report.metrics,
        **report.counts,
        **{f"reason: {key}": n for key, n in report.reasons.items()},
    }
    rows = [f"| {key} | {value:.6g} |" for key, value in numbers.items()]
    markdown = "\n".join(
        [f"## {name}: {seconds:.1f} s", "", *report.notes, "", "| what | value |", "| --- | ---: |", *rows]
    )
    key = "stage-" + name.replace("@", "-").replace("_", "-")
    create_markdown_artifact(markdown, key=key, description=f"Report of stage {name}")


@task(name="sync-ladder", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=RETRY_SECONDS)
def sync_ladder(workspace: Workspace) -> bool:
    """Fetch the champion's ladder for the candidate's; True if that changed what it is held against."""
    from components.registry.ladder import sync_ladder as sync

    return sync(workspace.root, workspace.params)


@task(name="sync-baseline", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=RETRY_SECONDS)
def sync_baseline(workspace: Workspace) -> bool:
    """Fetch the champion's evaluation for the gate; True if that changed what the gate compares with."""
    from components.registry.baseline import sync_baseline as sync

    with heard_by(partial(observer().progressed, "champion")):
        return sync(workspace.root, workspace.params)


@task(name="register", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=RETRY_SECONDS)
def register(workspace: Workspace) -> dict[str, str]:
    """Register this workspace's autoencoder and text-to-video model as candidates; versions by model name."""
    from components.registry.register import register_candidate

    return register_candidate(workspace.root, workspace.params, workspace.parent_run)


@task(name="promote", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=RETRY_SECONDS)
def promote(workspace: Workspace, versions: dict[str, str]) -> str:
    """Make the candidate champion if the gate's verdict says so; what was done, in words."""
    from components.registry.promote import promote_by_verdict

    return promote_by_verdict(workspace.root, workspace.params, versions)


@task(name="report", cache_policy=NO_CACHE)
def report(workspace: Workspace) -> str:
    """Write the report page and log it to the version it is about and to the pipeline's MLflow run; its path."""
    from components.registry.report import publish_report
    from components.tracking import log_to_run

    page = publish_report(workspace.root)
    if workspace.parent_run:
        log_to_run(workspace.root, workspace.parent_run, page)
    create_markdown_artifact(
        f"[{page}]({page.as_uri()})", key="report-page", description="The run's report page"
    )
    return str(page)


def has_data_report(workspace: Workspace) -> bool:
    from components.data.report.page import PAGE

    return (workspace.root / PAGE).is_file()


@task(name="data-report", cache_policy=NO_CACHE)
def data_report(workspace: Workspace) -> str:
    """Write the page about the data set and log it to the pipeline's MLflow run; its path."""
    from components.data.report.page import write_data_report
    from components.tracking import log_to_run

    with heard_by(partial(observer().progressed, "data report")):
        page = write_data_report(workspace.root)
    if workspace.parent_run:
        log_to_run(workspace.root, workspace.parent_run, page)
    create_markdown_artifact(
        f"[{page}]({page.as_uri()})", key="data-report", description="The page about the data set"
    )
    return str(page)
