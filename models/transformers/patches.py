"""Latents <-> tokens: each patch of the latent grid is one token.

B batch, C channels, T H W latent grid (before) or token grid (after), D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.conditions import Given

Patch = tuple[int, int, int]


class Patches(nn.Module):
    """(B, C, T, H, W) -> tokens (B, T', H', W', D); a side that does not divide is padded with zeros at its end.

    The weight is that of a convolution whose stride is its size, flattened to (D, C * t * h * w).
    """

    def __init__(self, channels: int, width: int, patch: Patch) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Linear(channels * patch[0] * patch[1] * patch[2], width)

    def forward(self, latents: Tensor, given: Given) -> Tensor:  # noqa: ARG002  # as `PatchesWithLowResolution`
        latents = latents.to(self.projection.weight.dtype)
        (t, h, w), (frames, height, width) = self.patch, latents.shape[2:]
        if frames % t or height % h or width % w:
            latents = functional.pad(latents, (0, -width % w, 0, -height % h, 0, -frames % t))
        batch, channels, frames, height, width = latents.shape
        x = latents.reshape(batch, channels, frames // t, t, height // h, h, width // w, w)
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # (B, T', H', W', C t h w)
        tokens: Tensor = self.projection(x)
        return tokens


class PatchesWithLowResolution(Patches):
    """The same, with the latents of the stage before, at half the size, after the others (W.A.L.T).

    They are made larger by a convolution to four times the channels and depth-to-space, each frame by itself.
    """

    def __init__(self, channels: int, width: int, patch: Patch, low_resolution_channels: int) -> None:
        super().__init__(channels + low_resolution_channels, width, patch)
        self.enlarge = nn.Conv2d(low_resolution_channels, 4 * low_resolution_channels, 3, padding=1)

    def forward(self, latents: Tensor, given: Given) -> Tensor:
        """Raises `ValueError` where the low-resolution latents are missing or not of half the size."""
        low = given.need("low_resolution")
        batch, _, frames, rows, columns = low.shape
        if (frames, 2 * rows, 2 * columns) != tuple(latents.shape[2:]):
            raise ValueError(
                f"low_resolution is {frames} x {rows} x {columns} and the latents"
                f" {' x '.join(map(str, latents.shape[2:]))}: it must have as many frames and half the rows and columns"
            )
        fourfold = self.enlarge(low.transpose(1, 2).flatten(0, 1).to(self.enlarge.weight.dtype))
        enlarged = functional.pixel_shuffle(fourfold, 2).view(batch, frames, -1, 2 * rows, 2 * columns)
        return super().forward(torch.cat((latents, enlarged.transpose(1, 2)), dim=1), given)


def build_patches(channels: int, low_resolution_channels: int, width: int, patch: Patch) -> Patches:
    """The projection of latents, with those of a stage before where a model is given them."""
    if low_resolution_channels:
        return PatchesWithLowResolution(channels, width, patch, low_resolution_channels)
    return Patches(channels, width, patch)


def unpatchify(tokens: Tensor, patch: Patch, grid: torch.Size) -> Tensor:
    """Tokens (B, T', H', W', t * h * w * C) -> (B, C, T, H, W) with the T, H, W of `grid`, padding cut off."""
    t, h, w = patch
    frames, height, width = grid
    x = tokens.view(*tokens.shape[:4], t, h, w, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
    x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return x[:, :, :frames, :height, :width]
