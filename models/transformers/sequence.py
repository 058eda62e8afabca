"""One clip on several processes: each holds a part of the tokens, and in self-attention a part of the heads (Ulysses).

Everything outside self-attention works on single tokens, so a process needs only its own. Before attention the
processes of a group exchange tokens for heads, and after it heads for tokens (arXiv 2309.14509). Rows or columns of
the grid are divided, never frames, so that what belongs to a frame is the same for all. All processes of a group
compute the loss of the same batch; gradients are scaled so that their mean over all processes is that of the loss.
B batch, T H W token grid, K head width.
"""

from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

ROWS, COLUMNS, HEADS = 2, 3, -2  # axes of tokens (B, T, H, W, ...) and of (..., heads, K)


class Sequence(Protocol):
    """How the tokens of a model are held."""

    def divide(self, x: Tensor) -> Tensor:
        """(B, T, H, W, ...) -> the tokens of this process."""

    def unite(self, x: Tensor) -> Tensor:
        """The tokens of this process -> (B, T, H, W, ...)."""

    def gather_tokens(self, x: Tensor) -> Tensor:
        """The tokens of this process, (..., heads, K) -> all tokens (B, T, H, W, ..., heads of this process, K)."""

    def gather_heads(self, x: Tensor) -> Tensor:
        """What `gather_tokens` gives -> the tokens of this process with all heads."""


def axis_to_divide(grid: tuple[int, int], size: int) -> int:
    """The axis along which tokens of `grid` (rows, columns) are divided among `size` processes.

    Raises `ValueError` where neither can be.
    """
    for axis, side in zip((ROWS, COLUMNS), grid, strict=True):
        if side % size == 0:
            return axis
    raise ValueError(
        f"{grid[0]} x {grid[1]} tokens cannot be divided among {size} processes: neither side is a multiple of {size};"
        " choose other resolutions or a smaller sequence_parallel"
    )


class WholeSequence:
    """All tokens are here."""

    def divide(self, x: Tensor) -> Tensor:
        return x

    unite = gather_tokens = gather_heads = divide


class DividedSequence:
    """Tokens divided among the processes of a group, along the rows of the grid or else along its columns."""

    def __init__(self, group: ProcessGroup | None = None) -> None:
        """None: all processes."""
        self.group = group
        self.size = torch.distributed.get_world_size(group)
        self.rank = torch.distributed.get_rank(group)
        self.axis = ROWS  # of the last pass

    def divide(self, x: Tensor) -> Tensor:
        """Raises `ValueError` where neither rows nor columns can be divided."""
        self.axis = axis_to_divide((x.shape[ROWS], x.shape[COLUMNS]), self.size)
        return x.chunk(self.size, dim=self.axis)[self.rank]

    def unite(self, x: Tensor) -> Tensor:
        whole: Tensor = cast(Any, _Unite).apply(x, self.axis, self)
        return whole

    def gather_tokens(self, x: Tensor) -> Tensor:
        return self._exchange(x, HEADS % x.dim(), self.axis)

    def gather_heads(self, x: Tensor) -> Tensor:
        return self._exchange(x, self.axis, HEADS % x.dim())

    def _exchange(self, x: Tensor, divided: int, gathered: int) -> Tensor:
        out: Tensor = cast(Any, _Exchange).apply(x, divided, gathered, self)
        return out


class _Exchange(torch.autograd.Function):
    """All-to-all: axis `divided` goes apart, axis `gathered` comes together. Backward is the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, divided: int, gathered: int, sequence: DividedSequence) -> Tensor:
        ctx.way_back = (gathered, divided, sequence)
        return _all_to_all(x, divided, gathered, sequence)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _all_to_all(gradients[0], *ctx.way_back), None, None, None


class _Unite(torch.autograd.Function):
    """All-gather. All processes have the same gradient of the whole, so each takes its part, once for every process."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, sequence: DividedSequence) -> Tensor:
        ctx.place = axis, sequence
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(sequence.size)]
        torch.distributed.all_gather(parts, x.contiguous(), group=sequence.group)
        return torch.cat(parts, dim=axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        axis, sequence = ctx.place
        return gradients[0].chunk(sequence.size, dim=axis)[sequence.rank] * sequence.size, None, None


def _all_to_all(x: Tensor, divided: int, gathered: int, sequence: DividedSequence) -> Tensor:
    sent = torch.stack(x.chunk(sequence.size, dim=divided))  # (processes, ...)
    received = torch.empty_like(sent)
    torch.distributed.all_to_all_single(received, sent, group=sequence.group)
    return torch.cat(received.unbind(0), dim=gathered)
