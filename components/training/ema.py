"""The exponential moving average of the weights, which is what a stage exports.

It follows the float32 master weights. Under ZeRO 3 each process averages its own shards.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


class Ema:
    """Average of named tensors. The decay warms up as min(decay, (1 + n) / (10 + n)) after n updates."""

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone().float() for name, value in weights.items()}

    def update(self, weights: Mapping[str, Tensor], updates: int) -> None:
        """Take in the weights; `updates` were taken in before."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        current = [weights[name].detach().float() for name in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), current, 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put back what a checkpoint holds."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
