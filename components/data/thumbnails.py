"""A clip as a few small colour thumbnails: what near-duplicates are found by.

Another encoder, size or a little trimming hardly changes them, and no weights are needed.
"""

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.data.frames import read_frames
from components.storage import Place

FLAT = 1e-3  # length of an embedding below which a clip shows nothing but one colour
STORED = np.dtype("<f2")  # three digits are enough for a cosine, and half the room
Embedding = NDArray[np.float16]  # (frames * pixels * pixels * 3,), of length 1


@dataclass(frozen=True)
class Thumbnails:
    """Work order: so many thumbnails, evenly spaced over a stretch of a file."""

    path: Place
    start_seconds: float
    end_seconds: float
    frames: int
    pixels: int


def embed(order: Thumbnails) -> Embedding:
    """Unit vector of a clip's thumbnails, the mean colour taken off; zeros for a clip of one flat colour.

    The cosine of two clips is then the correlation of their pixels: a change of brightness or contrast, as
    another encoder makes, leaves it alone, and two dark clips are not alike for being dark.
    """
    seconds = order.end_seconds - order.start_seconds
    pixels = read_frames(
        order.path,
        order.start_seconds,
        order.end_seconds,
        fps=order.frames / seconds if seconds > 0 else 1.0,
        height=order.pixels,
        width=order.pixels,
        max_frames=order.frames,
    )
    values = pixels.astype(np.float32) / 255
    values = np.concatenate([values, *[values[-1:]] * (order.frames - len(values))])  # an image is one frame
    values -= values.mean(axis=(0, 1, 2))
    length = float(np.linalg.norm(values))
    unit = values / length if length > FLAT else np.zeros_like(values)
    return unit.ravel().astype(STORED)


def pack(embedding: Embedding) -> str:
    """As text."""
    return base64.b64encode(embedding.astype(STORED).tobytes()).decode()


def unpack(text: str) -> Embedding:
    """The embedding of a text."""
    return np.frombuffer(base64.b64decode(text), dtype=STORED)
