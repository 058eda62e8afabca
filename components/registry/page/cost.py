"""What the model has cost: time, GPU- or core-hours, money and memory, measured by the runs of its stages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.page.words import duration, plural
from components.params import Params
from components.planning.devices import PRICE
from components.stages import stages_of
from components.tracking import RunSummary, stage_summaries

GPUS = re.compile(r"(\d+) x .+")  # what the tag `machine.gpu` says


@dataclass(frozen=True)
class StageCost:
    """One stage. `share` is of the longest, for the bar; `core_hours` are of processor time."""

    name: str
    seconds: float
    share: float
    gpu_hours: float
    core_hours: float
    memory: str
    run_id: str
    link: str

    @property
    def time(self) -> str:
        return duration(self.seconds)

    @property
    def compute(self) -> str:
        return f"{hours(self.gpu_hours)} GPU-h" if self.gpu_hours else f"{hours(self.core_hours)} core-h"


@dataclass(frozen=True)
class Total:
    """A number in large type, and what it is made of."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Cost:
    totals: list[Total]
    stages: list[StageCost]


def summaries_of(root: Path, params: Params) -> dict[str, RunSummary]:
    """Stage -> the run that made what is here, of the stages that the parameters run, in order."""
    known = stage_summaries(root)
    return {name: known[name] for name in stages_of(params) if name in known}


def cost_of(summaries: Mapping[str, RunSummary], params: Params) -> Cost | None:
    """None where nothing was tracked. Of a stage that ran more than once, the newest finished run counts."""
    if not summaries:
        return None
    longest = max(summary.seconds for summary in summaries.values()) or 1.0
    trains = {name for name, stage in stages_of(params).items() if stage.trains}
    stages = [
        _stage(name, summary, longest, params.runtime.launch.nodes if name in trains else 1)
        for name, summary in summaries.items()
    ]
    return Cost(_totals(stages, summaries), stages)


def _stage(name: str, summary: RunSummary, longest: float, nodes: int) -> StageCost:
    gpus = GPUS.match(summary.tags.get("machine.gpu", ""))
    wall_hours = summary.seconds / 3600
    return StageCost(
        name=name,
        seconds=summary.seconds,
        share=summary.seconds / longest,
        gpu_hours=int(gpus[1]) * nodes * wall_hours if gpus else 0.0,
        core_hours=summary.metrics.get("system/cpu_seconds", 0.0) / 3600,
        memory=_memory(summary),
        run_id=summary.run_id,
        link=summary.link,
    )


def _totals(stages: list[StageCost], summaries: Mapping[str, RunSummary]) -> list[Total]:
    """Stages run one after another, so their times add up."""
    seconds = sum(stage.seconds for stage in stages)
    gpu_hours = sum(stage.gpu_hours for stage in stages)
    totals = [Total("Time", duration(seconds), f"{plural(len(stages), 'stage')}, the newest run of each")]
    if gpu_hours:
        dollars = f"{gpu_hours * PRICE:,.2f} dollars"
        totals.append(
            Total("GPU-hours", hours(gpu_hours), f"{dollars} at {PRICE:g} for one, as planned with")
        )
    else:
        cores = hours(sum(stage.core_hours for stage in stages))
        totals.append(Total("Core-hours", cores, "of processor time; the plan has a price for GPUs alone"))
    peaks = [summary.peak_memory_mb for summary in summaries.values() if summary.peak_memory_mb]
    if peaks:
        totals.append(Total("Peak memory", _size(max(peaks)), "of one process, in the largest stage"))
    on_gpu = [summary.metrics.get("system/peak_gpu_memory_megabytes", 0.0) for summary in summaries.values()]
    if any(on_gpu):
        totals.append(Total("Peak GPU memory", _size(max(on_gpu)), "of one GPU, in the largest stage"))
    return totals


def _memory(summary: RunSummary) -> str:
    gpu = summary.metrics.get("system/peak_gpu_memory_megabytes")
    parts = [_size(summary.peak_memory_mb)] if summary.peak_memory_mb else []
    return " + ".join([*parts, *([f"{_size(gpu)} GPU"] if gpu else [])])


def _size(megabytes: float) -> str:
    return f"{megabytes / 1000:,.1f} GB" if megabytes >= 1000 else f"{megabytes:,.0f} MB"


def hours(value: float) -> str:
    """As `0.034`, `2.1` or `1,204`."""
    return f"{value:,.3f}" if value < 1 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
