"""Parameters of the eight steps from PixArt-Sigma to a video model, in the published order."""

from typing import Literal

from pydantic import PositiveInt

from components.config import Section
from components.denoiser.config import LatentStageConfig

Window = tuple[PositiveInt | None, PositiveInt | None, PositiveInt | None]


class StepConfig(LatentStageConfig):
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
    # of the blocks that `temporal` adds: tokens in (t, h, w), null spans the axis
    window: Window = (None, 1, 1)


class AdaptConfig(Section):
    multi_resolution: StepConfig
    qk_norm: StepConfig
    rectified_flow: StepConfig
    time_shift: StepConfig
    adam_eps: StepConfig
    autoencoder: StepConfig
    temporal: StepConfig
    masks: StepConfig
