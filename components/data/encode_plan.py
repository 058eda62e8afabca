"""Which clip goes into which shard of which bucket: known from the clip table before anything is encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components.artifacts import StagePaths, sha256_of, sha256_of_json
from components.data.buckets import Bucket, assign, available_frames, buckets_of
from components.data.clips import Clip
from components.data.config import EncodeConfig
from components.data.encode_pieces import LatentPiece, TextPiece
from components.data.mirror import VARIANTS
from components.errors import ContractError
from models.autoencoders import load_autoencoder
from models.shapes import LatentGeometry
from models.text import EncoderRecord

VALUE_BYTES = 2  # float16
MEGABYTE = 1 << 20
Shape = tuple[int, int, int, int]  # channels, frames, height, width of a latent


@dataclass(frozen=True)
class Encoders:
    """What is known of the frozen models before they are at work."""

    contract: dict[str, Any]
    geometry: LatentGeometry
    text: EncoderRecord
    text_width: int

    @classmethod
    def of(cls, autoencoder: Path, text: Path) -> "Encoders":
        """Raises `ValueError` where a folder does not hold what it should."""
        codec = load_autoencoder(autoencoder)
        record = EncoderRecord.read(text)
        return cls(codec.contract(), codec.geometry, record, record.files(text).width)

    def latent_shape(self, bucket: Bucket) -> Shape:
        """Raises `ContractError` for a bucket that the autoencoder cannot take."""
        stride = self.geometry.spatial_stride
        if bucket.height % stride or bucket.width % stride:
            raise ContractError(
                f"bucket {bucket.key}: sides must be multiples of the autoencoder's stride {stride};"
                f" set `encode.*.buckets.multiple` to a multiple of {stride}"
            )
        try:
            return self.geometry.latent_shape(bucket.frames, bucket.height, bucket.width)
        except ValueError as error:
            raise ContractError(f"bucket {bucket.key}: {error}; see `encode.*.buckets.frames`") from None


@dataclass(frozen=True)
class Plan:
    """The members of every bucket. `unserved`: clip -> why no bucket takes it."""

    config: EncodeConfig
    folder: str  # of the shards, below the store: one for everything that decides what is in them
    clips: Sequence[Clip]
    members: Mapping[Bucket, Sequence[Clip]]
    unserved: Mapping[str, str]
    shapes: Mapping[Bucket, Shape]
    text_row_bytes: int

    @classmethod
    def of(cls, config: EncodeConfig, paths: StagePaths, encoders: Encoders, clips: Sequence[Clip]) -> "Plan":
        """Raises `ContractError` for a bucket that the autoencoder cannot take."""
        members, unserved = members_of(clips, config)
        settings = config.model_dump(mode="json")
        identity = [encoders.contract, encoders.text.digest, settings, sha256_of(paths.input("clips"))]
        name = f"{paths.output('latents').stem}-{sha256_of_json(identity)[:16]}"
        shapes = {bucket: encoders.latent_shape(bucket) for bucket in members}
        row_bytes = VALUE_BYTES * encoders.text.max_tokens * encoders.text_width
        return cls(config, f"latents/{name}", clips, members, unserved, shapes, row_bytes)

    @cached_property
    def captions(self) -> list[str]:
        """Distinct captions in the order of their rows."""
        return sorted({clip.caption for clip in self.clips})

    def latent_pieces(self) -> dict[Bucket, list[LatentPiece]]:
        """The shards of every bucket."""
        rows = {caption: row for row, caption in enumerate(self.captions)}
        variants = len(VARIANTS) if self.config.flips else 1
        pieces: dict[Bucket, list[LatentPiece]] = {}
        for bucket, chosen in self.members.items():
            clip_bytes = VALUE_BYTES * int(np.prod(self.shapes[bucket])) * self.config.windows * variants
            count = max(1, self.config.shard_mb * MEGABYTE // clip_bytes)
            pieces[bucket] = []
            for number, start in enumerate(range(0, len(chosen), count)):
                part = tuple(chosen[start : start + count])
                file = f"{self.folder}/{bucket.resolution}-{bucket.key}-{number:05d}.safetensors"
                captions = tuple(rows[clip.caption] for clip in part)
                pieces[bucket].append(LatentPiece(bucket, part, captions, file, self.shapes[bucket]))
        return pieces

    def text_pieces(self) -> list[TextPiece]:
        """The shards of the captions."""
        count = max(1, self.config.shard_mb * MEGABYTE // self.text_row_bytes)
        return [
            TextPiece(
                tuple(self.captions[start : start + count]), f"{self.folder}/text-{number:05d}.safetensors"
            )
            for number, start in enumerate(range(0, len(self.captions), count))
        ]


def members_of(
    clips: Sequence[Clip], config: EncodeConfig
) -> tuple[dict[Bucket, list[Clip]], dict[str, str]]:
    """The clips of each bucket, and the reason of each clip that serves none."""
    members: dict[Bucket, list[Clip]] = {bucket: [] for bucket in buckets_of(config.buckets)}
    unserved = {}
    for clip in clips:
        frames = available_frames(clip.end_seconds - clip.start_seconds, config.fps, clip.frames)
        assignment = assign(clip.height, clip.width, frames, config.buckets)
        for bucket in assignment.buckets:
            members[bucket].append(clip)
        if assignment.reason:
            unserved[clip.clip_id] = assignment.reason
    return members, unserved
