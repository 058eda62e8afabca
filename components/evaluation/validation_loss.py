"""The training loss on fixed clips, noise and times: the cheapest honest comparison on equal latents."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.diffusion.blockwise_flow import BlockwiseFlow
from models.diffusion.conditions import Conditions
from models.diffusion.fixed_draws import fixed_noise, interior_times, losses_at
from models.diffusion.objective import Objective
from models.diffusion.rectified_flow import RectifiedFlow
from models.diffusion.v_prediction import VPrediction
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline


@torch.inference_mode()
def validation_losses(
    pipeline: TextToVideoPipeline, latents: Tensor, conditions: Conditions, noise: Tensor
) -> NDArray[np.float64]:
    """Mean loss of the model's objective over the interior times, per clip (B,).

    latents: (B, C, t, h, w); noise: (B, times, C, t, h, w). No frame is masked. Paired over models: a
    difference of two models has far less spread than either loss.
    """
    times = interior_times(noise.shape[1])
    total = np.zeros(len(latents))
    for index, time in enumerate(times):
        with torch.autocast(latents.device.type, pipeline.dtype, enabled=pipeline.dtype != torch.float32):
            drawn = noise[:, index], time
            losses = losses_at(pipeline.objective, pipeline.transformer, latents, conditions, drawn)
        total += losses.double().cpu().numpy()
    return total / len(times)


def facts_of(objective: Objective) -> dict[str, Any]:
    """What decides the loss of a model at given noise and times: losses of objectives that differ in it do not compare.

    Empty for rectified flow, whose loss at a time has no parameters. Times say how often each is drawn in training,
    which does not matter here.
    """
    if isinstance(objective, RectifiedFlow):
        return {}
    decides: dict[str, Any] = {}
    if isinstance(objective, VPrediction):
        decides = asdict(objective.always_estimating())
    elif isinstance(objective, BlockwiseFlow):
        decides = asdict(objective.blocks)
    return {"objective": {"kind": type(objective).__name__, **decides}}


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
