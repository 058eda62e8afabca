"""The attention pattern as data: which tokens see each other, and how tokens are regrouped so that a kernel can run.

Two tokens see each other iff `(index - shift) // size` agrees on each axis and, if causal, the frame of the one that is
looked at is not later. The tests use that definition as the oracle.
The windows of a shifted pattern, and those of a grid that does not divide, are cut off at the border of the grid: an
axis of n tokens is cut at 0, shift, shift + size, ..., n. So an axis has a first cell, full cells and a last cell, a
grid has at most 27 sizes of cells, and attention inside cells needs neither a mask nor padding.
B batch, T H W token grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

Grid = tuple[int, int, int]
# added to a score: its softmax weight is then 0 in every precision, and a row that sees nothing still has no NaN
UNSEEN = -3e4


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


FRAME = Window(size=(1, None, None))
TUBE = Window(size=(None, 1, 1))
ALL = Window(size=(None, None, None))


class Run(NamedTuple):
    """Neighbouring cells of one size along an axis."""

    length: int  # in tokens, a multiple of `cell`
    cell: int


class Cells(NamedTuple):
    """How a grid falls into cells: along each axis at most three runs."""

    axes: tuple[tuple[Run, ...], tuple[Run, ...], tuple[Run, ...]]

    @property
    def uniform(self) -> bool:
        """Whether all cells have one size."""
        return all(len(runs) == 1 for runs in self.axes)

    @property
    def first(self) -> Grid:
        """The cell at the origin: where the grid is uniform, each of them."""
        t, h, w = (runs[0].cell for runs in self.axes)
        return t, h, w

    def regions(self) -> Iterator[tuple[Grid, Grid]]:
        """The grid and the cell of each part of the grid whose cells have one size, the last axis fastest."""
        for t in self.axes[0]:
            for h in self.axes[1]:
                for w in self.axes[2]:
                    yield (t.length, h.length, w.length), (t.cell, h.cell, w.cell)


@lru_cache(maxsize=256)
def cells(window: Window, grid: Grid) -> Cells:
    """The cells of a window pattern on a grid."""
    t, h, w = (_runs(*axis) for axis in zip(window.size, window.shift, grid, strict=True))
    return Cells((t, h, w))


def _runs(size: int | None, shift: int, whole: int) -> tuple[Run, ...]:
    size = size or whole
    first = min(shift, whole)
    last = (whole - first) % size
    full = whole - first - last
    if not full and first == last:
        return (Run(whole, first),)
    return tuple(run for run in (Run(first, first), Run(full, size), Run(last, last)) if run.length)


def split(x: Tensor, parts: Cells) -> list[Tensor]:
    """(B, T, H, W, *rest) -> the regions of `Cells.regions`, in that order."""
    pieces = [x]
    for dim, runs in enumerate(parts.axes, start=1):
        lengths = [run.length for run in runs]
        pieces = [part for piece in pieces for part in torch.split(piece, lengths, dim=dim)]
    return pieces


def join(pieces: Sequence[Tensor], parts: Cells) -> Tensor:
    """The inverse of `split`."""
    joined = list(pieces)
    for dim, runs in zip((3, 2, 1), reversed(parts.axes), strict=True):
        count = len(runs)
        joined = [torch.cat(joined[i : i + count], dim=dim) for i in range(0, len(joined), count)]
    return joined[0]


def group(x: Tensor, cell: Grid) -> Tensor:
    """(B, T, H, W, *rest), T H W multiples of the cell -> (B * cells, tokens of a cell, *rest)."""
    (t, h, w), (_, frames, rows, columns) = cell, x.shape[:4]
    rest = x.shape[4:]
    x = x.reshape(-1, frames // t, t, rows // h, h, columns // w, w, *rest)
    x = x.permute(0, 1, 3, 5, 2, 4, 6, *range(7, x.ndim))
    return x.reshape(-1, t * h * w, *rest)


def ungroup(x: Tensor, cell: Grid, grid: Grid) -> Tensor:
    """(B * cells, tokens of a cell, *rest) -> (B, T, H, W, *rest): the inverse of `group`."""
    (t, h, w), (frames, rows, columns) = cell, grid
    rest = x.shape[2:]
    x = x.reshape(-1, frames // t, rows // h, columns // w, t, h, w, *rest)
    x = x.permute(0, 1, 4, 2, 5, 3, 6, *range(7, x.ndim))
    return x.reshape(-1, frames, rows, columns, *rest)
