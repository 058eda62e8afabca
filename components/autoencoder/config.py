"""Parameters of the autoencoder stages: the 2D autoencoder, then the temporal one on its latents."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from components.config import HIDDEN_TAG, Section
from components.training.config import LoopConfig
from models.autoencoders.config import (
    CausalAutoencoderConfig,
    ImageAutoencoderConfig,
    TemporalAutoencoderConfig,
)


class FramesConfig(Section):
    """Which pixels the autoencoder sees."""

    height: PositiveInt
    width: PositiveInt
    fps: PositiveInt
    frames: PositiveInt
    batch: PositiveInt  # clips (frames for the 2D autoencoder)


class ReconstructionConfig(Section):
    """Weights of the loss terms.

    `saturation` (pixels only) counts a pixel 1 + saturation * (largest - smallest channel, in 0..1) times.
    `kl` is per value of a frame: Open-Sora's weight of its sums.
    """

    l1: NonNegativeFloat
    mse: NonNegativeFloat
    saturation: NonNegativeFloat
    kl: NonNegativeFloat


class TrainedOrTaken(LoopConfig):
    """What the four stages share. Given `weights` are taken as they are; the stage then trains nothing."""

    weights: str | None = None
    data: FramesConfig
    loss: ReconstructionConfig


class ImageStageConfig(TrainedOrTaken):
    """The 2D autoencoder. `weights` is a diffusers folder with an `AutoencoderKL`."""

    scaling_factor: PositiveFloat | None = None  # of given weights; None: as their folder says
    model: ImageAutoencoderConfig  # what is built where no weights are given


def _kind(given: Any) -> str:
    """Which model is meant, by the parameter that only one of them has; mistakes are then explained for that one."""
    causal = isinstance(given, CausalAutoencoderConfig) or (
        isinstance(given, dict) and "spatial_downsample" in given
    )
    return f"{HIDDEN_TAG}causal" if causal else f"{HIDDEN_TAG}temporal"


VideoModel = Annotated[
    Annotated[TemporalAutoencoderConfig, Tag(f"{HIDDEN_TAG}temporal")]
    | Annotated[CausalAutoencoderConfig, Tag(f"{HIDDEN_TAG}causal")],
    Discriminator(_kind),
]


class TemporalStageConfig(TrainedOrTaken):
    """One of the three stages. `weights` is the published checkpoint of Open-Sora 1.2's video autoencoder.

    `target` is what must be reproduced: the 2D latents (stages 1 and 2) or the pixels (stage 3). `identity`
    adds the L1 distance between the temporal latent and the 2D latent of single images (stage 1). A `model` with
    `spatial_downsample` is a causal 3D autoencoder (W.A.L.T): it has no 2D part and learns from pixels.
    """

    model: VideoModel | None = None  # stage 1 creates it, later ones load it
    target: Literal["latents", "pixels"]
    identity: bool
    train_image_autoencoder: bool
    image_share: float = Field(ge=0, lt=1)  # share of steps that see single frames
    mixed_lengths: bool  # clip length uniform in 1..frames per step

    @model_validator(mode="after")
    def _a_causal_autoencoder_learns_from_pixels(self) -> Self:
        if isinstance(self.model, CausalAutoencoderConfig) and self.target != "pixels":
            raise ValueError("a causal 3D autoencoder has no 2D latents to reproduce; set target to pixels")
        return self


class AutoencoderConfig(Section):
    """The four stages in their order; each starts from the one before."""

    image: ImageStageConfig
    stage1: TemporalStageConfig
    stage2: TemporalStageConfig
    stage3: TemporalStageConfig

    @model_validator(mode="after")
    def _stage1_fits_the_2d_autoencoder(self) -> Self:
        if self.stage1.weights is not None:
            return self
        if self.stage1.model is None:
            raise ValueError("stage1 builds the temporal autoencoder: give stage1.model, or stage1.weights")
        if isinstance(self.stage1.model, CausalAutoencoderConfig):
            return self
        wanted, given = self.stage1.model.latent_channels, self.image.model.latent_channels
        if self.image.weights is None and wanted != given:
            raise ValueError(f"stage1.model.latent_channels is {wanted}, and image.model makes {given}")
        return self
