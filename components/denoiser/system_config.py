"""Parameters of the systems that train a video transformer from nothing: what each stage of theirs can be told."""

from typing import Any

from pydantic import Field

from components.autoencoder.config import ImageStageConfig
from components.config import Section
from components.data.config import BatchesConfig, EncodeConfig
from components.denoiser.config import MaskConfig, TimesConfig
from components.training.config import LoopConfig


class NewModelConfig(Section):
    """A transformer from `models.transformers.presets`, with some of its keys changed.

    Channels, caption width and tokens follow from the latents, so they are not given here.
    """

    preset: str
    changes: dict[str, Any] = {}


class VideoStageConfig(LoopConfig):
    """One stage of a system. The first one builds `model`, later ones go on from the stage before.

    `changes` are keys of the trained transformer that this stage changes, as `positions` for another aspect ratio.
    """

    model: NewModelConfig | None = None
    changes: dict[str, Any] = {}
    batches: BatchesConfig
    caption_dropout: float = Field(ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)  # of the output of self-attention


class ShiftedWindowStageConfig(VideoStageConfig):
    """A stage of the HD-VILA model: rectified flow, since its publication names no objective."""

    times: TimesConfig
    masks: MaskConfig = MaskConfig()


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
