"""What an autoencoder encodes a clip to: a diagonal Gaussian, or a point."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

MIN_LOGVAR, MAX_LOGVAR = -30.0, 20.0
INITIAL_LOGVAR = -6.0  # a new model starts with little noise; with 0 the first steps learn to get rid of it


def start_quiet(moments: nn.Conv2d | nn.Conv3d) -> None:
    """Set the convolution that makes the moments so that every log-variance is `INITIAL_LOGVAR`."""
    channels = moments.out_channels // 2
    with torch.no_grad():
        moments.weight[channels:] = 0
        if moments.bias is not None:
            moments.bias[channels:] = INITIAL_LOGVAR


class LatentDistribution(Protocol):
    """Where a clip may lie in latent space."""

    @property
    def mean(self) -> Tensor:
        """The most likely latents (B, C, t, h, w)."""

    def latents(self, generator: torch.Generator | None) -> Tensor:
        """The mean without a generator, a sample with one."""

    def normalised(self, shift: Tensor, scale: Tensor) -> "LatentDistribution":
        """The distribution of (z - shift) / scale."""

    def kl(self) -> Tensor:
        """(B,) divergence from the unit Gaussian in nats, summed over the elements of a sample."""


@dataclass(frozen=True)
class Point:
    """An autoencoder without a posterior, as in W.A.L.T: the latents themselves, and no divergence to pay."""

    mean: Tensor

    def latents(self, generator: torch.Generator | None) -> Tensor:  # noqa: ARG002 (there is nothing to draw)
        return self.mean

    def normalised(self, shift: Tensor, scale: Tensor) -> "Point":
        return Point((self.mean - shift) / scale)

    def kl(self) -> Tensor:
        return self.mean.new_zeros(len(self.mean), dtype=torch.float32)


@dataclass(frozen=True)
class Posterior:
    """q(z | x) with independent elements; `mean` and `logvar` have the shape of the latents."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> "Posterior":
        """moments: (B, 2C, ...), mean first; the log-variance is clamped to keep its exponential finite."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(MIN_LOGVAR, MAX_LOGVAR))

    def latents(self, generator: torch.Generator | None) -> Tensor:
        """The mean without a generator, a sample with one."""
        if generator is None:
            return self.mean
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device)
        return self.mean + (0.5 * self.logvar).exp() * noise.to(self.mean)

    def normalised(self, shift: Tensor, scale: Tensor) -> "Posterior":
        """The posterior of (z - shift) / scale."""
        return Posterior((self.mean - shift) / scale, self.logvar - 2 * scale.log())

    def kl(self) -> Tensor:
        """(B,) divergence from the unit Gaussian in nats, summed over the elements of a sample."""
        mean, logvar = self.mean.float(), self.logvar.float()
        return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).flatten(1).sum(dim=1)
