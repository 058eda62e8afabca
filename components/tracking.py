"""What MLflow hears about a run: parameters, metrics, provenance and the files a person wants to look at.

The only general user of MLflow (the registry is the other). Everything is handed to a thread that talks to
the server, so a training step never waits for it; and while the server is away the numbers are kept, sent
when it answers, and the stage goes on. Tracking can be late or incomplete, with a warning; it fails no run.
"""

import logging
import re
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components import runtime
from components.artifacts import StagePaths, sha256_of
from components.provenance import git_revision, locked_digest, machine
from components.report import Report
from components.tracking_writer import Operation, Writer, connect, experiment_id, has_store

if TYPE_CHECKING:
    from components.params import Params
    from components.stage import Stage

log = logging.getLogger(__name__)

PARENT_TAG = "mlflow.parentRunId"
OPEN_SECONDS = 60.0  # a flow waits this long for its run, since its stages need the id
CLOSE_SECONDS = 60.0  # a finished stage waits this long for what is not sent yet
PARAMS_PER_BATCH = 100  # limits of MLflow's API
VALUE_CHARACTERS = 5_000
KEY_PATTERN = re.compile(r"[^/\w.\- :]")  # what MLflow does not allow in a name
MEGABYTE = 1e6
RUNS_LOOKED_AT = 1_000
REPORT_TAG = "report_sha256"  # of a stage's run: its report, which is here where what the run made is


@dataclass
class StageRun:
    """One stage as MLflow sees it. Without a writer, tracking is off and nothing happens."""

    stage: str
    paths: StagePaths | None = None
    writer: Writer | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def run_id(self) -> str | None:
        """MLflow's id; None until the run is open, and when tracking is off."""
        return self.writer.run_id if self.writer else None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if self.writer:
            self.writer.add_metrics({allowed_key(key): float(value) for key, value in metrics.items()}, step)

    def log_artifact(self, path: Path) -> None:
        if self.writer:
            self.writer.submit(lambda client, run_id: client.log_artifact(run_id, str(path)))

    def finish(self, report: Report) -> None:
        """Record what the stage says about itself, what it wrote, and what it took."""
        if not (self.writer and self.paths):
            return
        self.log_metrics({**report.metrics, **_cost(self.started)}, step=0)
        self.log_metrics({f"counts/{name}": count for name, count in report.counts.items()}, step=0)
        self.log_metrics({f"reasons/{code}": count for code, count in report.reasons.items()}, step=0)
        self.writer.set_tags(_accelerator())
        made = {name: path for name, path in self.paths.outputs.items() if path.exists()}
        self.writer.set_tags({f"output.{name}": f"sha256:{sha256_of(path)}" for name, path in made.items()})
        written = self.paths.root / "reports" / f"{self.stage}.json"
        self.writer.set_tags(
            {REPORT_TAG: told} if (told := _report_digest(self.paths.root, self.stage)) else {}
        )
        for path in (self.paths.outputs.get("curve"), written):
            if path and path.is_file():
                self.log_artifact(path)


_active: StageRun | None = None
_pipeline: Writer | None = None


def log_metrics(metrics: Mapping[str, float], step: int) -> None:
    """Record numbers for the stage that runs in this process; returns at once."""
    if _active:
        _active.log_metrics(metrics, step)


def log_artifact(path: Path) -> None:
    """Attach a file to the run of the stage that runs in this process."""
    if _active:
        _active.log_artifact(path)


@contextmanager
def stage_run(stage: "Stage", params: "Params", paths: StagePaths) -> Iterator[StageRun]:
    """A run named after the stage, below the pipeline's run if there is one.

    It ends FINISHED, FAILED if the block raises, or KILLED at a keyboard interrupt.
    """
    global _active
    if not (runtime.tracking_enabled() and runtime.is_main_process()):
        yield StageRun(stage.name)
        return
    writer = Writer(paths.root, name=stage.name, tags=_stage_tags(stage, paths), sample_system=True)
    section = params.section(stage.section).model_dump(mode="json")
    writer.submit(lambda client, run_id: _log_params(client, run_id, section))
    _announce(writer, stage.name)
    _active = StageRun(stage.name, paths, writer)
    try:
        with _closing(writer):
            yield _active
    finally:
        _active = None


@contextmanager
def pipeline_run(root: Path, params: "Params", name: str) -> Iterator[str | None]:
    """The run that a flow's stages are children of. Yields its id; None if tracking is off or away."""
    global _pipeline
    if not runtime.tracking_enabled():
        yield None
        return
    tags = {"kind": "pipeline", "recipe": params.recipe, **_provenance_tags(root)}
    writer = Writer(root, name=name, tags=tags, sample_system=False)
    writer.submit(lambda client, run_id: client.log_artifact(run_id, str(root / "params.yaml")))
    _pipeline = writer
    try:
        with _closing(writer):
            yield writer.wait_until_open(OPEN_SECONDS)
            if (root / "dvc.lock").is_file():  # as it is now that the stages have run
                writer.submit(lambda client, run_id: client.log_artifact(run_id, str(root / "dvc.lock")))
    finally:
        _pipeline = None


def note_cached(root: Path, parent_run: str, stage: str) -> None:
    """Say in the pipeline's run that a stage did not have to run, and which run made what it stands for."""

    def note(client: Any, _run_id: str) -> None:
        made_by = last_success(root, stage, client) or "a run that was not tracked"
        client.set_tag(parent_run, f"stage.{allowed_key(stage)}", f"cached, made by {made_by}")

    _submit(root, parent_run, note)


def log_to_run(root: Path, run_id: str, path: Path) -> None:
    """Attach a file to a run, as the report page to the pipeline's."""
    _submit(root, run_id, lambda client, _run_id: client.log_artifact(run_id, str(path)))


