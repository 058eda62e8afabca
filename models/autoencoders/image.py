"""The 2D autoencoder: diffusers' `AutoencoderKL`, applied to a clip frame by frame.

Any diffusers folder with an `AutoencoderKL` works here, so published weights can be used as they are. A model
with more than three input channels sees each frame folded to smaller, deeper pixels (12 channels: 2x2 pixels
each), which saves the convolutions at full resolution; with three channels the folding is the identity.
"""

import json
import math
from pathlib import Path
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from models.autoencoders.codec import Reconstruction, VideoCodec
from models.autoencoders.config import ImageAutoencoderConfig
from models.autoencoders.folder import CONFIG, read_config, write_config
from models.autoencoders.posterior import start_quiet
from models.checkpoint import load_diffusers
from models.shapes import LatentGeometry

SPATIAL = "spatial"
PIXELS_PER_PASS = 4 * 1280 * 720  # bounds the memory of a long clip: Open-Sora's 4 frames at 720p


class ImageAutoencoder(VideoCodec):
    """A 2D autoencoder over clips; temporal stride 1."""

    def __init__(self, spatial: Any) -> None:
        """spatial: a diffusers `AutoencoderKL`."""
        config = spatial.config
        patch = math.isqrt(config.in_channels // 3)
        if config.in_channels != 3 * patch**2 or config.out_channels != config.in_channels:
            raise ValueError(
                f"the 2D autoencoder has {config.in_channels} input channels and {config.out_channels} output"
                " channels; both must be 3, 12, 27, ... (RGB pixels folded in squares)"
            )
        levels = len(config.block_out_channels)
        super().__init__(
            LatentGeometry(
                channels=config.latent_channels,
                spatial_stride=patch * 2 ** (levels - 1),
                temporal_stride=1,
                chunk_frames=None,
            )
        )
        self.patch = patch
        self.spatial = spatial

    @classmethod
    def build(cls, config: ImageAutoencoderConfig) -> Self:
        """A new model with random weights."""
        from diffusers import AutoencoderKL

        levels = len(config.channels)
        codec = cls(
            AutoencoderKL(
                in_channels=3 * config.patch**2,
                out_channels=3 * config.patch**2,
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
                block_out_channels=config.channels,
                layers_per_block=config.layers_per_level,
                latent_channels=config.latent_channels,
                norm_num_groups=config.norm_groups,
                mid_block_add_attention=config.attention,
            )
        )
        start_quiet(codec.spatial.quant_conv)
        return codec

    @classmethod
    def from_diffusers(cls, folder: Path | str, *, scaling_factor: float | None = None) -> Self:
        """A published `AutoencoderKL`; latents are scaled by its own factor unless another is given.

        Raises `ValueError` if the folder holds none.
        """
        from diffusers import AutoencoderKL

        if not (Path(folder) / CONFIG).is_file():
            raise ValueError(f"{folder} holds no {CONFIG}: give a diffusers folder of an AutoencoderKL")
        codec = cls(load_diffusers(AutoencoderKL, Path(folder)).float())
        factor = scaling_factor or codec.spatial.config.scaling_factor
        shift = codec.spatial.config.shift_factor or 0.0
        channels = codec.geometry.channels
        codec.set_statistics([shift] * channels, [1 / factor] * channels)
        return codec

    def moments(self, frames: Tensor) -> Tensor:
        clips, length = frames.shape[0], frames.shape[2]
        images = rearrange(frames, "b c t h w -> (b t) c h w")
        moments = torch.cat([self._moments(part) for part in self._passes(images, 1)])
        return rearrange(moments, "(b t) c h w -> b c t h w", b=clips, t=length)

    def decode_raw(self, latents: Tensor, num_frames: int) -> Tensor:
        images = rearrange(latents, "b c t h w -> (b t) c h w")
        passes = self._passes(images, self.geometry.spatial_stride)
        pixels = torch.cat([self._pixels(part) for part in passes])
        return rearrange(pixels, "(b t) c h w -> b c t h w", t=num_frames)

    def forward(self, frames: Tensor, generator: torch.Generator | None = None) -> Reconstruction:
        """frames: (B, 3, T, H, W) -> the same frames again, through a sample of the posterior."""
        posterior = self.posterior(frames)
        return Reconstruction(self.decode_raw(posterior.latents(generator), frames.shape[2]), posterior)

    @property
    def last_layer(self) -> nn.Parameter:
        weight: nn.Parameter = self.spatial.decoder.conv_out.weight
        return weight

    def save_pretrained(self, folder: Path) -> None:
        self.spatial.save_pretrained(folder / SPATIAL)
        spatial = json.loads((folder / SPATIAL / CONFIG).read_text())
        spatial.pop("_name_or_path", None)  # a path of this machine
        (folder / SPATIAL / CONFIG).write_text(json.dumps(spatial, indent=2, sort_keys=True) + "\n")
        write_config(folder, self, {**self.statistics(), "image": self.statistics()})

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        from diffusers import AutoencoderKL

        codec = cls(load_diffusers(AutoencoderKL, folder / SPATIAL).float())
        codec.set_statistics(**read_config(folder)["image"])
        return codec

    def _moments(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 2C, h, w)."""
        moments: Tensor = self.spatial.encode(self._folded(images)).latent_dist.parameters
        return moments

    def _pixels(self, latents: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 3, H, W)."""
        return pixel_shuffle(self.spatial.decode(latents).sample, self.patch)

    def _folded(self, images: Tensor) -> Tensor:
        """Fold patches into channels; rows and columns that fill no latent are cut off."""
        height, width = (side - side % self.patch for side in images.shape[-2:])
        return pixel_unshuffle(images[..., :height, :width], self.patch)

    @staticmethod
    def _passes(images: Tensor, stride: int) -> list[Tensor]:
        """Split (N, C, H, W) so that one pass through the network stays below `PIXELS_PER_PASS`."""
        pixels = images.shape[-1] * images.shape[-2] * stride**2
        count = max(1, PIXELS_PER_PASS // pixels)
        return [images[start : start + count] for start in range(0, len(images), count)]
