"""Training data that is encoded as it is needed: `batches.source: videos`.

The other way than latents on a disk: each time a clip comes, another window, another crop and, where that is allowed,
its mirror image. What is drawn for a place in a batch is a pure function of (seed, position), and what is encoded
together is one batch, so a run that resumes gets the same bytes. Frames are decoded ahead by threads in the
background; autoencoder and text encoder are frozen and work on the device of the training.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.buckets import Bucket, assign, available_frames
from components.data.clips import Clip, read_clips
from components.data.config import BatchesConfig, EncodeConfig
from components.data.frames import UndecodableError, read_frames
from components.data.latents import SPLITS, CaptionForm, Family, LatentManifest, Rows
from components.data.loader import LatentBatch, LatentBatches
from components.data.mirror import may_be_mirrored, mirrored
from components.data.pixels import as_pixels
from components.data.video import Pixels
from components.errors import ContractError, UserError
from components.params import runtime_of
from components.runtime import compute_device, cpu_count
from components.storage import place_of
from models.autoencoders import load_autoencoder
from models.text import TextEncoder

log = logging.getLogger(__name__)
AHEAD = 2  # batches that are decoded while one is used
TRIES = 8  # clips that are asked for a place in a batch before it is given up


class VideoStore:
    """The clips that each bucket of a manifest draws from, as rows; a clip is one row of each bucket it serves."""

    def __init__(self, manifest: Path, *, root: Path, captions: CaptionForm = "plain") -> None:
        """Raises `ContractError` when the clips or the autoencoder are not those of the manifest."""
        self.manifest = LatentManifest.read(manifest)
        self.captions = captions
        if not self.manifest.origin:
            raise ContractError(f"{manifest} does not say which clips it is of; run its encode stage again")
        self.config = EncodeConfig.model_validate(self.manifest.encode)
        origin, cache = self.manifest.origin, runtime_of(root).block_cache(root)
        self.clips = read_clips(
            root / origin["clips"], root=root, videos=place_of(origin["videos"], root, cache)
        )
        if captions == "scored" and not all(clip.scored_caption for clip in self.clips):
            raise UserError(
                f"batches.captions is `scored`, and the clips of {manifest} have no captions with scores; name scores"
                " in `caption.suffixes` and run the data stages again"
            )
        device = compute_device()
        codec = load_autoencoder(root / origin["autoencoder"]).eval().requires_grad_(False)
        if (found := codec.contract()) != self.manifest.contract:
            changed = sorted(name for name in found if found[name] != self.manifest.contract.get(name))
            raise ContractError(
                f"{root / origin['autoencoder']} is not the autoencoder of {manifest} ({', '.join(changed)} differ);"
                f" run the stage encode@{manifest.stem} again"
            )
        self.codec = codec.to(device)
        self.text = TextEncoder.from_pretrained(root / origin["text"], device=device)
        self._rows = self._assigned()

    def rows(self, family: Family) -> Rows:
        """The clips of a bucket; `captions` is their place in `clips`."""
        return self._rows[family.name]

    def selected(self, family: Family, selection: str) -> NDArray[np.bool_]:
        """Which rows of a bucket are of clips in a selection."""
        self.manifest.require_selection(selection)
        clips = (self.clips[index] for index in self._rows[family.name].captions.tolist())
        return np.array([selection in clip.selections for clip in clips], dtype=np.bool_)

    def clip(self, family: Family, row: int) -> Clip:
        """With the form of its caption that was asked for."""
        clip = self.clips[int(self._rows[family.name].captions[row])]
        return clip if self.captions == "plain" else replace(clip, caption=clip.scored_caption)

    def _assigned(self) -> dict[str, Rows]:
        members: dict[str, list[int]] = {family.name: [] for family in self.manifest.families}
        for index, clip in enumerate(self.clips):
            frames = available_frames(clip.end_seconds - clip.start_seconds, self.config.fps, clip.frames)
            for bucket in assign(clip.height, clip.width, frames, self.config.buckets).buckets:
                members[f"{bucket.resolution} {bucket.key}"].append(index)
        return {name: self._as_rows(np.array(found, dtype=np.int64)) for name, found in members.items()}

    def _as_rows(self, indices: NDArray[np.int64]) -> Rows:
        clips = [self.clips[index] for index in indices.tolist()]
        zeros = np.zeros(len(clips), dtype=np.int64)
        return Rows(
            keys=np.array([int(clip.clip_id, 16) for clip in clips], dtype=np.uint64),
            splits=np.array([SPLITS.index(clip.split) for clip in clips], dtype=np.int8),
            windows=zeros.astype(np.int32),
            variants=zeros.astype(np.int8),
            shards=zeros.astype(np.int32),
            offsets=zeros,
            captions=indices,
        )


@dataclass(frozen=True)
class Draw:
    """What is taken of a clip: the window's first frame, the crop as shares of the room, and whether mirrored."""

    first: int
    crop: tuple[float, float]
    mirror: bool


