"""The repeated parts of a module; a model names their classes in `_no_split_modules`, as diffusers has it."""

from torch import nn


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The blocks of all models in a module, in the order in which they were made; empty where none names any."""
    names = {name for part in module.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    return [part for part in module.modules() if type(part).__name__ in names]