def _submit(root: Path, run_id: str, operation: Operation) -> None:
    """Through the open pipeline run's thread; directly where there is none."""
    if _pipeline is not None:
        _pipeline.submit(operation)
    else:
        operation(connect(root), run_id)


def last_success(root: Path, stage: str, client: Any = None) -> str | None:
    """MLflow run that last made what this workspace has of a stage; None if there is none."""
    client = client or connect(root)
    query = f"tags.stage = '{stage}' and attributes.status = 'FINISHED'"
    newest = ["attributes.end_time DESC"]
    found = client.search_runs(
        [experiment_id(client, root)], query, max_results=RUNS_LOOKED_AT, order_by=newest
    )
    return next((str(run.info.run_id) for run in found if _made_what_is_here(root, stage, run)), None)


def _report_digest(root: Path, stage: str) -> str:
    """sha256 of a stage's report; empty without one."""
    path = root / "reports" / f"{stage}.json"
    return sha256_of(path) if path.is_file() else ""


def _made_what_is_here(root: Path, stage: str, run: Any) -> bool:
    """False for a run of another workspace on the server, or of an older result; True for one that does not say."""
    told = run.data.tags.get(REPORT_TAG)
    return told is None or told == _report_digest(root, stage)


@dataclass(frozen=True)
class RunSummary:
    """What a finished stage took, and on what."""

    run_id: str
    seconds: float
    peak_memory_mb: float | None
    tags: dict[str, str]
    metrics: dict[str, float]  # the last value of each
    link: str = ""  # to the run in the tracking server's pages; empty where the store is a local file


def stage_summaries(root: Path) -> dict[str, RunSummary]:
    """Stage -> the newest finished run that made what is here; empty where nothing was tracked."""
    if not has_store(root):
        return {}
    client = connect(root)
    experiment = experiment_id(client, root)
    query, newest = "tags.kind = 'stage' and attributes.status = 'FINISHED'", ["attributes.end_time DESC"]
    summaries: dict[str, RunSummary] = {}
    for run in client.search_runs([experiment], query, max_results=RUNS_LOOKED_AT, order_by=newest):
        stage = run.data.tags["stage"]
        if stage in summaries or not _made_what_is_here(root, stage, run):
            continue
        seconds = (run.info.end_time - run.info.start_time) / 1000
        peak = run.data.metrics.get("system/peak_memory_megabytes")
        known = (dict(run.data.tags), dict(run.data.metrics))
        link = link_to(root, experiment, run.info.run_id)
        summaries[stage] = RunSummary(run.info.run_id, seconds, peak, *known, link)
    return summaries


def link_to(root: Path, experiment: str, run_id: str) -> str:
    """Address of a run in the tracking server's pages, without a user's name or password; empty for a local store."""
    address = urlsplit(runtime.tracking_uri(root))
    if address.scheme not in ("http", "https"):
        return ""
    server = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}"
    return f"{server}/#/experiments/{experiment}/runs/{run_id}"


@contextmanager
def _closing(writer: Writer) -> Iterator[None]:
    """End the run with the status that fits how the block ended."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except Exception as error:
        writer.set_tags({"error": f"{type(error).__name__}: {error}"[:VALUE_CHARACTERS]})
        raise
    finally:
        writer.close(status, CLOSE_SECONDS)


def _announce(writer: Writer, stage: str) -> None:
    """Let the pipeline's run point at this one."""
    parent = runtime.parent_run_id()
    if parent:
        writer.submit(lambda client, run_id: client.set_tag(parent, f"stage.{allowed_key(stage)}", run_id))


def _stage_tags(stage: "Stage", paths: StagePaths) -> dict[str, str]:
    tags = {"kind": "stage", "stage": stage.name, "group": stage.group, **_provenance_tags(paths.root)}
    for name, path in paths.inputs.items():
        tags[f"input.{name}"] = locked_digest(paths.root, path) or "not recorded by DVC"
    parent = runtime.parent_run_id()
    return {**tags, PARENT_TAG: parent} if parent else tags


def _provenance_tags(root: Path) -> dict[str, str]:
    described = {f"machine.{key}": value for key, value in machine().items()}
    return {"mlflow.source.git.commit": git_revision(root), **described}


def _log_params(client: Any, run_id: str, section: Any) -> None:
    from mlflow.entities import Param

    flat = [Param(allowed_key(key), str(value)[:VALUE_CHARACTERS]) for key, value in flatten(section).items()]
    for start in range(0, len(flat), PARAMS_PER_BATCH):
        client.log_batch(run_id, params=flat[start : start + PARAMS_PER_BATCH])


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay values."""
    if not isinstance(value, Mapping):
        return {prefix or "value": value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(flatten(inner, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def allowed_key(key: str) -> str:
    """`key` with characters that MLflow refuses in names replaced: `train@stage1` becomes `train/stage1`."""
    return KEY_PATTERN.sub("_", key.replace("@", "/"))


def _accelerator() -> dict[str, str]:
    """The GPU that the stage used, if it has loaded torch and there is one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"machine.gpu": f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"}


def _cost(started: float) -> dict[str, float]:
    """Seconds and memory of this process and the ones it waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    kilobyte = 1024.0 if sys.platform == "linux" else 1.0  # macOS reports bytes
    cost = {
        "system/wall_seconds": time.monotonic() - started,
        "system/cpu_seconds": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "system/peak_memory_megabytes": max(own.ru_maxrss, children.ru_maxrss) * kilobyte / MEGABYTE,
    }
    torch = sys.modules.get("torch")  # asked only if the stage has loaded it
    if torch is not None and torch.cuda.is_available():
        cost["system/peak_gpu_memory_megabytes"] = torch.cuda.max_memory_allocated() / MEGABYTE
    return cost
