"""Frames of a clip as JPEG files in memory: what a vision-language model is shown."""

from dataclasses import dataclass

import cv2

from components.data.video import VideoFile, scaled
from components.storage import Place

QUALITY = 90  # of the JPEG, in per cent


@dataclass(frozen=True)
class PictureOrder:
    """Work for a process: so many frames, evenly spaced over a stretch of a file."""

    path: Place
    start_seconds: float
    end_seconds: float
    frames: int
    side: int  # pixels of the shorter side; smaller videos stay as they are


def picture_times(start: float, end: float, count: int) -> list[float]:
    """The middles of `count` equal parts of the clip."""
    return [start + (index + 0.5) / count * (end - start) for index in range(count)]


def take_pictures(order: PictureOrder) -> list[bytes]:
    """JPEG files in the order of time. Raises `UndecodableError`."""
    start, end = order.start_seconds, order.end_seconds
    pictures = []
    with VideoFile(order.path) as video:
        for timed in video.nearest(picture_times(start, end, order.frames), start=start, end=end):
            height, width = video.shown_size(timed.frame)
            scale = min(1.0, order.side / min(height, width))
            pixels = scaled(timed.frame, max(1, round(height * scale)), max(1, round(width * scale)))
            _, encoded = cv2.imencode(
                ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            )
            pictures.append(encoded.tobytes())
    return pictures
