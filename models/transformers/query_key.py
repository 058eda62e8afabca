"""The norms of queries and keys: (..., 2, heads, K) -> the same. They keep the scores of large models bounded.

K head width. They are objects that self-attention is given; models without one give it `nn.Identity`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.normalise import rms_norm


class QueryKeyNorm(nn.Module):
    """RMSNorm over the width of a head (Open-Sora 1.2)."""

    def __init__(self, head_width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.query = nn.Parameter(torch.ones(head_width))
        self.key = nn.Parameter(torch.ones(head_width))

    def forward(self, query_key: Tensor) -> Tensor:
        weight = torch.stack((self.query, self.key)).to(query_key.dtype)
        return rms_norm(query_key, self.eps) * weight[:, None]


class QueryKeyLayerNorm(nn.Module):
    """LayerNorm without bias over the width of a head (W.A.L.T, after ViT-22B, arXiv 2302.05442)."""

    def __init__(self, head_width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.query = nn.Parameter(torch.ones(head_width))
        self.key = nn.Parameter(torch.ones(head_width))

    def forward(self, query_key: Tensor) -> Tensor:
        weight = torch.stack((self.query, self.key)).to(query_key.dtype)
        return functional.layer_norm(query_key, query_key.shape[-1:], eps=self.eps) * weight[:, None]


class QueryKeyWidthNorm(nn.Module):
    """RMSNorm over all heads together (Wan, arXiv 2503.20314)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.query = nn.Parameter(torch.ones(width))
        self.key = nn.Parameter(torch.ones(width))

    def forward(self, query_key: Tensor) -> Tensor:
        weight = torch.stack((self.query, self.key)).to(query_key.dtype)
        return (rms_norm(query_key.flatten(-2), self.eps) * weight).view_as(query_key)
