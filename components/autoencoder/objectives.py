"""What the autoencoder stages minimise. Each objective is a module around the codec it trains.

The loss is computed inside the module, so that the training engine sees one network with one forward pass, in
one precision. Terms are Open-Sora 1.2's; see `models.autoencoders.losses` for their scale.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from components.autoencoder.adversary import Adversary
from components.autoencoder.config import PerceptualConfig, ReconstructionConfig, TrainedOrTaken
from components.errors import UserError
from models.autoencoders.codec import VideoCodec
from models.autoencoders.losses import kl_loss, reconstruction_loss
from models.autoencoders.perceptual import VGG16, PerceptualDistance, vgg
from models.autoencoders.video import VideoAutoencoder


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and the terms it is made of."""

    total: Tensor
    terms: dict[str, Tensor]


class WeightedDistance(nn.Module):
    """A perceptual distance with its weight among the other terms."""

    def __init__(self, distance: PerceptualDistance, weight: float) -> None:
        super().__init__()
        self.distance = distance
        self.weight = weight

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """(B, 3, T, H, W) twice -> the weighted mean over the batch."""
        mean: Tensor = self.distance(output, target).mean()
        return self.weight * mean


class PixelObjective(nn.Module):
    """Reconstruction of pixels through a sample of the posterior, and its divergence: the 2D stage and stage 3.

    With a `perceptual` distance and an `adversary` their terms are added (W.A.L.T's and the 2D autoencoder).
    """

    def __init__(
        self,
        codec: VideoCodec,
        weights: ReconstructionConfig,
        *,
        perceptual: WeightedDistance | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        super().__init__()
        self.codec = codec
        self.weights = weights
        self.perceptual = perceptual
        self.adversary = adversary

    def forward(self, frames: Tensor, generator: torch.Generator, *, step: int | None = 0) -> Loss:
        """frames: (B, 3, T, H, W) in [-1, 1]; step: the optimizer's, since an adversary may start late.

        None leaves the adversary out, as its terms say nothing of how near a reconstruction is.
        """
        result = self.codec(frames, generator)
        height, width = result.output.shape[-2:]  # pixels that fill no latent are not reconstructed
        target = frames[..., :height, :width]
        reconstruction = _reconstruction(result.output, target, self.weights, self.weights.saturation)
        divergence = kl_loss(result.posterior.kl(), target[0, :, 0].numel())
        terms = {"reconstruction": reconstruction, "kl": divergence}
        total = reconstruction + self.weights.kl * divergence
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(result.output, target)
            total = total + terms["perceptual"]
        if self.adversary is not None and step is not None and step >= self.adversary.config.start:
            codec = self.adversary.codec_terms(result.output, total, self.codec.last_layer)
            added = {**codec, **self.adversary.own_terms(result.output, target)}
            terms |= added
            total = total + torch.stack(list(added.values())).sum()
        return Loss(total, terms)


def pixel_objective(codec: VideoCodec, config: TrainedOrTaken, root: Path) -> PixelObjective:
    """The objective on pixels with the terms that the stage asks for; `root` is where weights are looked for.

    Raises `UserError` for perceptual weights that are not there or not what they should be.
    """
    distance = _distance(config.perceptual, root) if config.perceptual else None
    adversary = None
    if config.adversarial:
        stride, data = codec.geometry.spatial_stride, config.data
        torch.manual_seed(config.seed + 1)  # other numbers than the codec's
        size = (data.frames, data.height - data.height % stride, data.width - data.width % stride)
        adversary = Adversary(config.adversarial, size)
    return PixelObjective(codec, config.loss, perceptual=distance, adversary=adversary)


def _distance(config: PerceptualConfig, root: Path) -> WeightedDistance:
    try:
        files = root / config.vgg, root / config.heads
        return WeightedDistance(
            PerceptualDistance.from_files(*files, vgg(config.levels or VGG16)), config.weight
        )
    except (ValueError, OSError) as error:
        raise UserError(f"perceptual: {error}") from None


class LatentObjective(nn.Module):
    """Reconstruction of 2D latents by the temporal autoencoder: stages 1 and 2.

    With `identity`, the temporal latent of a single image is also drawn to its 2D latent.
    """

    def __init__(self, codec: VideoAutoencoder, weights: ReconstructionConfig, *, identity: bool) -> None:
        super().__init__()
        self.codec = codec
        self.weights = weights
        self.identity = identity

    def forward(
        self,
        frames: Tensor,
        generator: torch.Generator,
        *,
        step: int | None = 0,  # noqa: ARG002
    ) -> Loss:
        """frames: (B, 3, T, H, W) in [-1, 1]; nothing here depends on the step."""
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
