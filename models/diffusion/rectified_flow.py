"""Rectified flow: a straight path from noise to data, and the velocity along it.

Liu et al. 2022, arXiv 2209.03003, in the conventions of Open-Sora 1.2, so that its weights keep their
meaning: times run from 0 (clean) to 1000 (noise), and the velocity points from noise to data. The loss
takes noise and times from outside: it is a pure function that can be compared number by number with another
implementation. B batch, C channels, T H W latent grid.
"""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions, Denoiser, Progress, predict
from models.diffusion.guidance import Guided
from models.diffusion.samplers import Reference, sample_euler
from models.diffusion.times import MAX_TIME, Times


@dataclass(frozen=True)
class Draw:
    """The randomness of one training step."""

    noise: Tensor  # (B, C, T, H, W)
    times: Tensor  # (B,) in [0, 1000]
    estimated: Tensor | None = None  # (B,) bool: samples that see an estimate (self-conditioning)


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = (1 - t/1000) x_0 + (t/1000) noise, and v = x_0 - noise."""

    times: Times = field(default_factory=Times)

    @property
    def whole_times(self) -> None:
        """None: times are continuous."""
        return

    @property
    def sampler(self) -> str:
        """What its sampler is called."""
        return "euler"

    def draw(self, latents: Tensor, size: Tensor, generator: Generator) -> Draw:
        """Noise and one time per sample for latents (B, C, T, H, W) of `size` (B, 2) pixels."""
        noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
        return Draw(
            noise,
            self.times.draw(size.to(latents.device), latent_frames=latents.shape[2], generator=generator),
        )

    def noised(
        self, latents: Tensor, noise: Tensor, times: Tensor, frame_mask: Tensor | None = None
    ) -> Tensor:
        """Latents at `times` (B,); frames whose mask (B, T) is False stay clean."""
        share = (times / MAX_TIME).to(latents.dtype)[:, None, None, None, None]
        mixed = (1 - share) * latents + share * noise
        return mixed if frame_mask is None else torch.where(_over_grid(frame_mask), mixed, latents)

    def target(self, latents: Tensor, noise: Tensor) -> Tensor:
        """The velocity to predict, the same at every time."""
        return latents - noise

    def loss(
        self,
        model: Denoiser,
        latents: Tensor,
        conditions: Conditions,
        draw: Draw,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Mean squared velocity error per sample, (B,) float32; its mean is the training loss.

        Frames whose mask (B, T) is False are conditions: the model sees them clean and their error does not
        count, so a sample with few frames to generate weighs as much as any other.
        """
        noisy = self.noised(latents, draw.noise, draw.times, frame_mask)
        velocity = predict(model, noisy, draw.times, conditions, frame_mask)
        error = (velocity.float() - self.target(latents, draw.noise).float()).square()
        return mean_over_generated(error, frame_mask)

    def sample(
        self,
        guided: Guided,
        noise: Tensor,
        steps: int,
        *,
        reference: Reference | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Latents from `noise` (B, C, T, H, W) in Euler steps, at the times of training for the guided size."""
        times = self.times.schedule(steps, guided.conditions.size, latent_frames=noise.shape[2])
        return sample_euler(guided, noise, times, reference=reference, progress=progress)


def mean_over_generated(error: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Mean (B,) of an error (B, C, T, H, W) over the frames whose mask is True, or over all of them."""
    per_frame = error.mean(dim=(1, 3, 4))  # (B, T)
    if frame_mask is None:
        return per_frame.mean(dim=1)
    weight = frame_mask.to(per_frame.dtype)
    return (per_frame * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def _over_grid(frame_mask: Tensor) -> Tensor:
    """(B, T) -> (B, 1, T, 1, 1)."""
    return frame_mask[:, None, :, None, None]
