"""The video autoencoder: the 2D autoencoder, then the temporal one on its latents (Open-Sora 1.2)."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from models.autoencoders.codec import Reconstruction, VideoCodec
from models.autoencoders.config import VideoAutoencoderConfig
from models.autoencoders.folder import read_config, write_config
from models.autoencoders.image import ImageAutoencoder
from models.autoencoders.temporal import TemporalAutoencoder, temporal_geometry

TEMPORAL = "temporal"


class VideoAutoencoder(VideoCodec):
    """Clips to latents in space, then in time.

    The temporal model sees the 2D latents as the 2D codec normalises them; the statistics of this codec are
    those of the temporal latents.
    """

    def __init__(self, image: ImageAutoencoder, temporal: TemporalAutoencoder) -> None:
        super().__init__(temporal_geometry(image.geometry, temporal.config))
        self.image = image
        self.temporal = temporal

    @classmethod
    def build(cls, config: VideoAutoencoderConfig) -> Self:
        """A new model with random weights."""
        return cls(ImageAutoencoder.build(config.image), TemporalAutoencoder(config.temporal))

    def moments(self, frames: Tensor) -> Tensor:
        return self.temporal.moments(self.image.encode(frames))

    def decode_raw(self, latents: Tensor, num_frames: int) -> Tensor:
        return self.image.decode(self.temporal.decode(latents, num_frames), num_frames)

    def forward(self, frames: Tensor, generator: torch.Generator | None = None) -> Reconstruction:
        """frames: (B, 3, T, H, W) -> the same frames again, through samples of both posteriors."""
        posterior = self.temporal.posterior(self.image.encode(frames, generator=generator))
        output = self.decode_raw(posterior.latents(generator), frames.shape[2])
        return Reconstruction(output, posterior)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.image.last_layer

    def save_pretrained(self, folder: Path) -> None:
        self.image.save_pretrained(folder)
        self.temporal.save_pretrained(folder / TEMPORAL)
        write_config(folder, self, {**self.statistics(), "image": self.image.statistics()})

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        temporal = TemporalAutoencoder.from_pretrained(folder / TEMPORAL)
        codec = cls(ImageAutoencoder.from_pretrained(folder), temporal)
        codec.set_statistics(**{name: read_config(folder)[name] for name in ("shift", "scale")})
        return codec
