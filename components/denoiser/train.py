"""Stages `train@stage1` to `train@stage3`: the video transformer learns video with rectified flow."""

from components.artifacts import StagePaths
from components.denoiser.config import FlowStageConfig
from components.denoiser.facts import TrainingFacts
from components.denoiser.latent_inputs import open_batches
from components.denoiser.training import Start, train_stage
from components.errors import ContractError
from components.ladder.check import Climber, ladder_of, weighed_by
from components.report import Report
from models.transformers.convert import grow
from models.transformers.video_transformer import VideoTransformer


def run(config: FlowStageConfig, paths: StagePaths) -> Report:
    """Go on from the previous stage's weights.

    Raises `ContractError` before the first step if those were trained on latents of another autoencoder, with
    another text encoder or another objective.
    """
    initial = paths.input("initial")
    batches = open_batches(config.batches, paths)
    facts = TrainingFacts.read(initial)
    manifest = batches.store.manifest
    facts.expect(codec=manifest.contract, text_digest=manifest.text.digest)
    if facts.objective != "flow":
        raise ContractError(
            f"{initial} was trained with the {facts.objective} objective; training on video needs flow."
            " Run the adaptation steps first"
        )
    model, coverage = grow(VideoTransformer.from_pretrained(initial))
    start = Start(model, coverage, "flow")
    return train_stage(
        *(paths.checkpoints.name, start, batches, config, paths),
        lambda model, flow: ladder_of(config, paths, Climber(model, flow, "flow", weighed_by(config.times))),
    )
