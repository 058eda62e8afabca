"""The training loss on fixed clips, noise and times: the cheapest honest comparison on equal latents."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions
from models.diffusion.rectified_flow import Draw
from models.diffusion.times import MAX_TIME
from models.diffusion.v_prediction import VPrediction
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline


def interior_times(count: int) -> list[float]:
    """`count` equidistant times strictly between clean and noise, as Open-Sora 1.2 takes ten."""
    return [float(time) for time in np.linspace(0, MAX_TIME, count + 2)[1:-1]]


def fixed_noise(clip_id: str, seed: int, times: int, shape: Sequence[int]) -> Tensor:
    """Noise (times, C, t, h, w) of a clip: the same in every evaluation, whatever other clips are in it."""
    digest = hashlib.sha256(f"{seed}:{clip_id}".encode()).hexdigest()
    return torch.randn(times, *shape, generator=Generator().manual_seed(int(digest[:15], 16)))


@torch.inference_mode()
def validation_losses(
    pipeline: TextToVideoPipeline, latents: Tensor, conditions: Conditions, noise: Tensor
) -> NDArray[np.float64]:
    """Mean loss of the model's objective over the interior times, per clip (B,).

    latents: (B, C, t, h, w); noise: (B, times, C, t, h, w). No frame is masked. Paired over models: a
    difference of two models has far less spread than either loss.
    """
    times = interior_times(noise.shape[1])
    objective = pipeline.objective
    total = np.zeros(len(latents))
    for index, time in enumerate(times):
        now = torch.full((len(latents),), time, device=latents.device)
        if isinstance(objective, VPrediction):
            now = (now / MAX_TIME * objective.schedule.steps).long()
        draw = Draw(noise[:, index].to(latents), now)
        with torch.autocast(latents.device.type, pipeline.dtype, enabled=pipeline.dtype != torch.float32):
            losses = objective.loss(pipeline.transformer, latents, conditions, draw)
        total += losses.double().cpu().numpy()
    return total / len(times)


def losses_of_clips(
    pipeline: TextToVideoPipeline,
    latents: Tensor,
    prompts: Sequence[str],
    clip_ids: Sequence[str],
    settings: Settings,
    *,
    times: int,
    batch: int,
) -> NDArray[np.float64]:
    """`validation_losses` of many clips, in batches: (N,)."""
    parts = []
    for start in range(0, len(clip_ids), batch):
        here = slice(start, start + batch)
        told, _ = pipeline.conditions(prompts[here], settings)
        noise = [fixed_noise(clip, settings.seed, times, latents.shape[1:]) for clip in clip_ids[here]]
        parts.append(validation_losses(pipeline, latents[here], told, torch.stack(noise)))
    return np.concatenate(parts)
