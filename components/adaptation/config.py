"""Parameters of the eight steps from PixArt-Sigma to a video model, in the published order."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

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

    @model_validator(mode="after")
    def _times_and_masks_are_of_the_flow(self) -> Self:
        if self.objective == "flow" and self.times is None:
            raise ValueError("the flow objective needs `times`; add the section to this step")
        if self.objective == "epsilon" and (self.times is not None or any(self.masks.model_dump().values())):
            raise ValueError("the epsilon objective has no `times` and no `masks`; set them to null and {}")
        return self


class AdaptConfig(Section):
    multi_resolution: StepConfig
    qk_norm: StepConfig
    rectified_flow: StepConfig
    time_shift: StepConfig
    adam_eps: StepConfig
    autoencoder: StepConfig
    temporal: StepConfig
    masks: StepConfig
