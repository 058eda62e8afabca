"""Still images in the place of a clip: W.A.L.T trains on stacks of as many images as a clip has latent frames.

Each image keeps its own caption, and the model's attention does not cross images, so one network learns from both in
batches of one shape (arXiv 2312.06662, section 3.3).
"""

from dataclasses import replace

import torch
from torch import Tensor

from components.data.config import BatchesConfig
from components.data.loader import LatentBatches
from components.denoiser.programs import Fed
from components.errors import UserError


def stacked(fed: Fed, frames: int) -> Fed:
    """A batch of B * `frames` still images (B * frames, C, 1, H, W) as B stacks (B, C, frames, H, W)."""
    told = fed.conditions
    low = told.low_resolution
    conditions = replace(
        told,
        text=told.text.reshape(-1, frames, *told.text.shape[1:]),  # (B, T, L, D)
        text_mask=told.text_mask.reshape(-1, frames, *told.text_mask.shape[1:]),
        fps=told.fps[::frames],
        size=told.size[::frames],
        images=torch.ones(len(fed.latents) // frames, dtype=torch.bool, device=fed.latents.device),
        low_resolution=None if low is None else _stack(low, frames),
    )
    return replace(fed, latents=_stack(fed.latents, frames), conditions=conditions)


def stack_length(batches: LatentBatches, config: BatchesConfig, stage: str) -> int:
    """Latent frames of the longest clips, which is how many images make a stack.

    Raises `UserError` for a batch of images that does not divide into stacks.
    """
    frames = max(family.latent_shape[1] for family in batches.families)
    for family in batches.families:
        count = config.buckets[family.resolution][family.frames][1]
        if family.frames == 1 and count % frames:
            raise UserError(
                f"{stage}: a stack has {frames} images, as many as a clip has latent frames; the batch of"
                f" {count} images at {family.resolution} must be a multiple: use {max(1, count // frames) * frames}"
            )
    return frames


def _stack(latents: Tensor, frames: int) -> Tensor:
    images = latents.squeeze(2)  # (B T, C, H, W)
    return images.reshape(-1, frames, *images.shape[1:]).transpose(1, 2)
