"""After a run: what the plan said beside what the stages have reported, tracked and stored.

Only what both sides know is compared. The rate is told as TFLOP/s of one GPU, so a run on other hardware than that of
the plan shows by how much it differs and nothing else does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from components import tracking
from components.data.latents import LatentManifest
from components.planning.networks import Networks
from components.planning.parts import Plan, StagePlan
from components.report import Report
from components.stage import Stage
from components.training.checkpoint_files import STATE
from components.training.checkpoint_names import folders_in

# in MLflow
STEP_SECONDS, TFLOPS, MFU, MEMORY = ("perf/step_time_sec", "perf/tflops", "perf/mfu", "perf/memory_gb")


@dataclass(frozen=True)
class Line:
    """One figure of a stage."""

    stage: str
    what: str
    predicted: float
    recorded: float


def outcome_of(plan: Plan, networks: Networks) -> list[Line]:
    """All figures that are known on both sides, in the order of the stages; empty where nothing has run."""
    root = networks.root
    tracked = tracking.stage_summaries(root)
    planned = {stage.name: stage for stage in plan.stages}
    stored = {latents.stage: latents for latents in plan.latents}
    lines: list[Line] = []
    for name, stage in networks.stages.items():
        if name in stored and stored[name].source == "clip table":
            lines += _latents(stage, stored[name].bytes, root)
        if name in planned:
            metrics = tracked[name].metrics if name in tracked else {}
            lines += _training(planned[name], root / stage.report, metrics)
            lines += _checkpoint(planned[name], root)
    return lines


def _training(plan: StagePlan, report: Path, metrics: Mapping[str, float]) -> Iterator[Line]:
    if report.is_file():
        told = Report.read(report).metrics
        for name, predicted in (("parameters", plan.parameters), ("steps", plan.steps)):
            if name in told:
                yield Line(plan.name, name, predicted, told[name])
    if seconds := metrics.get(STEP_SECONDS):
        yield Line(plan.name, "seconds a step", plan.step_seconds, seconds)
        if rate := metrics.get(TFLOPS):
            each = plan.step_flops / plan.cluster.count / 1e12
            yield Line(plan.name, "TFLOP of a GPU's step", each, rate * seconds)
            yield Line(plan.name, "TFLOP/s of a GPU", each / plan.step_seconds, rate)
    if share := metrics.get(MFU):  # known on GPUs alone; elsewhere memory is that of the whole process
        yield Line(plan.name, "MFU", plan.cluster.mfu, share)
        yield Line(plan.name, "GB of GPU memory", plan.fullest.memory.total / 1e9, metrics.get(MEMORY, 0.0))


def _checkpoint(plan: StagePlan, root: Path) -> Iterator[Line]:
    """The newest checkpoint; a stage that has finished has removed its own."""
    checkpoints = root / "checkpoints" / plan.name
    if folders := [folder for folder in folders_in(checkpoints) if (folder / STATE).is_file()]:
        yield Line(plan.name, "bytes of a checkpoint", plan.checkpoint_bytes, _size(folders[-1]))


def _latents(stage: Stage, predicted: int, root: Path) -> Iterator[Line]:
    manifest = root / stage.outputs["latents"]
    if not manifest.is_file():
        return
    read = LatentManifest.read(manifest)
    shards = [*read.text.shards, *(shard for family in read.families for shard in family.shards)]
    files = [root / shard.file for shard in shards]
    if all(file.is_file() for file in files):
        yield Line(
            stage.name, "bytes of latents and captions", predicted, sum(file.stat().st_size for file in files)
        )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
