"""A row of the stage table: what a stage is called, what it reads and writes, and where its work is done."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from components.artifacts import StagePaths
from components.imports import load
from components.params import Params
from components.report import Report
from components.storage import place_of

StageRun = Callable[[Any, StagePaths], Report]
PIPELINE_FILE = "dvc.yaml"
CLIPS = "artifacts/clips"
TEXT = {"text": "artifacts/text_encoder"}
EXTRACTOR = {"extractor": "artifacts/extractor"}
VIDEOS = {"videos": "{ingest.videos}"}


@dataclass(frozen=True)
class Stage:
    """One row. `module` holds `run(config, paths) -> Report`; `section` is its part of `params.yaml`."""

    name: str
    group: str  # the sub-flow it belongs to
    module: str
    section: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None  # the published system it trains; None where all share it
    file: str = PIPELINE_FILE  # the DVC file it is in

    @property
    def report(self) -> str:
        return f"reports/{self.name}.json"

    @property
    def address(self) -> str:
        """What DVC calls it."""
        return self.name if self.file == PIPELINE_FILE else f"{self.file}:{self.name}"

    @property
    def trains(self) -> bool:
        """True where the training loop runs, by several processes if `runtime.launch` says so."""
        return "curve" in self.outputs and self.group != "evaluation"

    def load(self) -> StageRun:
        return cast(StageRun, load(self.module).run)

    def paths(self, root: Path, params: Params) -> StagePaths:
        cache = params.runtime.block_cache(root)
        return StagePaths(
            root=root,
            inputs={name: place_of(fill(path, params), root, cache) for name, path in self.inputs.items()},
            outputs={name: root / path for name, path in self.outputs.items()},
            checkpoints=checkpoints_of(root, self.name),
        )


def checkpoints_of(root: Path, name: str) -> Path:
    """Where a stage keeps what it needs to go on."""
    return root / "checkpoints" / name


def fill(path: str, params: Params) -> str:
    """Replace `{section.key}` by the parameter's value."""
    return re.sub(r"\{([a-z0-9_.]+)\}", lambda match: str(params.section(match[1])), path)


def clips_of(stage: str) -> dict[str, str]:
    """The clip table as a stage leaves it."""
    return {"clips": f"{CLIPS}/{stage}.json"}


def curve_of(stage: str) -> dict[str, str]:
    """Where a training stage writes its curves, for `dvc plots`."""
    return {"curve": f"curves/{stage}.csv"}
