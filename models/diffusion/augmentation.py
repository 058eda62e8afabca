"""Noise on the low-resolution latents that a super-resolution stage starts from.

Ho et al. 2021 (cascaded diffusion, arXiv 2106.15282), as in W.A.L.T: a stage that has only seen encoded
videos as its input would copy the faults of generated ones. It is told the time of the noise, and when it
generates, that time says how far it may depart from what it is given.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.rectified_flow import Draw
from models.diffusion.schedules import NoiseSchedule


@dataclass(frozen=True, kw_only=True)
class NoiseAugmentation:
    """Noise of the same schedule as the diffusion itself, at times t_sr uniform in 0..max_time."""

    max_time: int  # of the schedule's steps; not published, a choice
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)

    def __post_init__(self) -> None:
        if not 0 <= self.max_time < self.schedule.steps:
            raise ValueError(
                f"max_time must be a step of the schedule, 0..{self.schedule.steps - 1}, not {self.max_time}"
            )

    def draw(self, low_resolution: Tensor, generator: Generator) -> Draw:
        """Noise and one time per sample for latents (B, C, T, h, w)."""
        shape, device = low_resolution.shape, generator.device
        noise = torch.randn(shape, generator=generator, device=device).to(low_resolution)
        times = torch.randint(self.max_time + 1, shape[:1], generator=generator, device=device)
        return Draw(noise, times.to(low_resolution.device))

    def applied(self, conditions: Conditions, low_resolution: Tensor, draw: Draw) -> Conditions:
        """The conditions with the noised latents of the stage before, and their time.

        A sampler chooses one time for all: `Draw(noise, torch.full((batch,), time))`.
        """
        noised = self.schedule.noised(low_resolution, draw.noise, draw.times)
        return replace(conditions, low_resolution=noised, t_sr=draw.times)
