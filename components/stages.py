"""The stage table: what a stage is called, what it reads and writes, and where its work is done.

`dvc.yaml` holds the same facts for DVC, and a test compares the two. A path in braces is a parameter.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from components.artifacts import StagePaths
from components.errors import UserError
from components.params import Params
from components.report import Report
from components.storage import check_writable, place_of

StageRun = Callable[[Any, StagePaths], Report]


@dataclass(frozen=True)
class Stage:
    """One row. `module` holds `run(config, paths) -> Report`; `section` is its part of `params.yaml`."""

    name: str
    group: str  # the sub-flow it belongs to
    module: str
    section: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> str:
        return f"reports/{self.name}.json"

    def load(self) -> StageRun:
        return cast(StageRun, import_module(self.module).run)

    def paths(self, root: Path, params: Params) -> StagePaths:
        cache = params.runtime.block_cache(root)
        return StagePaths(
            root=root,
            inputs={name: place_of(fill(path, params), root, cache) for name, path in self.inputs.items()},
            outputs={name: root / path for name, path in self.outputs.items()},
            checkpoints=root / "checkpoints" / self.name,
        )


def fill(path: str, params: Params) -> str:
    """Replace `{section.key}` by the parameter's value."""
    return re.sub(r"\{([a-z0-9_.]+)\}", lambda match: str(params.section(match[1])), path)


CLIPS = "artifacts/clips"
AUTOENCODER = "artifacts/autoencoder"
LATENTS = "artifacts/latents"
LATENT_PICTURES = "artifacts/latent_pictures"
ADAPT = "artifacts/adapt"
TRAIN = "artifacts/train"
VIDEOS = {"videos": "{ingest.videos}"}
WEIGHTS = {"weights": "weights/curation"}
TAKEDOWNS = {"takedowns": "registry/takedowns.jsonl"}


def _clips(stage: str) -> dict[str, str]:
    return {"clips": f"{CLIPS}/{stage}.json"}


def _data(
    name: str, module: str, reads: str, more: Mapping[str, str] | None = None, section: str = ""
) -> Stage:
    """A data stage: clip table in, clip table out."""
    inputs = {**_clips(reads), **(more or {})}
    return Stage(name, "data", f"components.data.{module}", section or name, inputs, _clips(name))


def _curve(stage: str) -> dict[str, str]:
    """Where a training stage writes its curves, for `dvc plots`."""
    return {"curve": f"curves/{stage}.csv"}


def _autoencoder(name: str, module: str, previous: str | None) -> Stage:
    inputs = {**_clips("dedup"), **VIDEOS}
    if previous:
        inputs["autoencoder"] = f"{AUTOENCODER}/{previous}"
    else:
        inputs["validation"] = "artifacts/validate/result.json"
    outputs = {"autoencoder": f"{AUTOENCODER}/{name}", **_curve(f"autoencoder@{name}")}
    return Stage(
        f"autoencoder@{name}",
        "autoencoder",
        f"components.autoencoder.{module}",
        f"autoencoder.{name}",
        inputs,
        outputs,
    )


def _encode(family: str, autoencoder: str) -> Stage:
    inputs = {
        **_clips("dedup"),
        **VIDEOS,
        "autoencoder": f"{AUTOENCODER}/{autoencoder}",
        "text": "artifacts/text_encoder",
    }
    outputs = {"latents": f"{LATENTS}/{family}.json", "pictures": f"{LATENT_PICTURES}/{family}"}
    return Stage(
        f"encode@{family}", "autoencoder", "components.data.encode", f"encode.{family}", inputs, outputs
    )


def _flow_stage(
    name: str, group: str, module: str, section: str, latents: str, initial: str, output: str
) -> Stage:
    inputs = {"latents": f"{LATENTS}/{latents}.json", "text": "artifacts/text_encoder", "initial": initial}
    return Stage(name, group, module, section, inputs, {"transformer": output, **_curve(name)})


# step -> (latents it trains on, folder it starts from)
ADAPT_STEPS = {
    "multi_resolution": ("images", "artifacts/pixart"),
    "qk_norm": ("images", f"{ADAPT}/multi_resolution"),
    "rectified_flow": ("images", f"{ADAPT}/qk_norm"),
    "time_shift": ("images", f"{ADAPT}/rectified_flow"),
    "adam_eps": ("images", f"{ADAPT}/time_shift"),
    "autoencoder": ("videos", f"{ADAPT}/adam_eps"),
    "temporal": ("videos", f"{ADAPT}/autoencoder"),
    "masks": ("videos", f"{ADAPT}/temporal"),
}
TRAIN_STAGES = {
    "stage1": f"{ADAPT}/masks",
    "stage2": f"{TRAIN}/stage1",
    "stage3": f"{TRAIN}/stage2",
}

