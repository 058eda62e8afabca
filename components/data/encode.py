"""Stages `encode@images` and `encode@videos`: kept clips to latents, distinct captions to text embeddings.

The plan (which clip goes into which shard) follows from the clip table alone, so a run that was killed goes
on at the first shard that is missing.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.artifacts import StagePaths, sha256_of, sha256_of_json
from components.data.buckets import Bucket, assign, available_frames, buckets_of
from components.data.clips import Clip, read_clips
from components.data.config import EncodeConfig
from components.data.latents import (
    Family,
    LatentManifest,
    Shard,
    TextTable,
    describe_shard,
    shard_rows,
    write_shard,
)
from components.data.pool import Limits
from components.data.windows import WindowRequest, read_all
from components.errors import ContractError, DataQualityError
from components.params import Params
from components.progress import progress
from components.report import Report
from components.runtime import compute_device
from models.autoencoders import load_autoencoder
from models.autoencoders.codec import VideoCodec
from models.text import TextEncoder

log = logging.getLogger(__name__)
VALUE_BYTES = 2  # float16
TEXT_BATCH = 64
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class _Piece:
    """One shard to be: these clips in this bucket."""

    bucket: Bucket
    clips: tuple[Clip, ...]
    path: Path


@dataclass
class _Ledger:
    """What became of every clip. A clip counts as encoded when any bucket got a row of it."""

    encoded: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)  # clip -> why a bucket could not take it

    def counts(self, clips: Sequence[Clip]) -> dict[str, int]:
        left_out = sum(clip.clip_id not in self.encoded for clip in clips)
        return {"clips": len(clips), "encoded": len(self.encoded), "left_out": left_out}

    def left_out(self) -> dict[str, int]:
        """Clips that no bucket took, by reason."""
        reasons = (reason for clip, reason in self.reasons.items() if clip not in self.encoded)
        return dict(sorted(Counter(reasons).items()))


def run(config: EncodeConfig, paths: StagePaths) -> Report:
    """Encode every kept clip into every bucket it serves.

    Raises `UserError` for buckets that the autoencoder cannot divide, `DataQualityError` when no clip can be
    encoded.
    """
    stage = paths.checkpoints.name
    clips = read_clips(paths.input("clips"), root=paths.root, videos=paths.input("videos"))
    codec = load_autoencoder(paths.input("autoencoder")).eval()
    text = TextEncoder.from_pretrained(paths.input("text"), device=compute_device())
    contract = codec.contract()
    folder = _folder(config, paths, contract, text.digest)
    ledger = _Ledger()
    pieces = _plan(clips, config, codec, folder, ledger)
    captions = {caption: row for row, caption in enumerate(sorted({clip.caption for clip in clips}))}
    _encode_pieces(pieces, captions, codec.to(compute_device()), config, limits=_limits(paths))
    families = _families(pieces, codec, paths.root, ledger)
    table = _encode_captions(list(captions), text, folder, config.shard_mb, paths.root)
    counts = ledger.counts(clips)
    if not families:
        raise DataQualityError(
            f"{stage}: none of {len(clips)} clips could be encoded ({ledger.left_out()});"
            " add smaller resolutions or fewer frames to `encode`, or lower the filters"
        )
    manifest = LatentManifest(contract, table, config.fps, tuple(families), counts)
    manifest.write(paths.output("latents"))
    return _report(stage, config, manifest, ledger, captions)


def _limits(paths: StagePaths) -> Limits:
    runtime = Params.load(paths.root / "params.yaml").runtime
    return Limits(runtime.workers, runtime.item_seconds)


def _folder(config: EncodeConfig, paths: StagePaths, contract: dict[str, Any], text: str) -> Path:
    """Where the shards lie: one folder for everything that decides what is in them."""
    identity = [contract, text, config.model_dump(mode="json"), sha256_of(paths.input("clips"))]
    return (
        paths.root / "store" / "latents" / f"{paths.output('latents').stem}-{sha256_of_json(identity)[:16]}"
    )


def _plan(
    clips: Sequence[Clip], config: EncodeConfig, codec: VideoCodec, folder: Path, ledger: _Ledger
) -> list[_Piece]:
    """The shards to make; clips that serve no bucket go to the ledger."""
    members: dict[Bucket, list[Clip]] = {bucket: [] for bucket in buckets_of(config.buckets)}
    for clip in clips:
        frames = available_frames(clip.end_seconds - clip.start_seconds, config.fps)
        assignment = assign(clip.height, clip.width, frames, config.buckets)
        for bucket in assignment.buckets:
            members[bucket].append(clip)
        if assignment.reason:
            ledger.reasons[clip.clip_id] = assignment.reason
    pieces = []
    for bucket, chosen in members.items():
        row_bytes = VALUE_BYTES * int(np.prod(_latent_shape(codec, bucket)))
        count = max(1, config.shard_mb * MEGABYTE // (row_bytes * config.windows))
        for number, start in enumerate(range(0, len(chosen), count)):
            path = folder / f"{bucket.resolution}-{bucket.key}-{number:05d}.safetensors"
            pieces.append(_Piece(bucket, tuple(chosen[start : start + count]), path))
    return pieces


def _latent_shape(codec: VideoCodec, bucket: Bucket) -> tuple[int, int, int, int]:
    stride = codec.geometry.spatial_stride
    if bucket.height % stride or bucket.width % stride:
        raise ContractError(
            f"bucket {bucket.key}: sides must be multiples of the autoencoder's stride {stride};"
            f" set `encode.*.buckets.multiple` to a multiple of {stride}"
        )
    return codec.geometry.latent_shape(bucket.frames, bucket.height, bucket.width)


def _encode_pieces(
    pieces: Sequence[_Piece],
    captions: dict[str, int],
    codec: VideoCodec,
    config: EncodeConfig,
    *,
    limits: Limits,
) -> None:
    missing = [piece for piece in pieces if not piece.path.exists()]
    if len(missing) < len(pieces):
        log.info("%d of %d shards are there already", len(pieces) - len(missing), len(pieces))
    with progress("latents", sum(len(piece.clips) for piece in missing)) as advance:
        for piece in missing:
            _encode_piece(piece, captions, codec, config, limits)
            advance(len(piece.clips), piece.bucket.key)


def _encode_piece(
    piece: _Piece, captions: dict[str, int], codec: VideoCodec, config: EncodeConfig, limits: Limits
) -> None:
    """Write the shard of a piece; clips that cannot be used are listed in it with their reason."""
    requests = [WindowRequest(clip, piece.bucket, config.fps, config.windows) for clip in piece.clips]
    rows: dict[str, list[Any]] = {"clip_ids": [], "splits": [], "windows": [], "left_out": []}
    caption_rows: list[int] = []

    def windows() -> Iterator[np.ndarray[Any, Any]]:
        for request, result in read_all(requests, limits, title=f"frames {piece.bucket.key}"):
            clip = request.clip
            if result.value is None:
                log.warning("clip %s: %s %s", clip.clip_id, result.reason, result.detail)
                rows["left_out"].append([clip.clip_id, str(result.reason)])
                continue
            for start, window in zip(result.value.starts, result.value.frames, strict=True):
                rows["clip_ids"].append(clip.clip_id)
                rows["splits"].append(clip.split)
                rows["windows"].append(start)
                caption_rows.append(captions[clip.caption])
                yield window

    shape = _latent_shape(codec, piece.bucket)
    encoded = [_encode_batch(codec, batch) for batch in _batches(windows(), config.batch)]
    latents = torch.cat(encoded) if encoded else torch.zeros((0, *shape), dtype=torch.float16)
    tensors = {"latents": latents, "caption": torch.tensor(caption_rows, dtype=torch.int64)}
    write_shard(piece.path, tensors, rows)


def _batches(windows: Iterable[np.ndarray[Any, Any]], count: int) -> Iterator[np.ndarray[Any, Any]]:
    batch: list[np.ndarray[Any, Any]] = []
    for window in windows:
        batch.append(window)
        if len(batch) == count:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


@torch.inference_mode()
def _encode_batch(codec: VideoCodec, frames: np.ndarray[Any, Any]) -> Tensor:
    """frames: uint8 (B, T, H, W, 3) -> latents (B, C, t, h, w) float16 on the CPU."""
    pixels = torch.from_numpy(frames).to(codec.shift.device).permute(0, 4, 1, 2, 3)
    latents = codec.encode(pixels.float().div_(127.5).sub_(1.0))
    return _half(latents, "latents")


def _half(values: Tensor, what: str) -> Tensor:
    """Float16 on the CPU. Raises `ContractError` for values that it cannot hold."""
    halved = values.to("cpu", torch.float16)
    if not torch.isfinite(halved).all():
        raise ContractError(f"{what} are not finite in float16: the weights are damaged or not normalised")
    return halved.contiguous()


def _families(pieces: Sequence[_Piece], codec: VideoCodec, root: Path, ledger: _Ledger) -> list[Family]:
    """Manifest entries of the written shards; the ledger learns what they hold."""
    shards: dict[Bucket, list[Shard]] = {}
    for piece in pieces:
        stored = shard_rows(piece.path)
        ledger.encoded.update(stored["clip_ids"])
        ledger.reasons.update(dict(stored["left_out"]))
        shard = describe_shard(piece.path, root, "latents")
        if shard.rows:
            shards.setdefault(piece.bucket, []).append(shard)
    return [
        Family(
            key=bucket.key,
            resolution=bucket.resolution,
            aspect=bucket.aspect,
            frames=bucket.frames,
            height=bucket.height,
            width=bucket.width,
            latent_shape=_latent_shape(codec, bucket),
            rows=sum(shard.rows for shard in found),
            shards=tuple(found),
        )
        for bucket, found in shards.items()
    ]


def _encode_captions(
    captions: Sequence[str], text: TextEncoder, folder: Path, shard_mb: int, root: Path
) -> TextTable:
    row_bytes = VALUE_BYTES * text.max_tokens * text.width
    count = max(1, shard_mb * MEGABYTE // row_bytes)
    shards = []
    with progress("captions", len(captions)) as advance:
        for number, start in enumerate(range(0, len(captions), count)):
            path = folder / f"text-{number:05d}.safetensors"
            part = captions[start : start + count]
            if not path.exists():
                embeddings, mask = text.encode(part, batch=TEXT_BATCH)
                tensors = {"text": _half(embeddings, "text embeddings"), "text_mask": mask.cpu()}
                write_shard(path, tensors, {"captions": part})
            shards.append(describe_shard(path, root, "text"))
            advance(len(part))
    return TextTable(text.digest, text.width, text.max_tokens, tuple(shards))


def _report(
    stage: str, config: EncodeConfig, manifest: LatentManifest, ledger: _Ledger, captions: dict[str, int]
) -> Report:
    filled = {(family.resolution, family.key): family.rows for family in manifest.families}
    empty = [b for b in buckets_of(config.buckets) if (b.resolution, b.key) not in filled]
    return Report(
        stage,
        metrics={"rows": sum(filled.values()), "captions": len(captions)},
        counts=manifest.counts,
        reasons=ledger.left_out(),
        notes=[
            *(
                f"bucket {resolution} {key}: {rows} rows"
                for (resolution, key), rows in sorted(filled.items())
            ),
            *(f"bucket {bucket.resolution} {bucket.key}: no clip" for bucket in empty),
        ],
    )
