"""Frames that a generated video must begin with, from pixels to what the sampler keeps.

B samples, C channels, T H W pixels, t h w latents.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.diffusion.samplers import Reference
from models.shapes import LatentGeometry

if TYPE_CHECKING:
    from models.generation.layout import Settings


def from_pixels(
    given: NDArray[np.uint8] | None, count: int, settings: "Settings", geometry: LatentGeometry
) -> Tensor | None:
    """Given frames uint8 (count or 1, F, H, W, 3) -> (count, 3, F, H, W) in [-1, 1], or None for None.

    Raises `ValueError` naming the axis where they do not fit the video of the settings.
    """
    if given is None:
        return None
    if given.dtype != np.uint8 or given.ndim != 5 or given.shape[4] != 3:
        raise ValueError(
            f"given frames must be uint8 (videos, frames, height, width, 3), not {given.dtype} {given.shape}"
        )
    if given.shape[0] not in (1, count):
        raise ValueError(f"given frames of {given.shape[0]} videos for {count} prompts; give 1 or {count}")
    size = {"height": given.shape[2], "width": given.shape[3]}
    for name, side in size.items():
        if side != getattr(settings, name):
            raise ValueError(
                f"given frames have {name} {side} and the video {getattr(settings, name)}; resize one of them"
            )
    check_head(geometry, given.shape[1], settings.num_frames)
    frames = torch.from_numpy(given).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return frames.expand(count, *frames.shape[1:])


def check_head(geometry: LatentGeometry, given: int, frames: int) -> None:
    """Raises `ValueError` unless the first `given` of `frames` frames fill whole latents, and some are left.

    Encoded alone, such frames are the first latents of the whole video; others would share a latent with
    frames that do not exist yet.
    """
    ends = geometry.latent_ends(frames)[:-1]
    if given not in ends:
        possible = ", ".join(map(str, ends[:8])) + (", ..." if len(ends) > 8 else "")
        way_out = f"give {possible}" if ends else "make a longer video"
        raise ValueError(f"{given} given frames do not end where a latent of {frames} frames ends; {way_out}")


def reference_of(latents: Tensor, noise: Tensor) -> Reference:
    """The given latents (B, C, F, h, w) at the head of a clip in the shape of `noise` (B, C, t, h, w)."""
    frames = latents.shape[2]
    whole = torch.zeros_like(noise)
    whole[:, :, :frames] = latents
    strength = torch.ones(noise.shape[0], noise.shape[2], device=noise.device)
    strength[:, :frames] = 0
    return Reference(whole, strength)
