"""What lies before the first frame that a causal convolution is given: nothing, or the end of the chunk before.

A causal network can be run over a clip chunk by chunk if every convolution remembers its last input frames. The
networks in `causal_layers` are written once; the clip object that goes through them with the frames decides
which of the two it is. B batch, C channels, T H W grid.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Clip(Protocol):
    """The clip that a chunk of frames belongs to."""

    @property
    def starts(self) -> bool:
        """Whether the chunk is the beginning of the clip."""

    def extend(self, layer: nn.Module, x: Tensor, *, padding: int, kept: int) -> Tensor:
        """x (B, C, T, H, W) with the frames before it in front.

        At the start of a clip these are `padding` zero frames; later the last `kept` frames that the layer saw.
        """


class WholeClip:
    """A clip that is seen at once."""

    starts = True

    def extend(self, layer: nn.Module, x: Tensor, *, padding: int, kept: int) -> Tensor:  # noqa: ARG002
        return functional.pad(x, (0, 0, 0, 0, padding, 0)) if padding else x


class FrameCache:
    """A clip that is seen in chunks, in their order; call `next_chunk` between two of them."""

    def __init__(self) -> None:
        self.starts = True
        self._seen: dict[nn.Module, Tensor] = {}

    def next_chunk(self) -> None:
        """What follows is not the beginning of the clip."""
        self.starts = False

    def extend(self, layer: nn.Module, x: Tensor, *, padding: int, kept: int) -> Tensor:
        if self.starts:
            joined = functional.pad(x, (0, 0, 0, 0, padding, 0)) if padding else x
        else:
            joined = torch.cat((self._seen[layer], x), dim=2) if kept else x
        if kept:
            self._seen[layer] = joined[:, :, -kept:].clone()  # a view would keep the whole chunk in memory
        return joined


WHOLE = WholeClip()
