"""Latents <-> tokens: each patch of the latent grid is one token.

B batch, C channels, T H W latent grid (before) or token grid (after), D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

Patch = tuple[int, int, int]


class Patches(nn.Module):
    """(B, C, T, H, W) -> tokens (B, T', H', W', D); a side that does not divide is padded with zeros at its end.

    The weight is that of a convolution whose stride is its size, flattened to (D, C * t * h * w).
    """

    def __init__(self, channels: int, width: int, patch: Patch) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Linear(channels * patch[0] * patch[1] * patch[2], width)

    def forward(self, latents: Tensor) -> Tensor:
        (t, h, w), (frames, height, width) = self.patch, latents.shape[2:]
        if frames % t or height % h or width % w:
            latents = functional.pad(latents, (0, -width % w, 0, -height % h, 0, -frames % t))
        batch, channels, frames, height, width = latents.shape
        x = latents.reshape(batch, channels, frames // t, t, height // h, h, width // w, w)
        x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # (B, T', H', W', C t h w)
        tokens: Tensor = self.projection(x)
        return tokens


def unpatchify(tokens: Tensor, patch: Patch, grid: torch.Size) -> Tensor:
    """Tokens (B, T', H', W', t * h * w * C) -> (B, C, T, H, W) with the T, H, W of `grid`, padding cut off."""
    t, h, w = patch
    frames, height, width = grid
    x = tokens.view(*tokens.shape[:4], t, h, w, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
    x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return x[:, :, :frames, :height, :width]
