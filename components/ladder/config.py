"""Parameters of the ladder: what is measured while a model trains, and what a candidate must show there."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from components.config import Section


class LadderConfig(Section):
    """Cheap metrics of the averaged weights while a run goes on: validation loss, and a small sample of videos.

    The loss is as `validation` says. The best look is the one with the lowest `best_by`; its step needs a checkpoint,
    so `steps` is a multiple of `checkpoint_steps`.
    """

    steps: NonNegativeInt = 0  # between two looks; 0 never looks
    best_by: Literal["validation_loss", "toy_fvd", "toy_kvd"] = "validation_loss"
    clips: int = Field(default=32, ge=2)  # videos of each look
    reference_clips: int = Field(default=128, ge=2)  # held-out clips that they are measured against
    sampling_steps: PositiveInt = 10
    guidance: NonNegativeFloat = 2.5
    batch: PositiveInt = 16  # videos made at a time
    seed: int = 1  # of the noise


class SurvivalConfig(Section):
    """When a candidate goes on to the full evaluation. null: no such limit."""

    champion: str  # folder with the ladder of the champion
    min_motion_energy: NonNegativeFloat | None
    min_temporal_flickering: float | None  # 1 is a still video, noise is near 0.89
    max_loss_above: NonNegativeFloat | None  # share above its own best look, and above the champion's
    max_toy_fvd_times: NonNegativeFloat | None  # times its own best look, and times the champion's
