"""Geometry of the autoencoders, apart from the models: reading `params.yaml` must not import torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAutoencoderConfig:
    """Geometry of a 2D autoencoder; its spatial stride is `patch * 2 ** (levels - 1)`."""

    channels: tuple[int, ...]  # per level
    layers_per_level: int
    latent_channels: int
    norm_groups: int
    patch: int = 1  # side of the pixels folded into channels before the first convolution
    attention: bool = True  # over the positions of the lowest level, as in the published model

    def __post_init__(self) -> None:
        odd = [width for width in self.channels if width % self.norm_groups]
        if odd:
            raise ValueError(f"level channels {odd} do not divide into {self.norm_groups} norm groups")


@dataclass(frozen=True, kw_only=True, slots=True)
class TemporalAutoencoderConfig:
    """Geometry of the temporal autoencoder that works on 2D latents."""

    filters: int
    multipliers: tuple[int, ...]  # of `filters`, per level
    blocks: int  # residual blocks per level, and as many at the bottom
    temporal_downsample: tuple[bool, ...]  # per step between two levels: halve the frames
    norm_groups: int
    chunk_frames: int
    latent_channels: int = 4  # of the 2D autoencoder, and of this one

    def __post_init__(self) -> None:
        if len(self.temporal_downsample) != len(self.multipliers) - 1:
            raise ValueError(
                f"temporal_downsample has {len(self.temporal_downsample)} entries for"
                f" {len(self.multipliers)} levels; it needs one per step between two levels"
            )
        odd = [width for width in self.widths if width % self.norm_groups]
        if odd:
            raise ValueError(f"level widths {odd} do not divide into {self.norm_groups} norm groups")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.filters * multiplier for multiplier in self.multipliers)

    @property
    def temporal_stride(self) -> int:
        return int(2 ** sum(self.temporal_downsample))
