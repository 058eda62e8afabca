"""What a denoiser learns in one step: rectified flow on batches of latents, and how batches reach any denoiser.

A program joins a loader and an objective; the other objective is in `epsilon`, since only images use it.
Everything random in a step (dropped captions, frame masks, noise, times) is drawn from the step's generator,
in this order.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Generator, Tensor, nn

from components.data.loader import LatentBatch, LatentBatches
from components.runtime import compute_device
from components.training.program import StepResult
from models.diffusion import IMAGE_FPS, Conditions, Denoiser, FrameMasks, RectifiedFlow, drop_captions


class Captioned(Protocol):
    """A denoiser that knows what stands for "no caption"."""

    def null_text(self, text: Tensor) -> Tensor: ...


@dataclass
class Feed:
    """Batches as a denoiser takes them: on its device, captions dropped, still images marked by their frame rate."""

    batches: LatentBatches
    caption_dropout: float
    waited: float = 0.0  # seconds since the last look
    epoch: int = 0  # of the last batch

    def __post_init__(self) -> None:
        self._images = {family.key for family in self.batches.families if family.frames == 1}

    def read(self, position: int, captioned: Captioned, generator: Generator) -> "Fed":
        """The batch at a position."""
        with self._waiting():
            batch = self.batches.batch(position)
        self.epoch = self.batches.schedule.epoch_of(position)
        is_image = batch.bucket in self._images
        null = captioned.null_text(batch.text.to(compute_device()))
        text = drop_captions(batch.text.to(null), null, probability=self.caption_dropout, generator=generator)
        conditions = conditions_of(batch, text, is_image=is_image).to(null.device)
        return Fed(batch, batch.latents.to(null), conditions, "images" if is_image else "videos")

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.waited += time.perf_counter() - started

    def result(self, fed: "Fed", losses: Tensor) -> StepResult:
        """The step's result from the loss per sample (B,)."""
        waited, self.waited = self.waited, 0.0
        loss = losses.mean()
        return StepResult(
            *(loss, {f"loss_{fed.kind}": loss.detach()}, fed.batch.clip_ids, losses.detach(), waited),
            epoch=self.epoch,
            kind=fed.batch.bucket,
        )


def conditions_of(batch: LatentBatch, text: Tensor, *, is_image: bool) -> Conditions:
    """What a model is told of a batch, with `text` (B, L, D) in the place of its captions."""
    fps = torch.full_like(batch.fps, IMAGE_FPS) if is_image else batch.fps
    return Conditions(text=text, text_mask=batch.text_mask, fps=fps, size=batch.size)


@dataclass(frozen=True)
class Fed:
    """One batch, ready for a denoiser."""

    batch: LatentBatch
    latents: Tensor  # (B, C, T, H, W)
    conditions: Conditions
    kind: str  # "images" or "videos"


@dataclass
class FlowProgram:
    """Rectified flow with frame masks. Still images are never masked."""

    module: nn.Module
    feed: Feed
    flow: RectifiedFlow
    masks: FrameMasks

    def step(self, module: nn.Module, position: int, generator: Generator) -> StepResult:
        fed = self.feed.read(position, cast(Captioned, self.module), generator)
        mask = self._mask(fed, generator)
        draw = self.flow.draw(fed.latents, fed.conditions.size, generator)
        losses = self.flow.loss(cast(Denoiser, module), fed.latents, fed.conditions, draw, mask)
        return self.feed.result(fed, losses)

    def _mask(self, fed: Fed, generator: Generator) -> Tensor | None:
        samples, frames = fed.latents.shape[0], fed.latents.shape[2]
        if frames == 1 or not self.masks.any:
            return None
        return self.masks.draw(samples, frames, generator).to(fed.latents.device)
