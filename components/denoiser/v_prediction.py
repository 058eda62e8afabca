"""v-prediction on batches of latents: what every stage of W.A.L.T learns, super-resolution included."""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import Generator, Tensor, nn

from components.denoiser.low_resolution import LowResolution
from components.denoiser.programs import Captioned, Fed, Feed
from components.denoiser.stacks import stacked
from components.training.program import StepResult
from models.diffusion import Denoiser, FramePrediction, NoiseAugmentation, VPrediction


@dataclass(frozen=True)
class Upsampling:
    """What makes a super-resolution stage: low-resolution latents, and the noise that is put on them."""

    source: LowResolution
    augmentation: NoiseAugmentation

    def told(self, fed: Fed) -> Fed:
        """The batch with its clean low-resolution latents."""
        low = self.source.read(fed.batch).to(fed.latents)
        return replace(fed, conditions=replace(fed.conditions, low_resolution=low))

    def noised(self, fed: Fed, generator: Generator) -> Fed:
        """The same with noise on them, and its time."""
        low = cast(Tensor, fed.conditions.low_resolution)
        draw = self.augmentation.draw(low, generator)
        return replace(fed, conditions=self.augmentation.applied(fed.conditions, low, draw))


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
