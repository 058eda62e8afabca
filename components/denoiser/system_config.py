"""Parameters of the systems that train a video transformer from nothing: what each stage of theirs can be told."""

from typing import Any, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from components.autoencoder.config import CausalStageConfig, ImageStageConfig
from components.config import Section
from components.data.config import EncodeConfig
from components.denoiser.config import MaskConfig, TimesConfig, VideoConfig
from components.evaluation.config import SamplerConfig


class NewModelConfig(Section):
    """A transformer from `models.transformers.presets`, with some of its keys changed.

    Channels, caption width and tokens follow from the latents, so they are not given here.
    """

    preset: str
    changes: dict[str, Any] = Field(default_factory=dict)


class VideoStageConfig(VideoConfig):
    """One stage of a system. The first one builds `model`, later ones go on from the stage before.

    `changes` are keys of the trained transformer that this stage changes, as `positions` for another aspect ratio.
    """

    model: NewModelConfig | None = None
    changes: dict[str, Any] = Field(default_factory=dict)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)  # of the output of self-attention


class ShiftedWindowStageConfig(VideoStageConfig):
    """A stage of the HD-VILA model: rectified flow, since its publication names no objective."""

    times: TimesConfig
    masks: MaskConfig = MaskConfig()


class FramePredictionConfig(Section):
    """Share of clips whose first latent frames are given, and how many at most."""

    probability: float = Field(ge=0, le=1)
    longest: PositiveInt = 2  # latent frames: one is an image, two are five frames of a video that goes on


class UpsamplingConfig(Section):
    """What a super-resolution stage starts from: latents of half the size, with noise up to a time of 0..999."""

    low_resolution: str  # a resolution of the same latents
    max_noise_time: int = Field(ge=0, lt=1000)  # not published


class WaltStageConfig(VideoStageConfig):
    """A model of W.A.L.T: v-prediction with zero terminal SNR, on clips and stacks of images."""

    self_conditioning: float = Field(ge=0, le=1)  # share of samples that see the model's own estimate
    frame_prediction: FramePredictionConfig
    upsampling: UpsamplingConfig | None = None


class CascadeConfig(Section):
    """How the super-resolution models are used: the time of the noise on what each is given, and their sampler."""

    noise_times: tuple[NonNegativeInt, NonNegativeInt]  # at most `upsampling.max_noise_time` of its stage
    sampler: SamplerConfig


class SquareAndWide(Section):
    """Latents of the square base model, and of another aspect ratio with all its resolutions."""

    base: EncodeConfig
    wide: EncodeConfig


class WaltConfig(Section):
    """Base model, the same at another aspect ratio, and two models that double the resolution each."""

    autoencoder: CausalStageConfig
    encode: SquareAndWide
    base: WaltStageConfig
    wide: WaltStageConfig
    super_resolution_1: WaltStageConfig
    super_resolution_2: WaltStageConfig
    cascade: CascadeConfig

    @model_validator(mode="after")
    def _each_model_goes_on_where_the_one_before_ends(self) -> Self:
        """As stage `walt_cascade` will ask for, which runs when all of them are trained."""
        before, names = self.wide, ("super_resolution_1", "super_resolution_2")
        for name, noise_time in zip(names, self.cascade.noise_times, strict=True):
            stage: WaltStageConfig = getattr(self, name)
            if stage.upsampling is None:
                raise ValueError(f"{name} enlarges nothing: give it `upsampling`")
            low, known = stage.upsampling.low_resolution, before.batches.buckets
            if low not in known:
                raise ValueError(
                    f"{name} starts from {low}, which the model before it does not make; it makes {', '.join(known)}"
                )
            if noise_time > stage.upsampling.max_noise_time:
                raise ValueError(
                    f"cascade.noise_times asks for {noise_time}, and {name} learns noise up to"
                    f" {stage.upsampling.max_noise_time} (upsampling.max_noise_time)"
                )
            before = stage
        return self


class TeacherForcedStageConfig(VideoStageConfig):
    """A stage of the causal model: rectified flow on blocks of frames, each after the clean frames before it."""

    times: TimesConfig  # drawn for every block of frames


class VideoEncode(Section):
    """Latents of both stages."""

    videos: EncodeConfig


class CausalConfig(Section):
    """The causal model: small pictures first, then many sizes at once."""

    autoencoder: CausalStageConfig
    encode: VideoEncode
    stage1: TeacherForcedStageConfig
    stage2: TeacherForcedStageConfig


class TwoEncodes(Section):
    """Latents of the two stages apart: only the first one sees mirrored clips."""

    stage1: EncodeConfig
    stage2: EncodeConfig


class HdVilaConfig(Section):
    """The shifted-window model: 256 px, then 512 px."""

    autoencoder: ImageStageConfig
    encode: TwoEncodes
    stage1: ShiftedWindowStageConfig
    stage2: ShiftedWindowStageConfig
