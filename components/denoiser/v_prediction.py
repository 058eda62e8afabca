"""v-prediction on batches of latents: what every stage of W.A.L.T learns, super-resolution included."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Generator, Tensor, nn

from components.denoiser.fixed_losses import Level
from components.denoiser.low_resolution import LowResolution
from components.denoiser.programs import Captioned, Fed, Feed
from components.denoiser.stacks import stacked
from components.training.program import StepResult
from models.diffusion import Denoiser, Draw, FramePrediction, NoiseAugmentation, VPrediction
from models.diffusion.fixed_draws import draw_at, fixed_noise


@dataclass(frozen=True)
class Upsampling:
    """What makes a super-resolution stage: low-resolution latents, and the noise that is put on them."""

    source: LowResolution
    augmentation: NoiseAugmentation

    def told(self, fed: Fed) -> Fed:
        """The batch with its clean low-resolution latents."""
        low = self.source.read(fed.batch).to(fed.latents)
        return replace(fed, conditions=replace(fed.conditions, low_resolution=low))

    def at_half(self, fed: Fed, seed: int) -> Fed:
        """The same with noise that is fixed for each clip, at half the greatest time."""
        low = cast(Tensor, fed.conditions.low_resolution)
        noise = [fixed_noise(f"{clip}:low", seed, 1, low.shape[1:]) for clip in fed.batch.clip_ids]
        times = torch.full((len(low),), self.augmentation.max_time // 2, device=low.device)
        draw = Draw(torch.cat(noise).to(low), times)
        return replace(fed, conditions=self.augmentation.applied(fed.conditions, low, draw))

    def noised(self, fed: Fed, generator: Generator) -> Fed:
        """The same with noise on them, and its time."""
        low = cast(Tensor, fed.conditions.low_resolution)
        draw = self.augmentation.draw(low, generator)
        return replace(fed, conditions=self.augmentation.applied(fed.conditions, low, draw))


@dataclass(frozen=True)
class FixedTasks:
    """The losses of a model of W.A.L.T on fixed draws: from noise, and with each number of first frames given.

    Samples see an estimate of the model's own, and low-resolution latents have fixed noise of half the greatest time.
    Still images stand for themselves, in stacks of one.
    """

    diffusion: VPrediction
    given: FramePrediction
    upsampling: Upsampling | None = None

    def __call__(self, model: Denoiser, fed: Fed, level: Level) -> Mapping[str, Tensor]:
        """Losses (B,) by given frames: "" for none, `given1`, `given2`, ..."""
        if self.upsampling:
            fed = self.upsampling.at_half(self.upsampling.told(fed), level.seed)
        if fed.kind == "images":
            fed = stacked(fed, 1)
        diffusion = self.diffusion.always_estimating()
        draw = draw_at(diffusion, fed.latents, level.noise, level.time)
        masks = self._masks(fed)
        return {
            name: diffusion.loss(model, fed.latents, fed.conditions, draw, mask)
            for name, mask in masks.items()
        }

    def _masks(self, fed: Fed) -> dict[str, Tensor | None]:
        """Frames to predict (B, T) by name."""
        samples, frames = fed.latents.shape[0], fed.latents.shape[2]
        masks: dict[str, Tensor | None] = {"": None}
        if fed.kind == "images" or not self.given.any:
            return masks
        places = torch.arange(frames, device=fed.latents.device).expand(samples, frames)
        for count in range(1, min(self.given.longest, frames - 1) + 1):
            masks[f"given{count}"] = places >= count
        return masks


@dataclass
class VPredictionProgram:
    """v-prediction with self-conditioning and frame prediction, on clips and on stacks of still images.

    Which samples see an estimate follows from the optimizer step, so all ranks split their batches alike.
    """

    module: nn.Module
    feed: Feed
    diffusion: VPrediction
    given: FramePrediction
    stack: int  # images in the place of a clip
    seed: int
    upsampling: Upsampling | None = None
    step_batches: int = 1  # set by the loop

    def step(self, module: nn.Module, position: int, generator: Generator) -> StepResult:
        fed = self.feed.read(position, cast(Captioned, self.module), generator)
        if self.upsampling:
            fed = self.upsampling.told(fed)
        if fed.kind == "images":
            fed = stacked(fed, self.stack)
        if self.upsampling:
            fed = self.upsampling.noised(fed, generator)
        mask = self._mask(fed, generator)
        draw = self.diffusion.draw(fed.latents, generator, coin=self.coin(position))
        losses = self.diffusion.loss(cast(Denoiser, module), fed.latents, fed.conditions, draw, mask)
        return self.feed.result(fed, losses)

    def coin(self, position: int) -> float:
        """Uniform in [0, 1), one per optimizer step."""
        return float(np.random.default_rng([self.seed % 2**63, position // self.step_batches]).random())

    def _mask(self, fed: Fed, generator: Generator) -> Tensor | None:
        """Frames to predict (B, T); still images are never given."""
        samples, frames = fed.latents.shape[0], fed.latents.shape[2]
        if fed.kind == "images" or frames == 1 or not self.given.any:
            return None
        return self.given.draw(samples, frames, generator).to(fed.latents.device)
