"""What an objective offers: a loss for given noise and times, and where it makes videos a way from noise to latents."""

from typing import Protocol

from torch import Tensor

from models.diffusion.conditions import Conditions, Denoiser, Progress
from models.diffusion.guidance import Guided
from models.diffusion.rectified_flow import Draw
from models.diffusion.samplers import Reference


class Objective(Protocol):
    """What has a loss for given noise and times."""

    @property
    def whole_times(self) -> int | None:
        """How many times a discrete schedule has; None where times are continuous."""
        ...

    def loss(self, model: Denoiser, latents: Tensor, conditions: Conditions, draw: Draw, /) -> Tensor:
        """Loss per sample (B,) of latents (B, C, T, H, W)."""
        ...


class Sampler(Objective, Protocol):
    """An objective that makes latents too."""

    @property
    def sampler(self) -> str:
        """What its sampler is called: scores of videos by different samplers are not compared."""
        ...

    def sample(
        self,
        guided: Guided,
        noise: Tensor,
        steps: int,
        *,
        reference: Reference | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Latents from `noise` (B, C, T, H, W); the frames of `reference` are kept."""
        ...
