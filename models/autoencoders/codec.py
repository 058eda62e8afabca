"""What every autoencoder offers to the rest of the platform, whatever it is made of.

Latents that leave a codec are normalised per channel with statistics of the training clips, because diffusion
expects unit variance. `contract()` identifies the codec: latents are only ever compared or decoded under an
equal contract.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.autoencoders.posterior import LatentDistribution, Posterior
from models.autoencoders.tiling import Tiling, chunks
from models.shapes import LatentGeometry


@dataclass(frozen=True)
class Reconstruction:
    """One training pass: what came out, and the latent it came from."""

    output: Tensor
    posterior: LatentDistribution


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
    def moments(self, frames: Tensor) -> Tensor:
        """(B, kC, t, h, w): what the distribution of the latents before normalisation is made of."""

    @abstractmethod
    def decode_raw(self, latents: Tensor, num_frames: int) -> Tensor:
        """Frames from latents before normalisation."""

    @property
    @abstractmethod
    def last_layer(self) -> nn.Parameter:
        """Weight of the convolution that makes the pixels, where an adversarial term is weighed."""

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that `load_autoencoder` reads."""

    def distribution(self, moments: Tensor) -> LatentDistribution:
        """Where the latents lie before normalisation."""
        return Posterior.from_moments(moments)

    def moments_in_parts(self, frames: Tensor, latent_frames: int) -> Iterator[Tensor]:
        """`moments` in parts of about `latent_frames`: whole chunks, which know nothing of each other."""
        count = max(1, latent_frames // (self.geometry.chunk_latents or 1))
        for part in chunks(frames, count * (self.geometry.chunk_frames or 1)):
            yield self.moments(part)

    def decode_raw_in_parts(self, latents: Tensor, num_frames: int, latent_frames: int) -> Iterator[Tensor]:
        """`decode_raw` in parts of about `latent_frames`: whole chunks, which know nothing of each other."""
        chunk = self.geometry.chunk_latents or 1
        for part in chunks(latents, max(1, latent_frames // chunk) * chunk):
            frames = min(num_frames, self.geometry.pixel_frames(part.shape[2]))
            num_frames -= frames
            yield self.decode_raw(part, frames)

    def posterior(self, frames: Tensor, tiling: Tiling | None = None) -> LatentDistribution:
        """Distribution of the latents before normalisation. Raises `ValueError` for frames it cannot take."""
        if frames.ndim != 5 or frames.shape[1] != 3:
            raise ValueError(f"frames must be (B, 3, T, H, W), not {tuple(frames.shape)}")
        self.geometry.latent_shape(*frames.shape[2:])
        if tiling is None:
            return self.distribution(self.moments(frames))
        in_parts, stride = tiling.frames, self.geometry.spatial_stride

        def moments(tile: Tensor) -> Tensor:
            parts = (self.moments(tile),) if in_parts is None else self.moments_in_parts(tile, in_parts)
            return torch.cat(tuple(parts), dim=2)

        return self.distribution(tiling.run(frames, moments, scale_in=stride, scale_out=1))

    def encode(
        self, frames: Tensor, *, generator: torch.Generator | None = None, tiling: Tiling | None = None
    ) -> Tensor:
        """Normalised latents: the posterior's mean, or a sample where a generator is given.

        `tiling` bounds the memory. Raises `ValueError` for a clip that the codec cannot take.
        """
        posterior = self.posterior(frames, tiling)
        return posterior.normalised(_channels(self.shift), _channels(self.scale)).latents(generator)

    def decode(self, latents: Tensor, num_frames: int, *, tiling: Tiling | None = None) -> Tensor:
        """Frames; not clamped. `tiling` bounds the memory.

        Raises `ValueError` where the latents are not those of `num_frames` frames.
        """
        expected = (self.geometry.channels, self.geometry.latent_frames(num_frames))
        if latents.ndim != 5 or tuple(latents.shape[1:3]) != expected:
            raise ValueError(
                f"latents of {num_frames} frames must be (B, {expected[0]}, {expected[1]}, h, w),"
                f" not {tuple(latents.shape)}"
            )
        raw = self.denormalised(latents)
        if tiling is None:
            return self.decode_raw(raw, num_frames)
        in_parts = tiling.frames

        def pixels(tile: Tensor) -> Tensor:
            if in_parts is None:
                return self.decode_raw(tile, num_frames)
            return torch.cat(tuple(self.decode_raw_in_parts(tile, num_frames, in_parts)), dim=2)

        return tiling.run(raw, pixels, scale_in=1, scale_out=self.geometry.spatial_stride)

    def denormalised(self, latents: Tensor) -> Tensor:
        """Latents as they were before normalisation."""
        return latents * _channels(self.scale) + _channels(self.shift)

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
