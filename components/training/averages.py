"""The further averages of a run, for export: a stage writes the first as its result and each other beside it."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


def each_average(module: nn.Module, averages: Mapping[float, Mapping[str, Tensor]]) -> Iterator[str]:
    """Yields a folder's name for each average, while the module holds its weights; its own come back at the end."""
    parameters = dict(module.named_parameters())
    own = {name: parameters[name].detach().clone() for weights in averages.values() for name in weights}
    try:
        for decay, weights in averages.items():
            _put(parameters, weights)
            yield f"ema-{decay:g}"
    finally:
        _put(parameters, own)


@torch.no_grad()
def _put(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    for name, value in weights.items():
        parameters[name].copy_(value)
