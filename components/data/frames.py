"""Clips as arrays: the frames of a stretch of a file, at the rate and size that a model wants."""

import av
import numpy as np

from components.data.video import Pixels, UndecodableError, VideoFile, scaled
from components.storage import Place

__all__ = ["UndecodableError", "frame_times", "read_frames"]

CENTRE = (0.5, 0.5)
ROUNDING = 1e-3  # of a frame: a clip of exactly n/fps seconds has n frames, whatever floats make of it


def frame_times(start_seconds: float, end_seconds: float, fps: float) -> list[float]:
    """Times of the frames that a clip has at `fps`: every 1/fps seconds from its start, at least one."""
    count = max(1, int((end_seconds - start_seconds) * fps + ROUNDING))
    return [start_seconds + index / fps for index in range(count)]


def read_frames(
    path: Place,
    start_seconds: float,
    end_seconds: float,
    *,
    fps: float,
    height: int,
    width: int,
    max_frames: int | None = None,
    crop: tuple[float, float] = CENTRE,
) -> Pixels:
    """RGB uint8 (T, height, width, 3): the frames of [start, end) resampled to `fps` by nearest timestamp.

    Times count from the first frame of the file. Frames are turned as the file says, resized to cover the size
    and cropped in the middle, or at `crop`: shares of the room above and on the left. No frame outside of the
    stretch is used, so that no neighbouring scene leaks in.
    At most the first `max_frames`. Raises `UndecodableError` with a reason code.
    """
    times = frame_times(start_seconds, end_seconds, fps)[:max_frames]
    pixels = np.empty((len(times), height, width, 3), dtype=np.uint8)
    last: av.VideoFrame | None = None
    with VideoFile(path) as video:
        for index, timed in enumerate(video.nearest(times, start=start_seconds, end=end_seconds)):
            if timed.frame is last:  # the file has fewer frames a second than asked for
                pixels[index] = pixels[index - 1]
                continue
            last = timed.frame
            pixels[index] = _cover(timed.frame, video.shown_size(timed.frame), (height, width), crop)
    return pixels


def _cover(
    frame: av.VideoFrame, shown: tuple[int, int], size: tuple[int, int], crop: tuple[float, float]
) -> Pixels:
    """The largest part of the frame with this aspect ratio, at this size (height, width)."""
    height, width = size
    scale = max(height / shown[0], width / shown[1])
    covering = max(height, round(shown[0] * scale)), max(width, round(shown[1] * scale))
    top, left = (int((whole - part) * share) for whole, part, share in zip(covering, size, crop, strict=True))
    return scaled(frame, *covering)[top : top + height, left : left + width]
