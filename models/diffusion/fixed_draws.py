"""The training loss where nothing is left to chance: fixed noise at fixed times.

Losses of two models, or of one model at two steps, then differ by what they learned and not by what was drawn.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions, Denoiser
from models.diffusion.rectified_flow import Draw
from models.diffusion.times import MAX_TIME
from models.diffusion.v_prediction import VPrediction


class Objective(Protocol):
    """What has a loss for given noise and times."""

    def loss(self, model: Denoiser, latents: Tensor, conditions: Conditions, draw: Draw, /) -> Tensor: ...


def interior_times(count: int) -> list[float]:
    """`count` equidistant times strictly between clean and noise, as Open-Sora 1.2 takes ten."""
    return [float(time) for time in np.linspace(0, MAX_TIME, count + 2)[1:-1]]


def fixed_noise(clip_id: str, seed: int, times: int, shape: Sequence[int]) -> Tensor:
    """Noise (times, C, t, h, w) of a clip: the same in every evaluation, whatever other clips are in it."""
    digest = hashlib.sha256(f"{seed}:{clip_id}".encode()).hexdigest()
    return torch.randn(times, *shape, generator=Generator().manual_seed(int(digest[:15], 16)))


def losses_at(
    objective: Objective,
    model: Denoiser,
    latents: Tensor,
    conditions: Conditions,
    draw: tuple[Tensor, float],
) -> Tensor:
    """Loss per clip (B,) for latents and noise (B, C, t, h, w) at one time in [0, 1000]; no frame is masked."""
    noise, time = draw
    times = torch.full((len(latents),), time, device=latents.device)
    if isinstance(objective, VPrediction):
        times = (times / MAX_TIME * objective.schedule.steps).long()
    return objective.loss(model, latents, conditions, Draw(noise.to(latents), times))
