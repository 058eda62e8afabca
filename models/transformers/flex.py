"""FlexAttention: scores under a rule that is compiled into the kernel, so that no table of tokens x tokens exists.

For grids on which a mask or a bias of all pairs would not fit: causal frames, and relative position bias in large
windows. The tiles that the kernel skips are derived from the frames, which are few, and not from the tokens.
G groups, N M tokens, K head width.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from models.transformers.causal import FrameMask

TILE = 128  # tokens along each side of a tile of scores
Rule = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@cache
def compiled() -> Any:
    """The kernel, compiled once per process for each precision and kind of rule.

    Uncompiled it would hold all scores in memory. So rules look sizes up in tensors, for numbers would be compiled in
    anew for each grid, and `fullgraph` makes too many compilations an error, not a silent return to that form.
    """
    return torch.compile(flex_attention, fullgraph=True)


def flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: FrameMask | None,
    per_frame: int,
    rule: Rule | None,
    kernel: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Queries (G, N, heads, K) over keys and values (G, M, heads, K), frames of `per_frame` tokens under `mask`."""
    blocks = None if mask is None else block_mask(mask, per_frame, query.device)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):  # the operands have the precision wanted already
        out: Tensor = (kernel or compiled())(query, key, value, score_mod=rule, block_mask=blocks)
    return out.transpose(1, 2)


@lru_cache(maxsize=32)
def block_mask(mask: FrameMask, per_frame: int, device: torch.device) -> BlockMask:
    """The mask of frames as FlexAttention takes it: which tiles are seen in part, and which whole."""
    with torch.inference_mode(False):  # a cached table must serve training too
        seen = torch.tensor(mask, device=device)
        rows, columns = (torch.arange(n, device=device).repeat_interleave(per_frame) for n in seen.shape)

        def visible(_group: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return seen[rows[query], columns[key]]

        partly, wholly = tiles(seen, per_frame)
        (count, numbers), (full_count, full_numbers) = _lists(partly & ~wholly), _lists(wholly)
        lengths = (len(mask) * per_frame, len(mask[0]) * per_frame)
        made: BlockMask = BlockMask.from_kv_blocks(
            count, numbers, full_count, full_numbers, BLOCK_SIZE=TILE, mask_mod=visible, seq_lengths=lengths
        )
        return made


def tiles(seen: Tensor, per_frame: int) -> tuple[Tensor, Tensor]:
    """A mask of frames -> (tiles of queries, tiles of keys) bool: whether some token sees another, and whether all do.

    A tile that reaches past the last token is never whole.
    """
    # of seen pairs in front of a corner
    counts = functional.pad(seen.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    ends = []
    for frames in seen.shape:
        tokens = frames * per_frame
        first = torch.arange(0, tokens, TILE, device=seen.device)
        last = first + TILE - 1
        ends.append((first // per_frame, last.clamp(max=tokens - 1) // per_frame + 1, last < tokens))
    (top, bottom, whole_rows), (left, right, whole_columns) = ends
    rows, columns = (counts[bottom] - counts[top]), torch.cat((right, left))
    inside = rows[:, columns[: len(right)]] - rows[:, columns[len(right) :]]
    area = (bottom - top)[:, None] * (right - left)
    return inside > 0, (inside == area) & whole_rows[:, None] & whole_columns


def _lists(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) bool -> how many columns each row has, (1, 1, rows), and their numbers in front of the others."""
    order = chosen.int().argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1, dtype=torch.int32)[None, None], order.int()[None, None]
