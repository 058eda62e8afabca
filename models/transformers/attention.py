"""Self-attention in windows: grouping tokens, giving each group its mask and bias, and handing it to a kernel.

A mask is a matter of frames and a bias one of offsets. Both become tables of scores only in windows of few tokens;
larger ones run under a rule in FlexAttention, or one frame after the other without any mask.
B batch, T H W token grid, S frames that are looked at, D width, K head width, G groups of N tokens.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.transformers.causal import (
    FRAME_BY_FRAME,
    FrameBlocks,
    FrameMask,
    History,
    Place,
    WholeClip,
    frame_mask,
    rows_alike,
)
from models.transformers.flex import flex
from models.transformers.kernels import choose_for, run_kernel, run_ragged
from models.transformers.relative_bias import RelativeBias
from models.transformers.windows import UNSEEN, Grid, Window, cells, group, join, split, ungroup

DENSE_TOKENS = 1024  # scores of more tokens get no table for their mask
WHOLE_CLIP = WholeClip()


class Operands(NamedTuple):
    """Queries (G, N, heads, K), keys and values (G, M, heads, K) of windows of one size."""

    query: Tensor
    key: Tensor
    value: Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: Window,
    *,
    mask: FrameMask | None = None,
    bias: RelativeBias | None = None,
) -> Tensor:
    """query: (B, T, H, W, heads, K), key and value: (B, S, H, W, heads, K), positions already applied -> as query.

    `mask`: which of the T frames see which of the S; None: what the window says. Raises `ValueError` where the window
    does not hold all frames that a mask speaks of, and where a bias would be too large for memory.
    """
    check(query, key, window, mask, bias)
    grid = grid_of(query)
    mine, theirs = cells(window, grid), cells(window, grid_of(key))
    if mine.uniform and theirs.uniform:
        (_, cell), (_, source) = next(mine.regions()), next(theirs.regions())
        groups = Operands(group(query, cell), group(key, source), group(value, source))
        return ungroup(attend_cells([groups], [cell], window, mask, bias)[0], cell, grid)
    regions = list(mine.regions())
    pieces = zip(
        regions, theirs.regions(), split(query, mine), split(key, theirs), split(value, theirs), strict=True
    )
    by_cell: dict[Grid, list[tuple[int, Operands]]] = {}
    for index, ((_, cell), (_, source), q, k, v) in enumerate(pieces):
        operands = Operands(group(q, cell), group(k, source), group(v, source))
        by_cell.setdefault(cell, []).append((index, operands))
    together = [
        Operands(*(torch.cat(x) for x in zip(*(operands for _, operands in members), strict=True)))
        for members in by_cell.values()
    ]
    attended = attend_cells(together, list(by_cell), window, mask, bias)
    out: list[Tensor] = [query] * len(regions)
    for members, mixed in zip(by_cell.values(), attended, strict=True):
        counts = [len(operands.query) for _, operands in members]
        for (index, _), piece in zip(members, torch.split(mixed, counts), strict=True):
            region, cell = regions[index]
            out[index] = ungroup(piece, cell, region)
    return join(out, mine)


def grid_of(x: Tensor) -> Grid:
    """The T H W of (B, T, H, W, ...)."""
    return x.shape[1], x.shape[2], x.shape[3]


def check(
    query: Tensor, key: Tensor, window: Window, mask: FrameMask | None, bias: RelativeBias | None
) -> None:
    """Raise `ValueError` for a combination that has no meaning."""
    if mask is None and query.shape[1] == key.shape[1]:
        return
    if not window.causal or window.size[0] is not None or bias is not None:
        raise ValueError(
            f"{window} with frame blocks, remembered frames or clean frames in front of noisy ones: these need"
            " a causal window that spans all frames (size None on axis t) and no relative position bias"
        )


def attend_cells(
    groups: Sequence[Operands],
    sizes: Sequence[Grid],
    window: Window,
    mask: FrameMask | None,
    bias: RelativeBias | None,
) -> list[Tensor]:
    """Attention inside windows, for each size of them: (G, N, heads, K) each."""
    if not window.causal and bias is None:
        return run_ragged(groups)
    out = []
    for operands, cell in zip(groups, sizes, strict=True):
        numbers = tuple(range(cell[0]))
        causal = frame_mask(FRAME_BY_FRAME, numbers, numbers) if window.causal else None
        out.append(attend_under(operands, cell, causal if mask is None else mask, bias))
    return out


def attend_under(operands: Operands, cell: Grid, mask: FrameMask | None, bias: RelativeBias | None) -> Tensor:
    """Attention inside windows of one size, under a mask of frames and with a bias."""
    query, key, value = operands
    if mask is not None and all(map(all, mask)):
        mask = None
    if mask is None and bias is None:
        return run_kernel(*operands)
    per_frame = cell[1] * cell[2]
    large = max(query.shape[1], key.shape[1]) > DENSE_TOKENS
    if large and choose_for(query, key, "pattern") == "flex":
        return flex(*operands, mask, per_frame, None if bias is None else bias.score_rule(cell))
    table = None if bias is None else bias(cell)
    if mask is None:
        return run_kernel(query, key, value, table)
    if large:
        return attend_framewise(operands, per_frame, mask, table)
    unseen = mask_table(mask, per_frame, query.device)
    return run_kernel(query, key, value, unseen if table is None else table + unseen)


def attend_framewise(operands: Operands, per_frame: int, mask: FrameMask, table: Tensor | None) -> Tensor:
    """Attention under a mask of frames without the mask: frames that see the same are run over what they see."""
    query, key, value = operands
    whole = [x.reshape(len(x), -1, per_frame, *x.shape[2:]) for x in (key, value)]
    out = []
    for frames, seen in rows_alike(mask):
        rows = slice(frames.start * per_frame, frames.stop * per_frame)
        keys, values = (choose_frames(x, seen).flatten(1, 2) for x in whole)
        bias = None
        if table is not None:
            columns = [i for frame in seen for i in range(frame * per_frame, (frame + 1) * per_frame)]
            bias = table[:, :, rows][..., columns]
        out.append(run_kernel(query[:, rows], keys, values, bias))
    return torch.cat(out, dim=1)


def choose_frames(x: Tensor, frames: Sequence[int]) -> Tensor:
    """Some frames of (G, frames, ...): a view where they are neighbours."""
    if frames[-1] - frames[0] + 1 == len(frames):
        return x[:, frames[0] : frames[-1] + 1]
    return x[:, list(frames)]


@lru_cache(maxsize=64)
def mask_table(mask: FrameMask, per_frame: int, device: torch.device) -> Tensor:
    """(1, 1, N, M) float32: 0 where a token may look and `UNSEEN` elsewhere."""
    with torch.inference_mode(False):  # a cached table must serve training too
        frames = torch.where(torch.tensor(mask, device=device), 0.0, UNSEEN)
        return frames.repeat_interleave(per_frame, 0).repeat_interleave(per_frame, 1)[None, None]


class SelfAttention(nn.Module):
    """x: (B, T, H, W, D) -> the same.

    `norm` is applied to queries and keys (B, T, H, W, 2, heads, K); `place` to what it returns, with the number of the
    first frame (None: attention knows no order); `bias` is added to the scores of a window. `frames` says which blocks
    of frames a causal window knows.
    """

    def __init__(
        self,
        heads: int,
        head_width: int,
        window: Window,
        *,
        norm: nn.Module,
        place: Place | None = None,
        bias: RelativeBias | None = None,
        frames: FrameBlocks = FRAME_BY_FRAME,
    ) -> None:
        super().__init__()
        width = heads * head_width
        self.layout = (3, heads, head_width)
        self.window = window
        self.frames = frames
        self.qkv = nn.Linear(width, 3 * width)
        self.norm = norm
        self.place = place or unplaced
        self.bias = bias
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, images: Tensor | None = None, cache: History | None = None) -> Tensor:
        """`images`: (B,), True where the frames of a sample are a stack of images that must not see each other.

        `cache`: what is known of other frames; a window that does not cross frames has no use for it.
        """
        history: History = cache if cache is not None and self.window.crosses_frames else WHOLE_CLIP
        query_key, value = torch.split(self.qkv(x).view(*x.shape[:4], *self.layout), [2, 1], dim=4)
        value = value.squeeze(4)
        query, key = history.place(self.norm(query_key), self.place).unbind(4)
        keys, values = history.extend(key, value)
        mask = history.mask(self.frames, x.shape[1]) if self.window.causal else None
        mixed = attend(query, keys, values, self.window, mask=mask, bias=self.bias)
        if images is not None and self.window.crosses_frames:
            mixed = torch.where(images.view(-1, 1, 1, 1, 1, 1), value, mixed)
        out: Tensor = self.projection(mixed.flatten(-2))
        return out


def unplaced(query_key: Tensor, first_frame: int) -> Tensor:  # noqa: ARG001  # the signature of `Place`
    """Queries and keys that do not know where they are."""
    return query_key
