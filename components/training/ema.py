"""Exponential moving averages of the weights, of which a stage exports the first.

They follow the float32 weights where those are: every process averages its own shards, with each decay.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from components.training.shards import Shards, Stored

KIND = "ema@"


class Ema:
    """One average per decay, by parameter name. A decay warms up as min(decay, (1 + n) / (10 + n)) after n updates."""

    def __init__(self, weights: Mapping[str, Tensor], decays: Sequence[float]) -> None:
        self.averages = {
            decay: {name: value.detach().clone().float() for name, value in weights.items()}
            for decay in decays
        }

    @property
    def weights(self) -> dict[str, Tensor]:
        """The average of the first decay."""
        return next(iter(self.averages.values()))

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], updates: int) -> None:
        """Take in the weights; `updates` were taken in before."""
        current = [weights[name].float() for name in self.weights]
        for full, average in self.averages.items():
            decay = min(full, (1 + updates) / (10 + updates))
            torch._foreach_lerp_(list(average.values()), current, 1 - decay)

    def load(self, shards: Shards, stored: Stored) -> None:
        """Put back what a checkpoint holds."""
        for decay, average in self.averages.items():
            for shard in shards.own:
                values = stored.read(kind_of(decay), shard.name, shard.start, shard.count)
                average[shard.name].copy_(values.view(average[shard.name].shape))

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Kind of a checkpoint's tensors -> elements by parameter name."""
        return {kind_of(decay): average for decay, average in self.averages.items()}


def kind_of(decay: float) -> str:
    """What the average of a decay is called in a checkpoint."""
    return f"{KIND}{decay:g}"
