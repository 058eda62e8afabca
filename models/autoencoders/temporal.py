"""Temporal autoencoder over 2D latents (placeholder for the contract; the model follows)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TemporalAutoencoderConfig:
    """Geometry of the temporal autoencoder that works on 2D latents."""

    filters: int
    multipliers: tuple[int, ...]
    blocks: int
    temporal_downsample: tuple[bool, ...]
    norm_groups: int
    chunk_frames: int
