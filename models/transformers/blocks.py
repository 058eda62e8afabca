"""The transformer block, free of variants: what differs between models is in the objects it is made of."""

from torch import Tensor, nn
from torch.nn import functional

from models.transformers.attention import SelfAttention
from models.transformers.modulation import Modulation, ModulationTable
from models.transformers.text_attention import Text, TextAttention


class FeedForward(nn.Module):
    """(..., D) -> (..., D): two linear layers around a tanh-GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(functional.gelu(self.hidden(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """Self-attention, text and feed-forward over tokens, modulated by time.

    As in PixArt and Open-Sora 1.2 the text is read by tokens that are neither normed nor modulated, and is not gated.
    """

    def __init__(self, attention: SelfAttention, text_attention: TextAttention, *, hidden: int) -> None:
        super().__init__()
        width = attention.projection.out_features
        self.modulation = ModulationTable(width)
        self.norm = nn.LayerNorm(
            width, elementwise_affine=False, eps=1e-6
        )  # without weights, so one is enough
        self.attention = attention
        self.text_attention = text_attention
        self.feed_forward = FeedForward(width, hidden)

    def forward(self, x: Tensor, text: Text, condition: Tensor) -> Tensor:
        """x: (B, T, H, W, D), condition: (B, F, 1, 1, 6, D) with F either T or 1 -> the shape of x."""
        mix: Modulation
        feed: Modulation
        mix, feed = self.modulation(condition)
        x = mix.gated(x, self.attention(mix.apply(self.norm(x))))
        x = x + self.text_attention(x, text)
        return feed.gated(x, self.feed_forward(feed.apply(self.norm(x))))

    def start_as_identity(self) -> None:
        """Zero the last layer of every sub-layer, so that a block added to a trained model changes nothing yet."""
        for last in (self.attention.projection, self.text_attention.projection, self.feed_forward.out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
