"""Where a token is, as objects that a model is made of: what is added to tokens, and what turns queries and keys.

B batch, T H W token grid, D width.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.positions import frame_positions, inverse_wavelengths
from models.transformers.conditions import Given, area_side
from models.transformers.windows import Window

GRID_AXES = ("frames", "rows", "columns")


class TokenPositions(nn.Module):
    """Tokens (B, T, H, W, D) -> tokens that know where they are."""

    def check_windows(self, patterns: Sequence[Mapping[str, Window]]) -> None:
        """Raise `ValueError` where these positions and an attention pattern cannot go together."""


class SinCosPositions(TokenPositions):
    """Adds the fixed table of a frame, scaled by the size of the picture (PixArt, Open-Sora 1.2)."""

    def __init__(self, width: int, base_pixels: int) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"width {width} = heads x head_width must be a multiple of 4 for 2D positions")
        self.base_pixels = base_pixels

    def forward(self, x: Tensor, given: Given) -> Tensor:
        scale = area_side(given) / self.base_pixels
        return x + frame_positions((x.shape[2], x.shape[3]), x.shape[4], scale).to(x.dtype)


class LearnedPositions(TokenPositions):
    """Adds a learned table of the places in a frame and one of the frames (W.A.L.T).

    The images of a stack are all first frames. A shorter clip than the table's is at its start.
    """

    def __init__(self, width: int, base_pixels: int, *, grid: Sequence[int]) -> None:  # noqa: ARG002  # as the others
        super().__init__()
        frames, rows, columns = grid
        self.grid = (frames, rows, columns)
        self.frames = nn.Parameter(torch.randn(frames, width) * 0.02)
        self.places = nn.Parameter(torch.randn(rows, columns, width) * 0.02)

    def forward(self, x: Tensor, given: Given) -> Tensor:
        """Raises `ValueError` for another grid than the table's."""
        self.check(x.shape)
        times = self.frames[: x.shape[1]]
        if given.images is not None:
            times = torch.where(given.images[:, None, None], self.frames[0], times)  # (B, T, D)
        return x + (self.places + times[..., None, None, :])

    def check_windows(self, patterns: Sequence[Mapping[str, Window]]) -> None:
        """W.A.L.T's windows do not overlap and are whole: a grid that does not divide is refused."""
        for name, window in (item for pattern in patterns for item in pattern.items()):
            for axis, side, size in zip(GRID_AXES, self.grid, window.size, strict=True):
                if size is not None and side % size:
                    raise ValueError(
                        f"window `{name}`: {side} token {axis} do not divide into windows of {size}; use"
                        f" {side // size * size or size} or {side // size * size + size} {axis}, or another window"
                    )

    def check(self, shape: torch.Size) -> None:
        for axis, side, whole in zip(GRID_AXES, shape[1:4], self.grid, strict=True):
            if side > whole or (side < whole and axis != "frames"):
                raise ValueError(
                    f"{side} token {axis}, but this model has learned positions for {whole}; give latents of that size,"
                    f" or change the tables with grow(model, positions=...) to a grid with {side} {axis}"
                )


class NoPositions(TokenPositions):
    """Adds nothing: attention knows the order by itself."""

    def __init__(self, width: int, base_pixels: int) -> None:  # noqa: ARG002  # as the others
        super().__init__()

    def forward(self, x: Tensor, given: Given) -> Tensor:  # noqa: ARG002  # as the others
        return x


POSITIONS: Mapping[str, Callable[..., TokenPositions]] = {
    "sincos": SinCosPositions,
    "learned": LearnedPositions,
    "none": NoPositions,
}


class RotaryFrequencies(nn.Module):
    """The frequencies of the rotary phases, a frozen parameter because published checkpoints store and count it.

    The phases are computed in float32 from the same constants: a model in bfloat16 would round these.
    """

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(inverse_wavelengths(head_width // 2), requires_grad=False)


def interpolate_table(table: Tensor, shape: Sequence[int]) -> Tensor:
    """A table (..., D) of one to three axes on another grid, by linear interpolation between its entries.

    The outer entries stay where they are, so that a table of a new aspect ratio covers the same extent.
    """
    axes = table.ndim - 1
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[axes]
    moved = table.movedim(-1, 0)[None].float()
    resized = functional.interpolate(moved, size=tuple(shape), mode=mode, align_corners=True)
    return resized[0].movedim(0, -1).to(table.dtype)
