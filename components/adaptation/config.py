"""Parameters of the eight steps from PixArt-Sigma to a video model, in the published order."""

from typing import Literal

from pydantic import Field

from components.config import Section
from components.data.config import BatchesConfig
from components.denoiser.config import MaskConfig, TimesConfig
from components.training.config import LoopConfig


class StepConfig(LoopConfig):
    """One step. What it changes in the model is `change`; the rest is how it is trained."""

    change: Literal[
        "multi_resolution",
        "qk_norm",
        "rectified_flow",
        "time_shift",
        "adam_eps",
        "autoencoder",
        "temporal",
        "masks",
    ]
    objective: Literal["epsilon", "flow"]
    batches: BatchesConfig
    times: TimesConfig | None = None  # None with the epsilon objective
    masks: MaskConfig = MaskConfig()
    caption_dropout: float = Field(ge=0, lt=1)
    trainable: Literal["all", "temporal"] = "all"


class AdaptConfig(Section):
    multi_resolution: StepConfig
    qk_norm: StepConfig
    rectified_flow: StepConfig
    time_shift: StepConfig
    adam_eps: StepConfig
    autoencoder: StepConfig
    temporal: StepConfig
    masks: StepConfig
