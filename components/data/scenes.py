"""Where one shot of a video ends and the next begins: differences of small frames in hue, saturation and value.

A cut is a step far above its surroundings, so the threshold adapts to how much is going on. Detectors of this kind
take every camera flash for two cuts; here a step is no cut when the picture returns one frame later. Dissolves are
not found: their two shots become one clip.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data.config import SplitConfig
from components.data.reasons import SourceReason
from components.data.video import Pixels, UndecodableError, VideoFile, scaled

HUES = 180  # OpenCV's hue is in steps of two degrees
Differences = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """Times of the frames of one shot, and the end of the last one, in seconds."""

    times: tuple[float, ...]
    end: float

    @property
    def start(self) -> float:
        return self.times[0]


def detect_scenes(path: Path, config: SplitConfig) -> list[Scene]:
    """The shots of a file in order; together they hold every frame. Raises `UndecodableError`."""
    cv2.setNumThreads(1)
    times: list[float] = []
    steps: list[float] = []  # difference of frames i and i + 1
    leaps: list[float] = []  # difference of frames i and i + 2
    recent: deque[NDArray[np.int16]] = deque(maxlen=2)
    with VideoFile(path) as video:
        for timed in video.frames():
            height, width = video.shown_size(timed.frame)
            height = max(2, round(config.analysis_width * height / width))
            colours = _hsv(scaled(timed.frame, height, config.analysis_width, fast=True))
            if recent:
                steps.append(_difference(recent[-1], colours))
            if len(recent) == 2:
                leaps.append(_difference(recent[0], colours))
            recent.append(colours)
            times.append(timed.seconds)
        end = times[-1] + video.frame_seconds if times else 0.0
    if not times:
        raise UndecodableError(SourceReason.ZERO_LENGTH, f"{path.name} holds no frame")
    bounds = [0, *(cut + 1 for cut in find_cuts(steps, leaps, config)), len(times)]
    ends = [times[bound] for bound in bounds[1:-1]] + [end]
    return [
        Scene(tuple(times[first:after]), last)
        for first, after, last in zip(bounds[:-1], bounds[1:], ends, strict=True)
    ]


def _hsv(pixels: Pixels) -> NDArray[np.int16]:
    colours: NDArray[np.int16] = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(np.int16)
    return colours


def _difference(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """Mean |dHSV| over pixels and channels; hue is a circle."""
    change = np.abs(one - other)
    change[..., 0] = np.minimum(change[..., 0], HUES - change[..., 0])
    return float(change.mean())


def find_cuts(steps: Sequence[float], leaps: Sequence[float], config: SplitConfig) -> list[int]:
    """Indices i where a new shot begins at frame i + 1.

    `steps[i]` is the difference of frames i and i + 1, `leaps[i]` that of i and i + 2. A cut is above the threshold,
    above `adaptive_ratio` times the mean of its neighbours, a local maximum, and no flash.
    """
    return [
        index
        for index, step in enumerate(steps)
        if step > config.threshold
        and step > config.adaptive_ratio * _surroundings(steps, index, config.adaptive_window)
        and step == max(steps[max(0, index - 1) : index + 2])
        and not _is_flash(steps, leaps, index, config.flash_ratio)
    ]


def _surroundings(steps: Sequence[float], index: int, window: int) -> float:
    """Mean of up to `window` neighbours each side, 0 without any."""
    neighbours = [*steps[max(0, index - window) : index], *steps[index + 1 : index + 1 + window]]
    return sum(neighbours) / len(neighbours) if neighbours else 0.0


def _is_flash(steps: Sequence[float], leaps: Sequence[float], index: int, ratio: float) -> bool:
    """True when the picture before frame i + 1 is back after it, or the one after frame i was there before it."""
    around = leaps[max(0, index - 1) : index + 1]
    return bool(around) and min(around) < ratio * steps[index]
