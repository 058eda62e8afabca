"""The 3D discriminator of MAGVIT: StyleGAN's residual blocks with a third axis and without norms.

Every block halves the axes that are longer than one, rounding up, so clips of 16 and of 17 frames both work. The last
features are flattened into a dense layer, which ties a discriminator to one size of clip. B batch, C channels,
T H W grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

RGB = 3
SLOPE = 0.2
AXES = ("frames", "height", "width")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorConfig:
    """Geometry of the discriminator; the defaults are MAGVIT's.

    `taps` is the filter of every halving: (1, 1) averages two neighbours, (1, 2, 1) blurs.
    """

    frames: int
    height: int
    width: int
    filters: int = 128
    multipliers: tuple[int, ...] = (2, 4, 4, 4, 4)  # of `filters`, per block
    taps: tuple[int, ...] = (1, 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before the first block and after each."""
        return (self.filters, *(self.filters * multiplier for multiplier in self.multipliers))

    @property
    def grid(self) -> tuple[int, int, int]:
        """Frames, height and width after the last block."""
        shrunk = [math.ceil(side / 2 ** len(self.multipliers)) for side in self.size]
        return shrunk[0], shrunk[1], shrunk[2]

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip."""
        return self.frames, self.height, self.width


class Discriminator3d(nn.Module):
    """Clips (B, 3, T, H, W) -> logits (B,), positive for clips that look real."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        widths = config.widths
        self.config = config
        self.conv_in = nn.Conv3d(RGB, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(*pair, config.taps) for pair in pairwise(widths))
        self.conv_out = nn.Conv3d(widths[-1], widths[-1], 3, padding=1)
        self.dense = nn.Linear(widths[-1] * math.prod(config.grid), widths[-1])
        self.logit = nn.Linear(widths[-1], 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Raises `ValueError` for clips of another size than the configuration's."""
        for name, given, wanted in zip(AXES, frames.shape[2:], self.config.size, strict=True):
            if given != wanted:
                raise ValueError(
                    f"the discriminator was built for {name} {wanted}, not {given}; crop the clips or build another"
                )
        x = _leaky(self.conv_in(frames))
        for block in self.blocks:
            x = block(x)
        x = _leaky(self.dense(_leaky(self.conv_out(x)).flatten(1)))
        logits: Tensor = self.logit(x)[:, 0]
        return logits


class DiscriminatorBlock(nn.Module):
    """Two convolutions with a halving between them, beside a halved 1x1x1 convolution; variance is kept."""

    def __init__(self, channels_in: int, channels_out: int, taps: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels_in, 3, padding=1)
        self.conv2 = nn.Conv3d(channels_in, channels_out, 3, padding=1)
        self.shortcut = nn.Conv3d(channels_in, channels_out, 1, bias=False)
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C', ceil(T / 2), ceil(H / 2), ceil(W / 2))."""
        hidden = _leaky(self.conv2(halve(_leaky(self.conv1(x)), self.taps)))
        mixed: Tensor = (self.shortcut(halve(x, self.taps)) + hidden) / math.sqrt(2)
        return mixed


def halve(x: Tensor, taps: Sequence[int]) -> Tensor:
    """Every second value of (B, C, T, H, W) along its last three axes, filtered with `taps` before.

    At a border the filter is divided by the taps that lie inside, so a constant stays what it is.
    """
    for axis in (2, 3, 4):
        if x.shape[axis] > 1:
            x = _halve_axis(x.movedim(axis, -1), taps).movedim(-1, axis)
    return x


def _halve_axis(x: Tensor, taps: Sequence[int]) -> Tensor:
    """Along the last axis."""
    length, before = x.shape[-1], (len(taps) - 1) // 2
    count = -(-length // 2)
    padding = (before, 2 * (count - 1) + len(taps) - length - before)
    inside = functional.pad(x.new_ones(length), padding)
    padded = functional.pad(x, padding)
    places = [slice(start, start + 2 * count - 1, 2) for start in range(len(taps))]
    total = sum((tap * inside[place] for tap, place in zip(taps, places, strict=True)), x.new_zeros(()))
    values = sum((tap * padded[..., place] for tap, place in zip(taps, places, strict=True)), x.new_zeros(()))
    return torch.div(values, total)


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)
