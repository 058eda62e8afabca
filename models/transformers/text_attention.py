"""How tokens read the caption: cross-attention to projected caption tokens, padded to a common length.

B batch, T H W token grid, L text tokens, D width, K head width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.attention import run_kernel
from models.transformers.windows import UNSEEN


class Text(NamedTuple):
    """A projected caption, ready for the blocks."""

    tokens: Tensor  # (B, L, D)
    bias: Tensor  # (B, 1, 1, L): 0 on words, `UNSEEN` on padding


class CaptionProjection(nn.Module):
    """Embeddings of a text encoder (B, L, caption channels) -> (B, L, D)."""

    def __init__(self, caption_channels: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(caption_channels, width)
        self.out = nn.Linear(width, width)

    def forward(self, text: Tensor) -> Tensor:
        projected: Tensor = self.out(functional.gelu(self.hidden(text), approximate="tanh"))
        return projected

    def read(self, text: Tensor, mask: Tensor) -> Text:
        """Project a padded caption. `mask` (B, L) is 1 on words and 0 on padding."""
        if mask.device.type == "cpu":  # elsewhere the length would have to be waited for
            text, mask = trim(text, mask)
        bias = torch.where(mask.bool(), 0.0, UNSEEN)[:, None, None]
        return Text(self(text), bias)


def trim(text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut the columns after the last word of the longest caption in the batch."""
    used = mask.bool().any(dim=0).nonzero()
    length = int(used[-1]) + 1 if len(used) else 1
    return text[:, :length], mask[:, :length]


class TextAttention(nn.Module):
    """x: (B, T, H, W, D) -> what each token reads from the text, the same shape. No norm, no positions."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        width = heads * head_width
        self.heads = (heads, head_width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        query = self.query(x).view(len(x), -1, *self.heads)
        key, value = self.key_value(text.tokens).view(*text.tokens.shape[:2], 2, *self.heads).unbind(2)
        out: Tensor = self.projection(run_kernel(query, key, value, text.bias).flatten(-2))
        return out.view_as(x)
