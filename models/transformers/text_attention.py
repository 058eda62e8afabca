"""How tokens read the caption, as objects that a model is made of.

Three kinds: cross-attention of its own, neither normed nor modulated nor gated (PixArt, Open-Sora 1.2); keys and values
shared by the caption and the tokens of a window (W.A.L.T, arXiv 2312.06662); none, for models of classes.
B batch, T H W token grid, L text tokens, G captions (B, or B * T where each frame has its own), D width, K head width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.transformers.kernels import run_kernel
from models.transformers.modulation import Modulation
from models.transformers.windows import UNSEEN, Grid, Window, cells, group, join, split, ungroup


class Text(NamedTuple):
    """Projected captions, ready for the blocks."""

    tokens: Tensor  # (G, L, D)
    bias: Tensor  # (G, 1, 1, L): 0 on words, `UNSEEN` on padding
    made: dict[nn.Module, Tensor] | None = None  # what layers made of the tokens, where that is remembered

    def through(self, layer: nn.Module) -> Tensor:
        """The tokens through a layer of a block; once, where the same captions are read in several passes."""
        if self.made is None:
            out: Tensor = layer(self.tokens)
            return out
        if layer not in self.made:
            self.made[layer] = layer(self.tokens)
        return self.made[layer]


class Caption(nn.Module):
    """Embeddings of a text encoder (G, L, caption channels) -> (G, L, D)."""

    def read(self, text: Tensor | None, mask: Tensor | None, frames: int) -> Text:
        """Project padded captions (B, L, C), or (B, T, L, C) with one per frame; `mask` is 1 on words, 0 on padding.

        Raises `ValueError` where there are none, or not as many as frames.
        """
        if text is None or mask is None:
            raise ValueError("this model reads captions: give it text and text_mask")
        if text.ndim == 4 and text.shape[1] != frames:
            raise ValueError(
                f"{text.shape[1]} captions per sample for {frames} latent frames; give one per frame, or one for all"
            )
        text, mask = text.flatten(0, -3), mask.flatten(0, -2)
        if mask.device.type == "cpu":  # elsewhere the length would have to be waited for
            text, mask = trim(text, mask)
        return Text(self(text), torch.where(mask.bool(), 0.0, UNSEEN)[:, None, None])

    def null(self, tokens: int, caption_channels: int) -> Tensor | None:
        """A fresh null caption (tokens, caption channels)."""
        caption: Tensor = torch.randn(tokens, caption_channels) / caption_channels**0.5
        return caption


class CaptionProjection(Caption):
    """Two linear layers around a tanh-GELU."""

    def __init__(self, caption_channels: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(caption_channels, width)
        self.out = nn.Linear(width, width)

    def forward(self, text: Tensor) -> Tensor:
        hidden = self.hidden(text.to(self.hidden.weight.dtype))
        projected: Tensor = self.out(functional.gelu(hidden, approximate="tanh"))
        return projected


class LinearCaption(Caption):
    """One linear layer."""

    def __init__(self, caption_channels: int, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(caption_channels, width)

    def forward(self, text: Tensor) -> Tensor:
        projected: Tensor = self.out(text.to(self.out.weight.dtype))
        return projected


class NoCaption(Caption):
    """In the place of a projection, where no block reads text."""

    def read(self, text: Tensor | None, mask: Tensor | None, frames: int) -> Text:  # noqa: ARG002  # as the others
        return Text(torch.empty(0), torch.empty(0))

    def null(self, tokens: int, caption_channels: int) -> None:  # noqa: ARG002  # as the others
        return None


def trim(text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut the columns after the last word of the longest caption in the batch."""
    used = mask.bool().any(dim=0).nonzero()
    length = int(used[-1]) + 1 if len(used) else 1
    return text[:, :length], mask[:, :length]


