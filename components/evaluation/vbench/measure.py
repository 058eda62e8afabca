"""VBench as metrics of an evaluation: on the evaluation's own videos, or on the standard run's.

A dimension that is unavailable or failed becomes a metric without a value, which no gate takes for a pass.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.errors import UserError
from components.evaluation.config import VbenchConfig
from components.evaluation.identity import identity
from components.evaluation.record import Metric
from components.evaluation.vbench import environment
from components.evaluation.vbench.prompts import (
    FLICKER_SAMPLES,
    expected_videos,
    package_info,
    standard_requests,
)
from components.evaluation.vbench.run import CUSTOM, DimensionResult, Job, Status, obstacles, run_dimensions
from components.evaluation.vbench.scores import DIMENSIONS, aggregate
from components.evaluation.vbench.videos import make_videos
from models.generation.layout import Settings
from models.generation.video_file import to_mp4

if TYPE_CHECKING:
    from models.generation.pipeline import TextToVideoPipeline

Ask = Callable[[Sequence[str]], list[str]]
PREFIX = "vbench_"
TOTAL = "vbench_total"
PER_CENT = {"imaging_quality"}  # whose videos are scored 0..100, and whose score is 0..1


class Vbench:
    """VBench as an evaluation asks for it, with everything checked that can be before the first video."""

    def __init__(self, config: VbenchConfig, root: Path) -> None:
        """Raises `UserError` without VBench's environment, and for dimensions that cannot be run here."""
        installed = environment.find(root)
        if installed is None:
            raise UserError("evaluate.vbench needs VBench's environment; `reelforge vbench install` makes it")
        self.config, self.installed, self.weights = config, installed, root / config.weights
        known = DIMENSIONS if config.mode == "standard" else [name for name in DIMENSIONS if name in CUSTOM]
        self.dimensions = list(config.dimensions or known)
        lacking = {
            name: obstacles(name, installed, self.weights, standard=config.mode == "standard")
            for name in self.dimensions
            if name in DIMENSIONS
        }
        missing = [f"{name}: {'; '.join(why)}" for name, why in lacking.items() if why]
        if missing and config.dimensions:
            raise UserError(f"evaluate.vbench.dimensions cannot be run here: {' | '.join(missing)}")

    def on_own_videos(
        self, ids: list[str], prompts: list[str], videos: NDArray[np.uint8], fps: float, keep: Path
    ) -> dict[str, Metric]:
        """The dimensions that need no prompts of VBench's, per clip id."""
        folder = keep / "vbench"
        folder.mkdir(parents=True, exist_ok=True)
        files = {f"{name}-0.mp4": name for name in ids}
        for file, clip in zip(files, videos, strict=True):
            if not (folder / file).is_file():
                (folder / file).write_bytes(to_mp4(clip, fps))
        told = dict(zip(files, prompts, strict=True))
        job = Job(
            folder, "custom_input", dict.fromkeys(self.dimensions, len(files)), told, self.config.device
        )
        return metrics_of(self._run(job, keep), files)

    def on_standard_videos(
        self, pipeline: "TextToVideoPipeline", settings: Settings, model: str, keep: Path, ask: Ask = list
    ) -> dict[str, Metric]:
        """All dimensions on the videos that VBench asks for, per prompt; made here, and kept below `keep`.

        ask: how the model is told its prompts.
        """
        requests = standard_requests(
            package_info(self.installed),
            seed=settings.seed,
            dimensions=self.dimensions,
            flicker_samples=FLICKER_SAMPLES,
        )
        folder = keep / "vbench"
        make_videos(
            requests,
            folder,
            lambda prompts, first: pipeline(ask(prompts), **asdict(replace(settings, seed=first))),
            model=model,
            settings=settings,
            batch=self.config.batch,
        )
        expected = {name: expected_videos(requests, name) for name in self.dimensions}
        job = Job(folder, "vbench_standard", expected, device=self.config.device)
        return metrics_of(self._run(job, keep), {request.file: request.prompt for request in requests})

    def _run(self, job: Job, keep: Path) -> dict[str, DimensionResult]:
        return run_dimensions(
            job, self.dimensions, self.installed, weights=self.weights, results=keep / "vbench-results"
        )


def metrics_of(results: Mapping[str, DimensionResult], items: Mapping[str, str]) -> dict[str, Metric]:
    """One metric per dimension, and `vbench_total` where all sixteen are there. `items`: file -> prompt or clip id."""
    metrics = {f"{PREFIX}{name}": _metric(name, result, items) for name, result in results.items()}
    raw = {name: result.score for name, result in results.items() if result.score is not None}
    if set(raw) == set(DIMENSIONS):
        parts = {name: metrics[f"{PREFIX}{name}"].per_item for name in DIMENSIONS}
        told = {name: result.identity for name, result in results.items()}
        count = len({prompt for scores in parts.values() for prompt in scores})
        metrics[TOTAL] = Metric(
            aggregate(raw)["total"], identity(TOTAL, told), higher_is_better=True, n=count, parts=parts
        )
    return metrics


def _metric(name: str, result: DimensionResult, items: Mapping[str, str]) -> Metric:
    """The score as VBench gives it; per item the mean of its videos."""
    grouped: dict[str, list[float]] = defaultdict(list)
    scale = 0.01 if name in PER_CENT else 1.0
    for file, score in result.videos.items():
        grouped[items[file]].append(scale * score)
    per_item = {item: float(np.mean(values)) for item, values in grouped.items()}
    value = result.score if result.status is Status.OK else None
    told = identity(f"{PREFIX}{name}", dict(result.identity))
    return Metric(value, told, higher_is_better=True, n=max(len(per_item), 1), per_item=per_item)
