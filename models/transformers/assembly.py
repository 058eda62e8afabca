"""From a configuration to blocks: which objects the blocks of a model are made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from models.transformers.attention import SelfAttention
from models.transformers.blocks import Block
from models.transformers.causal import FrameBlocks, Place
from models.transformers.kinds import of_kind
from models.transformers.modulation import ModulationKind
from models.transformers.query_key import QueryKeyLayerNorm, QueryKeyNorm, QueryKeyWidthNorm
from models.transformers.relative_bias import RelativeBias
from models.transformers.rotary import Rotary
from models.transformers.text_attention import TextKind
from models.transformers.windows import Grid, Window

Kind = Mapping[str, Any]  # {"kind": name, **options}
Pattern = Mapping[str, Mapping[str, Any]]  # name of a block in its layer -> keys of `Window`
Windows = Mapping[str, Window]


def rotary_in_time(head_width: int, window: Window) -> Place | None:
    """Frames know their order where a window holds several (Open-Sora 1.2)."""
    return Rotary(head_width) if window.crosses_frames else None


def rotary_on_axes(_head_width: int, _window: Window, *, channels: Sequence[int]) -> Place:
    """So many channels of each head turn by the frame, the row and the column."""
    return Rotary(*channels)


def no_rotary(_head_width: int, _window: Window) -> None:
    """Attention knows no order."""


ROPE: Mapping[str, Callable[..., Place | None]] = {
    "time": rotary_in_time,
    "axes": rotary_on_axes,
    "none": no_rotary,
}
QUERY_KEY_NORMS: Mapping[bool | str, Callable[[int, int], nn.Module]] = {
    False: lambda _heads, _head_width: nn.Identity(),
    True: lambda _heads, head_width: QueryKeyNorm(head_width),
    "layer": lambda _heads, head_width: QueryKeyLayerNorm(head_width),
    "width": lambda heads, head_width: QueryKeyWidthNorm(heads * head_width),
}


@dataclass(frozen=True, kw_only=True)
class BlockParts:
    """What the blocks of a model have in common."""

    heads: int
    head_width: int
    hidden: int  # width of the feed-forward
    qk_norm: bool | str
    rope: Kind
    relative_bias: bool
    frame_blocks: Mapping[str, Any]  # fields of `FrameBlocks`
    modulation: ModulationKind
    text: TextKind

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.heads * self.head_width

    @property
    def modulated(self) -> int:
        """Parts of a modulation: shift, scale and gate of each modulated sub-layer."""
        return 9 if self.text.modulated else 6

    def turns_in_time(self, patterns: Sequence[Windows]) -> bool:
        """Whether some block has the rotary phases of Open-Sora 1.2."""
        crossing = any(window.crosses_frames for windows in patterns for window in windows.values())
        return crossing and self.rope.get("kind") == "time"

    def block(self, window: Window, index: int) -> Block:
        """The block at place `index` in the model. Raises `ValueError` for what the configuration cannot mean."""
        if self.qk_norm not in QUERY_KEY_NORMS:
            raise ValueError(
                f"qk_norm is {self.qk_norm!r}; use one of {', '.join(map(str, QUERY_KEY_NORMS))}"
            )
        attention = SelfAttention(
            self.heads,
            self.head_width,
            window,
            norm=QUERY_KEY_NORMS[self.qk_norm](self.heads, self.head_width),
            place=of_kind(ROPE, self.rope, "rope", self.head_width, window),
            bias=RelativeBias(self.heads, whole_size(window)) if self.relative_bias else None,
            frames=FrameBlocks(**self.frame_blocks),
        )
        text = self.text.attention(self.heads, self.head_width, window)
        modulation = self.modulation.block(self.width, self.modulated, index)
        return Block(attention, text, modulation, hidden=self.hidden, index=index)

    def layers(self, patterns: Sequence[Windows], depth: int) -> nn.ModuleList:
        """One `ModuleDict` of blocks per layer, keyed as the pattern; several patterns take turns."""
        layers = nn.ModuleList()
        count = 0
        for number in range(depth):
            windows = patterns[number % len(patterns)]
            blocks = {name: self.block(window, count + i) for i, (name, window) in enumerate(windows.items())}
            layers.append(nn.ModuleDict(blocks))
            count += len(blocks)
        return layers


def patterns_of(config: Pattern | Sequence[Pattern], *, temporal: bool) -> list[Windows]:
    """The windows of one pattern or of several; `temporal` False leaves out those that cross frames."""
    patterns = [config] if isinstance(config, Mapping) else list(config)
    windows = [{name: Window.from_config(keys) for name, keys in pattern.items()} for pattern in patterns]
    return [
        {name: window for name, window in pattern.items() if temporal or not window.crosses_frames}
        for pattern in windows
    ]


def whole_size(window: Window) -> Grid:
    """The size of a window on every axis. Raises `ValueError` where it spans one."""
    for axis, size in zip("thw", window.size, strict=True):
        if size is None:
            raise ValueError(
                f"a relative position bias needs the size of the window on axis {axis}; give tokens, not None"
            )
    t, h, w = window.size
    assert t is not None
    assert h is not None
    assert w is not None
    return t, h, w
