"""Pixels, latents and tokens: the one place that converts between their sizes.

Everything that plans, buckets, encodes or generates asks here, so that a clip of a given length and size has
one latent shape everywhere. Two numbers tell the published rules for time apart. `chunk_frames`: Open-Sora 1.2
cuts a clip into chunks and pads each in front to a multiple of the temporal stride, so any length will do.
`frame_step`: a causal autoencoder (W.A.L.T, MAGVIT-v2) gives the first frame a latent of its own and every later
latent a whole stride of frames, so a clip has 1 + k * stride frames, and nothing is padded.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentGeometry:
    """How an autoencoder maps a clip to latents."""

    channels: int
    spatial_stride: int  # pixels per latent side
    temporal_stride: int  # frames per latent frame
    chunk_frames: int | None  # frames encoded together; None: the whole clip
    frame_step: int = 1  # a clip has 1 + k * frame_step frames

    def __post_init__(self) -> None:
        sizes = {
            "channels": self.channels,
            "spatial_stride": self.spatial_stride,
            "temporal_stride": self.temporal_stride,
            "chunk_frames": 1 if self.chunk_frames is None else self.chunk_frames,
            "frame_step": self.frame_step,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"latent geometry: {name} must be at least 1, not {size}")

    @property
    def chunk_latents(self) -> int | None:
        """Latent frames of a full chunk."""
        return None if self.chunk_frames is None else self._padded(self.chunk_frames)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of `frames` frames. Raises `ValueError` for a length it cannot have."""
        if frames < 1:
            raise ValueError(f"a clip needs at least one frame, not {frames}")
        if (shorter := self.longest_clip(frames)) != frames:
            raise ValueError(
                f"time: this autoencoder takes clips of 1 + {self.frame_step}k frames, not of {frames};"
                f" use {shorter} or {shorter + self.frame_step}"
            )
        if self.chunk_frames is None:
            return self._padded(frames)
        chunks, rest = divmod(frames, self.chunk_frames)
        return chunks * self._padded(self.chunk_frames) + self._padded(rest)

    def latent_ends(self, frames: int) -> list[int]:
        """How many of a clip's `frames` frames have ended by the end of each of its latent frames.

        17 frames at stride 4 are padded in front to 20: 1, 5, 9, 13, 17.
        """
        chunk, stride = self.chunk_frames or frames, self.temporal_stride
        ends: list[int] = []
        for start in range(0, frames, chunk):
            length = min(chunk, frames - start)
            ends += range(start + length - (self._padded(length) - 1) * stride, start + length + 1, stride)
        return ends

    def pixel_frames(self, latent_frames: int) -> int:
        """The longest clip that has `latent_frames` latent frames."""
        if self.chunk_frames is None:
            return self.longest_clip(latent_frames * self.temporal_stride)
        chunks, rest = divmod(latent_frames, self._padded(self.chunk_frames))
        return chunks * self.chunk_frames + rest * self.temporal_stride

    def longest_clip(self, frames: int) -> int:
        """Frames of the longest clip, of those this autoencoder takes, within `frames` frames (at least 1)."""
        return frames - (frames - 1) % self.frame_step

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Latent (height, width). Pixels that do not fill a latent are lost, as 426 -> 53 at stride 8.

        Raises `ValueError` where nothing is left.
        """
        size = (height // self.spatial_stride, width // self.spatial_stride)
        if min(size) < 1:
            raise ValueError(
                f"{height}x{width} pixels are smaller than one latent of {self.spatial_stride} px"
            )
        return size

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Latent (C, t, h, w) of a clip."""
        return (self.channels, self.latent_frames(frames), *self.latent_size(height, width))

    def _padded(self, frames: int) -> int:
        return -(-frames // self.temporal_stride)


def token_grid(latent: tuple[int, int, int], patch: tuple[int, int, int] = (1, 2, 2)) -> tuple[int, int, int]:
    """Tokens (t, h, w) of a latent (t, h, w); what does not fill a patch is padded, so sizes round up."""
    frames, height, width = (-(-size // side) for size, side in zip(latent, patch, strict=True))
    return frames, height, width