_ROWS = (
    Stage("footage", "data", "components.data.footage", "footage", {}, {"videos": "data/footage"}),
    Stage("ingest", "data", "components.data.ingest", "ingest", {**VIDEOS, **TAKEDOWNS}, _clips("ingest")),
    _data("split", "split", "ingest", {**VIDEOS, **WEIGHTS}),
    _data("score", "score", "split", {**VIDEOS, **WEIGHTS}),
    _data("filter", "filter", "score", TAKEDOWNS),
    _data("caption", "caption", "filter", {"captions": "{caption.source}", **VIDEOS, **WEIGHTS}),
    _data("dedup", "dedup", "caption", VIDEOS),
    Stage(
        "validate",
        "data",
        "components.data.validate",
        "validation",
        {**_clips("dedup"), "previous": "{validation.previous}"},
        {
            "result": "artifacts/validate/result.json",
            "docs": "artifacts/validate/docs",
            "summary": "artifacts/validate/summary.json",
        },
    ),
    Stage(
        "text_encoder",
        "autoencoder",
        "components.text.encoder",
        "text_encoder",
        _clips("dedup"),
        {"text": "artifacts/text_encoder"},
    ),
    _autoencoder("image", "image", None),
    _autoencoder("stage1", "temporal", "image"),
    _autoencoder("stage2", "temporal", "stage1"),
    _autoencoder("stage3", "temporal", "stage2"),
    _encode("images", "image"),
    _encode("videos", "stage3"),
    Stage(
        "pixart",
        "adaptation",
        "components.denoiser.pixart",
        "pixart",
        {"latents": f"{LATENTS}/images.json", "text": "artifacts/text_encoder"},
        {"transformer": "artifacts/pixart", **_curve("pixart")},
    ),
    *(
        _flow_stage(
            f"adapt@{step}",
            "adaptation",
            "components.adaptation.step",
            f"adapt.{step}",
            latents,
            initial,
            f"{ADAPT}/{step}",
        )
        for step, (latents, initial) in ADAPT_STEPS.items()
    ),
    *(
        _flow_stage(
            f"train@{name}",
            "training",
            "components.denoiser.train",
            f"train.{name}",
            "videos",
            initial,
            f"{TRAIN}/{name}",
        )
        for name, initial in TRAIN_STAGES.items()
    ),
    Stage(
        "package",
        "training",
        "components.denoiser.package",
        "evaluate.sampler",
        {
            "transformer": f"{TRAIN}/stage3",
            "autoencoder": f"{AUTOENCODER}/stage3",
            "text": "artifacts/text_encoder",
        },
        {"pipeline": "artifacts/pipeline"},
    ),
    Stage(
        "extractor",
        "evaluation",
        "components.evaluation.extractor",
        "extractor",
        {},
        {"extractor": "artifacts/extractor", **_curve("extractor")},
    ),
    Stage(
        "evaluate",
        "evaluation",
        "components.evaluation.evaluate",
        "evaluate",
        {
            **_clips("dedup"),
            **VIDEOS,
            "pipeline": "artifacts/pipeline",
            "extractor": "artifacts/extractor",
            "latents": f"{LATENTS}/videos.json",
        },
        {"evaluation": "artifacts/evaluate"},
    ),
    Stage(
        "gate",
        "evaluation",
        "components.registry.gate",
        "gate",
        {"evaluation": "artifacts/evaluate", "baseline": "{gate.baseline}", "frozen": "{gate.frozen}"},
        {"verdict": "artifacts/gate/verdict.json"},
    ),
)
STAGES: dict[str, Stage] = {stage.name: stage for stage in _ROWS}


def find(name: str) -> Stage:
    """The stage of that name. Raises `UserError` listing the valid ones."""
    try:
        return STAGES[name]
    except KeyError:
        raise UserError(f"there is no stage `{name}`; stages: {', '.join(STAGES)}") from None


def execute(name: str, root: Path = Path()) -> Report:
    """Run one stage in this process and write its report. What DVC, Prefect and the command line all end in."""
    from components.tracking import stage_run

    stage = find(name)
    params = Params.load(root / "params.yaml")
    config = params.section(stage.section)
    paths = stage.paths(root, params)
    check_writable(params.runtime.store_place(root))
    with stage_run(stage, params, paths) as tracked:
        report = stage.load()(config, paths)
        report.write(root / stage.report)
        tracked.finish(report)
    return report
