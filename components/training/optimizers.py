"""The optimizers that a stage may ask for, and what each keeps of a parameter besides its weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from components.training.config import OptimizerConfig

FIRST, SECOND = "exp_avg", "exp_avg_sq"
ROWS, COLUMNS = "exp_avg_sq_row", "exp_avg_sq_col"
KEPT = (FIRST, SECOND, ROWS, COLUMNS)
# Adafactor's; the second is of a learning rate that follows the weights, which ours does not
FLOOR = (1e-30, 1e-3)


def make_optimizer(
    config: OptimizerConfig, parameters: Sequence[nn.Parameter], *, lr: float
) -> torch.optim.Optimizer:
    """AdamW of PyTorch, or Adafactor (arXiv 1804.04235) of transformers with the learning rate that it is given."""
    if config.name == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,  # one kernel per tensor instead of a dozen: counts where tensors are small
        )
    from transformers.optimization import Adafactor

    make = cast(Any, Adafactor)
    found: torch.optim.Optimizer = make(
        parameters,
        lr=lr,
        eps=FLOOR,
        beta1=config.betas[0] or None,
        weight_decay=config.weight_decay,
        scale_parameter=False,
        relative_step=False,
    )
    return found


def kept_of(optimizer: torch.optim.Optimizer, like: Tensor) -> Mapping[str, Tensor]:
    """What the optimizer keeps of a parameter, before its first update."""
    group = optimizer.param_groups[0]
    if "betas" in group:
        return {kind: torch.zeros_like(like, memory_format=torch.preserve_format) for kind in (FIRST, SECOND)}
    shapes: dict[str, tuple[int, ...]] = {FIRST: like.shape} if group["beta1"] is not None else {}
    if like.dim() < 2:  # only matrices have rows and columns
        shapes[SECOND] = like.shape
    else:
        shapes |= {ROWS: like.shape[:-1], COLUMNS: like.shape[:-2] + like.shape[-1:]}
    return {kind: like.new_zeros(shape) for kind, shape in shapes.items()}


def kept_elements(config: OptimizerConfig, shapes: Sequence[Sequence[int]]) -> int:
    """Elements that the optimizer keeps of parameters of these shapes."""
    whole = sum(math.prod(shape) for shape in shapes)
    if config.name == "adamw":
        return 2 * whole
    factors = sum(_factors(shape) for shape in shapes)
    return factors + (whole if config.betas[0] else 0)


def _factors(shape: Sequence[int]) -> int:
    if len(shape) < 2:
        return math.prod(shape)
    return math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]
