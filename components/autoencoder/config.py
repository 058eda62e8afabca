"""Parameters of the autoencoder stages: the 2D autoencoder, then the temporal one on its latents."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from components.config import Section
from components.training.config import LoopConfig
from models.autoencoders.config import ImageAutoencoderConfig, TemporalAutoencoderConfig


class FramesConfig(Section):
    """Which pixels the autoencoder sees."""

    height: PositiveInt
    width: PositiveInt
    fps: PositiveInt
    frames: PositiveInt
    batch: PositiveInt  # clips (frames for the 2D autoencoder)


class ReconstructionConfig(Section):
    """Weights of the loss terms. `saturation` weighs a pixel by 1 + saturation * (max_c - min_c)."""

    l1: NonNegativeFloat
    mse: NonNegativeFloat
    saturation: NonNegativeFloat
    kl: NonNegativeFloat


class ImageStageConfig(LoopConfig):
    """The 2D autoencoder."""

    weights: str | None  # diffusers folder with a 2D autoencoder; None trains `model`
    model: ImageAutoencoderConfig
    data: FramesConfig
    loss: ReconstructionConfig


class TemporalStageConfig(LoopConfig):
    """One of the three stages.

    `target` is what the temporal decoder must reproduce: the 2D latents (stages 1 and 2) or the pixels (stage
    3). `identity` adds the L1 distance between the temporal latent and the 2D latent of single images (stage
    1).
    """

    model: TemporalAutoencoderConfig | None = None  # stage 1 creates it, later stages load it
    target: Literal["latents", "pixels"]
    identity: bool
    train_image_autoencoder: bool
    image_share: float = Field(ge=0, lt=1)  # share of steps that see single frames
    mixed_lengths: bool  # clip length uniform in 1..frames per step
    data: FramesConfig
    loss: ReconstructionConfig


class AutoencoderConfig(Section):
    """The four stages in their order; each starts from the one before."""

    image: ImageStageConfig
    stage1: TemporalStageConfig
    stage2: TemporalStageConfig
    stage3: TemporalStageConfig
