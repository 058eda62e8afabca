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


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoAutoencoderConfig:
    """Geometry of a 2D autoencoder and the temporal autoencoder on its latents."""

    image: ImageAutoencoderConfig
    temporal: TemporalAutoencoderConfig

    def __post_init__(self) -> None:
        made, wanted = self.image.latent_channels, self.temporal.latent_channels
        if made != wanted:
            raise ValueError(
                f"the temporal autoencoder works on {wanted} channels and the 2D autoencoder makes {made};"
                f" set latent_channels to {made}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalAutoencoderConfig:
    """Geometry of a causal 3D autoencoder. A step lies between two levels, from the pixels downwards."""

    filters: int
    multipliers: tuple[int, ...]  # of `filters`, per level
    blocks: int  # residual blocks per level, and as many at the bottom
    spatial_downsample: tuple[bool, ...]  # per step: halve height and width
    temporal_downsample: tuple[bool, ...]  # per step: halve the frames after the first
    latent_channels: int
    norm_groups: int
    patch: int = 1  # side of the pixels folded into channels before the first convolution
    time_kernel: int = 3  # frames that a convolution sees; 1 makes an autoencoder of single images
    gaussian: bool = False  # encode to a Gaussian posterior instead of to a point

    def __post_init__(self) -> None:
        steps = len(self.multipliers) - 1
        for name in ("spatial_downsample", "temporal_downsample"):
            if len(given := getattr(self, name)) != steps:
                raise ValueError(
                    f"{name} has {len(given)} entries for {steps + 1} levels; it needs one per step between two"
                    " levels"
                )
        odd = [width for width in self.widths if width % self.norm_groups]
        if odd:
            raise ValueError(f"level widths {odd} do not divide into {self.norm_groups} norm groups")
        if any(self.temporal_downsample) and self.time_kernel < 2:
            raise ValueError("time_kernel 1 sees one frame and cannot halve their number; use 3")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.filters * multiplier for multiplier in self.multipliers)

    @property
    def strides(self) -> tuple[tuple[int, int, int], ...]:
        """Per step, by how much frames, height and width shrink."""
        steps = zip(self.temporal_downsample, self.spatial_downsample, strict=True)
        return tuple((1 + time, 1 + space, 1 + space) for time, space in steps)

    @property
    def temporal_stride(self) -> int:
        return int(2 ** sum(self.temporal_downsample))

    @property
    def spatial_stride(self) -> int:
        return self.patch * int(2 ** sum(self.spatial_downsample))


AutoencoderConfig = ImageAutoencoderConfig | VideoAutoencoderConfig | CausalAutoencoderConfig
