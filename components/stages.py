"""The stage table: every stage of every system, in running order.

`dvc.yaml` holds the same facts for DVC, those of further systems `pipelines/SYSTEM/dvc.yaml`, and a test compares the
two. A path in braces is a parameter. Which system a recipe runs follows from the transformer that it packages.
"""

from collections.abc import Mapping
from pathlib import Path

from components.errors import ParamsError, UserError
from components.params import Params
from components.report import Report
from components.runtime import is_main_process
from components.stage import EXTRACTOR, TEXT, VIDEOS, Stage, clips_of, curve_of
from components.storage import check_writable
from components.systems import SYSTEM_STAGES

AUTOENCODER = "artifacts/autoencoder"
LATENTS = "artifacts/latents"
LATENT_PICTURES = "artifacts/latent_pictures"
ADAPT = "artifacts/adapt"
TRAIN = "artifacts/train"
WEIGHTS = {"weights": "weights/curation"}
OPEN_SORA = "open_sora"
TAKEDOWNS = {"takedowns": "registry/takedowns.jsonl"}


def _data(
    name: str, module: str, reads: str, more: Mapping[str, str] | None = None, section: str = ""
) -> Stage:
    """A data stage: clip table in, clip table out."""
    inputs = {**clips_of(reads), **(more or {})}
    return Stage(name, "data", f"components.data.{module}", section or name, inputs, clips_of(name))


def _autoencoder(name: str, module: str, previous: str | None) -> Stage:
    inputs = {**clips_of("dedup"), **VIDEOS}
    if previous:
        inputs["autoencoder"] = f"{AUTOENCODER}/{previous}"
    else:
        inputs["validation"] = "artifacts/validate/result.json"
    outputs = {"autoencoder": f"{AUTOENCODER}/{name}", **curve_of(f"autoencoder@{name}")}
    return Stage(
        f"autoencoder@{name}",
        "autoencoder",
        f"components.autoencoder.{module}",
        f"autoencoder.{name}",
        inputs,
        outputs,
        OPEN_SORA,
    )


def _encode(family: str, autoencoder: str) -> Stage:
    inputs = {
        **clips_of("dedup"),
        **VIDEOS,
        "autoencoder": f"{AUTOENCODER}/{autoencoder}",
        **TEXT,
    }
    outputs = {"latents": f"{LATENTS}/{family}.json", "pictures": f"{LATENT_PICTURES}/{family}"}
    return Stage(
        f"encode@{family}",
        "autoencoder",
        "components.data.encode",
        f"encode.{family}",
        inputs,
        outputs,
        OPEN_SORA,
    )


def _adapt(step: str, latents: str, initial: str) -> Stage:
    name = f"adapt@{step}"
    inputs = {"latents": f"{LATENTS}/{latents}.json", **TEXT, "initial": initial}
    outputs = {"transformer": f"{ADAPT}/{step}", **curve_of(name)}
    return Stage(
        name, "adaptation", "components.adaptation.step", f"adapt.{step}", inputs, outputs, OPEN_SORA
    )


def _train(name: str, initial: str) -> Stage:
    stage = f"train@{name}"
    seen = {"autoencoder": f"{AUTOENCODER}/stage3", **EXTRACTOR}  # by the ladder
    inputs = {"latents": f"{LATENTS}/videos.json", **TEXT, "initial": initial, **seen}
    outputs = {"transformer": f"{TRAIN}/{name}", **curve_of(stage)}
    return Stage(stage, "training", "components.denoiser.train", f"train.{name}", inputs, outputs, OPEN_SORA)


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
    Stage("ingest", "data", "components.data.ingest", "ingest", {**VIDEOS, **TAKEDOWNS}, clips_of("ingest")),
    _data("split", "split", "ingest", {**VIDEOS, **WEIGHTS}),
    _data("score", "score", "split", {**VIDEOS, **WEIGHTS}),
    _data("filter", "filter", "score", {**TAKEDOWNS, "quarantine": "registry/quarantine.jsonl"}),
    _data("caption", "caption", "filter", {"captions": "{caption.source}", **VIDEOS, **WEIGHTS}),
    _data("dedup", "dedup", "caption", VIDEOS),
    Stage(
        "validate",
        "data",
        "components.data.validate",
        "validation",
        {**clips_of("dedup"), "previous": "{validation.previous}"},
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
        clips_of("dedup"),
        TEXT,
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
        {"latents": f"{LATENTS}/images.json", **TEXT},
        {"transformer": "artifacts/pixart", **curve_of("pixart")},
        OPEN_SORA,
    ),
    *(_adapt(step, latents, initial) for step, (latents, initial) in ADAPT_STEPS.items()),
    Stage(
        "extractor",
        "evaluation",
        "components.evaluation.extractor",
        "extractor",
        {},
        {**EXTRACTOR, **curve_of("extractor")},
    ),
    *(_train(name, initial) for name, initial in TRAIN_STAGES.items()),
    *SYSTEM_STAGES,
    Stage(
        "package",
        "training",
        "components.denoiser.package",
        "evaluate.sampler",
        {
            "transformer": "{candidate.transformer}",
            "autoencoder": "{candidate.autoencoder}",
            **TEXT,
        },
        {"pipeline": "artifacts/pipeline"},
    ),
    Stage(
        "ladder",
        "evaluation",
        "components.ladder.survive",
        "ladder",
        {"pipeline": "artifacts/pipeline", "champion": "{ladder.champion}"},
        {"verdict": "artifacts/ladder/verdict.json"},
    ),
    Stage(
        "evaluate",
        "evaluation",
        "components.evaluation.evaluate",
        "evaluate",
        {
            **clips_of("dedup"),
            **VIDEOS,
            "pipeline": "artifacts/pipeline",
            **EXTRACTOR,
            "latents": "{candidate.latents}",
            "ladder": "artifacts/ladder/verdict.json",
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


def system_of(params: Params) -> str:
    """The system whose stage makes the transformer that is packaged. Raises `ParamsError` where none does."""
    wanted = params.candidate.transformer
    made = {stage.outputs["transformer"]: stage.system for stage in _ROWS if "transformer" in stage.outputs}
    system = made.get(wanted)
    if system is None:
        raise ParamsError(f"candidate.transformer: no stage makes {wanted}; use one of {', '.join(made)}")
    return system


def stages_of(params: Params) -> dict[str, Stage]:
    """The stages that a parameter set runs, in order: those that all share, and those of its system.

    Raises `ParamsError` naming a section that is missing.
    """
    system = system_of(params)
    chosen = {stage.name: stage for stage in _ROWS if stage.system in (None, system)}
    for stage in chosen.values():
        params.section(stage.section)
    return chosen


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
        if is_main_process():
            report.write(root / stage.report)
        tracked.finish(report)
    return report
