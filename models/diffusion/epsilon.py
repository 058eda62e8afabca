"""The DDPM objective that PixArt was trained with (Ho et al. 2020, arXiv 2006.11239): predict the noise.

Video training leaves it for rectified flow at the third adaptation step; until then the weights only make
sense under this schedule. Betas, noising and the solver are those of diffusers, so a PixArt from anywhere
samples here as it does there.
"""

from dataclasses import dataclass, field

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions, Denoiser, Progress, predict
from models.diffusion.guidance import Guided
from models.diffusion.rectified_flow import Draw
from models.diffusion.samplers import Reference

TRAIN_STEPS = 1000


def _schedule() -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=1e-4,
        beta_end=2e-2,
        beta_schedule="linear",
        clip_sample=False,
    )


@dataclass(frozen=True)
class EpsilonDiffusion:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise, target: the noise. Linear betas, 1000 steps."""

    schedule: DDPMScheduler = field(default_factory=_schedule)

    @property
    def whole_times(self) -> int:
        """Times of the discrete schedule."""
        return TRAIN_STEPS

    @property
    def sampler(self) -> str:
        """What its sampler is called."""
        return "dpm-solver++"

    def draw(self, latents: Tensor, generator: Generator) -> Draw:
        """Noise and one whole-numbered time in 0..999 per sample."""
        noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
        shape = (latents.shape[0],)
        times = torch.randint(TRAIN_STEPS, shape, generator=generator, device=generator.device)
        return Draw(noise, times.to(latents.device))

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents (B, C, T, H, W) at whole-numbered `times` (B,)."""
        noisy: Tensor = self.schedule.add_noise(latents, noise, times)
        return noisy

    def loss(self, model: Denoiser, latents: Tensor, conditions: Conditions, draw: Draw) -> Tensor:
        """Mean squared noise error per sample, (B,) float32: DDPM's simple loss.

        The variance channels of a PixArt (the second half of its output) are not trained.
        """
        noisy = self.noised(latents, draw.noise, draw.times)
        epsilon = predict(model, noisy, draw.times, conditions)
        return (epsilon.float() - draw.noise.float()).square().mean(dim=(1, 2, 3, 4))

    def sample(
        self,
        guided: Guided,
        noise: Tensor,
        steps: int,
        *,
        reference: Reference | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Latents from `noise` (B, C, T, H, W) with DPM-Solver++ in `steps` steps.

        Raises `ValueError` for given frames, which only video models know.
        """
        if reference is not None:
            raise ValueError("frames are given, and a model of noise prediction makes still images only")
        solver = DPMSolverMultistepScheduler.from_config(self.schedule.config)
        solver.set_timesteps(steps, device=noise.device)
        latents = noise
        for done, time in enumerate(solver.timesteps, start=1):
            epsilon = guided(latents, time.expand(noise.shape[0]))
            latents = solver.step(epsilon, time, latents, return_dict=False)[0]
            if progress is not None:
                progress(done, steps)
        return latents
