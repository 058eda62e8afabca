"""Relative position bias: what is added to the score of two tokens of a window, by how far apart they are.

Swin (arXiv 2103.14030) in three axes, as W.A.L.T (arXiv 2312.06662) has it in every self-attention layer. The index is
built from the coordinates of the window at hand, so that it is right for windows cut off at the border of the grid too:
slicing the index of the full window, as public code does, is wrong where the height or the width of a window is cut.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.token_positions import interpolate_table
from models.transformers.windows import Grid

MAX_ENTRIES = 2**28  # of the bias of one window: 1 GiB of float32, and no system in use comes near it
ScoreRule = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class RelativeBias(nn.Module):
    """A table of ((2a - 1)(2b - 1)(2c - 1), heads) for windows of up to (a, b, c) tokens."""

    def __init__(self, heads: int, window: Grid) -> None:
        super().__init__()
        self.window = window
        a, b, c = (2 * n - 1 for n in window)
        self.table = nn.Parameter(torch.empty(a * b * c, heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, cell: Grid) -> Tensor:
        """(1, heads, tokens, tokens) for a window of `cell` tokens.

        Raises `ValueError` where the window is larger than the table, or its bias too large for memory.
        """
        self.check(cell)
        tokens = cell[0] * cell[1] * cell[2]
        if tokens**2 * self.table.shape[1] > MAX_ENTRIES:
            raise ValueError(
                f"the bias of a window of {cell} tokens has {self.table.shape[1]} x {tokens}^2 entries;"
                " use smaller windows, or a GPU with FlexAttention, which needs no table of them"
            )
        index = relative_index(cell, self.window, self.table.device)
        return functional.embedding(index, self.table).permute(2, 0, 1)[None]

    def check(self, cell: Grid) -> None:
        """Raise `ValueError` where the table has no entry for some offset inside the window."""
        for axis, size, most in zip("thw", cell, self.window, strict=True):
            if size > most:
                raise ValueError(
                    f"a window of {size} tokens on axis {axis}, but the relative position bias is for {most};"
                    " build the model with the larger window and resize the table with `resize_table`"
                )

    def score_rule(self, cell: Grid) -> ScoreRule:
        """The bias as FlexAttention takes it: (score, group, head, query, key) -> score."""
        self.check(cell)
        table, (queries, keys) = self.table, row_terms(cell, self.window, self.table.device)

        def biased(score: Tensor, _group: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return score + table[queries[query] - keys[key], head]

        return biased


@lru_cache(maxsize=64)
def row_terms(cell: Grid, window: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """(tokens,) twice: the row of the table for a query and a key is the term of the one less that of the other.

    The row is linear in the offsets (t, h, w), and these are differences of coordinates.
    """
    with torch.inference_mode(False):  # a cached table must serve training too
        t, h, w = torch.meshgrid(*(torch.arange(n, device=device) for n in cell), indexing="ij")
        a, b, c = window

        def row(t: Tensor | int, h: Tensor | int, w: Tensor | int) -> Tensor | int:
            return (t * (2 * b - 1) + h) * (2 * c - 1) + w

        keys = torch.as_tensor(row(t, h, w)).flatten()
        return keys + row(a - 1, b - 1, c - 1), keys


@lru_cache(maxsize=64)
def relative_index(cell: Grid, window: Grid, device: torch.device) -> Tensor:
    """(tokens, tokens): the row of the table for each query and key of a window of `cell` tokens."""
    with torch.inference_mode(False):
        queries, keys = row_terms(cell, window, device)
        return queries[:, None] - keys


def resize_table(table: Tensor, window: Grid, new: Grid) -> Tensor:
    """A table for windows of `window` tokens, for windows of `new`, by linear interpolation.

    Zero offset stays zero offset and the farthest stays the farthest: from 16 x 16 to 16 x 28 tokens, W.A.L.T's
    other aspect ratio, (31, 31) offsets are stretched to (31, 55).
    """
    old_sides, new_sides = ([2 * n - 1 for n in size] for size in (window, new))
    return interpolate_table(table.view(*old_sides, -1), new_sides).reshape(-1, table.shape[1])
