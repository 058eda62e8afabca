"""From noise to latents along the learned velocity, with frames that may be given, edited or generated."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.diffusion.conditions import Progress
from models.diffusion.times import MAX_TIME

Velocity = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (latents, times, frame mask) -> velocity


@dataclass(frozen=True)
class Reference:
    """Frames that are known beforehand.

    `strength` (B, T) in [0, 1] says how much of each latent frame is made anew: 1 generates it from noise,
    0 keeps it exactly, a value between keeps it until the time 1000 * strength, adds noise of that level
    once and goes on.
    """

    latents: Tensor  # (B, C, T, H, W); frames of strength 1 are not read
    strength: Tensor

    def check(self, noise: Tensor) -> None:
        """Raises `ValueError` where it does not fit latents of the shape of `noise` (B, C, T, H, W)."""
        expected = (noise.shape[0], noise.shape[2])
        if self.strength.shape != expected:
            raise ValueError(
                f"strength must be (batch, latent frames) = {expected}, not {tuple(self.strength.shape)}"
            )
        if self.latents.shape != noise.shape:
            raise ValueError(
                f"given latents are {tuple(self.latents.shape)} and the noise is {tuple(noise.shape)};"
                " place the given frames in latents of the whole clip"
            )


def sample_euler(
    velocity: Velocity,
    noise: Tensor,
    times: Tensor,
    *,
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Latents (B, C, T, H, W) from `noise` of that shape, in Euler steps through `times` (steps + 1, B).

    The velocity points from noise to data, so a step adds it. `progress` is called after each step.
    """
    steps = len(times) - 1
    frames = None if reference is None else _Frames(reference, noise)
    latents = noise if frames is None else frames.start()
    for index in range(steps):
        now, following = times[index], times[index + 1]
        active = None
        if frames is not None:
            latents, active = frames.activate(latents, now)
        step = ((now - following) / MAX_TIME)[:, None, None, None, None]
        moved = latents + step.to(latents.dtype) * velocity(latents, now, active).to(latents.dtype)
        latents = moved if active is None else torch.where(active[:, None, :, None, None], moved, latents)
        if progress is not None:
            progress(index + 1, steps)
    return latents


class _Frames:
    """Which frames move at a time. An edited frame receives its own part of the starting noise."""

    def __init__(self, reference: Reference, noise: Tensor) -> None:
        reference.check(noise)
        self.reference = reference
        self.noise = noise
        self.strength = reference.strength.to(noise.device)
        self.moving = self.strength >= 1  # (B, T)

    def start(self) -> Tensor:
        return torch.where(
            self.moving[:, None, :, None, None], self.noise, self.reference.latents.to(self.noise)
        )

    def activate(self, latents: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
        """Latents with noise on the frames that start at `now` (B,), and the mask (B, T) of moving ones."""
        active = self.strength * MAX_TIME >= now[:, None]
        newly = (active & ~self.moving)[:, None, :, None, None]
        share = (now / MAX_TIME).to(latents.dtype)[:, None, None, None, None]
        self.moving = active | self.moving
        return torch.where(newly, (1 - share) * latents + share * self.noise, latents), self.moving
