"""Parameters of the image model that video starts from, and of the three video training stages."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from components.config import Section
from components.data.config import BatchesConfig
from components.training.config import LoopConfig


class PixArtModelConfig(Section):
    """Geometry of diffusers' `PixArtTransformer2DModel` (PixArt-Sigma: no micro-conditions)."""

    depth: PositiveInt
    heads: PositiveInt
    head_width: PositiveInt
    patch: PositiveInt


class PixArtConfig(LoopConfig):
    """The text-to-image model that the adaptation starts from, trained with the DDPM epsilon objective."""

    weights: str | None  # diffusers folder, or a checkpoint in the original layout; None trains `model`
    model: PixArtModelConfig
    batches: BatchesConfig
    caption_dropout: float = Field(ge=0, lt=1)


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


class LatentStageConfig(LoopConfig):
    """A stage that trains the video transformer on latents."""

    batches: BatchesConfig
    times: TimesConfig | None = None  # None with the epsilon objective
    masks: MaskConfig = MaskConfig()
    caption_dropout: float = Field(ge=0, lt=1)
    trainable: Literal["all", "temporal"] = "all"
    freeze_caption: bool = (
        False  # the layers that captions go through first, as in Open-Sora's training stages
    )


class FlowStageConfig(LatentStageConfig):
    """A stage that trains it with rectified flow."""

    times: TimesConfig


class TrainConfig(Section):
    stage1: FlowStageConfig
    stage2: FlowStageConfig
    stage3: FlowStageConfig
