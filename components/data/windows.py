"""Windows of clips as pixels, read in worker processes; no torch is imported here, which each of them would
load.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.data.buckets import TOO_SHORT, Bucket
from components.data.clips import Clip
from components.data.frames import read_frames
from components.data.pool import Limits, RejectedError, Result, run_pool

PIXEL_BYTES = 256 << 20  # windows that are in memory at a time
Frames = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class WindowRequest:
    """`windows` windows of a bucket's frames from one clip, read at `fps`; or the one that starts at frame `first`."""

    clip: Clip
    bucket: Bucket
    fps: int
    windows: int = 1
    first: int | None = None


@dataclass(frozen=True)
class Windows:
    """frames: (N, T, H, W, 3); starts: (N,) index of the first frame of each window."""

    starts: tuple[int, ...]
    frames: Frames


def window_starts(available: int, frames: int, windows: int) -> tuple[int, ...]:
    """First frames of evenly spaced windows, from the first to the last frame; one window lies in the middle.

    A clip with less room has fewer windows, never the same one twice.
    """
    room = available - frames
    if room < 0:
        return ()
    if windows == 1:
        return (room // 2,)
    return tuple(sorted({round(room * index / (windows - 1)) for index in range(windows)}))


def read_windows(request: WindowRequest) -> Windows:
    """Raises `RejectedError` when the clip cannot be decoded or is too short."""
    clip, bucket = request.clip, request.bucket
    whole = read_frames(
        clip.path,
        clip.start_seconds,
        clip.end_seconds,
        fps=request.fps,
        height=bucket.height,
        width=bucket.width,
        max_frames=1 if clip.frames == 1 else None,  # a picture, however long it is shown
    )
    starts = window_starts(len(whole), bucket.frames, request.windows)
    if request.first is not None:
        starts = (request.first,) if request.first + bucket.frames <= len(whole) else ()
    if not starts:
        raise RejectedError(TOO_SHORT, f"{len(whole)} frames, {bucket.frames} needed")
    return Windows(starts, np.stack([whole[start : start + bucket.frames] for start in starts]))


def read_all(
    requests: Sequence[WindowRequest], limits: Limits, *, title: str
) -> Iterator[tuple[WindowRequest, Result[Windows]]]:
    """The result of every request, in order; the next part is read while the caller works on this one.

    Bounded in memory whatever the number of requests.
    """
    parts = _parts(requests, limits.workers)
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as ahead:
        pending = [ahead.submit(run_pool, read_windows, part, limits, title=title) for part in parts[:1]]
        for index, part in enumerate(parts):
            results = pending.pop().result()
            if index + 1 < len(parts):
                pending.append(ahead.submit(run_pool, read_windows, parts[index + 1], limits, title=title))
            yield from zip(part, results, strict=True)


def _parts(requests: Sequence[WindowRequest], workers: int) -> list[Sequence[WindowRequest]]:
    if not requests:
        return []
    bucket = requests[0].bucket
    clip_bytes = bucket.frames * bucket.height * bucket.width * 3 * requests[0].windows
    count = max(workers, PIXEL_BYTES // clip_bytes)
    return [requests[start : start + count] for start in range(0, len(requests), count)]
