"""One training pass through a network on the meta device: its FLOPs, and how much memory it would take at its peak.

Every tensor that an operation makes is counted from its birth to the moment its last reference goes, backward pass
and recomputation included, as the allocator of a GPU would see it (without its fragments). Autocast knows no meta
device, so what it does is done here: products of matrices in bf16 from copies of the weights that live until the
forward pass ends, norms and softmax in float32. Attention is counted as a fused kernel, which keeps no scores.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from components.planning.flops import META

FLASH = torch.ops.aten._scaled_dot_product_flash_attention  # noqa: SLF001  # named so by PyTorch, as the next three
FLASH_BACK = torch.ops.aten._scaled_dot_product_flash_attention_backward  # noqa: SLF001
BIASED = torch.ops.aten._scaled_dot_product_efficient_attention  # noqa: SLF001
BIASED_BACK = torch.ops.aten._scaled_dot_product_efficient_attention_backward  # noqa: SLF001
# what autocast runs in bf16, and what in float32 (PyTorch's lists for CUDA, as far as our networks call them)
HALVED = {
    functional.linear,
    functional.conv1d,
    functional.conv2d,
    functional.conv3d,
    torch.bmm,
    torch.baddbmm,
    torch.matmul,
    Tensor.matmul,
    Tensor.__matmul__,
}
WHOLE = {
    functional.layer_norm,
    functional.group_norm,
    functional.rms_norm,
    functional.softmax,
    torch.softmax,
    Tensor.softmax,
    torch.exp,
    Tensor.exp,
    Tensor.pow,
    Tensor.square,
    functional.mse_loss,
    functional.l1_loss,
}


@dataclass(frozen=True)
class Pass:
    """Forward and backward. Bytes are those of activations: without weights and their gradients."""

    flops: int  # as `components.planning.flops` counts them
    forward_flops: int  # those of the forward pass
    recomputed: int  # FLOPs of activation checkpointing, besides
    kept: int  # bytes that the forward pass leaves for the backward pass
    copies: int  # bytes of them that are bf16 copies of weights
    forward_peak: int  # bytes at the fullest moment of the forward pass
    backward_peak: int

    @property
    def peak(self) -> int:
        """Bytes at the fullest moment."""
        return max(self.forward_peak, self.backward_peak)

    @property
    def peak_without_copies(self) -> int:
        """The same where weights need no copies, since they come in bf16."""
        later = 0 if self.recomputed else self.copies
        return max(self.forward_peak - self.copies, self.backward_peak - later)


def extended(one: Pass, forward: Pass, times: float) -> Pass:
    """The pass through a network with `times` as many layers as that of `one`.

    `forward` is the forward pass alone, without checkpoints' recomputation, of a network with twice as many. Layers are
    alike, so each adds the same; all its weights are trained, so its backward pass has twice the FLOPs of its forward.
    """
    more, flops = times - 1, forward.forward_flops - one.forward_flops
    kept, copies = forward.kept - one.kept, forward.copies - one.copies
    waiting = kept - copies if one.recomputed else kept  # of a layer, while another one is at its turn
    return Pass(
        flops=round(one.flops + more * 3 * flops),
        forward_flops=round(one.forward_flops + more * flops),
        recomputed=round(one.recomputed + more * flops) if one.recomputed else 0,
        kept=round(one.kept + more * kept),
        copies=round(one.copies + more * copies),
        forward_peak=round(forward.forward_peak + (times - 2) * kept),
        backward_peak=round(one.backward_peak + more * waiting),
    )


def run_pass(module: nn.Module, call: Callable[[], Any], *, bf16: bool, backward: bool = True) -> Pass:
    """Run `call`, which goes through `module` on the meta device and returns tensors, and its backward pass.

    Each weight's gradient is dropped as soon as it is whole: where gradients stay is the affair of ZeRO's stages.
    """
    handles = [
        cast(Any, parameter).register_post_accumulate_grad_hook(_drop_gradient)
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    trace = _Trace()
    precision = _Precision(trace, bf16=bf16)
    with trace, precision:
        values = [value for value in tree_leaves(call()) if isinstance(value, Tensor)]
        loss = sum((value.sum() for value in values if value.requires_grad), torch.zeros((), device=META))
        forward = trace.flops
        kept, forward_peak, copies = trace.live, trace.peak, precision.end_forward()
        trace.peak = trace.live
        if loss.requires_grad and backward:
            _backward(loss)
    for handle in handles:
        handle.remove()
    flops = trace.flops - trace.recomputed
    return Pass(flops, forward, trace.recomputed, kept, copies, forward_peak, trace.peak)


def _backward(loss: Tensor) -> None:
    """The backward pass with the mode of the caller for what is computed again; `backward()` would leave it aside."""
    run_backward: Any = torch.autograd.graph._engine_run_backward  # noqa: SLF001
    run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """FLOPs of all operations, and bytes of the storages that they have made and that are still referred to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.recomputed = self.live = self.peak = 0
        self.again = 0  # above 0 while what the forward pass did is done once more

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():  # noqa: SLF001  # what happens inside is no call of the network's
            out = _shaped(func, args, kwargs or {})
            formula = FLOPS.get(func.overloadpacket)
            if formula is not None:
                done = int(formula(*args, **(kwargs or {}), out_val=out))
                self.flops += done
                self.recomputed += done if self.again else 0
            if _is_fresh(func):  # views and changes in place make no storage
                for value in (out,) if isinstance(out, Tensor) else tree_leaves(out):
                    if isinstance(value, Tensor):
                        self._add(value)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, size)

    def _remove(self, size: int) -> None:
        self.live -= size