def draw_of(clip: Clip, bucket: Bucket, config: EncodeConfig, key: Sequence[int]) -> Draw:
    """A function of the key: (seed, position, place in the batch, try)."""
    generator = np.random.default_rng(list(key))
    frames = available_frames(clip.end_seconds - clip.start_seconds, config.fps, clip.frames)
    first = int(generator.integers(frames - bucket.frames + 1))
    crop = (float(generator.random()), float(generator.random()))
    mirror = bool(generator.random() < 0.5) and config.flips and may_be_mirrored(clip.caption)
    return Draw(first, crop, mirror)


def read_draw(clip: Clip, bucket: Bucket, fps: int, draw: Draw) -> Pixels:
    """uint8 (T, H, W, 3). Raises `UndecodableError`."""
    start = clip.start_seconds + draw.first / fps
    frames = read_frames(
        clip.path,
        start,
        min(clip.end_seconds, start + bucket.frames / fps),
        fps=fps,
        height=bucket.height,
        width=bucket.width,
        crop=draw.crop,
    )
    return mirrored(frames) if draw.mirror else frames


@dataclass(frozen=True)
class _Decoded:
    clip: Clip
    frames: Pixels


class VideoBatches(LatentBatches):
    """`LatentBatches` whose samples are decoded, cropped and encoded when they are asked for."""

    def __init__(self, manifest: Path, *, root: Path, config: BatchesConfig, split: str = "train") -> None:
        """Raises `UserError` as `LatentBatches` does, and where autoencoder or clips are other ones."""
        self.videos = VideoStore(manifest, root=root, captions=config.captions)
        super().__init__(manifest, root=root, config=config, split=split, store=self.videos)
        self._pool = ThreadPoolExecutor(cpu_count(), thread_name_prefix="videos")  # PyAV releases the lock
        self._waiting: dict[int, list[Future[_Decoded]]] = {}
        self._last: int | None = None

    def batch(self, position: int) -> LatentBatch:
        """The batch at a position, counted from 0 over all epochs."""
        family, _ = self.chosen(position)
        step = position - self._last if self._last is not None and position > self._last else 1
        self._last = position
        wanted = [position + step * ahead for ahead in range(AHEAD + 1)]
        for gone in [place for place in self._waiting if place not in wanted]:
            for future in self._waiting.pop(gone):
                future.cancel()
        for place in wanted:
            if place not in self._waiting:
                self._waiting[place] = self._decode(place)
        decoded = [future.result() for future in self._waiting.pop(position)]
        text, mask = self._encode_text([one.clip.caption for one in decoded])
        count = len(decoded)
        return LatentBatch(
            latents=self._encode(np.stack([one.frames for one in decoded])),
            text=text,
            text_mask=mask,
            fps=torch.full((count,), float(self.videos.manifest.fps)),
            size=torch.tensor([family.height, family.width], dtype=torch.float32).expand(count, 2),
            clip_ids=tuple(one.clip.clip_id for one in decoded),
            bucket=family.key,
        )

    def _decode(self, position: int) -> list[Future[_Decoded]]:
        family, rows = self.chosen(position)
        return [
            self._pool.submit(self._sample, family, row, (position, place))
            for place, row in enumerate(rows.tolist())
        ]

    def _sample(self, family: Family, row: int, place: tuple[int, int]) -> _Decoded:
        """The clip of a row; where it cannot be decoded, the next one of the bucket and the split."""
        bucket = Bucket(family.resolution, family.frames, family.aspect, family.height, family.width)
        rows = self.videos.rows(family)
        same = rows.in_split(SPLITS[int(rows.splits[row])])
        start = int(np.searchsorted(same, row))
        for attempt in range(TRIES):
            clip = self.videos.clip(family, int(same[(start + attempt) % len(same)]))
            draw = draw_of(clip, bucket, self.videos.config, (self.config.seed % 2**63, *place, attempt))
            try:
                return _Decoded(clip, read_draw(clip, bucket, self.videos.config.fps, draw))
            except UndecodableError as error:
                log.warning("clip %s cannot be decoded (%s); the next one is used", clip.clip_id, error)
        raise UserError(
            f"{TRIES} clips of bucket {family.name} in a row cannot be decoded, the last one is {clip.path}; run"
            " the data stages again: `dvc repro encode`"
        )

    @torch.no_grad()
    def _encode(self, frames: Pixels) -> Tensor:
        """uint8 (B, T, H, W, 3) -> latents (B, C, t, h, w) float32."""
        count, codec = self.videos.config.batch, self.videos.codec
        parts = (frames[start : start + count] for start in range(0, len(frames), count))
        with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            return torch.cat([codec.encode(as_pixels(part, codec.shift.device)) for part in parts]).float()

    def _encode_text(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        distinct = sorted(set(captions))
        text, mask = self.videos.text.encode(distinct)
        index = torch.tensor([distinct.index(caption) for caption in captions])
        return text.clone()[index.to(text.device)], mask.clone()[index.to(mask.device)]
