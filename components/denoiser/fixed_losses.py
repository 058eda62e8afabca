"""The loss of a program where nothing is drawn: what is looked at while it trains.

Every program has one loss from noise. Some have more, as a model that is also given first frames.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from components.denoiser.programs import Fed
from models.diffusion import Denoiser
from models.diffusion.fixed_draws import losses_at
from models.diffusion.objective import Objective


@dataclass(frozen=True)
class Level:
    """One noise level of a look: noise (B, C, t, h, w) at one time in [0, 1000], and the seed of further noise."""

    noise: Tensor
    time: float
    seed: int


# losses (B,) by what the model is given beside the noise: "" for nothing
FixedLosses = Callable[[Denoiser, Fed, Level], Mapping[str, Tensor]]


def from_noise(objective: Objective) -> FixedLosses:
    """The loss of an objective with no frame given."""

    def losses(model: Denoiser, fed: Fed, level: Level) -> Mapping[str, Tensor]:
        return {"": losses_at(objective, model, fed.latents, fed.conditions, (level.noise, level.time))}

    return losses
