"""Which clip goes into which shard of which bucket: known from the clip table before anything is encoded."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components.artifacts import StagePaths, sha256_of_json
from components.data.buckets import Bucket, assign, available_frames, buckets_of
from components.data.clips import Clip
from components.data.config import EncodeConfig
from components.data.encode_pieces import LatentPiece, TextPiece, is_mirrored
from components.data.latent_shards import Marks
from components.data.mirror import VARIANTS
from components.errors import ContractError
from models.autoencoders import load_autoencoder
from models.shapes import LatentGeometry
from models.text import EncoderRecord

VALUE_BYTES = 2  # float16
MEGABYTE = 1 << 20
DIGITS = 16  # of a digest in the name of a folder
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
    folder: str  # of the latents, below the store: one for everything that decides what is in them
    text_folder: str  # of the text embeddings, likewise
    clips: Sequence[Clip]
    captions: Sequence[str]  # distinct, in the order of their rows
    members: Mapping[Bucket, Sequence[Clip]]
    unserved: Mapping[str, str]
    shapes: Mapping[Bucket, Shape]
    text_row_bytes: int

    @classmethod
    def of(cls, config: EncodeConfig, paths: StagePaths, encoders: Encoders, clips: Sequence[Clip]) -> "Plan":
        """Raises `ContractError` for a bucket that the autoencoder cannot take."""
        members, unserved = members_of(clips, config)
        settings = config.model_dump(mode="json", exclude={"scored_captions"})
        family = paths.output("latents").stem
        identity = sha256_of_json([encoders.contract, settings, digest_of(clips, config)])
        captions = captions_of(clips, config)
        texts = sha256_of_json([encoders.text.digest, config.shard_mb, captions])
        shapes = {bucket: encoders.latent_shape(bucket) for bucket in members}
        return cls(
            config=config,
            folder=f"latents/{family}-{identity[:DIGITS]}",
            text_folder=f"latents/{family}-text-{texts[:DIGITS]}",
            clips=clips,
            captions=captions,
            members=members,
            unserved=unserved,
            shapes=shapes,
            text_row_bytes=VALUE_BYTES * encoders.text.max_tokens * encoders.text_width,
        )

    @cached_property
    def text_rows(self) -> dict[str, int]:
        """The row of every caption."""
        return {caption: row for row, caption in enumerate(self.captions)}

    def marks(self) -> dict[str, Marks]:
        """What the table of samples says of each clip, and the shards do not."""
        scored = self.config.scored_captions
        return {
            clip.clip_id: Marks(
                self.text_rows[clip.scored_caption if scored else clip.caption], clip.selections
            )
            for clip in self.clips
        }

    def latent_pieces(self) -> dict[Bucket, list[LatentPiece]]:
        """The shards of every bucket."""
        variants = len(VARIANTS) if self.config.flips else 1
        pieces: dict[Bucket, list[LatentPiece]] = {}
        for bucket, chosen in self.members.items():
            clip_bytes = VALUE_BYTES * int(np.prod(self.shapes[bucket])) * self.config.windows * variants
            count = max(1, self.config.shard_mb * MEGABYTE // clip_bytes)
            pieces[bucket] = []
            for number, start in enumerate(range(0, len(chosen), count)):
                part = tuple(chosen[start : start + count])
                file = f"{self.folder}/{bucket.resolution}-{bucket.key}-{number:05d}.safetensors"
                captions = tuple(self.text_rows[clip.caption] for clip in part)
                pieces[bucket].append(LatentPiece(bucket, part, captions, file, self.shapes[bucket]))
        return pieces

    def text_pieces(self) -> list[TextPiece]:
        """The shards of the captions."""
        count = max(1, self.config.shard_mb * MEGABYTE // self.text_row_bytes)
        return [
            TextPiece(
                tuple(self.captions[start : start + count]),
                f"{self.text_folder}/text-{number:05d}.safetensors",
            )
            for number, start in enumerate(range(0, len(self.captions), count))
        ]


def captions_of(clips: Sequence[Clip], config: EncodeConfig) -> list[str]:
    """All texts that are embedded. The plain ones come first: what is added of the others moves none of their rows."""
    plain = {clip.caption for clip in clips}
    scored = {clip.scored_caption for clip in clips} if config.scored_captions else set()
    return [*sorted(plain), *sorted(scored - plain)]


def digest_of(clips: Sequence[Clip], config: EncodeConfig) -> str:
    """Of all that latents and their records take from the clips.

    Selections and captions with scores are in the table of samples alone, so that another threshold encodes nothing
    again; the latter count where they decide what may be mirrored.
    """
    digest = hashlib.sha256()
    for clip in clips:
        facts = [clip.clip_id, clip.start_seconds, clip.end_seconds, clip.fps, clip.frames]
        shown = [clip.height, clip.width, clip.split, clip.caption]
        digest.update(json.dumps([*facts, *shown, is_mirrored(clip, config)]).encode())
    return digest.hexdigest()


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
