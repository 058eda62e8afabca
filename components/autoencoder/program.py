"""The autoencoder stages as the training loop runs them: which frames a step sees, and the loss on them."""

import time
from typing import Protocol

import torch
from torch import Tensor, nn

from components.autoencoder.objectives import LatentObjective, Loss, PixelObjective
from components.training.program import StepResult


class Batches(Protocol):
    """Clips by position: (B, 3, T, H, W) in [-1, 1]."""

    def batch(self, position: int, frames: int | None = None) -> Tensor: ...


class AutoencoderProgram:
    """Trains an objective on clips of drawn lengths.

    A step sees single frames with probability `image_share`; otherwise clips of `frames` frames, or with
    `mixed_lengths` of a length uniform in 1..frames, shortened to one that the codec takes.
    """

    def __init__(
        self,
        objective: PixelObjective | LatentObjective,
        batches: Batches,
        *,
        frames: int,
        image_share: float = 0.0,
        mixed_lengths: bool = False,
        step_batches: int = 1,
    ) -> None:
        """step_batches: batches of one optimizer step, over accumulation and processes; the loop sets it."""
        self.objective = objective
        self.batches = batches
        self.frames = frames
        self.image_share = image_share
        self.mixed_lengths = mixed_lengths
        self.step_batches = step_batches

    @property
    def module(self) -> nn.Module:
        return self.objective

    def step(self, module: nn.Module, position: int, generator: torch.Generator, /) -> StepResult:
        length = self.draw_length(generator)
        started = time.perf_counter()
        frames = self.batches.batch(position, frames=length)
        waited = time.perf_counter() - started
        device = self.objective.codec.shift.device
        loss: Loss = module(frames.to(device), generator, step=position // self.step_batches)
        kind, terms = f"{length} frames", " ".join(sorted(loss.terms))
        return StepResult(loss.total, loss.terms, wait_seconds=waited, kind=kind, terms=terms)

    def draw_length(self, generator: torch.Generator) -> int:
        """Frames of this step's clips."""
        if torch.rand((), generator=generator) < self.image_share:
            return 1
        if self.mixed_lengths:
            drawn = int(torch.randint(1, self.frames + 1, (), generator=generator))
            return self.objective.codec.geometry.longest_clip(drawn)
        return self.frames
