"""What every autoencoder offers to the rest of the platform, whatever it is made of.

Latents that leave a codec are normalised per channel with statistics of the training clips, because diffusion
expects unit variance. `contract()` identifies the codec: latents are only ever compared or decoded under an
equal contract.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.autoencoders.posterior import Posterior
from models.shapes import LatentGeometry


@dataclass(frozen=True)
class Reconstruction:
    """One training pass: what came out, and the latent it came from."""

    output: Tensor
    posterior: Posterior


class VideoCodec(nn.Module, ABC):
    """Frames (B, 3, T, H, W) in [-1, 1] <-> normalised latents (B, C, t, h, w)."""

    shift: Tensor  # (C,)
    scale: Tensor  # (C,)

    def __init__(self, geometry: LatentGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.register_buffer("shift", torch.zeros(geometry.channels))
        self.register_buffer("scale", torch.ones(geometry.channels))

    @abstractmethod
    def posterior(self, frames: Tensor) -> Posterior:
        """Posterior of the latents before normalisation."""

    @abstractmethod
    def decode_raw(self, latents: Tensor, num_frames: int) -> Tensor:
        """Frames from latents before normalisation."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write a folder that `load_autoencoder` reads."""

    def encode(self, frames: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Normalised latents: the posterior's mean, or a sample where a generator is given."""
        if frames.ndim != 5 or frames.shape[1] != 3:
            raise ValueError(f"frames must be (B, 3, T, H, W), not {tuple(frames.shape)}")
        posterior = self.posterior(frames).normalised(_channels(self.shift), _channels(self.scale))
        return posterior.latents(generator)

    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """Frames; not clamped. Raises `ValueError` where the latents are not those of `num_frames` frames."""
        expected = (self.geometry.channels, self.geometry.latent_frames(num_frames))
        if latents.ndim != 5 or tuple(latents.shape[1:3]) != expected:
            raise ValueError(
                f"latents of {num_frames} frames must be (B, {expected[0]}, {expected[1]}, h, w),"
                f" not {tuple(latents.shape)}"
            )
        return self.decode_raw(latents * _channels(self.scale) + _channels(self.shift), num_frames)

    def set_statistics(self, shift: Sequence[float], scale: Sequence[float]) -> None:
        """Per-channel mean and standard deviation of the latents before normalisation."""
        if min(scale) <= 0:
            raise ValueError(f"a latent channel never changes on the training clips: scale {list(scale)}")
        self.shift.copy_(torch.tensor(shift))
        self.scale.copy_(torch.tensor(scale))

    def statistics(self) -> dict[str, list[float]]:
        return {"shift": self.shift.float().tolist(), "scale": self.scale.float().tolist()}

    def contract(self) -> dict[str, Any]:
        """What identifies these latents. Weights are digested in float32: ask before casting the codec."""
        return {
            "weights_sha256": weights_digest(self),
            "channels": self.geometry.channels,
            "spatial_stride": self.geometry.spatial_stride,
            "temporal_stride": self.geometry.temporal_stride,
            "chunk_frames": self.geometry.chunk_frames,
            **self.statistics(),
        }


def weights_digest(module: nn.Module) -> str:
    """sha256 over the sorted state dict (names, shapes, float32 values)."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        array = value.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _channels(statistic: Tensor) -> Tensor:
    return statistic.view(1, -1, 1, 1, 1)
