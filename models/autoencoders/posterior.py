"""The diagonal Gaussian that both autoencoders encode a clip to."""

from dataclasses import dataclass

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
