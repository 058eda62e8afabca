"""Levels: blocks at several resolutions of the token grid, joined as an hourglass.

Half of the levels go down, by merging 2 x 2 tokens of a frame into one, and the other half go up again; on the way up
the tokens of the same level on the way down are mixed in, by a weight that is learned (HDiT, arXiv 2401.11605).
B batch, T H W token grid, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Skips = list[Tensor]  # tokens of the levels passed on the way down, the coarsest last


class Stay(nn.Module):
    """The way into the first level."""

    def forward(self, x: Tensor, skips: Skips) -> Tensor:  # noqa: ARG002  # as `Merge`
        return x


class Merge(nn.Module):
    """(B, T, H, W, D) -> (B, T, H/2, W/2, D), odd sides filled up with zeros; the fine tokens are kept in `skips`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, skips: Skips) -> Tensor:
        skips.append(x)
        batch, frames, rows, columns, width = x.shape
        if rows % 2 or columns % 2:
            x = functional.pad(x, (0, 0, 0, columns % 2, 0, rows % 2))
        x = x.reshape(batch, frames, -(-rows // 2), 2, -(-columns // 2), 2, width)
        merged: Tensor = self.projection(x.transpose(3, 4).flatten(4))
        return merged


class Split(nn.Module):
    """(B, T, H/2, W/2, D) -> (B, T, H, W, D) of the finer level, mixed with the tokens kept there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, 4 * width)
        # the share of what comes up; DeepSpeed sends no 0-d tensors
        self.mix = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor, skips: Skips) -> Tensor:
        fine = skips.pop()
        split = self.projection(x).view(*x.shape[:4], 2, 2, -1).transpose(3, 4)  # (B, T, H/2, 2, W/2, 2, D)
        rows, columns = fine.shape[2:4]
        coarse = split.flatten(4, 5).flatten(2, 3)[:, :, :rows, :columns]
        # under autocast the two may differ in precision
        return torch.lerp(fine, coarse.to(fine), self.mix.to(fine))


def passages(depths: Sequence[int], width: int) -> nn.ModuleList:
    """The way into each level. Raises `ValueError` for depths that are not an hourglass."""
    if not depths or list(depths) != list(reversed(depths)) or len(depths) % 2 == 0 or min(depths) < 1:
        raise ValueError(
            f"depth {list(depths)} is no hourglass: give one number, or an odd count of positive numbers that read the"
            " same backwards, such as [3, 6, 3]"
        )
    half = len(depths) // 2
    return nn.ModuleList([Stay(), *(Merge(width) for _ in range(half)), *(Split(width) for _ in range(half))])
