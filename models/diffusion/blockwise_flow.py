"""Rectified flow block by block: how a causal model learns from whole clips (teacher forcing).

The model reads [clean | noisy], twice the same clip. A noisy block of frames sees the clean blocks before it and
itself, which is what it has when a video is made block by block; every block is at a time of its own, so one pass
trains as many denoising problems as there are blocks. B batch, C channels, T H W latent grid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions, Denoiser, predict
from models.diffusion.rectified_flow import Draw
from models.diffusion.times import MAX_TIME, Times
from models.transformers.causal import FrameBlocks, TeacherForcing


@dataclass(frozen=True, kw_only=True)
class BlockwiseFlow:
    """x_t = (1 - t/1000) x_0 + (t/1000) noise per block of frames, v = x_0 - noise."""

    times: Times
    blocks: FrameBlocks

    @property
    def whole_times(self) -> None:
        """None: times are continuous."""
        return

    def draw(self, latents: Tensor, size: Tensor, generator: Generator) -> Draw:
        """Noise, and times (B, T) that are equal within a block, for latents of `size` (B, 2) pixels.

        Times are shifted for the length of the whole clip, as they are when it is made.
        """
        noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
        batch, frames = latents.shape[0], latents.shape[2]
        number = self.block_of(frames)
        count = number[-1] + 1
        sizes = size.to(latents.device).repeat_interleave(count, dim=0)
        times = self.times.draw(sizes, latent_frames=frames, generator=generator).view(batch, count)
        return Draw(noise, times[:, number])

    def block_of(self, frames: int) -> list[int]:
        """The number of the block that each frame is in."""
        starts = [self.blocks.bounds(frame)[0] for frame in range(frames)]
        return [sorted(set(starts)).index(start) for start in starts]

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents (B, C, T, H, W) at `times` (B, T) of their frames, or (B,) for all of them."""
        share = (times / MAX_TIME).to(latents.dtype).view(len(latents), 1, -1, 1, 1)
        return (1 - share) * latents + share * noise

    def errors(self, model: Denoiser, latents: Tensor, conditions: Conditions, draw: Draw) -> Tensor:
        """Mean squared velocity error of each frame, (B, T) float32.

        Raises `ValueError` where the model does not know such blocks: its attention must be causal over all frames.
        """
        frames = latents.shape[2]
        times = draw.times if draw.times.ndim == 2 else draw.times[:, None].expand(-1, frames)
        noisy = self.noised(latents, draw.noise, times)
        forced = partial(cast(Callable[..., Tensor], model), cache=TeacherForcing())
        velocity = predict(
            cast(Denoiser, forced),
            torch.cat((latents, noisy), dim=2),
            torch.cat((torch.zeros_like(times), times), dim=1),
            conditions,
        )[:, :, frames:]
        target = latents.float() - draw.noise.float()
        return (velocity.float() - target).square().mean(dim=(1, 3, 4))

    def loss(self, model: Denoiser, latents: Tensor, conditions: Conditions, draw: Draw) -> Tensor:
        """Mean of the errors per sample, (B,)."""
        return self.errors(model, latents, conditions, draw).mean(dim=1)
