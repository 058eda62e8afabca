"""Parameters of the image model that video starts from, and of the three video training stages."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from components.config import Section
from components.data.config import BatchesConfig
from components.ladder.config import LadderConfig
from components.training.config import LoopConfig

ROUNDING = 1e-9  # of a sum of shares


class DenoiserConfig(LoopConfig):
    """A stage that trains a transformer on latents."""

    batches: BatchesConfig
    caption_dropout: float = Field(ge=0, lt=1)


class VideoConfig(DenoiserConfig):
    """One that makes videos at its end, and can be looked at while it trains."""

    ladder: LadderConfig = LadderConfig()

    @model_validator(mode="after")
    def _looks_meet_checkpoints(self) -> Self:
        if self.ladder.steps % self.checkpoint_steps:
            raise ValueError(
                f"ladder.steps {self.ladder.steps} is no multiple of checkpoint_steps {self.checkpoint_steps}: the best"
                " look would have no checkpoint"
            )
        return self


class PixArtModelConfig(Section):
    """Geometry of diffusers' `PixArtTransformer2DModel` (PixArt-Sigma: no micro-conditions)."""

    depth: PositiveInt
    heads: PositiveInt
    head_width: PositiveInt
    patch: PositiveInt


class PixArtConfig(DenoiserConfig):
    """The text-to-image model that the adaptation starts from, trained with the DDPM epsilon objective."""

    weights: str | None  # diffusers folder, or a checkpoint in the original layout; None trains `model`
    model: PixArtModelConfig


class TimesConfig(Section):
    """How times are drawn. `shift` is the resolution- and length-aware transform of Open-Sora 1.2."""

    distribution: Literal["uniform", "logit-normal"]
    mean: float = 0.0
    std: PositiveFloat = 1.0
    shift: bool = False
    shift_scale: PositiveFloat = 1.0
    base_resolution: PositiveInt = 512  # pixels: a square of this side is not shifted


class MaskConfig(Section):
    """Share of samples per frame-mask strategy; the rest is unmasked. Names as published."""

    random: NonNegativeFloat = 0.0
    interpolate: NonNegativeFloat = 0.0
    quarter_random: NonNegativeFloat = 0.0
    quarter_head: NonNegativeFloat = 0.0
    quarter_tail: NonNegativeFloat = 0.0
    quarter_head_tail: NonNegativeFloat = 0.0
    image_random: NonNegativeFloat = 0.0
    image_head: NonNegativeFloat = 0.0
    image_tail: NonNegativeFloat = 0.0
    image_head_tail: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _shares_are_of_all_samples(self) -> Self:
        if (total := sum(self.model_dump().values())) > 1 + ROUNDING:
            raise ValueError(
                f"the shares of the strategies sum to {total:g}; at most 1 of the samples can be masked"
            )
        return self


class LatentStageConfig(DenoiserConfig):
    """A stage of Open-Sora 1.2."""

    times: TimesConfig | None = None  # None with the epsilon objective
    masks: MaskConfig = MaskConfig()
    trainable: Literal["all", "temporal"] = "all"
    freeze_caption: bool = (
        False  # the layers that captions go through first, as in Open-Sora's training stages
    )


class FlowStageConfig(LatentStageConfig, VideoConfig):
    """A stage that trains it with rectified flow."""

    times: TimesConfig


class TrainConfig(Section):
    stage1: FlowStageConfig
    stage2: FlowStageConfig
    stage3: FlowStageConfig
