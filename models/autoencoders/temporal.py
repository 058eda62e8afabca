"""The temporal autoencoder of Open-Sora 1.2: shortens a clip of 2D latents in time, causally.

It works on the latents of the 2D autoencoder, keeps their channels and size, and divides their frames by the
temporal stride. A clip is encoded in chunks of `chunk_frames`; a chunk that does not divide is padded with
zero latents in front, so with 17 frames and stride 4 the first latent holds exactly the first frame.
GroupNorm averages over the frames of a chunk, as in the published model: inside a chunk the statistics see
later frames, the convolutions do not.
"""

from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.autoencoders.causal_conv import CausalConv3d, TimeUpsample, residual_blocks
from models.autoencoders.codec import Reconstruction
from models.autoencoders.config import TemporalAutoencoderConfig
from models.autoencoders.folder import read_config, save_weights, tuples, write_config
from models.autoencoders.posterior import Posterior, start_quiet
from models.autoencoders.tiling import chunks
from models.checkpoint import load_weights
from models.shapes import LatentGeometry


class TemporalEncoder(nn.Module):
    """2D latents (B, C, T, h, w), T a multiple of the stride -> features (B, 2C, t, h, w)."""

    def __init__(self, config: TemporalAutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.widths, config.norm_groups
        self.conv_in = CausalConv3d(config.latent_channels, config.filters, 3, bias=False)
        self.block_res_blocks = nn.ModuleList(
            residual_blocks(before, after, config.blocks, groups)
            for before, after in pairwise((config.filters, *widths))
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, width, 3, time_stride=2) if halves else nn.Identity()
            for width, halves in zip(widths[:-1], config.temporal_downsample, strict=True)
        )
        self.res_blocks = residual_blocks(widths[-1], widths[-1], config.blocks, groups)
        self.norm1 = nn.GroupNorm(groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], 2 * config.latent_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level, blocks in enumerate(self.block_res_blocks):
            x = blocks(x)
            if level < len(self.conv_blocks):
                x = self.conv_blocks[level](x)
        x = functional.silu(self.norm1(self.res_blocks(x)))
        features: Tensor = self.conv2(x)
        return features


class TemporalDecoder(nn.Module):
    """Latents (B, C, t, h, w) -> 2D latents (B, C, t * stride, h, w)."""

    def __init__(self, config: TemporalAutoencoderConfig) -> None:
        super().__init__()
        widths, groups = config.widths, config.norm_groups
        self.conv1 = CausalConv3d(config.latent_channels, widths[-1], 3)
        self.res_blocks = residual_blocks(widths[-1], widths[-1], config.blocks, groups)
        self.block_res_blocks = nn.ModuleList(
            residual_blocks(before, after, config.blocks, groups)
            for after, before in pairwise((*widths, widths[-1]))
        )
        self.conv_blocks = nn.ModuleList(
            TimeUpsample(width) if doubles else nn.Identity()
            for width, doubles in zip(widths[1:], config.temporal_downsample, strict=True)
        )
        self.norm1 = nn.GroupNorm(groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], config.latent_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(x))
        for level in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[level](x)
            if level > 0:
                x = self.conv_blocks[level - 1](x)
        latents: Tensor = self.conv_out(functional.silu(self.norm1(x)))
        return latents


class TemporalAutoencoder(nn.Module):
    """2D latents (B, C, T, h, w) <-> temporal latents (B, C, t, h, w)."""

    def __init__(self, config: TemporalAutoencoderConfig) -> None:
        super().__init__()
        channels = config.latent_channels
        self.config = config
        self.encoder = TemporalEncoder(config)
        self.quant_conv = CausalConv3d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = CausalConv3d(channels, channels, 1)
        self.decoder = TemporalDecoder(config)
        start_quiet(self.quant_conv.conv)

    def moments(self, latents_2d: Tensor) -> Tensor:
        """(B, 2C, t, h, w), chunk by chunk."""
        parts = chunks(latents_2d, self.config.chunk_frames)
        return torch.cat([self._moments(part) for part in parts], dim=2)

    def posterior(self, latents_2d: Tensor) -> Posterior:
        """Posterior of the temporal latents."""
        return Posterior.from_moments(self.moments(latents_2d))

    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """2D latents of `num_frames` frames."""
        chunk_frames = self.config.chunk_frames
        chunk_latents = -(-chunk_frames // self.config.temporal_stride)
        decoded = []
        for index, chunk in enumerate(chunks(latents, chunk_latents)):
            frames = min(chunk_frames, num_frames - index * chunk_frames)
            clip: Tensor = self.decoder(self.post_quant_conv(chunk))
            decoded.append(clip[:, :, clip.shape[2] - frames :])  # the padding lies in front
        return torch.cat(decoded, dim=2)

    def forward(self, latents_2d: Tensor, generator: torch.Generator | None = None) -> Reconstruction:
        """The same 2D latents again, through a sample of the posterior."""
        posterior = self.posterior(latents_2d)
        return Reconstruction(self.decode(posterior.latents(generator), latents_2d.shape[2]), posterior)

    def save_pretrained(self, folder: Path) -> None:
        save_weights(self, folder)
        write_config(folder, self, asdict(self.config))

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        config = TemporalAutoencoderConfig(**tuples(read_config(folder)))
        with torch.device("meta"):
            model = cls(config)
        load_weights(model, folder, dtype=torch.float32)
        return model

    def _moments(self, chunk: Tensor) -> Tensor:
        """(B, C, T, h, w) with T up to `chunk_frames` -> (B, 2C, ceil(T / stride), h, w)."""
        padding = -chunk.shape[2] % self.config.temporal_stride
        moments: Tensor = self.quant_conv(self.encoder(functional.pad(chunk, (0, 0, 0, 0, padding, 0))))
        return moments


def temporal_geometry(image: LatentGeometry, config: TemporalAutoencoderConfig) -> LatentGeometry:
    """Geometry of the 2D and the temporal autoencoder together. Raises `ValueError` if they do not fit."""
    if image.channels != config.latent_channels:
        raise ValueError(
            f"the temporal autoencoder works on {config.latent_channels} channels and the 2D autoencoder"
            f" makes {image.channels}; set latent_channels to {image.channels}"
        )
    return LatentGeometry(
        channels=image.channels,
        spatial_stride=image.spatial_stride,
        temporal_stride=config.temporal_stride,
        chunk_frames=config.chunk_frames,
    )
