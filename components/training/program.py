"""What a stage hands to the training loop: the module it trains, and the mathematics of one step.

The loop owns everything else (optimizer, average, accumulation, logging, checkpoints), so that a stage holds
nothing that has to be saved: a step is a pure function of the weights, a position and a generator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

VALIDATION_LOSS = "val/loss"


@dataclass(frozen=True)
class StepResult:
    """One forward pass. `loss` is a scalar with a graph; `metrics` are scalars, logged as means."""

    loss: Tensor
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    clip_ids: Sequence[str] = ()  # named when the step is broken
    sample_losses: Tensor | None = None  # (B,), of the clips in their order: tells which of them broke it
    wait_seconds: float = 0.0  # spent on reading data
    epoch: int | None = None  # of the data, where they are counted
    kind: str = ""  # of batches whose losses may be compared, such as a bucket
    terms: str = ""  # what the loss is a sum of, where that changes in the course of a run


class Program(Protocol):
    """A training stage's part of the work."""

    @property
    def module(self) -> nn.Module:
        """The module to train: its parameters with `requires_grad`. Holds the average after training."""
        ...

    def step(self, module: nn.Module, position: int, generator: torch.Generator, /) -> StepResult:
        """The loss on the batch at `position`.

        `module` is called in place of `self.module`: it is the same network below the training engine, in
        its precision, with the same attributes. `position` counts batches over all steps, accumulation and
        processes; with one process and no accumulation it is the step. The CPU `generator` is seeded from
        (seed, position) alone, so the same position always draws the same numbers.
        """
        ...


@dataclass(frozen=True)
class Found:
    """What a look has found: metrics by name, and what the checkpoint of this step is worth.

    Of scores the lowest is best; None is never best. `clips` holds the losses of single clips, so that two looks can
    be compared clip by clip.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    clips: Mapping[str, float] = field(default_factory=dict)


class Check(Protocol):
    """A look at the averaged weights now and then. All processes take it together, and it leaves the weights alone."""

    @property
    def every(self) -> int:
        """Optimizer steps between two looks; 0 never looks."""
        ...

    @property
    def scores(self) -> bool:
        """True where it says what a checkpoint is worth; it then looks at the last step too."""
        ...

    def look(self, module: nn.Module, step: int, /) -> Found:
        """The same on all processes.

        `module` is in evaluation mode, without gradients, and holds the first average.
        """
        ...


@runtime_checkable
class CountsSteps(Protocol):
    """A program whose mathematics depends on the optimizer step, which is `position // step_batches`.

    The loop sets it, since a run that goes on with other processes or accumulation keeps the batches of a step.
    """

    step_batches: int
