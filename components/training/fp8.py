"""FP8 matrix products through NVIDIA's Transformer Engine, in the layers whose shapes allow it.

These are the linear layers of blocks that work on tokens, with sides that are multiples of 16; tokens are filled up to
a multiple of 16 (arXiv 2209.05433 and the engine's own rule). Embeddings, modulation, the last layer and norms stay in
the run's precision. The layers share their parameters with the ones they replace, which come back when training ends.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.errors import UserError
from components.training.parts import blocks_of

MULTIPLE = 16
LEFT_OUT = "modulation"  # sees one row per sample, not tokens
Make = Callable[[nn.Linear], nn.Module]


class Fp8:
    """A module whose eligible layers compute in FP8, until `restore`."""

    def __init__(self, module: nn.Module, *, checkpointing: bool) -> None:
        """Raises `UserError` without Transformer Engine or a GPU that has FP8, and where no layer is eligible."""
        engine, recipe = _transformer_engine()
        self._module = module
        self._swapped = swap(module, lambda linear: _engine_linear(engine, linear))
        self._forward = module.forward
        # newer releases call it `autocast`
        context: Callable[..., AbstractContextManager[Any]] = (
            getattr(engine, "autocast", None) or engine.fp8_autocast
        )
        takes_recipe = "recipe" if hasattr(engine, "autocast") else "fp8_recipe"

        def forward(*arguments: Any, **named: Any) -> Any:
            with context(enabled=True, **{takes_recipe: recipe}):
                return self._forward(*arguments, **named)

        cast(Any, module).forward = forward
        if checkpointing:  # PyTorch's own would recompute with other scales
            for part in module.modules():
                if hasattr(part, "_gradient_checkpointing_func"):
                    cast(Any, part)._gradient_checkpointing_func = engine.checkpoint  # noqa: SLF001

    def restore(self) -> None:
        """Put the plain layers back, with the weights as they are now."""
        del cast(Any, self._module).forward
        put_back(self._swapped)


def eligible(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Parent, name and layer of what can be computed in FP8."""
    for block in blocks_of(module):
        for path, parent in block.named_modules():
            for name, layer in parent.named_children():
                sides = (layer.in_features, layer.out_features) if type(layer) is nn.Linear else (1,)
                if LEFT_OUT not in f"{path}.{name}" and all(side % MULTIPLE == 0 for side in sides):
                    yield parent, name, cast(nn.Linear, layer)


def swap(module: nn.Module, make: Make) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Replace the eligible layers by what `make` gives, with their own parameters and tokens filled up.

    Raises `UserError` where there are none.
    """
    found = list(eligible(module))
    if not found:
        raise UserError(
            f"fp8: no layer of {type(module).__name__} has sides that are multiples of {MULTIPLE}; set fp8 to false"
        )
    for parent, name, linear in found:
        replacement = make(linear)
        for parameter, value in linear.named_parameters():
            setattr(replacement, parameter, value)
        _fill_up(replacement)
        setattr(parent, name, replacement)
    return found


def put_back(swapped: list[tuple[nn.Module, str, nn.Linear]]) -> None:
    """Undo `swap`."""
    for parent, name, linear in swapped:
        setattr(parent, name, linear)


def _fill_up(layer: nn.Module) -> None:
    """Have a layer see rows in multiples of 16; the added ones are zeros, and cut off again."""
    compute = layer.forward

    def forward(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        missing = -len(rows) % MULTIPLE
        out: Tensor = compute(functional.pad(rows, (0, 0, 0, missing)) if missing else rows)
        return out[: len(rows)].view(*x.shape[:-1], -1)

    cast(Any, layer).forward = forward


def _engine_linear(engine: Any, linear: nn.Linear) -> nn.Module:
    made: nn.Module = engine.Linear(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        params_dtype=linear.weight.dtype,
        device=linear.weight.device,
    )
    return made


def _transformer_engine() -> tuple[Any, Any]:
    """The engine, and a recipe: e4m3 forward, e5m2 backward, scaled by each tensor's own maximum where that exists."""
    if find_spec("transformer_engine") is None or not torch.cuda.is_available():
        raise UserError(
            "fp8 needs Transformer Engine and an NVIDIA GPU of the Hopper generation or newer; install"
            " `transformer-engine[pytorch]` there, or set fp8 to false"
        )
    if torch.cuda.get_device_capability() < (8, 9):
        raise UserError(f"fp8: {torch.cuda.get_device_name()} has no FP8 units; set fp8 to false")
    engine, recipes = (
        import_module("transformer_engine.pytorch"),
        import_module("transformer_engine.common.recipe"),
    )
    hybrid = recipes.Format.HYBRID
    if hasattr(recipes, "Float8CurrentScaling"):
        return engine, recipes.Float8CurrentScaling(fp8_format=hybrid)
    return engine, recipes.DelayedScaling(fp8_format=hybrid, amax_history_len=1024, amax_compute_algo="max")
