"""The objective of the image model and the first adaptation steps: DDPM's noise prediction on batches of latents."""

from dataclasses import dataclass, field
from typing import cast

from torch import Generator, nn

from components.denoiser.programs import Captioned, Feed
from components.training.program import StepResult
from models.diffusion import Denoiser
from models.diffusion.epsilon import EpsilonDiffusion


@dataclass
class EpsilonProgram:
    """DDPM's noise prediction, which PixArt is trained with."""

    module: nn.Module
    feed: Feed
    diffusion: EpsilonDiffusion = field(default_factory=EpsilonDiffusion)

    def step(self, module: nn.Module, position: int, generator: Generator) -> StepResult:
        fed = self.feed.read(position, cast(Captioned, self.module), generator)
        draw = self.diffusion.draw(fed.latents, generator)
        losses = self.diffusion.loss(cast(Denoiser, module), fed.latents, fed.conditions, draw)
        return self.feed.result(fed, losses)
