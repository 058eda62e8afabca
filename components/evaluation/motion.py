"""How much moves from frame to frame. A model that makes still pictures does well on most other metrics."""

import numpy as np
from numpy.typing import NDArray


def motion_energy(clip: NDArray[np.uint8]) -> float:
    """Mean absolute difference of neighbouring frames, as a share of 255; 0 for one frame.

    clip: (T, H, W, C) uint8.
    """
    if len(clip) < 2:
        return 0.0
    return float(np.abs(np.diff(clip.astype(np.int16), axis=0)).mean() / 255)


def temporal_flickering(clip: NDArray[np.uint8]) -> float:
    """VBench's score of that name: 1 - mean absolute difference of neighbouring frames; 1 for a still clip."""
    return 1.0 - motion_energy(clip)
