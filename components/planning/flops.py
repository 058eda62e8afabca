"""FLOPs of a pass through any of our networks, counted by running it on the meta device: no memory, no arithmetic.

What is counted are the multiplications and additions of matrix products and convolutions, two per pair, forward and
backward (PyTorch's own formulas in `torch.utils.flop_counter`), with attention written out as its two products, under
a causal mask of frames only over what is seen. Recomputation by activation checkpointing or inside a fused attention
kernel is not in it: these are the model FLOPs that MFU is a share of (PaLM, arXiv 2204.02311, appendix B).
"""

import copy
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

META = torch.device("meta")
Network = TypeVar("Network", bound=nn.Module)
Values = TypeVar("Values")


def on_meta(values: Values) -> Values:
    """The same nest of tuples, lists and dictionaries with tensors that have shapes but no memory."""
    moved: Values = tree_map_only(Tensor, _without_memory, values)
    return moved


def meta_twin(module: Network) -> Network:
    """A copy on the meta device: the same structure and `requires_grad`, without memory and without recomputation.

    Take it before an engine divides the parameters among processes.
    """
    tensors = chain(module.parameters(), module.buffers())
    twin = copy.deepcopy(module, {id(tensor): _without_memory(tensor) for tensor in tensors})
    for part in twin.modules():
        if hasattr(part, "gradient_checkpointing"):
            cast(Any, part).gradient_checkpointing = False
    return twin


def count_flops(module: Network, call: Callable[[Network], Any]) -> int:
    """FLOPs of `call` on a copy of `module` on the meta device, with the backward pass of what it returns.

    The tensors that `call` gives to the copy must be on the meta device too (`on_meta`). Where what it returns has no
    graph, as under `torch.no_grad()` or with all parameters frozen, that is the forward pass alone.

    Example: count_flops(model, lambda twin: twin(*on_meta(arguments))), once per shape of batch.
    """
    twin = meta_twin(module)
    with FlopCounterMode(display=False) as counter:
        learned = sum(_scalars(call(twin)), torch.zeros((), device=META))
        if learned.requires_grad:
            torch.autograd.backward(learned)
    return int(counter.get_total_flops())


def _scalars(returned: Any) -> Iterator[Tensor]:
    """A sum per tensor with a graph, as a loss would need it."""
    for value in tree_leaves(returned):
        if isinstance(value, Tensor) and value.requires_grad:
            yield value.sum()


def _without_memory(tensor: Tensor) -> Tensor:
    moved = torch.empty_like(tensor, device=META)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(moved, requires_grad=tensor.requires_grad)
    return moved.requires_grad_(tensor.requires_grad and tensor.is_floating_point())
