"""The attention pattern as data: which tokens see each other, and how tokens are regrouped so that a kernel can run.

Two tokens see each other iff `(index - shift) // size` agrees on each axis and, if causal, the frame of the one that is
looked at is not later. Everything below is a fast way to that definition, which the tests use as the oracle.
B batch, T H W token grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Grid = tuple[int, int, int]
# added to a score: its softmax weight is then 0 in every precision, and a row that sees nothing still has no NaN
UNSEEN = -3e4
MAX_BIAS_ENTRIES = 2**28  # 1 GiB of float32: no pattern in use comes near it


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Tokens that see each other. Axes are (t, h, w) in tokens; None spans the axis."""

    size: tuple[int | None, int | None, int | None]
    shift: tuple[int, int, int] = (0, 0, 0)
    causal: bool = False  # sees its own frame and earlier ones only

    def __post_init__(self) -> None:
        for axis, size, shift in zip("thw", self.size, self.shift, strict=True):
            if size is not None and size < 1:
                raise ValueError(
                    f"window size {size} on axis {axis}: use 1 or more, or None to span the axis"
                )
            if not 0 <= shift < (size or 1):
                raise ValueError(
                    f"window shift {shift} on axis {axis}: it must lie in [0, {size or 1}), the size of the window"
                )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Window":
        """From the keys `size`, `shift`, `causal`, as a JSON file holds them."""
        lists = {key: tuple(value) for key, value in config.items() if isinstance(value, list | tuple)}
        return cls(**{**config, **lists})

    @property
    def crosses_frames(self) -> bool:
        """Whether information can move between frames."""
        return self.size[0] != 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """One resolution of a transformer: `depth` layers, each with one block per entry of `pattern`."""

    depth: int
    width: int
    pattern: Mapping[str, Window]


FRAME = Window(size=(1, None, None))
TUBE = Window(size=(None, 1, 1))
ALL = Window(size=(None, None, None))


class Partition(NamedTuple):
    """How a grid falls into windows."""

    size: Grid  # of a window, in tokens
    windows: Grid  # how many along each axis
    padding: Grid  # tokens added at the end of each axis
    shift: Grid

    @property
    def tokens(self) -> int:
        return self.size[0] * self.size[1] * self.size[2]

    @property
    def exact(self) -> bool:
        """Whether a window holds tokens of its own cell only, so that no mask is needed."""
        return not any(self.padding) and not any(self.shift)


@lru_cache(maxsize=256)
def partition(window: Window, grid: Grid) -> Partition:
    """The windows of a grid. An axis that does not divide is padded; a window larger than the axis is the axis."""
    size = tuple(min(n or whole, whole) for n, whole in zip(window.size, grid, strict=True))
    count = tuple(-(-whole // n) for n, whole in zip(size, grid, strict=True))
    padding = tuple(n * m - whole for n, m, whole in zip(size, count, grid, strict=True))
    # a shift past the end of a short axis cuts nothing off
    shift = tuple(s if s < whole else 0 for s, whole in zip(window.shift, grid, strict=True))
    return Partition(_grid(size), _grid(count), _grid(padding), _grid(shift))


def _grid(values: tuple[int, ...]) -> Grid:
    t, h, w = values
    return t, h, w


def group(x: Tensor, part: Partition) -> Tensor:
    """(B, T, H, W, *rest) -> (B * windows, tokens, *rest)."""
    rest = x.shape[4:]
    if any(part.padding):
        frames, rows, columns = part.padding
        x = functional.pad(x, (0, 0) * len(rest) + (0, columns, 0, rows, 0, frames))
    if any(part.shift):
        x = x.roll([-s for s in part.shift], dims=(1, 2, 3))
    (t, h, w), (a, b, c) = part.size, part.windows
    x = x.reshape(-1, a, t, b, h, c, w, *rest)
    x = x.permute(0, 1, 3, 5, 2, 4, 6, *range(7, x.ndim))
    return x.reshape(-1, part.tokens, *rest)


def ungroup(x: Tensor, part: Partition) -> Tensor:
    """(B * windows, tokens, *rest) -> (B, T, H, W, *rest): the inverse of `group`."""
    rest = x.shape[2:]
    (t, h, w), (a, b, c) = part.size, part.windows
    x = x.reshape(-1, a, b, c, t, h, w, *rest)
    x = x.permute(0, 1, 4, 2, 5, 3, 6, *range(7, x.ndim))
    x = x.reshape(-1, a * t, b * h, c * w, *rest)
    if any(part.shift):
        x = x.roll(part.shift, dims=(1, 2, 3))
    if any(part.padding):
        frames, rows, columns = part.padding
        x = x[:, : a * t - frames, : b * h - rows, : c * w - columns]
    return x


@lru_cache(maxsize=64)
def score_bias(window: Window, grid: Grid, device: torch.device) -> Tensor:
    """(windows, 1, tokens, tokens) float32, 0 where a row may look and `UNSEEN` elsewhere.

    Raises `ValueError` where the table would not fit in memory.
    """
    part = partition(window, grid)
    windows = part.windows[0] * part.windows[1] * part.windows[2]
    if windows * part.tokens**2 > MAX_BIAS_ENTRIES:
        raise ValueError(
            f"{window} on a grid of {grid} tokens needs a mask of {windows} x {part.tokens}^2 entries;"
            " use smaller windows, or no shift and a size that divides the grid"
        )
    with torch.inference_mode(False):  # a cached table must serve training too
        axes = [torch.arange(whole, device=device) for whole in grid]
        spans = [n or whole for n, whole in zip(window.size, grid, strict=True)]
        rules = zip(axes, window.shift, spans, strict=True)
        cells = [(axis - shift).div(size, rounding_mode="floor") for axis, shift, size in rules]
        labels = torch.stack(torch.meshgrid(*cells, indexing="ij"), dim=-1)  # (T, H, W, 3), from -1
        labels = labels + 2  # so that padding, which is 0, differs from every cell
        frame = axes[0].view(-1, 1, 1, 1).expand(*grid, 1)
        keys = group(torch.cat((labels, frame), dim=-1)[None], part)  # (windows, tokens, 4)
        rows, columns = keys[:, :, None], keys[:, None, :]
        seen = (rows[..., :3] == columns[..., :3]).all(-1)
        if window.causal:
            seen &= rows[..., 3] >= columns[..., 3]
        return torch.where(seen, 0.0, UNSEEN)[:, None]
