"""Small video files whose frames say which they are: the index as eight black or white squares."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SQUARE = 16
BITS = 8
TICKS = 12_800  # of the clock, per second


def counter_frame(index: int, height: int = 64, width: int = 160) -> np.ndarray:
    """RGB (height, width, 3) with the index written from the left in squares, the lowest bit first."""
    frame = np.full((height, width, 3), 96, dtype=np.uint8)
    for bit in range(BITS):
        frame[8 : 8 + SQUARE, 8 + bit * SQUARE : 8 + (bit + 1) * SQUARE] = 235 if index >> bit & 1 else 20
    return frame


def read_counter(frame: np.ndarray) -> int:
    """The index written in a frame of the same size."""
    middles = [8 + bit * SQUARE + SQUARE // 2 for bit in range(BITS)]
    return sum(1 << bit for bit, x in enumerate(middles) if frame[8 + SQUARE // 2, x].mean() > 128)


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    times: Sequence[float] | None = None,
    fps: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Encode RGB frames, at `times` in seconds if given, else at `fps`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, TICKS)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.time_base = Fraction(1, TICKS)
            frame.pts = round((times[index] if times else index / fps) * TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
