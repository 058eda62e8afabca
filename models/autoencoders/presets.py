"""The published autoencoders, and a tiny twin of each for tests, as configurations and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from models.autoencoders import build_autoencoder
from models.autoencoders.codec import VideoCodec
from models.autoencoders.config import (
    AutoencoderConfig,
    CausalAutoencoderConfig,
    ImageAutoencoderConfig,
    TemporalAutoencoderConfig,
    VideoAutoencoderConfig,
)
from models.shapes import LatentGeometry


@dataclass(frozen=True, kw_only=True)
class AutoencoderPreset:
    """One autoencoder: what is built, for which system, and what is published of it."""

    config: AutoencoderConfig
    system: str
    published: str  # what is published; the rest of the configuration is our choice
    video: tuple[int, int, int]  # frames, height and width of a training sample

    def build(self) -> VideoCodec:
        """A new codec with random weights; without any under `torch.device("meta")`."""
        return build_autoencoder(self.config)

    def geometry(self) -> LatentGeometry:
        """How it maps clips to latents."""
        with torch.device("meta"):
            return self.build().geometry


SDXL = ImageAutoencoderConfig(
    channels=(128, 256, 512, 512), layers_per_level=2, latent_channels=4, norm_groups=32
)
OPEN_SORA = VideoAutoencoderConfig(
    image=SDXL,
    temporal=TemporalAutoencoderConfig(
        filters=128,
        multipliers=(1, 2, 2, 4),
        blocks=4,
        temporal_downsample=(False, True, True),
        norm_groups=32,
        chunk_frames=17,
    ),
)
HDVILA = replace(SDXL, channels=(128, 256, 512))
WALT = CausalAutoencoderConfig(
    filters=128,
    multipliers=(1, 2, 2, 4),
    blocks=4,
    spatial_downsample=(True, True, True),
    temporal_downsample=(False, True, True),
    latent_channels=8,
    norm_groups=32,
)
WALT_IMAGE = replace(WALT, multipliers=(1, 1, 2, 4), temporal_downsample=(False, False, False), time_kernel=1)
CAUSAL_5B = replace(WALT, multipliers=(1, 2, 4, 4), blocks=2, latent_channels=48, patch=2, gaussian=True)

TINY_IMAGE = ImageAutoencoderConfig(
    channels=(8, 8, 8, 8), layers_per_level=1, latent_channels=4, norm_groups=4
)
TINY_TEMPORAL = TemporalAutoencoderConfig(
    filters=8,
    multipliers=(1, 1, 1),
    blocks=1,
    temporal_downsample=(True, True),
    norm_groups=4,
    chunk_frames=17,
)


def _tiny(config: CausalAutoencoderConfig) -> CausalAutoencoderConfig:
    return replace(config, filters=8, blocks=1, norm_groups=4)


AUTOENCODERS: Mapping[str, AutoencoderPreset] = {
    "sdxl-2d": AutoencoderPreset(
        config=SDXL, system="PixArt-Sigma", published="whole geometry", video=(1, 256, 256)
    ),
    "opensora-vae-1.2": AutoencoderPreset(
        config=OPEN_SORA, system="Open-Sora 1.2", published="whole geometry", video=(17, 256, 256)
    ),
    "walt-causal-3d": AutoencoderPreset(
        config=WALT,
        system="W.A.L.T",
        published="channels, multipliers, strides, latent channels; blocks by MAGVIT-v2's size of 370 M",
        video=(17, 128, 128),
    ),
    "walt-image": AutoencoderPreset(
        config=WALT_IMAGE,
        system="W.A.L.T (ImageNet)",
        published="channels, multipliers, stride; convolutions in space only are our reading",
        video=(1, 256, 256),
    ),
    "hdvila-2d": AutoencoderPreset(
        config=HDVILA,
        system="HD-VILA shifted windows",
        published="spatial stride 4; channels and latent channels are our choice",
        video=(1, 256, 256),
    ),
    "causal-5b-vae": AutoencoderPreset(
        config=CAUSAL_5B,
        system="causal 5B",
        published="strides 4x16x16 and 48 latent channels; layers are W.A.L.T's, their number our choice",
        video=(17, 256, 256),
    ),
    "sdxl-2d-tiny": AutoencoderPreset(
        config=TINY_IMAGE, system="PixArt-Sigma", published="strides", video=(1, 32, 32)
    ),
    "opensora-vae-1.2-tiny": AutoencoderPreset(
        config=VideoAutoencoderConfig(image=TINY_IMAGE, temporal=TINY_TEMPORAL),
        system="Open-Sora 1.2",
        published="strides and chunks",
        video=(17, 32, 32),
    ),
    "walt-causal-3d-tiny": AutoencoderPreset(
        config=_tiny(WALT), system="W.A.L.T", published="strides", video=(17, 32, 32)
    ),
    "walt-image-tiny": AutoencoderPreset(
        config=_tiny(WALT_IMAGE),
        system="W.A.L.T (ImageNet)",
        published="strides",
        video=(1, 32, 32),
    ),
    "hdvila-2d-tiny": AutoencoderPreset(
        config=replace(TINY_IMAGE, channels=(8, 8, 8)),
        system="HD-VILA shifted windows",
        published="strides",
        video=(1, 32, 32),
    ),
    "causal-5b-vae-tiny": AutoencoderPreset(
        config=_tiny(CAUSAL_5B), system="causal 5B", published="strides", video=(17, 32, 32)
    ),
}


def autoencoder(name: str) -> VideoCodec:
    """A new codec of a preset. Raises `ValueError` listing the names."""
    if name not in AUTOENCODERS:
        raise ValueError(f"there is no autoencoder preset `{name}`; presets: {', '.join(AUTOENCODERS)}")
    return AUTOENCODERS[name].build()
