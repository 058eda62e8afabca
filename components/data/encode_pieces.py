"""The shards of an encode before they exist, and the process that makes them.

A piece is one shard to be: what goes into it follows from the clip table alone, and what comes out from the piece
alone. So any process on any device may make it, in any order, and the bytes are the same.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from components.data.buckets import Bucket
from components.data.clips import Clip
from components.data.config import EncodeConfig
from components.data.latent_shards import (
    Members,
    read_record,
    read_text_record,
    write_latents,
    write_text,
)
from components.data.mirror import MIRRORED, PLAIN, may_be_mirrored, mirrored
from components.data.outcomes import Limits
from components.data.pixels import as_pixels
from components.data.reasons import SourceReason
from components.data.windows import WindowRequest, read_all
from components.errors import ContractError
from components.imports import lasting
from components.storage import Place
from models.autoencoders import load_autoencoder
from models.autoencoders.codec import VideoCodec
from models.text import TextEncoder

log = logging.getLogger(__name__)
TEXT_BATCH = 64


@dataclass(frozen=True)
class EncodeJob:
    """All that a process needs to know beside its piece."""

    store: Place  # where shards are written
    autoencoder: Path
    text: Path
    config: EncodeConfig
    limits: Limits  # of the processes that read videos


class Piece(Protocol):
    """One shard to be."""

    @property
    def file(self) -> str:
        """Relative to the store."""
        ...

    @property
    def size(self) -> int:
        """Clips or captions in it, for the progress."""
        ...

    def is_made(self, job: EncodeJob) -> bool: ...

    def make(self, maker: "Maker") -> None: ...


class Maker:
    """The frozen models of one process, on its device; each is loaded when the first piece needs it."""

    def __init__(self, job: EncodeJob, device: torch.device) -> None:
        self.job = job
        self.device = device

    @cached_property
    def codec(self) -> VideoCodec:
        with lasting:
            return load_autoencoder(self.job.autoencoder).eval().to(self.device)

    @cached_property
    def text(self) -> TextEncoder:
        with lasting:
            return TextEncoder.from_pretrained(self.job.text, device=self.device)

    @torch.inference_mode()
    def encode(self, frames: np.ndarray[Any, Any]) -> Tensor:
        """frames: uint8 (B, T, H, W, 3) -> latents (B, C, t, h, w) float16 on the CPU."""
        with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            return half(self.codec.encode(as_pixels(frames, self.device)), "latents")


def half(values: Tensor, what: str) -> Tensor:
    """Float16 on the CPU. Raises `ContractError` for values that it cannot hold."""
    halved = values.to("cpu", torch.float16)
    if not torch.isfinite(halved).all():
        raise ContractError(f"{what} are not finite in float16: the weights are damaged or not normalised")
    return halved.contiguous()


@dataclass(frozen=True)
class LatentPiece:
    """These clips in this bucket. `captions` are their rows in the table of texts."""

    bucket: Bucket
    clips: tuple[Clip, ...]
    captions: tuple[int, ...]
    file: str  # relative to the store
    latent_shape: tuple[int, int, int, int]

    @property
    def size(self) -> int:
        return len(self.clips)

    def is_made(self, job: EncodeJob) -> bool:
        """False also for a shard that lacks clips which this run may get."""
        record = read_record(job.store, self.file)
        if record is None or record.may_gain(job.limits.item_seconds):
            return False
        gone = {clip for clip, reason in record.left_out if reason == SourceReason.MISSING}
        return not any(clip.path.is_file() for clip in self.clips if clip.clip_id in gone)

    def make(self, maker: Maker) -> None:
        """Write the shard; clips that cannot be used are listed beside it with their reason."""
        members, left_out = Members.none(), list[tuple[str, str]]()
        windows = self._windows(maker.job, members, left_out)
        encoded = [maker.encode(batch) for batch in _batches(windows, maker.job.config.batch)]
        latents = torch.cat(encoded) if encoded else torch.zeros((0, *self.latent_shape), dtype=torch.float16)
        job = maker.job
        seconds = job.limits.item_seconds
        write_latents(job.store, self.file, latents.numpy(), members, left_out, item_seconds=seconds)

    def _windows(
        self, job: EncodeJob, members: Members, left_out: list[tuple[str, str]]
    ) -> Iterator[np.ndarray[Any, Any]]:
        """The windows in the order of their rows; `members` and `left_out` learn who they are."""
        config = job.config
        rows = dict(zip((clip.clip_id for clip in self.clips), self.captions, strict=True))
        requests = [WindowRequest(clip, self.bucket, config.fps, config.windows) for clip in self.clips]
        for request, result in read_all(requests, job.limits, title=f"frames {self.bucket.key}"):
            clip = request.clip
            if result.value is None:
                log.warning("clip %s: %s %s", clip.clip_id, result.reason, result.detail)
                left_out.append((clip.clip_id, str(result.reason)))
                continue
            both = is_mirrored(clip, config)
            for start, window in zip(result.value.starts, result.value.frames, strict=True):
                for variant in (PLAIN, MIRRORED) if both else (PLAIN,):
                    members.clip_ids.append(clip.clip_id)
                    members.splits.append(clip.split)
                    members.windows.append(start)
                    members.variants.append(variant)
                    members.captions.append(rows[clip.clip_id])
                    yield mirrored(window) if variant == MIRRORED else window


def is_mirrored(clip: Clip, config: EncodeConfig) -> bool:
    """Whether a clip is encoded as its mirror image too: every caption that training may read has to allow it."""
    read = [clip.caption, *([clip.scored_caption] if config.scored_captions else [])]
    return config.flips and may_be_mirrored(*read)


@dataclass(frozen=True)
class TextPiece:
    """These captions."""

    captions: tuple[str, ...]
    file: str  # relative to the store

    @property
    def size(self) -> int:
        return len(self.captions)

    def is_made(self, job: EncodeJob) -> bool:
        return read_text_record(job.store, self.file) is not None

    def make(self, maker: Maker) -> None:
        """Write the shard of their embeddings."""
        embeddings, mask = maker.text.encode(self.captions, batch=TEXT_BATCH)
        text = half(embeddings, "text embeddings")
        write_text(maker.job.store, self.file, text.numpy(), mask.cpu().numpy())


def _batches(windows: Iterable[np.ndarray[Any, Any]], count: int) -> Iterator[np.ndarray[Any, Any]]:
    batch: list[np.ndarray[Any, Any]] = []
    for window in windows:
        batch.append(window)
        if len(batch) == count:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def missing(pieces: Sequence[Piece], job: EncodeJob) -> list[Piece]:
    """The pieces that no run has finished."""
    waiting = [piece for piece in pieces if not piece.is_made(job)]
    if len(waiting) < len(pieces):
        log.info("%d of %d shards are there already", len(pieces) - len(waiting), len(pieces))
    return waiting
