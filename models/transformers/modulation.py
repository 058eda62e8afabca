"""Modulation: how time and frame rate reach a block, as an object that the block is given.

AdaLN-single (PixArt-alpha, arXiv 2310.00426): one projection of the time embedding for the whole network, and a learned
table per block. B batch, F frames with a time of their own (1 if all share one), D width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Modulation(NamedTuple):
    """What is done around one sub-layer. Each (B, F, 1, 1, D), against tokens (B, T, H, W, D)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Normalised tokens, scaled and shifted."""
        return torch.addcmul(self.shift, x, 1 + self.scale)

    def gated(self, x: Tensor, update: Tensor) -> Tensor:
        """Tokens plus the gated output of the sub-layer."""
        return torch.addcmul(x, self.gate, update)


class AdaLNSingle(nn.Module):
    """Embeddings (B, F, D) of time -> (B, F, 1, 1, 6, D), shared by all blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, 6 * width)

    def forward(self, embedded: Tensor) -> Tensor:
        parts: Tensor = self.projection(functional.silu(embedded))
        return parts.view(*embedded.shape[:2], 1, 1, 6, -1)


class ModulationTable(nn.Module):
    """What one block adds to the shared projection: (B, F, 1, 1, 6, D) -> one `Modulation` per sub-layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(self, condition: Tensor) -> tuple[Modulation, Modulation]:
        parts = (self.table + condition).unbind(-2)
        return Modulation(*parts[:3]), Modulation(*parts[3:])


class FinalLayer(nn.Module):
    """Tokens (B, T, H, W, D) and the embedding of time (B, F, D) -> (B, T, H, W, values of a patch).

    Open-Sora 1.2 modulates the frames of a frame mask twice here; those frames leave neither its loss nor its sampler,
    and are modulated once in this layer.
    """

    def __init__(self, width: int, patch_values: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.projection = nn.Linear(width, patch_values)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        shift, scale = (self.table + embedded[:, :, None, None, None]).unbind(-2)
        out: Tensor = self.projection(torch.addcmul(shift, self.norm(x), 1 + scale))
        return out