class TextAttention(nn.Module):
    """Tokens (B, T, H, W, D) plus what each of them reads from its caption. No norm, no positions, no gate."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        width = heads * head_width
        self.heads = (heads, head_width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        query = self.query(x).view(len(text.tokens), -1, *self.heads)
        key, value = text.through(self.key_value).view(*text.tokens.shape[:2], 2, *self.heads).unbind(2)
        out: Tensor = self.projection(run_kernel(query, key, value, text.bias).flatten(-2))
        return x + out.view_as(x)


class WindowTextAttention(nn.Module):
    """Tokens (B, T, H, W, D) plus what each reads from its caption and from the tokens of its window together.

    One projection makes the keys and values of both.
    """

    def __init__(self, heads: int, head_width: int, window: Window) -> None:
        super().__init__()
        width = heads * head_width
        self.heads = (heads, head_width)
        self.window = window
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Text, modulation: Modulation) -> Tensor:
        """Raises `ValueError` where frames have captions of their own and a window holds several frames."""
        if len(text.tokens) != len(x) and self.window.crosses_frames:
            raise ValueError(
                "captions per frame need text windows of one frame; configure text without across_frames"
            )
        tokens = modulation.apply(self.norm(x))
        query = self.query(tokens).view(*x.shape[:4], *self.heads)
        key_value = self.key_value(tokens).view(*x.shape[:4], 2, *self.heads)
        words = Text(text.through(self.key_value).view(*text.tokens.shape[:2], 2, *self.heads), text.bias)
        parts = cells(self.window, (x.shape[1], x.shape[2], x.shape[3]))
        regions = zip(split(query, parts), split(key_value, parts), parts.regions(), strict=True)
        mixed = join([attend_with_words(*region, words=words) for region in regions], parts)
        return modulation.gated(x, self.projection(mixed.flatten(-2)))


def attend_with_words(query: Tensor, key_value: Tensor, region: tuple[Grid, Grid], *, words: Text) -> Tensor:
    """Tokens (B, T, H, W, heads, K) that fall into whole cells, over their cell and `words` (G, L, 2, heads, K)."""
    grid, cell = region
    query, key_value = group(query, cell), group(key_value, cell)
    per_caption = len(query) // len(words.tokens)  # cells of one frame follow each other, as frames do
    tokens, bias = (x.repeat_interleave(per_caption, dim=0) for x in (words.tokens, words.bias))
    key, value = torch.cat((key_value, tokens), dim=1).unbind(2)
    seen = bias.new_zeros(len(query), 1, 1, query.shape[1])
    return ungroup(run_kernel(query, key, value, torch.cat((seen, bias), dim=-1)), cell, grid)


class NoText(nn.Module):
    """Tokens as they are."""

    def forward(self, x: Tensor, text: Text) -> Tensor:  # noqa: ARG002  # as the others
        return x


class TextKind(Protocol):
    """The modules of one way of reading the caption."""

    @property
    def modulated(self) -> bool:
        """Whether reading has a modulation of its own, beside those of self-attention and feed-forward."""

    @property
    def mixes_frames(self) -> bool:
        """Whether a token reads the tokens of other frames together with the text."""

    def caption(self, caption_channels: int, width: int) -> Caption:
        """Embeddings of a text encoder -> text tokens."""

    def attention(self, heads: int, head_width: int, window: Window) -> nn.Module:
        """Tokens, text (and a modulation) -> tokens; `window` is that of the self-attention in the block."""


@dataclass(frozen=True)
class CrossText:
    """Cross-attention of its own."""

    modulated = False
    mixes_frames = False

    def caption(self, caption_channels: int, width: int) -> Caption:
        return CaptionProjection(caption_channels, width)

    def attention(self, heads: int, head_width: int, window: Window) -> nn.Module:  # noqa: ARG002  # of every block
        return TextAttention(heads, head_width)


@dataclass(frozen=True)
class SharedText:
    """Keys and values of the caption and of the window's own tokens together.

    A window is the block's, cut to single frames so that images of a stack do not mix, or as it is for training on
    video alone.
    """

    across_frames: bool = False
    modulated = True

    @property
    def mixes_frames(self) -> bool:
        return self.across_frames

    def caption(self, caption_channels: int, width: int) -> Caption:
        return LinearCaption(caption_channels, width)

    def attention(self, heads: int, head_width: int, window: Window) -> nn.Module:
        own = (
            window
            if self.across_frames
            else replace(window, size=(1, *window.size[1:]), shift=(0, *window.shift[1:]))
        )
        return WindowTextAttention(heads, head_width, replace(own, causal=False))


@dataclass(frozen=True)
class WithoutText:
    """No text at all."""

    modulated = False
    mixes_frames = False

    def caption(self, caption_channels: int, width: int) -> Caption:  # noqa: ARG002  # nothing to size
        return NoCaption()

    def attention(self, heads: int, head_width: int, window: Window) -> nn.Module:  # noqa: ARG002  # nothing to size
        return NoText()


TEXTS: Mapping[str, Callable[..., TextKind]] = {"cross": CrossText, "shared": SharedText, "none": WithoutText}
