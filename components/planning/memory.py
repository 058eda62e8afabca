"""Memory of one GPU by ZeRO stage: what DeepSpeed keeps under our engine, and what the activations need besides.

The arithmetic of the ZeRO paper (arXiv 1910.02054, section 5) for our precision: weights and optimizer in float32 under
autocast, so 4 bytes a parameter for weights and gradients each, 8 for Adam's moments, 4 for each average. Two things
that the paper does not count are here too. Stages 1 and 2 hold the optimizer's own copy of its share of the weights,
and every stage buffers gradients that wait to be sent (both read off DeepSpeed 0.19's optimizers).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from components.planning.passes import Pass
from components.training.config import LoopConfig
from components.training.optimizers import kept_elements

BYTES = 4  # of a float32
GATHERED_BYTES = 2  # of a parameter that ZeRO 3 has gathered for use in bf16
BUCKET = 500_000_000  # elements of a buffer of gradients (DeepSpeed: reduce_bucket_size)
LIVE = 1_050_000_000  # parameters that ZeRO 3 may hold gathered: stage3_max_live_parameters and what is fetched ahead
CONTEXT = 2 << 30  # CUDA's context and libraries, and the buffers of NCCL: assumed
FRAGMENTS = 0.05  # of the activations: what the allocator cannot use, assumed
STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Setting:
    """What decides the memory of a training stage."""

    trained: int  # parameters
    frozen: int
    averages: int  # exponential moving averages
    zero_stage: int
    gpus: int
    bf16: bool
    recompute: bool  # activation checkpointing
    kept: int | None = None  # elements that the optimizer keeps; None: Adam's two moments

    @property
    def moments(self) -> int:
        """Elements that the optimizer keeps."""
        return 2 * self.trained if self.kept is None else self.kept

    @classmethod
    def of(
        cls, config: LoopConfig, gpus: int, *, trained: Sequence[tuple[int, ...]], everything: int
    ) -> "Setting":
        """That of a configuration that trains parameters of these shapes, of so many parameters in all."""
        learned = sum(map(prod, trained))
        return cls(
            trained=learned,
            frozen=everything - learned,
            averages=len(config.decays),
            zero_stage=config.zero_stage,
            gpus=gpus,
            bf16=config.precision != "fp32",
            recompute=config.activation_checkpointing,
            kept=kept_elements(config.optimizer, trained),
        )


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the fullest moment of a step."""

    weights: int
    gradients: int
    optimizer: int
    ema: int
    activations: int
    reserve: int

    @property
    def total(self) -> int:
        return self.states + self.activations + self.reserve

    @property
    def states(self) -> int:
        """All that does not depend on the batch."""
        return self.weights + self.gradients + self.optimizer + self.ema


def memory_of(setting: Setting, step: Pass) -> Memory:
    """Memory of a step under a setting; the pass must be one with that setting's `recompute`."""
    share = setting.gpus if setting.zero_stage > 0 else 1
    everything = setting.trained + setting.frozen
    activations = step.peak
    if setting.zero_stage == 3:
        gathered = min(everything, LIVE) * (GATHERED_BYTES if setting.bf16 else BYTES)
        weights = _per(everything * BYTES, share) + gathered
        activations = step.peak_without_copies  # gathered parameters are in bf16 already
    elif setting.zero_stage > 0:
        weights = everything * BYTES + _per(setting.trained * BYTES, share)
    else:
        weights = everything * BYTES
    whole_gradients = setting.zero_stage < 2
    gradients = _per(setting.trained * BYTES, 1 if whole_gradients else share)
    if setting.zero_stage > 0:
        buffers = 2 if setting.bf16 else 1  # one for each precision that gradients are sent in
        gradients += buffers * BUCKET * BYTES
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=_per(setting.moments * BYTES, share),
        # each process averages a part at every stage, also where it holds all weights (see `shards`)
        ema=_per(setting.averages * setting.trained * BYTES, setting.gpus),
        activations=activations,
        reserve=CONTEXT + round(FRAGMENTS * activations),
    )


def checkpoint_bytes(setting: Setting) -> int:
    """A checkpoint: trained weights, what the optimizer keeps and the averages in float32, each element once."""
    return BYTES * (setting.trained * (1 + setting.averages) + setting.moments)


def _per(amount: int, share: int) -> int:
    return -(-amount // share)
