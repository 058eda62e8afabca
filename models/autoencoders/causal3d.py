"""The causal 3D autoencoder of W.A.L.T, which is MAGVIT-v2's without its quantiser.

The first frame has a latent of its own, so that images and clips share one latent space; every later latent holds
a whole stride of frames. Geometry, sizes and order of the layers follow the two papers and the public MAGVIT
code; ours are the norm statistics per frame, the zero frames before the first one, and the start of the
adaptive norms. B batch, C channels, T H W grid.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from models.autoencoders.causal_layers import (
    POINT,
    CausalBlocks,
    CausalConvolution,
    DepthToSpace,
    FrameNorm,
    LatentNorm,
    LatentStyle,
)
from models.autoencoders.codec import Reconstruction, VideoCodec
from models.autoencoders.config import CausalAutoencoderConfig
from models.autoencoders.folder import read_config, save_weights, tuples, write_config
from models.autoencoders.frame_cache import WHOLE, Clip, FrameCache
from models.autoencoders.posterior import LatentDistribution, Point, Posterior, start_quiet
from models.autoencoders.tiling import chunks
from models.checkpoint import load_weights
from models.shapes import LatentGeometry

RGB = 3


class CausalEncoder(nn.Module):
    """Pixels (B, 3 * patch^2, T, H, W) -> moments (B, C or 2C, t, h, w)."""

    def __init__(self, config: CausalAutoencoderConfig) -> None:
        super().__init__()
        kernel, groups, widths = (config.time_kernel, 3, 3), config.norm_groups, config.widths
        moments = config.latent_channels * (1 + config.gaussian)
        self.conv_in = CausalConvolution(RGB * config.patch**2, config.filters, kernel, bias=False)
        self.levels = nn.ModuleList(
            CausalBlocks(before, after, config.blocks, groups=groups, kernel=kernel)
            for before, after in pairwise((config.filters, *widths))
        )
        self.downs = nn.ModuleList(
            CausalConvolution(width, width, kernel, stride=stride)
            for width, stride in zip(widths[:-1], config.strides, strict=True)
        )
        self.middle = CausalBlocks(widths[-1], widths[-1], config.blocks, groups=groups, kernel=kernel)
        self.norm_out = FrameNorm(groups, widths[-1])
        self.conv_out = nn.Conv3d(widths[-1], moments, POINT)

    def forward(self, x: Tensor, clip: Clip = WHOLE) -> Tensor:
        x = self.levels[0](self.conv_in(x, clip), clip)
        for down, blocks in zip(self.downs, self.levels[1:], strict=True):
            x = blocks(down(x, clip), clip)
        moments: Tensor = self.conv_out(functional.silu(self.norm_out(self.middle(x, clip))))
        return moments


class CausalDecoder(nn.Module):
    """Latents (B, C, t, h, w) -> pixels (B, 3 * patch^2, 1 + (t - 1) * stride, H, W)."""

    def __init__(self, config: CausalAutoencoderConfig) -> None:
        super().__init__()
        kernel, groups = (config.time_kernel, 3, 3), config.norm_groups
        widths = config.widths[::-1]
        self.strides = config.strides[::-1]
        self.conv_in = CausalConvolution(config.latent_channels, widths[0], kernel)
        self.middle = CausalBlocks(widths[0], widths[0], config.blocks, groups=groups, kernel=kernel)
        inputs = (widths[0], *widths[:-1])
        self.styles = nn.ModuleList(LatentNorm(groups, width, config.latent_channels) for width in inputs)
        self.levels = nn.ModuleList(
            CausalBlocks(before, after, config.blocks, groups=groups, kernel=kernel)
            for before, after in zip(inputs, widths, strict=True)
        )
        self.ups = nn.ModuleList(
            DepthToSpace(width, stride, kernel)
            for width, stride in zip(widths[:-1], self.strides, strict=True)
        )
        self.norm_out = FrameNorm(groups, widths[-1])
        self.conv_out = CausalConvolution(widths[-1], RGB * config.patch**2, kernel)

    def forward(self, latents: Tensor, clip: Clip = WHOLE) -> Tensor:
        style = LatentStyle.of(latents)
        x = self.middle(self.conv_in(latents, clip), clip)
        x = self.levels[0](self.styles[0](x, style), clip)
        for step, up in enumerate(self.ups):
            style = style.upsampled(self.strides[step][0], clip)
            x = self.levels[step + 1](self.styles[step + 1](up(x, clip), style), clip)
        pixels: Tensor = self.conv_out(functional.silu(self.norm_out(x)), clip)
        return pixels


class CausalAutoencoder(VideoCodec):
    """Clips of 1 + k * stride frames <-> 1 + k latents; the first frame is encoded as the image it is."""

    def __init__(self, config: CausalAutoencoderConfig) -> None:
        super().__init__(
            LatentGeometry(
                channels=config.latent_channels,
                spatial_stride=config.spatial_stride,
                temporal_stride=config.temporal_stride,
                chunk_frames=None,
                frame_step=config.temporal_stride,
            )
        )
        self.config = config
        self.encoder = CausalEncoder(config)
        self.decoder = CausalDecoder(config)
        if config.gaussian:
            start_quiet(self.encoder.conv_out)

    def distribution(self, moments: Tensor) -> LatentDistribution:
        return Posterior.from_moments(moments) if self.config.gaussian else Point(moments)

    def moments(self, frames: Tensor) -> Tensor:
        return torch.cat(tuple(self.moments_in_parts(frames, frames.shape[2])), dim=2)

    def moments_in_parts(self, frames: Tensor, latent_frames: int) -> Iterator[Tensor]:
        """Moments of the first frame, then of `latent_frames` latents at a time.

        The first frame is always a part of its own: convolutions round differently at different lengths, and its
        latent is to be that of the image to the last bit.
        """
        first, rest = self._folded(frames).tensor_split((1,), dim=2)
        cache = FrameCache()
        yield self.encoder(first, cache)
        cache.next_chunk()
        for part in chunks(rest, latent_frames * self.geometry.temporal_stride):
            yield self.encoder(part, cache)

    def decode_raw(self, latents: Tensor, num_frames: int) -> Tensor:
        frames = self._unfolded(self.decoder(latents))
        assert frames.shape[2] == num_frames  # the geometry allows no other length
        return frames

    def decode_raw_in_parts(self, latents: Tensor, num_frames: int, latent_frames: int) -> Iterator[Tensor]:  # noqa: ARG002
        """Frames of `latent_frames` latents at a time."""
        yield from self._decode_chunks(chunks(latents, latent_frames))

    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Frames of normalised latents that arrive in chunks (B, C, t, h, w) of any lengths, in their order.

        The first latent makes one frame, every other one a whole stride of them. The frames are those of the whole
        clip up to rounding; between two chunks only the last input frames of the convolutions are kept.
        """
        yield from self._decode_chunks(self.denormalised(chunk) for chunk in latents)

    def forward(self, frames: Tensor, generator: torch.Generator | None = None) -> Reconstruction:
        """frames: (B, 3, T, H, W) -> the same frames again, through a sample of the posterior.

        The clip goes through at once, which is what training needs. Raises `ValueError` for a length it cannot
        have.
        """
        self.geometry.latent_frames(frames.shape[2])
        posterior = self.distribution(self.encoder(self._folded(frames)))
        return Reconstruction(self.decode_raw(posterior.latents(generator), frames.shape[2]), posterior)

    @property
    def last_layer(self) -> nn.Parameter:
        weight: nn.Parameter = self.decoder.conv_out.get_parameter("weight")
        return weight

    def save_pretrained(self, folder: Path) -> None:
        save_weights(self, folder)
        write_config(folder, self, {"model": asdict(self.config)})

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        config = CausalAutoencoderConfig(**tuples(read_config(folder)["model"]))
        with torch.device("meta"):
            codec = cls(config)
        load_weights(codec, folder, dtype=torch.float32)
        return codec

    def _decode_chunks(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        cache = FrameCache()
        for chunk in latents:
            yield self._unfolded(self.decoder(chunk, cache))
            cache.next_chunk()

    def _folded(self, frames: Tensor) -> Tensor:
        """Patches into channels; rows and columns that fill no latent are cut off."""
        stride, patch = self.geometry.spatial_stride, self.config.patch
        height, width = (side - side % stride for side in frames.shape[-2:])
        whole = frames[..., :height, :width]
        return rearrange(whole, "b c t (h p) (w q) -> b (c p q) t h w", p=patch, q=patch)

    def _unfolded(self, pixels: Tensor) -> Tensor:
        patch = self.config.patch
        return rearrange(pixels, "b (c p q) t h w -> b c t (h p) (w q)", p=patch, q=patch)
