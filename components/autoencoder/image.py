"""Stage `autoencoder@image`: the 2D autoencoder, trained on frames of the clips or taken from published weights."""

import torch

from components.artifacts import StagePaths
from components.autoencoder.config import ImageStageConfig
from components.autoencoder.objectives import pixel_objective
from components.autoencoder.program import AutoencoderProgram
from components.autoencoder.stage import StageClips, fit_and_finish, step_batches
from components.errors import UserError
from components.report import Report
from components.runtime import compute_device
from models.autoencoders.image import ImageAutoencoder


def run(config: ImageStageConfig, paths: StagePaths) -> Report:
    """Write the 2D autoencoder with the statistics of its latents.

    Published weights keep their own scaling factor, since the image model that was trained on their latents
    knows no other; `scaling_factor` replaces it.
    """
    codec = _codec(config, paths).to(compute_device())
    clips = StageClips.open(config.data, paths, seed=config.seed)
    objective = pixel_objective(codec, config, paths.root).to(compute_device())
    program = AutoencoderProgram(
        objective, clips.train, frames=config.data.frames, step_batches=step_batches(config)
    )
    return fit_and_finish(program, clips, config, paths)


def _codec(config: ImageStageConfig, paths: StagePaths) -> ImageAutoencoder:
    if config.weights is None:
        torch.manual_seed(config.seed)
        return ImageAutoencoder.build(config.model)
    try:
        return ImageAutoencoder.from_diffusers(
            paths.root / config.weights, scaling_factor=config.scaling_factor
        )
    except ValueError as error:
        raise UserError(f"{paths.checkpoints.name}: weights: {error}") from None
