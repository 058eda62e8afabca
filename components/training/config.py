"""Parameters that every training stage has."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from components.config import Section
from components.runtime import Precision


class OptimizerConfig(Section):
    """AdamW."""

    lr: PositiveFloat
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: NonNegativeInt = 0  # optimizer steps
    clip: PositiveFloat = 1.0  # gradient norm


class LoopConfig(Section):
    """What every training stage has; stages inherit it. `steps` are optimizer steps."""

    steps: PositiveInt
    seed: int
    optimizer: OptimizerConfig
    precision: Precision = "auto"
    zero_stage: int = Field(default=0, ge=0, le=3)
    accumulation: PositiveInt = 1
    activation_checkpointing: bool = False
    ema: float = Field(default=0.99, ge=0, lt=1)
    log_steps: PositiveInt = 10
    checkpoint_steps: PositiveInt = 50
