"""What the autoencoder stages minimise. Each objective is a module around the codec it trains.

The loss is computed inside the module, so that the training engine sees one network with one forward pass, in
one precision. Terms are Open-Sora 1.2's; see `models.autoencoders.losses` for their scale.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.autoencoder.config import ReconstructionConfig
from models.autoencoders.codec import VideoCodec
from models.autoencoders.losses import kl_loss, reconstruction_loss
from models.autoencoders.video import VideoAutoencoder


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and the terms it is made of."""

    total: Tensor
    terms: dict[str, Tensor]


class PixelObjective(nn.Module):
    """Reconstruction of pixels through a sample of the posterior, and its divergence: the 2D stage and stage 3."""

    def __init__(self, codec: VideoCodec, weights: ReconstructionConfig) -> None:
        super().__init__()
        self.codec = codec
        self.weights = weights

    def forward(self, frames: Tensor, generator: torch.Generator) -> Loss:
        """frames: (B, 3, T, H, W) in [-1, 1]."""
        result = self.codec(frames, generator)
        height, width = result.output.shape[-2:]  # pixels that fill no latent are not reconstructed
        target = frames[..., :height, :width]
        reconstruction = _reconstruction(result.output, target, self.weights, self.weights.saturation)
        divergence = kl_loss(result.posterior.kl(), target[0, :, 0].numel())
        total = reconstruction + self.weights.kl * divergence
        return Loss(total, {"reconstruction": reconstruction, "kl": divergence})


class LatentObjective(nn.Module):
    """Reconstruction of 2D latents by the temporal autoencoder: stages 1 and 2.

    With `identity`, the temporal latent of a single image is also drawn to its 2D latent.
    """

    def __init__(self, codec: VideoAutoencoder, weights: ReconstructionConfig, *, identity: bool) -> None:
        super().__init__()
        self.codec = codec
        self.weights = weights
        self.identity = identity

    def forward(self, frames: Tensor, generator: torch.Generator) -> Loss:
        """frames: (B, 3, T, H, W) in [-1, 1]."""
        latents = self.codec.image.encode(frames, generator=generator)  # (B, C, T, h, w)
        target = latents.detach()  # else a trained 2D autoencoder could win by making its latents small
        result = self.codec.temporal(latents, generator)
        reconstruction = _reconstruction(result.output, target, self.weights, 0.0)
        if not (self.identity and frames.shape[2] == 1):
            return Loss(reconstruction, {"reconstruction": reconstruction})
        identity = (result.posterior.mean.float() - target.float()).abs().mean()
        return Loss(reconstruction + identity, {"reconstruction": reconstruction, "identity": identity})


def _reconstruction(
    output: Tensor, target: Tensor, weights: ReconstructionConfig, saturation: float
) -> Tensor:
    return reconstruction_loss(output, target, l1=weights.l1, mse=weights.mse, saturation=saturation)
