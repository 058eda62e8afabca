"""RMSNorm without weights, fast on CPUs too.

PyTorch has a fused kernel for GPUs; on a CPU it is a chain of elementwise operations, whose backward pass alone was a
seventh of a training step of the small default. There the gradient is written out.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axis, the mean taken in float32 at least."""
    if x.device.type != "cpu":
        return functional.rms_norm(x, (x.shape[-1],), None, eps)
    out: Tensor = CpuRmsNorm.apply(x, eps)  # type: ignore[no-untyped-call]
    return out


class CpuRmsNorm(torch.autograd.Function):
    """y = x s with s = rsqrt(mean(x^2) + eps), so dx = s (dy - y mean(dy y))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
        scale = torch.rsqrt(norm.square() / x.shape[-1] + eps)
        y = torch.mul(x, scale, out=torch.empty_like(x))
        ctx.save_for_backward(y, scale.to(x.dtype))  # operands of two types cost more than they keep
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        along = (grad * y).mean(dim=-1, keepdim=True)
        return torch.addcmul(grad, y, along, value=-1).mul_(scale), None
