"""The transformer block, free of variants: what differs between models is in the objects it is made of."""

from torch import Tensor, nn
from torch.nn import functional

from models.transformers.attention import SelfAttention
from models.transformers.causal import History
from models.transformers.initialise import zero
from models.transformers.modulation import Condition
from models.transformers.text_attention import Text


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

    `modulation` gives the modulation of self-attention first, that of feed-forward last, and between them what
    `text_attention` takes.
    """

    def __init__(
        self,
        attention: SelfAttention,
        text_attention: nn.Module,
        modulation: nn.Module,
        *,
        hidden: int,
        index: int,
    ) -> None:
        super().__init__()
        self.index = index  # its place in the model
        width = attention.projection.out_features
        self.modulation = modulation
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)  # no weights: one is enough
        self.attention = attention
        self.text_attention = text_attention
        self.feed_forward = FeedForward(width, hidden)

    def forward(
        self,
        x: Tensor,
        text: Text,
        condition: Condition,
        images: Tensor | None = None,
        history: History | None = None,
    ) -> Tensor:
        """x: (B, T, H, W, D) -> the same shape.

        `images` (B,) is True where the frames are a stack of images; `history` is what is known of other frames.
        """
        mix, *read, feed = self.modulation(condition)
        x = mix.gated(x, self.attention(mix.apply(self.norm(x)), images, history))
        x = self.text_attention(x, text, *read)
        out: Tensor = feed.gated(x, self.feed_forward(feed.apply(self.norm(x))))
        return out

    def start_as_identity(self) -> None:
        """Zero the last layer of every sub-layer, so that a block added to a trained model changes nothing yet.

        Where the gates start closed the block is the identity already, and would never learn if both were zero.
        """
        if self.modulation.gates_start_closed:
            return
        for name, layer in self.named_modules():
            if name in ("attention.projection", "text_attention.projection", "feed_forward.out"):
                zero(layer)
