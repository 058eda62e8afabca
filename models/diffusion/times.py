"""Times of rectified flow: how they are drawn in training and spaced in sampling.

A large or long video has more redundant pixels, so the same noise level hides less of it. Both training and
sampling therefore move times towards noise as resolution and length grow (Stable Diffusion 3, section
5.3.2, carried to video by Open-Sora 1.2). Both must use the same transform, which is why they share this
object.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

MAX_TIME = 1000.0  # pure noise; 0 is the clean latent


def shift_times(
    times: Tensor, size: Tensor, *, latent_frames: int, base_resolution: float = 512, scale: float = 1.0
) -> Tensor:
    """Times (B,) in [0, 1000] moved towards noise, for samples of `size` (B, 2) pixels.

    t' = r t / (1 + (r - 1) t) on [0, 1], r = sqrt(height width / base^2) sqrt(latent frames) scale. The
    published code takes `num_frames // 17 * 5` for the latent frames, which is 0 for short clips and then
    trains on clean latents only; here it is the real latent length, which agrees at multiples of 17 frames.
    """
    area = size.to(times.device, torch.float64).prod(dim=-1)  # (B,)
    ratio = (area / base_resolution**2).sqrt() * latent_frames**0.5 * scale
    share = times.double() / MAX_TIME
    shifted: Tensor = MAX_TIME * ratio * share / (1 + (ratio - 1) * share)
    return shifted.to(times.dtype)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Distribution of training times, and the transform shared with sampling.

    `logit-normal` is a sigmoid of a normal variable: the middle times, where the prediction is hardest,
    come more often.
    """

    distribution: Literal["uniform", "logit-normal"] = "uniform"
    mean: float = 0.0  # of the normal variable
    std: float = 1.0
    shift: bool = False
    shift_scale: float = 1.0
    base_resolution: int = 512  # pixels: a square image of this side is not shifted

    def draw(self, size: Tensor, *, latent_frames: int, generator: Generator) -> Tensor:
        """One training time per sample, (B,) float32 in [0, 1000] on the device of `size` (B, 2)."""
        count = size.shape[0]
        if self.distribution == "uniform":
            share = torch.rand(count, generator=generator, device=generator.device)
        else:
            normal = torch.randn(count, generator=generator, device=generator.device)
            share = torch.sigmoid(self.mean + self.std * normal)
        return self.shifted(MAX_TIME * share.to(size.device), size, latent_frames=latent_frames)

    def shifted(self, times: Tensor, size: Tensor, *, latent_frames: int) -> Tensor:
        """Times (B,) after the transform, or unchanged where this distribution has none."""
        if not self.shift:
            return times
        return shift_times(
            times,
            size,
            latent_frames=latent_frames,
            base_resolution=self.base_resolution,
            scale=self.shift_scale,
        )

    def schedule(self, steps: int, size: Tensor, *, latent_frames: int) -> Tensor:
        """Sampling times (steps + 1, B) from 1000 down to 0, equally spaced before the transform."""
        if steps < 1:
            raise ValueError(f"a sampler needs at least 1 step, not {steps}")
        even = torch.linspace(MAX_TIME, 0.0, steps + 1, device=size.device)
        rows = [self.shifted(time.expand(size.shape[0]), size, latent_frames=latent_frames) for time in even]
        return torch.stack(rows)
