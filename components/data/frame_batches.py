"""Batches of pixels for the autoencoders: random windows of decoded clips, addressed by position."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.autoencoder.config import FramesConfig
from components.data.buckets import available_frames
from components.data.clips import Clip
from components.data.frames import UndecodableError, read_frames
from components.data.schedule import Indices, permutation
from components.errors import UserError
from components.runtime import cpu_count

log = logging.getLogger(__name__)
CACHE_BYTES = 2 << 30  # decoded clips kept in memory
Frames = np.ndarray[Any, np.dtype[np.uint8]]


class FrameBatches:
    """Random windows of clips as pixels, addressed by position. Decoded clips are kept in memory."""

    def __init__(
        self, clips: Sequence[Clip], data: FramesConfig, seed: int, *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """Raises `UserError` when no clip is long enough."""
        self.clips = [clip for clip in clips if available_frames(_seconds(clip), data.fps) >= data.frames]
        if not self.clips:
            raise UserError(
                f"none of {len(clips)} clips has {data.frames} frames at {data.fps} frames per second;"
                " lower `data.frames` or raise `data.fps`, or keep longer clips (`split.min_seconds`)"
            )
        self.data = data
        self.seed = seed
        self._cache = _FrameCache(data, cache_bytes)
        self._order = lru_cache(maxsize=2)(self._make_order)  # a batch may lie in two epochs
        self._pool = ThreadPoolExecutor(cpu_count(), thread_name_prefix="frames")  # PyAV releases the lock

    def batch(self, position: int, frames: int | None = None) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1]; T is `frames`, by default the configured number."""
        count = frames or self.data.frames
        slots = range(position * self.data.batch, (position + 1) * self.data.batch)
        self._order(slots[0] // len(self.clips))  # once, and not by every thread
        windows = list(self._pool.map(lambda slot: self._window(slot, count), slots))
        stacked = torch.from_numpy(np.stack(windows))  # (B, T, H, W, 3)
        return stacked.permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1.0)

    def _window(self, slot: int, count: int) -> Frames:
        """A window of the clip in that slot; of the next readable one if it cannot be used."""
        epoch, place = divmod(slot, len(self.clips))
        order = self._order(epoch)
        for step in range(len(order)):
            whole = self._cache.read(self.clips[order[(place + step) % len(order)]])
            if len(whole) >= count:
                rng = np.random.default_rng([self.seed % 2**63, slot])
                first = int(rng.integers(len(whole) - count + 1))
                return whole[first : first + count]
        raise UserError(f"none of {len(order)} clips can be decoded to {count} frames")

    def _make_order(self, epoch: int) -> Indices:
        """The clips of an epoch in order: of ten millions it takes as long as many decoded windows."""
        return permutation(self.seed, epoch, "frames", len(self.clips))


class _FrameCache:
    """Whole clips at one size and rate, the latest used ones within a number of bytes."""

    def __init__(self, data: FramesConfig, cache_bytes: int) -> None:
        self._data = data
        self._limit = cache_bytes
        self._clips: OrderedDict[str, Frames] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, clip: Clip) -> Frames:
        """(T, H, W, 3); no frames at all where the clip cannot be decoded."""
        with self._lock:
            if clip.clip_id in self._clips:
                self._clips.move_to_end(clip.clip_id)
                return self._clips[clip.clip_id]
        decoded = self._decode(clip)
        with self._lock:
            if clip.clip_id not in self._clips:
                self._clips[clip.clip_id] = decoded
                self._bytes += decoded.nbytes
            while self._bytes > self._limit and len(self._clips) > 1:
                self._bytes -= self._clips.popitem(last=False)[1].nbytes
        return decoded

    def _decode(self, clip: Clip) -> Frames:
        data = self._data
        try:
            return read_frames(
                clip.path,
                clip.start_seconds,
                clip.end_seconds,
                fps=data.fps,
                height=data.height,
                width=data.width,
            )
        except UndecodableError as error:
            log.warning("clip %s cannot be decoded (%s); the next one is used", clip.clip_id, error)
            return np.zeros((0, data.height, data.width, 3), dtype=np.uint8)


def _seconds(clip: Clip) -> float:
    return clip.end_seconds - clip.start_seconds
