"""How bright a clip is, and how much of it is black: night and leaders teach a model nothing."""

from collections.abc import Sequence

import numpy as np

from components.data.video import Pixels

BLACK_MEAN = 8.0  # grey levels of a black frame: on average, and nearly everywhere
BLACK_MOST = 24.0
NEARLY = 0.98  # share of the pixels; a clock in a corner leaves a frame black


def brightness(frames: Sequence[Pixels]) -> float:
    """Mean share of white of grey frames (H, W)."""
    return float(np.mean([frame.mean() for frame in frames])) / 255


def black_share(frames: Sequence[Pixels]) -> float:
    """Share of the grey frames (H, W) that are black."""
    return float(np.mean([_is_black(frame) for frame in frames]))


def _is_black(frame: Pixels) -> bool:
    return bool(frame.mean() < BLACK_MEAN and np.quantile(frame, NEARLY) < BLACK_MOST)
