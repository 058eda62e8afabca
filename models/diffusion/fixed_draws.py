"""The training loss where nothing is left to chance: fixed noise at fixed times.

Losses of two models, or of one model at two steps, then differ by what they learned and not by what was drawn.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions, Denoiser
from models.diffusion.objective import Objective
from models.diffusion.rectified_flow import Draw
from models.diffusion.times import MAX_TIME
from models.diffusion.v_prediction import VPrediction


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
    """Loss per clip (B,) for latents and noise (B, C, t, h, w) at one time in [0, 1000]; no frame is masked.

    A model that is self-conditioned sees an estimate of its own for every clip, as it does when it generates.
    """
    if isinstance(objective, VPrediction):
        objective = objective.always_estimating()
    return objective.loss(model, latents, conditions, draw_at(objective, latents, *draw))


def draw_at(objective: Objective, latents: Tensor, noise: Tensor, time: float) -> Draw:
    """The draw with `noise` for latents (B, C, t, h, w), all of them at one time in [0, 1000].

    A discrete schedule is at the last of its times that is not beyond.
    """
    count, device = len(latents), latents.device
    steps = objective.whole_times
    moment = time if steps is None else int(time * steps / MAX_TIME)
    every = torch.ones(count, dtype=torch.bool, device=device)
    return Draw(noise.to(latents), torch.full((count,), moment, device=device), every)
