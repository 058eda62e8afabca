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
from torch.nn import functional

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
from models.transformers.sequence import Sequence as TokenSequence
from models.transformers.sequence import WholeSequence
from models.transformers.windows import UNSEEN, Cells, Grid, Window, cells, group, join, split, ungroup

DENSE_TOKENS = 1024  # scores of more tokens get no table for their mask
WHOLE_CLIP = WholeClip()


class Operands(NamedTuple):
    """Queries, keys and values: of a grid (B, T, H, W, heads, K), or of its windows of one size (G, N, heads, K)."""

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
    mine, theirs = cells(window, grid_of(query)), cells(window, grid_of(key))
    if not mine.uniform:
        return attend_regions(Operands(query, key, value), (mine, theirs), window, mask, bias)
    cell, source = mine.first, theirs.first
    groups = Operands(group(query, cell), group(key, source), group(value, source))
    return ungroup(attend_under(groups, cell, mask or mask_of(window, cell), bias), cell, grid_of(query))


def attend_regions(
    operands: Operands,
    parts: tuple[Cells, Cells],
    window: Window,
    mask: FrameMask | None,
    bias: RelativeBias | None,
) -> Tensor:
    """`attend` on a grid with several sizes of cells: those of one size run together, wherever they lie."""
    mine, theirs = parts
    regions, sources = list(mine.regions()), [source for _, source in theirs.regions()]
    by_cell: dict[Grid, list[int]] = {}
    for index, (_, cell) in enumerate(regions):
        by_cell.setdefault(cell, []).append(index)
    queries, keys, values = (
        split(operands.query, mine),
        split(operands.key, theirs),
        split(operands.value, theirs),
    )
    groups, counts = [], []
    for cell, members in by_cell.items():
        source = sources[members[0]]
        grouped = [group(queries[i], cell) for i in members]
        counts.append([len(part) for part in grouped])
        seen = (torch.cat([group(pieces[i], source) for i in members]) for pieces in (keys, values))
        groups.append(Operands(torch.cat(grouped), *seen))
    if window.causal or bias is not None:
        pairs = zip(groups, by_cell, strict=True)
        mixed = [attend_under(each, cell, mask or mask_of(window, cell), bias) for each, cell in pairs]
    else:
        mixed = run_ragged(groups)
    out = dict.fromkeys(range(len(regions)), operands.query)
    for (cell, members), attended, lengths in zip(by_cell.items(), mixed, counts, strict=True):
        for index, piece in zip(members, torch.split(attended, lengths), strict=True):
            out[index] = ungroup(piece, cell, regions[index][0])
    return join(list(out.values()), mine)


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


def mask_of(window: Window, cell: Grid) -> FrameMask | None:
    """Which frames of a cell see which, by the window alone."""
    numbers = tuple(range(cell[0]))
    return frame_mask(FRAME_BY_FRAME, numbers, numbers) if window.causal else None


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
        self.sequence: TokenSequence = WholeSequence()
        self.projection = nn.Linear(width, width)
        self.dropout = 0.0  # share of the output in training: no attention kernel here drops scores

    def forward(self, x: Tensor, images: Tensor | None = None, cache: History | None = None) -> Tensor:
        """`images`: (B,), True where the frames of a sample are a stack of images that must not see each other.

        `cache`: what is known of other frames; a window that does not cross frames has no use for it.
        """
        history: History = cache if cache is not None and self.window.crosses_frames else WHOLE_CLIP
        query_key, value = torch.split(self.qkv(x).view(*x.shape[:4], *self.layout), [2, 1], dim=4)
        query_key = self.sequence.gather_tokens(self.norm(query_key))
        value = self.sequence.gather_tokens(value.squeeze(4))
        query, key = history.place(query_key, self.place).unbind(4)
        keys, values = history.extend(key, value)
        mask = history.mask(self.frames, x.shape[1]) if self.window.causal else None
        mixed = attend(query, keys, values, self.window, mask=mask, bias=self.bias)
        if images is not None and self.window.crosses_frames:
            mixed = torch.where(images.view(-1, 1, 1, 1, 1, 1), value, mixed)
        out: Tensor = self.projection(self.sequence.gather_heads(mixed).flatten(-2))
        return functional.dropout(out, self.dropout, self.training) if self.dropout else out


def unplaced(query_key: Tensor, first_frame: int) -> Tensor:  # noqa: ARG001  # the signature of `Place`
    """Queries and keys that do not know where they are."""
    return query_key
