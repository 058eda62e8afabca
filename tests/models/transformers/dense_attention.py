"""Attention by its definition, token by token: the oracle of the tests of windows, masks and kernels."""

import itertools
from functools import cache

import torch
from torch import Tensor

from models.transformers.windows import Grid, Window


def coordinates(grid: Grid) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(n) for n in grid)))


@cache
def visible(window: Window, grid: Grid) -> Tensor:
    """(tokens, tokens) bool: `(index - shift) // size` agrees on each axis and, if causal, no later frame."""
    spans = [size or whole for size, whole in zip(window.size, grid, strict=True)]

    def cell(index: tuple[int, ...]) -> list[int]:
        return [(i - shift) // span for i, shift, span in zip(index, window.shift, spans, strict=True)]

    places = coordinates(grid)
    return torch.tensor(
        [[cell(a) == cell(b) and (not window.causal or b[0] <= a[0]) for b in places] for a in places]
    )


def dense(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, bias: Tensor | None = None) -> Tensor:
    """(B, T, H, W, heads, K) in double precision, under a mask (tokens, tokens) and a bias (heads, tokens, tokens)."""
    q, k, v = (x.flatten(1, 3).transpose(1, 2).double() for x in (query, key, value))
    scores = q @ k.mT / query.shape[-1] ** 0.5
    if bias is not None:
        scores = scores + bias.double()
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(query.shape)


def naive_bias(table: Tensor, window: Grid, grid: Grid) -> Tensor:
    """(heads, tokens, tokens): the entry of each pair's offset, in a table of all offsets of a window.

    Pairs that no window holds, because they are farther apart than its table says, get NaN.
    """
    return torch.cat((table, table.new_full((1, table.shape[1]), float("nan"))))[rows(window, grid)].permute(
        2, 0, 1
    )


@cache
def rows(window: Grid, grid: Grid) -> Tensor:
    """(tokens, tokens): the row of the table, counted through its offsets one by one; -1 for pairs without one."""
    offsets = itertools.product(*(range(1 - n, n) for n in window))
    numbers = {offset: row for row, offset in enumerate(offsets)}
    places = coordinates(grid)
    return torch.tensor(
        [[numbers.get((p[0] - q[0], p[1] - q[1], p[2] - q[2]), -1) for q in places] for p in places]
    )


def operands(grid: Grid, *, learning: bool = False, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *grid, 2, 8, generator=generator).requires_grad_(learning) for _ in range(3)]
