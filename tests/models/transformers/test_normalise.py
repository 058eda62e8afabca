"""The written-out gradient of RMSNorm against PyTorch's own."""

import pytest
import torch
from torch.nn import functional

from models.transformers.normalise import rms_norm


def test_rms_norm_and_its_gradient_equal_those_of_pytorch():
    x = torch.randn(3, 5, 2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0] = 0  # eps carries this row
    weights = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for norm in (lambda x: rms_norm(x, 1e-3), lambda x: functional.rms_norm(x, (16,), None, 1e-3)):
        leaf = x.clone().requires_grad_()
        out = norm(leaf)
        (out * weights).sum().backward()
        results.append((out, leaf.grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_keeps_the_type_and_computes_in_float32(dtype: torch.dtype):
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    out = rms_norm(x, 1e-6)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact, atol=0, rtol=2 * torch.finfo(dtype).eps)
