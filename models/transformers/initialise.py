"""How the weights of a fresh transformer start."""

from abc import ABC, abstractmethod

from torch import nn


class SpecialStart(nn.Module, ABC):
    """A module whose weights do not start as those of other modules do."""

    @abstractmethod
    def start(self) -> None:
        """Set them. The modules inside have been initialised already."""


def initialise(model: nn.Module) -> None:
    """Xavier weights and zero biases, then what says otherwise of itself."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, SpecialStart):
            module.start()


def zero(layer: nn.Linear) -> None:
    """A layer without effect yet."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
