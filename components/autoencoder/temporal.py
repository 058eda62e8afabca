"""Stages `autoencoder@stage1` to `@stage3`: the temporal autoencoder on the 2D one, each from the stage before.

Open-Sora 1.2's course: reconstruct the 2D latents (stage 1 also keeps the latents of single images where they
are), then the pixels, with the 2D autoencoder trained as well. With a causal 3D `model` the same stages train that
one on pixels, and the 2D autoencoder stays the image model's.
"""

from pathlib import Path

import torch

from components.artifacts import StagePaths
from components.autoencoder.config import TemporalStageConfig
from components.autoencoder.objectives import LatentObjective, PixelObjective, pixel_objective
from components.autoencoder.program import AutoencoderProgram
from components.autoencoder.stage import StageClips, fit_and_finish, step_batches
from components.errors import UserError
from components.report import Report
from components.runtime import compute_device
from models.autoencoders import load_autoencoder
from models.autoencoders.causal3d import CausalAutoencoder
from models.autoencoders.config import CausalAutoencoderConfig
from models.autoencoders.image import ImageAutoencoder
from models.autoencoders.open_sora import load_open_sora_vae
from models.autoencoders.temporal import TemporalAutoencoder
from models.autoencoders.video import VideoAutoencoder


def run(config: TemporalStageConfig, paths: StagePaths) -> Report:
    """Write the video autoencoder with the statistics of its latents."""
    codec = _codec(config, paths).to(compute_device())
    clips = StageClips.open(config.data, paths, seed=config.seed)
    program = AutoencoderProgram(
        _objective(codec, config, paths).to(compute_device()),
        clips.train,
        frames=config.data.frames,
        image_share=config.image_share,
        mixed_lengths=config.mixed_lengths,
        step_batches=step_batches(config),
    )
    return fit_and_finish(program, clips, config, paths)


def _objective(
    codec: VideoAutoencoder | CausalAutoencoder, config: TemporalStageConfig, paths: StagePaths
) -> PixelObjective | LatentObjective:
    if isinstance(codec, VideoAutoencoder):
        if config.adversarial and config.adversarial.adaptive and not config.train_image_autoencoder:
            raise UserError(
                "adversarial.adaptive weighs at the last layer, which train_image_autoencoder: false freezes"
            )
        codec.image.requires_grad_(config.train_image_autoencoder)
        if config.target == "latents":
            return LatentObjective(codec, config.loss, identity=config.identity)
    elif config.target == "latents":
        raise UserError("a causal 3D autoencoder has no 2D latents to reproduce; set target to pixels")
    return pixel_objective(codec, config, paths.root)


def _codec(config: TemporalStageConfig, paths: StagePaths) -> VideoAutoencoder | CausalAutoencoder:
    """The published video autoencoder, a new one, or the one of the stage before."""
    try:
        if config.weights is not None:
            return load_open_sora_vae(paths.root / config.weights)
        return _start(config, paths.input("autoencoder"))
    except ValueError as error:
        raise UserError(f"{paths.checkpoints.name}: {error}") from None


def _start(config: TemporalStageConfig, folder: Path) -> VideoAutoencoder | CausalAutoencoder:
    before = load_autoencoder(folder)
    if isinstance(before, ImageAutoencoder):
        return _new(config, before)
    assert isinstance(before, VideoAutoencoder | CausalAutoencoder)  # load_autoencoder knows three kinds
    current = before.temporal.config if isinstance(before, VideoAutoencoder) else before.config
    if config.model not in (None, current):
        raise UserError(f"{folder} holds {current}, not the `model` asked for; leave `model` out")
    return before


def _new(config: TemporalStageConfig, image: ImageAutoencoder) -> VideoAutoencoder | CausalAutoencoder:
    """A causal 3D autoencoder, which needs no 2D one, or a temporal autoencoder on the 2D one."""
    if config.model is None:
        raise UserError("the stage before made a 2D autoencoder only, and no `model` says how to build on it")
    torch.manual_seed(config.seed)
    if isinstance(config.model, CausalAutoencoderConfig):
        return CausalAutoencoder(config.model)
    return VideoAutoencoder(image, TemporalAutoencoder(config.model))
