"""Parameters of the autoencoder stages: the 2D autoencoder, then the temporal one on its latents."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
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


class PerceptualConfig(Section):
    """LPIPS on VGG16 between clip and reconstruction, with the published weights named by path."""

    weight: PositiveFloat
    vgg: str  # torchvision's vgg16 checkpoint
    heads: str  # LPIPS' vgg.pth
    levels: tuple[tuple[PositiveInt, ...], ...] | None = None  # channels of a narrower network than VGG16


class DiscriminatorModelConfig(Section):
    """Geometry of the 3D discriminator, for clips of the size that the stage trains on."""

    filters: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = (2, 4, 4, 4, 4)
    taps: tuple[PositiveInt, ...] = (1, 1)


class AdversarialConfig(Section):
    """A discriminator that is trained in the same steps, with the same optimizer settings (MAGVIT).

    `weight` counts the codec's term; with `adaptive` it is multiplied by the ratio of gradient lengths at the
    decoder's last layer (VQGAN). `r1` and `lecam` are weights of the discriminator's regularisers; 0 leaves one out.
    """

    loss: Literal["hinge", "non-saturating"]
    weight: PositiveFloat
    adaptive: bool = False
    start: NonNegativeInt = 0  # optimizer step from which discriminator and codec know of each other
    r1: NonNegativeFloat = 0.0
    lecam: NonNegativeFloat = 0.0
    lecam_decay: float = Field(default=0.999, ge=0, lt=1)
    model: DiscriminatorModelConfig = DiscriminatorModelConfig()


class TrainedOrTaken(LoopConfig):
    """What all stages share. Given `weights` are taken as they are; the stage then trains nothing.

    `perceptual` and `adversarial` are terms on pixels, and None where a stage has none.
    """

    weights: str | None = None
    data: FramesConfig
    loss: ReconstructionConfig
    perceptual: PerceptualConfig | None = None
    adversarial: AdversarialConfig | None = None

    @model_validator(mode="after")
    def _the_discriminator_gets_time(self) -> Self:
        if self.adversarial and self.adversarial.start >= self.steps:
            raise ValueError(
                f"adversarial.start {self.adversarial.start} is not before the end, {self.steps} steps"
            )
        return self


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


class ClipLengths(TrainedOrTaken):
    """How long the clips of a step are: `data.frames`, but for the two shares of other lengths."""

    image_share: float = Field(default=0.0, ge=0, lt=1)  # share of steps that see single frames
    mixed_lengths: bool = False  # clip length uniform in 1..frames per step

    @model_validator(mode="after")
    def _a_discriminator_sees_one_length(self) -> Self:
        if self.adversarial and (self.image_share or self.mixed_lengths):
            raise ValueError(
                "a discriminator is built for clips of one length; with `adversarial` set image_share to 0 and"
                " mixed_lengths to false"
            )
        return self


class CausalStageConfig(ClipLengths):
    """The causal 3D autoencoder of W.A.L.T and of the causal 5B model, which needs no 2D one.

    `weights` is the folder of a causal autoencoder that was saved here.
    """

    model: CausalAutoencoderConfig


class TemporalStageConfig(ClipLengths):
    """One of the three stages. `weights` is the published checkpoint of Open-Sora 1.2's video autoencoder.

    `target` is what must be reproduced: the 2D latents (stages 1 and 2) or the pixels (stage 3). `identity`
    adds the L1 distance between the temporal latent and the 2D latent of single images (stage 1). A `model` with
    `spatial_downsample` is a causal 3D autoencoder (W.A.L.T): it has no 2D part and learns from pixels.
    """

    model: VideoModel | None = None  # stage 1 creates it, later ones load it
    target: Literal["latents", "pixels"]
    identity: bool
    train_image_autoencoder: bool
    image_share: float = Field(ge=0, lt=1)
    mixed_lengths: bool

    @model_validator(mode="after")
    def _pixel_terms_need_pixels(self) -> Self:
        if self.target == "latents" and (self.perceptual or self.adversarial):
            raise ValueError("perceptual and adversarial terms compare pixels; set target to pixels")
        return self

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
