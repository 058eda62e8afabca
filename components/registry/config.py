"""Parameters of the gate."""

from pydantic import Field, NonNegativeFloat, PositiveInt

from components.config import Section


class FloorsConfig(Section):
    """Absolute limits; every model must keep them, the first champion by them alone. None: no such floor."""

    max_toy_fvd_share_of_untrained: float | None
    min_colour_accuracy: float | None  # multiples of chance
    min_motion_accuracy: float | None  # multiples of chance
    min_motion_energy: NonNegativeFloat
    min_reconstruction_psnr: float  # dB


class GateConfig(Section):
    baseline: str  # folder with the evaluation of the champion to beat
    primary: str  # the metric that must be better: any of the record's
    min_samples: PositiveInt  # below it: cannot decide
    min_samples_per_feature: NonNegativeFloat = (
        4.0  # of a Frechet distance, whose covariance has as many columns
    )
    min_items: PositiveInt = 30  # of a mean; below it, or below min_samples where that is less: cannot decide
    alpha: float = Field(gt=0, lt=0.5)
    permutations: PositiveInt
    bootstrap: PositiveInt
    seed: int
    margins: dict[str, NonNegativeFloat]  # non-inferiority margin per guard metric
    frozen: str  # folder with an evaluation that no champion may fall behind; against ratcheting
    frozen_margins: dict[str, NonNegativeFloat]  # what may be lost in all since then; empty asks for nothing
    floors: FloorsConfig
