"""Evaluate a model that is not this workspace's own, under this workspace's protocol."""

from pathlib import Path
from tempfile import TemporaryDirectory

from components.artifacts import StagePaths, read_json, sha256_of, sha256_of_json, write_json
from components.evaluation.record import RECORD_FILE
from components.ladder.verdict import LadderVerdict
from components.params import Params
from components.report import Report
from components.stages import STAGES

EVALUATE = "evaluate"
EVALUATIONS = "evaluations"  # of models, one folder for each model and protocol


def evaluate_model(root: Path, params: Params, pipeline: Path, output: Path) -> Report:
    """Run the stage `evaluate` on a pipeline folder; the evaluation is written to `output`.

    What was finished of it before is kept below `checkpoints/`, per model. Raises `UserError` and `ContractError` as
    the stage does.
    """
    stage = STAGES[EVALUATE]
    own = stage.paths(root, params)
    with TemporaryDirectory() as temporary:
        again = StagePaths(
            root=root,
            inputs={
                **own.inputs,
                "pipeline": pipeline,
                "latents": _latents_of(pipeline, own, Path(temporary)),
                "ladder": _asked_for(pipeline, Path(temporary)),
            },
            outputs={"evaluation": output},
            checkpoints=root / "checkpoints" / f"{EVALUATE}-{sha256_of(pipeline)[:16]}",
        )
        return stage.load()(params.section(stage.section), again)


def _asked_for(pipeline: Path, temporary: Path) -> Path:
    """Who asks for an evaluation by hand gets one, whatever the ladder said."""
    path = temporary / "ladder.json"
    LadderVerdict(sha256_of(pipeline), survives=True).write(path)
    return path


def evaluation_of(root: Path, params: Params, pipeline: Path) -> Path:
    """Folder of a model's evaluation under this workspace's protocol, made when it is asked for the first time.

    Raises as `evaluate_model` does, and goes on where that was stopped.
    """
    stage = STAGES[EVALUATE]
    own = stage.paths(root, params)
    decides = {
        "model": sha256_of(pipeline),
        "config": params.section(stage.section).model_dump(mode="json"),
        "clips": sha256_of(own.input("clips")),
        "extractor": sha256_of(own.input("extractor")),
    }
    folder = root / EVALUATIONS / f"{decides['model'][:16]}-{sha256_of_json(decides)[:16]}"
    if not (folder / RECORD_FILE).is_file():
        evaluate_model(root, params, pipeline, folder)
    return folder


def _latents_of(pipeline: Path, own: StagePaths, temporary: Path) -> Path:
    """The latents' manifest as the model's training saw it: with the contract of its own autoencoder."""
    from models.autoencoders import load_autoencoder
    from models.generation.layout import CODEC

    path = temporary / "latents.json"
    write_json(
        path, {**read_json(own.input("latents")), "contract": load_autoencoder(pipeline / CODEC).contract()}
    )
    return path
