"""The stage of a causal 3D autoencoder, which learns from pixels in one go and needs no 2D one (W.A.L.T, causal 5B)."""

import torch

from components.artifacts import StagePaths
from components.autoencoder.config import CausalStageConfig
from components.autoencoder.objectives import pixel_objective
from components.autoencoder.program import AutoencoderProgram
from components.autoencoder.stage import StageClips, fit_and_finish, step_batches
from components.errors import UserError
from components.report import Report
from components.runtime import compute_device
from models.autoencoders import load_autoencoder
from models.autoencoders.causal3d import CausalAutoencoder


def run(config: CausalStageConfig, paths: StagePaths) -> Report:
    """Write the autoencoder with the statistics of its latents. Raises `UserError` for weights of another kind."""
    codec = _codec(config, paths).to(compute_device())
    clips = StageClips.open(config.data, paths, seed=config.seed)
    program = AutoencoderProgram(
        pixel_objective(codec, config, paths.root).to(compute_device()),
        clips.train,
        frames=config.data.frames,
        image_share=config.image_share,
        mixed_lengths=config.mixed_lengths,
        step_batches=step_batches(config),
    )
    return fit_and_finish(program, clips, config, paths)


def _codec(config: CausalStageConfig, paths: StagePaths) -> CausalAutoencoder:
    if config.weights is None:
        torch.manual_seed(config.seed)
        return CausalAutoencoder(config.model)
    try:
        codec = load_autoencoder(paths.root / config.weights)
    except ValueError as error:
        raise UserError(f"{paths.checkpoints.name}: weights: {error}") from None
    if not isinstance(codec, CausalAutoencoder):
        raise UserError(
            f"{paths.checkpoints.name}: {config.weights} holds a {type(codec).__name__}, no causal one"
        )
    return codec