def _shaped(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """What an operation returns. Layers repeat, so the shapes of most results are known from the one before."""
    if not _is_fresh(func):
        return func(*args, **kwargs)
    try:
        key = (func, _signature(args), _signature(tuple(kwargs.items())))
        known = _RESULTS.get(key)
    except TypeError:  # an argument that cannot be a key
        return func(*args, **kwargs)
    if known is None:
        out = func(*args, **kwargs)
        several = isinstance(out, tuple | list)
        if all(value.is_meta for value in tree_leaves(out) if isinstance(value, Tensor)):
            _RESULTS[key] = _signature(out if several else (out,)), several
        return out
    parts, several = known
    made = tuple(_made(part) for part in parts)
    return made if several else made[0]


def _is_fresh(func: Any) -> bool:
    """Whether the results of an operation share no memory with its arguments."""
    if func not in _FRESH:
        schema = func._schema  # noqa: SLF001
        _FRESH[func] = all(each.alias_info is None for each in (*schema.arguments, *schema.returns))
    return _FRESH[func]


def _signature(values: Any) -> tuple[Any, ...]:
    """What the shapes of results depend on."""
    return tuple(
        (Tensor, value.shape, value.stride(), value.dtype, value.device)
        if isinstance(value, Tensor)
        else _signature(value)
        if isinstance(value, tuple | list)
        else value
        for value in values
    )


def _made(part: Any) -> Any:
    if not isinstance(part, tuple) or not part or part[0] is not Tensor:
        return part
    _, shape, stride, dtype, device = part
    return torch.empty_strided(shape, stride, dtype=dtype, device=device)


_FRESH: dict[Any, bool] = {}
_RESULTS: dict[Any, tuple[tuple[Any, ...], bool]] = {}


class _Precision(TorchFunctionMode):
    """Autocast and fused attention for tensors on the meta device."""

    def __init__(self, trace: _Trace, *, bf16: bool) -> None:
        super().__init__()
        self.trace = trace
        self.bf16 = bf16
        self._copies: dict[int, Tensor] | None = {}  # of weights, kept until the forward pass ends

    def end_forward(self) -> int:
        """Let go of the copies, and return their bytes; what is recomputed later makes copies for itself."""
        size = sum(copy.nbytes for copy in (self._copies or {}).values())
        self._copies = None
        return size

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        again = self._copies is None  # functions are called in the backward pass only to recompute
        self.trace.again += again
        try:
            if func is functional.scaled_dot_product_attention:
                return _fused_attention(*args, **kwargs)
            change = self._change(func)
            if change is not None:  # none of these functions takes a list of tensors
                args = [change(value) if isinstance(value, Tensor) else value for value in args]
                kwargs = {
                    name: change(value) if isinstance(value, Tensor) else value
                    for name, value in kwargs.items()
                }
            return func(*args, **kwargs)
        finally:
            self.trace.again -= again

    def _change(self, func: Any) -> Callable[[Tensor], Tensor] | None:
        """What autocast does to the tensors that a function gets; None: nothing."""
        if not self.bf16:
            return None
        return self._halved if func in HALVED else _whole if func in WHOLE else None

    def _halved(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.float32:
            return tensor
        weight = isinstance(tensor, nn.Parameter) and tensor.requires_grad
        if not weight or self._copies is None:
            return tensor.bfloat16()
        if id(tensor) not in self._copies:
            self._copies[id(tensor)] = tensor.bfloat16()
        return self._copies[id(tensor)]


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_settings: Any
) -> Tensor:
    """FlashAttention, or with a bias the memory-efficient kernel, which takes one: (G, heads, N, K)."""
    if attn_mask is None:
        out: Tensor = FLASH(query, key, value)[0]
        return out
    bias = attn_mask.expand(*query.shape[:3], key.shape[2])
    mixed: Tensor = BIASED(query, key, value, bias, True)[0]
    return mixed


def _forward_flops(query: Tensor, key: Tensor, value: Tensor, *_others: Any, **_kwargs: Any) -> int:
    """Scores and their sum over values: two products of matrices, two FLOPs a pair."""
    groups, heads, queries, width = query.shape
    return 2 * groups * heads * queries * key.shape[2] * (width + value.shape[3])


def _backward_flops(
    _gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_others: Any, **_kwargs: Any
) -> int:
    """Twice the forward pass; that the kernel computes the scores again is no FLOP of the model."""
    return 2 * _forward_flops(query, key, value)


FLOPS: Mapping[Any, Callable[..., int]] = {
    **flop_registry,
    FLASH: _forward_flops,
    BIASED: _forward_flops,
    FLASH_BACK: _backward_flops,
    BIASED_BACK: _backward_flops,
}
