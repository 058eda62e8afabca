"""Clips in pieces: tiles in space that overlap and are blended, parts in time, samples one after another.

The memory of an autoencoder is that of its activations, which grow with the pixels seen at once. Parts in time and
single samples give the same result up to rounding. Tiles do not: norms have other statistics in a tile, and its
borders have no neighbours; the overlap hides the seams. B batch, C channels, T H W grid.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiling:
    """How a codec cuts a clip. Lengths are in latents; None leaves an axis whole.

    `overlap` is what two neighbouring tiles share in height and in width, blended linearly. `frames` is rounded to
    what the codec can cut: whole chunks of Open-Sora's autoencoder, any number for a causal one.
    """

    height: int | None = None
    width: int | None = None
    overlap: int = 0
    frames: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames", "samples"):
            if (size := getattr(self, name)) is not None and size < 1:
                raise ValueError(f"tiling: {name} must be at least 1, not {size}; None leaves it whole")
        for name in ("height", "width"):
            if (size := getattr(self, name)) is not None and not 0 <= 2 * self.overlap <= size:
                raise ValueError(
                    f"tiling: overlap {self.overlap} must be between 0 and half of {name} {size}; use at most"
                    f" {size // 2}"
                )

    def run(self, x: Tensor, network: Callable[[Tensor], Tensor], *, scale_in: int, scale_out: int) -> Tensor:
        """What `network` makes of x (B, C, T, H, W), sample by sample and tile by tile.

        `scale_in` and `scale_out` are the sides of a latent in x and in the result.
        """
        count = self.samples or len(x)
        parts = (x[start : start + count] for start in range(0, len(x), count))
        return torch.cat([self._tiles(part, network, scale_in, scale_out) for part in parts])

    def _tiles(self, x: Tensor, network: Callable[[Tensor], Tensor], scale_in: int, scale_out: int) -> Tensor:
        rows = _Axis.of(x.shape[-2] // scale_in, self.height, self.overlap)
        columns = _Axis.of(x.shape[-1] // scale_in, self.width, self.overlap)
        if len(rows.starts) == len(columns.starts) == 1:
            return network(x)
        row_weights, column_weights = rows.weights(scale_out).to(x), columns.weights(scale_out).to(x)
        result = x.new_zeros(())
        for row, top in enumerate(rows.starts):
            for column, left in enumerate(columns.starts):
                there = x[..., rows.span(top, scale_in), columns.span(left, scale_in)]
                tile = network(there) * (row_weights[row, :, None] * column_weights[column])
                if not result.ndim:
                    size = (rows.length * scale_out, columns.length * scale_out)
                    result = tile.new_zeros(*tile.shape[:3], *size)
                result[..., rows.span(top, scale_out), columns.span(left, scale_out)] += tile
        return result


def chunks(clip: Tensor, frames: int) -> list[Tensor]:
    """Cut (B, C, T, H, W) in time; the last chunk may be shorter."""
    return [clip[:, :, start : start + frames] for start in range(0, clip.shape[2], frames)]


@dataclass(frozen=True)
class _Axis:
    """One side of the grid, cut into tiles of equal size; the last one is moved back to end with the grid."""

    length: int
    tile: int
    overlap: int
    starts: tuple[int, ...]

    @classmethod
    def of(cls, length: int, tile: int | None, overlap: int) -> "_Axis":
        if tile is None or tile >= length:
            return cls(length, length, 0, (0,))
        return cls(length, tile, overlap, (*range(0, length - tile, tile - overlap), length - tile))

    def span(self, start: int, scale: int) -> slice:
        return slice(start * scale, (start + self.tile) * scale)

    def weights(self, scale: int) -> Tensor:
        """(tiles, tile * scale): shares of the tiles in a place; over all tiles they sum to 1."""
        places = torch.arange(self.tile * scale) + 0.5
        ramp = (places / max(self.overlap * scale, 1)).clamp_max(1)
        shares = torch.minimum(ramp, ramp.flip(0)).repeat(len(self.starts), 1)
        totals = torch.zeros(self.length * scale)
        for start, share in zip(self.starts, shares, strict=True):
            totals[self.span(start, scale)] += share
        return torch.stack(
            [
                share / totals[self.span(start, scale)]
                for start, share in zip(self.starts, shares, strict=True)
            ]
        )
