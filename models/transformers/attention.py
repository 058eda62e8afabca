"""Self-attention in windows, and the one place where the attention kernel is chosen.

A kernel takes queries (G, N, heads, K), keys and values (G, M, heads, K) and a bias that is added to the scores,
broadcastable to (G, heads, N, M), or None; it returns (G, N, heads, K). G counts independent groups of tokens.
B batch, T H W token grid, D width, K head width.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.normalise import rms_norm
from models.transformers.windows import Partition, Window, group, partition, score_bias, ungroup

log = logging.getLogger(__name__)

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
Place = Callable[[Tensor, int], Tensor]
# CPU, bfloat16, training: time of the explicit form over SDPA is 0.2 at 80 tokens, 0.6 at 320 and 1.2 at 1280
EXPLICIT_TOKENS = 512
SHORT_TOKENS = 8  # CPU: up to here the fixed cost per row of SDPA is the larger part
MAX_GROUPS = 65_535  # the grid of a CUDA kernel ends there
FRAMEWISE_TOKENS = 1024  # a causal window with more tokens runs frame by frame instead of under a mask


def explicit(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(K) + bias) V, with the scores in memory."""
    groups, _, heads, width = query.shape
    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    if bias is None:
        scores = torch.baddbmm(query.new_empty(1), query, key.mT, beta=0, alpha=width**-0.5)
    else:
        rows = bias.to(query.dtype).expand(groups, heads, -1, -1).flatten(0, 1)
        scores = torch.baddbmm(rows, query, key.mT, alpha=width**-0.5)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    out = torch.bmm(weights, value)
    return out.view(groups, heads, -1, width).transpose(1, 2)


def sdpa(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """PyTorch's scaled_dot_product_attention, in as many launches as its limit on groups needs."""
    if len(query) > MAX_GROUPS:
        return torch.cat([sdpa(*launch) for launch in launches(query, key, value, bias)])
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    mask = None if bias is None else bias.to(query.dtype)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def launches(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """The operands cut into what one launch takes; a bias shared by all groups is shared by all launches."""
    for start in range(0, len(query), MAX_GROUPS):
        cut = slice(start, start + MAX_GROUPS)
        yield query[cut], key[cut], value[cut], bias if bias is None or len(bias) == 1 else bias[cut]


def flash(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """FlashAttention 3 or 2, whichever is installed; it knows no bias."""
    assert bias is None
    out = flash_function()(query, key, value)
    attended: Tensor = out[0] if isinstance(out, tuple) else out
    return attended


@cache
def flash_function() -> Any:
    """`flash_attn_func` of FlashAttention 3, else of 2, else None."""
    for module in ("flash_attn_interface", "flash_attn"):
        if find_spec(module):
            return import_module(module).flash_attn_func
    return None


def choose_kernel(query: Tensor, key: Tensor, bias: Tensor | None) -> Kernel:
    """The fastest kernel for these tensors, as measured."""
    tokens = max(query.shape[1], key.shape[1])
    if query.device.type == "cpu":
        half_and_learning = query.dtype != torch.float32 and torch.is_grad_enabled() and query.requires_grad
        kernel = explicit if tokens <= (EXPLICIT_TOKENS if half_and_learning else SHORT_TOKENS) else sdpa
    elif bias is None and query.dtype in (torch.float16, torch.bfloat16) and flash_function():
        kernel = flash
    else:
        kernel = sdpa
    announce(kernel.__name__, query.device.type, query.dtype, bias is not None)
    return kernel


@cache
def announce(kernel: str, device: str, dtype: torch.dtype, biased: bool) -> None:
    """Say a choice of kernel once per process."""
    log.info("attention on %s in %s%s: %s", device, dtype, " with a mask" if biased else "", kernel)


def run_kernel(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of queries (G, N, heads, K) over keys and values (G, M, heads, K) by the chosen kernel."""
    with torch.autocast(query.device.type, enabled=False):  # the operands have the precision wanted already
        return choose_kernel(query, key, bias)(query, key, value, bias)


def attend(query: Tensor, key: Tensor, value: Tensor, window: Window) -> Tensor:
    """query, key, value: (B, T, H, W, heads, K), positions already applied -> the same shape.

    Raises `ValueError` where the pattern would need a mask too large for memory.
    """
    batch, *axes = query.shape[:4]
    grid = (axes[0], axes[1], axes[2])
    part = partition(window, grid)
    query, key, value = (group(x, part) for x in (query, key, value))
    if part.exact and window.causal and part.tokens > FRAMEWISE_TOKENS:
        out = attend_framewise(query, key, value, part)
    elif part.exact and not window.causal:
        out = run_kernel(query, key, value)
    else:
        bias = score_bias(window, grid, query.device)
        out = run_kernel(query, key, value, bias.repeat(batch, 1, 1, 1) if len(bias) > 1 else bias)
    return ungroup(out, part)


def attend_framewise(query: Tensor, key: Tensor, value: Tensor, part: Partition) -> Tensor:
    """Causal attention without a mask: the queries of each frame over the keys up to the end of that frame."""
    frame = part.tokens // part.size[0]
    ends = range(frame, part.tokens + 1, frame)
    frames = [run_kernel(query[:, end - frame : end], key[:, :end], value[:, :end]) for end in ends]
    return torch.cat(frames, dim=1)


class QueryKeyNorm(nn.Module):
    """RMSNorm of queries and of keys over the width of a head. (..., 2, heads, K) -> the same."""

    def __init__(self, head_width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.query = nn.Parameter(torch.ones(head_width))
        self.key = nn.Parameter(torch.ones(head_width))

    def forward(self, query_key: Tensor) -> Tensor:
        weight = torch.stack((self.query, self.key)).to(query_key.dtype)
        return rms_norm(query_key, self.eps) * weight[:, None]


class SelfAttention(nn.Module):
    """x: (B, T, H, W, D) -> the same.

    `norm` is applied to queries and keys (B, T, H, W, 2, heads, K); `place` to what it returns, together with the index
    of the first frame (None: attention knows no order); `bias` is added to the scores of a window.
    """

    def __init__(
        self,
        heads: int,
        head_width: int,
        window: Window,
        *,
        norm: nn.Module,
        place: Place | None = None,
        bias: nn.Module | None = None,
    ) -> None:
        super().__init__()
        width = heads * head_width
        self.layout = (3, heads, head_width)
        self.window = window
        self.qkv = nn.Linear(width, 3 * width)
        self.norm = norm
        self.place = place or unplaced
        self.bias = bias
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, images: Tensor | None = None, cache: Any = None) -> Tensor:
        """`images`: (B,), True where the frames of a sample are a stack of images that must not see each other."""
        query_key, value = torch.split(self.qkv(x).view(*x.shape[:4], *self.layout), [2, 1], dim=4)
        query, key = self.place(self.norm(query_key), 0).unbind(4)
        value = value.squeeze(4)
        mixed = attend(query, key, value, self.window)
        if images is not None and self.window.crosses_frames:
            mixed = torch.where(images.view(-1, 1, 1, 1, 1, 1), value, mixed)
        out: Tensor = self.projection(mixed.flatten(-2))
        return out


def unplaced(query_key: Tensor, first_frame: int) -> Tensor:  # noqa: ARG001  # the signature of `Place`
    """Queries and keys that do not know where they are."""
    return query_key
