"""Generated frames as a file that people can watch: H.264 in MP4, which every browser and player opens."""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

CODEC = "libx264"
ENCODER = {  # equal frames give equal bytes: one thread, and no routine that depends on where the memory lies
    "preset": "veryfast",
    "crf": "14",
    "threads": "1",
    "x264-params": "cpu-independent=1",
}
WATCHABLE_SIDE = 128  # pixels of the shorter side that a person can watch


def to_mp4(frames: NDArray[Any], fps: float, *, least_side: int = 0) -> bytes:
    """frames: uint8 (T, H, W, 3) -> an MP4 file; pixels are repeated until the shorter side is `least_side`."""
    scale = max(1, -(-least_side // min(frames.shape[1:3])))
    shown = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    shown = shown[:, : shown.shape[1] // 2 * 2, : shown.shape[2] // 2 * 2]  # 4:2:0 needs even sides
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream(CODEC, rate=Fraction(fps).limit_denominator(1001), options=ENCODER)
        stream.height, stream.width = shown.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in shown:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
            )
        container.mux(stream.encode())
    return buffer.getvalue()
