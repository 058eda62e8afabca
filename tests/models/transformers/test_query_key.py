"""The norms of queries and keys, against PyTorch's own layers."""

import torch
from torch import Tensor, nn

from models.transformers.query_key import QueryKeyLayerNorm, QueryKeyNorm, QueryKeyWidthNorm


def tokens() -> Tensor:
    return torch.randn(2, 3, 2, 2, 2, 4, 8, generator=torch.Generator().manual_seed(0))


def weighted(norm: QueryKeyNorm | QueryKeyLayerNorm | QueryKeyWidthNorm) -> tuple[Tensor, Tensor, Tensor]:
    nn.init.uniform_(norm.query, generator=torch.Generator().manual_seed(1))
    nn.init.uniform_(norm.key, generator=torch.Generator().manual_seed(2))
    query, key = norm(tokens()).unbind(4)
    return query, key, tokens()


def test_rms_norm_is_that_of_each_head():
    norm = QueryKeyNorm(8)
    query, key, x = weighted(norm)
    for out, weight, given in ((query, norm.query, x[..., 0, :, :]), (key, norm.key, x[..., 1, :, :])):
        torch.testing.assert_close(out, nn.functional.rms_norm(given, (8,), weight, 1e-6))


def test_layer_norm_is_that_of_each_head_without_bias():
    norm = QueryKeyLayerNorm(8)
    query, key, x = weighted(norm)
    for out, weight, given in ((query, norm.query, x[..., 0, :, :]), (key, norm.key, x[..., 1, :, :])):
        torch.testing.assert_close(out, nn.functional.layer_norm(given, (8,), weight, None, 1e-6))
    assert sum(parameter.numel() for parameter in norm.parameters()) == 2 * 8


def test_width_norm_is_over_all_heads_together():
    norm = QueryKeyWidthNorm(32)
    query, key, x = weighted(norm)
    for out, weight, given in ((query, norm.query, x[..., 0, :, :]), (key, norm.key, x[..., 1, :, :])):
        expected = nn.functional.rms_norm(given.flatten(-2), (32,), weight, 1e-6).view_as(out)
        torch.testing.assert_close(out, expected)
