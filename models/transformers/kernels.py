"""The one place where the attention kernel is chosen, and the kernels.

A kernel takes queries (G, N, heads, K), keys and values (G, M, heads, K) and a bias that is added to the scores,
broadcastable to (G, heads, N, M), or None; it returns (G, N, heads, K). G counts independent groups of tokens, K is the
width of a head. The choice is a function of plain values, so that it can be read, logged and tested without a GPU.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

log = logging.getLogger(__name__)

Name = Literal["explicit", "sdpa", "flash2", "flash3", "flex"]
Scores = Literal["plain", "biased", "pattern"]
# CPU, bfloat16, training: time of the explicit form over SDPA is 0.2 at 80 tokens, 0.6 at 320 and 1.2 at 1280
EXPLICIT_TOKENS = 512
SHORT_TOKENS = 8  # CPU: up to here the fixed cost per row of SDPA is the larger part
FLASH_WIDTH = 256  # widest head of FlashAttention
FLEX_WIDTH = 16  # narrowest head of FlexAttention
MAX_GROUPS = 65_535  # the grid of a CUDA kernel ends there


class Installed(NamedTuple):
    """What this process can run besides PyTorch's own kernels."""

    flash3: bool = False
    flash2: bool = False
    flex: bool = False


class Task(NamedTuple):
    """What decides the kernel. `scores` are plain, biased by a tensor, or under a pattern given as a rule."""

    device: str
    dtype: torch.dtype
    tokens: int  # the larger of queries and keys in a group
    head_width: int
    scores: Scores = "plain"
    learning: bool = False


def choose(task: Task, installed: Installed) -> Name:
    """The fastest kernel for a task, as measured on CPUs and as published for GPUs.

    A pattern without FlexAttention is answered by the plain kernel, for the caller to run piece by piece.
    """
    if task.device == "cpu":
        half_and_learning = task.dtype != torch.float32 and task.learning
        return (
            "explicit" if task.tokens <= (EXPLICIT_TOKENS if half_and_learning else SHORT_TOKENS) else "sdpa"
        )
    if task.scores == "pattern" and installed.flex and task.head_width >= FLEX_WIDTH:
        return "flex"
    half = task.dtype in (torch.float16, torch.bfloat16)
    fits_flash = half and task.head_width <= FLASH_WIDTH and task.head_width % 8 == 0
    if task.scores == "biased" or not fits_flash:
        return "sdpa"
    return "flash3" if installed.flash3 else "flash2" if installed.flash2 else "sdpa"


def as_given(device: str) -> AbstractContextManager[Any]:
    """No autocast: the operands of attention have the precision wanted already. The meta device knows none."""
    available = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if available else nullcontext()


def choose_for(query: Tensor, key: Tensor, scores: Scores) -> Name:
    """The kernel for these tensors (G, tokens, heads, K); a choice is logged once per process."""
    task = Task(
        device=query.device.type,
        dtype=query.dtype,
        tokens=max(query.shape[1], key.shape[1]),
        head_width=query.shape[-1],
        scores=scores,
        learning=torch.is_grad_enabled() and query.requires_grad,
    )
    name = choose(task, installed() if task.device == "cuda" else NOTHING)
    announce(name, task.device, task.dtype, scores)
    return name


@cache
def announce(name: Name, device: str, dtype: torch.dtype, scores: Scores) -> None:
    """Say a choice of kernel once per process."""
    log.info("attention on %s in %s, scores %s: %s", device, dtype, scores, name)


NOTHING = Installed()


@cache
def installed() -> Installed:
    """The kernels that this machine's GPU and packages offer."""
    generation = torch.cuda.get_device_capability()[0] if torch.cuda.is_available() else 0
    return Installed(
        flash3=generation == 9 and flash_module("flash_attn_interface") is not None,
        flash2=generation >= 8 and flash_module("flash_attn") is not None,
        flex=generation >= 8 and find_spec("triton") is not None,
    )


@cache
def flash_module(name: str) -> ModuleType | None:
    """A FlashAttention package, or None where it is absent or does not fit the installed PyTorch."""
    if find_spec(name) is None:
        return None
    try:
        return import_module(name)
    except ImportError as error:
        log.warning("%s is installed but cannot be imported, and is not used: %s", name, error)
        return None


def first_of(out: Any) -> Tensor:
    """The attended values: FlashAttention returns them alone, or in front of the softmax statistics."""
    attended: Tensor = out[0] if isinstance(out, tuple | list) else out
    return attended


FLASH: Mapping[Name, str] = {"flash3": "flash_attn_interface", "flash2": "flash_attn"}


def flash(name: Name, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """FlashAttention; it knows no bias."""
    return first_of(_flash(name).flash_attn_func(query, key, value))


def flash_ragged(name: Name, query: Tensor, key: Tensor, value: Tensor, lengths: Tensor) -> Tensor:
    """FlashAttention in groups of several lengths, one after the other: (tokens, heads, K), lengths (G,) on the CPU."""
    ends = functional.pad(lengths.cumsum(0), (1, 0)).to(device=query.device, dtype=torch.int32)
    longest = int(lengths.max())
    return first_of(_flash(name).flash_attn_varlen_func(query, key, value, ends, ends, longest, longest))


def _flash(name: Name) -> Any:
    module = flash_module(FLASH[name])
    assert module is not None, f"{name} was chosen without being there"
    return module


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
    """PyTorch's scaled_dot_product_attention."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    mask = None if bias is None else bias.to(query.dtype)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)


def run_kernel(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of queries (G, N, heads, K) over keys and values (G, M, heads, K) by the chosen kernel."""
    with as_given(query.device.type):
        name = choose_for(query, key, "plain" if bias is None else "biased")
        return in_launches(name, query, key, value, bias)


def in_launches(name: Name, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """One kernel, in as many launches as its limit on groups needs; a bias of one group is shared by all."""
    if len(query) <= MAX_GROUPS:
        return launch(name, query, key, value, bias)
    cuts = [slice(start, start + MAX_GROUPS) for start in range(0, len(query), MAX_GROUPS)]
    shared = bias is None or len(bias) == 1
    biases = [bias if shared or bias is None else bias[cut] for cut in cuts]
    parts = zip(cuts, biases, strict=True)
    return torch.cat([launch(name, query[cut], key[cut], value[cut], part) for cut, part in parts])


def launch(name: Name, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """One launch of a kernel."""
    if name in FLASH:
        assert bias is None
        return flash(name, query, key, value)
    return (explicit if name == "explicit" else sdpa)(query, key, value, bias)


def run_ragged(groups: Sequence[tuple[Tensor, Tensor, Tensor]]) -> list[Tensor]:
    """`run_kernel` without bias on groups of several lengths: in one launch where FlashAttention is chosen."""
    query, key, _ = max(groups, key=lambda operands: operands[0].shape[1])
    name = choose_for(query, key, "plain")
    if name not in FLASH:
        return [run_kernel(*operands) for operands in groups]
    shapes = torch.tensor([q.shape[:2] for q, _, _ in groups])  # (size classes, 2): cells, tokens of each
    lengths = shapes[:, 1].repeat_interleave(shapes[:, 0])
    joined = [torch.cat([x.flatten(0, 1) for x in operands]) for operands in zip(*groups, strict=True)]
    with as_given(query.device.type):
        out = flash_ragged(name, joined[0], joined[1], joined[2], lengths)
    pieces = torch.split(out, [len(q) * q.shape[1] for q, _, _ in groups])
    return [piece.view(q.shape) for piece, (q, _, _) in zip(pieces, groups, strict=True)]
