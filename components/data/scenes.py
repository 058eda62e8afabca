"""Where one shot of a video ends and the next begins: differences of small frames in hue, saturation and value.

A cut is a step far above its surroundings, so the threshold adapts to how much is going on. Detectors of this kind
take every camera flash for two cuts; here a step is no cut when the picture returns up to three frames later.
Dissolves and fades are found in still smaller frames, and belong to neither shot. Two published detectors can be
chosen instead.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data.config import Detector, SplitConfig
from components.data.reasons import SourceReason
from components.data.transitions import Span, find_dissolves, find_fades, thumb
from components.data.video import Pixels, UndecodableError, VideoFile, leaps_of, scaled
from components.data.weights import warn_of_unwatched
from components.errors import UserError
from components.storage import Place

HUES = 180  # OpenCV's hue is in steps of two degrees
FLASH_FRAMES = 3  # a picture that returns later than that was another shot
Differences = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """Times of the frames of one shot, and the end of the last one, in seconds."""

    times: tuple[float, ...]
    end: float

    @property
    def start(self) -> float:
        return self.times[0]


@dataclass(frozen=True)
class Looked:
    """What one pass over a file leaves of each frame."""

    times: list[float]
    end: float
    steps: list[float]  # difference of frames i and i + 1
    leaps: list[float]  # difference of frames i and i + 2
    thumbs: NDArray[np.uint8]  # (T, h, w, 3)


def check_detector(config: SplitConfig) -> None:
    """Raises `UserError` when the chosen detector cannot work here."""
    if config.detector is Detector.PYSCENEDETECT and find_spec("scenedetect") is None:
        raise UserError(
            "split.detector is `pyscenedetect`, and its package is not installed: `pip install scenedetect-headless`,"
            " or set split.detector to `ours`"
        )
    warn_of_unwatched({"split.weights": config.weights})
    if config.detector is Detector.TRANSNETV2 and not Path(config.weights or "").is_file():
        raise UserError(
            f"split.weights: {config.weights} is no file; download `transnetv2-pytorch-weights.pth` of TransNetV2"
            " there, or set split.detector to `ours`"
        )


def detect_scenes(path: Place, config: SplitConfig) -> list[Scene]:
    """The shots of a file in order, without the frames that two of them share. Raises `UndecodableError`."""
    cv2.setNumThreads(1)
    if config.detector is Detector.PYSCENEDETECT:
        from components.data.scenes_pyscenedetect import shot_starts

        times, end = clock(path)
        return _scenes(times, end, _spans(_frames_at(times, shot_starts(path)), len(times)))
    if config.detector is Detector.TRANSNETV2:
        from components.data.scenes_transnet import find_shots

        times, end, shots = find_shots(path, Path(config.weights or ""))
        _refuse_empty(path, times)
        return _scenes(times, end, shots)
    looked = look(path, config)
    return _scenes(looked.times, looked.end, find_spans(looked, config))


def look(path: Place, config: SplitConfig) -> Looked:
    """Decode a file once. Raises `UndecodableError`, also when it holds no frame."""
    times: list[float] = []
    steps: list[float] = []
    leaps: list[float] = []
    thumbs: list[NDArray[np.uint8]] = []
    recent: deque[NDArray[np.int16]] = deque(maxlen=2)
    with VideoFile(path) as video:
        for timed in video.frames():
            height, width = video.shown_size(timed.frame)
            height = max(2, round(config.analysis_width * height / width))
            pixels = scaled(timed.frame, height, config.analysis_width, fast=True)
            colours = _hsv(pixels)
            if recent:
                steps.append(_difference(recent[-1], colours))
            if len(recent) == 2:
                leaps.append(_difference(recent[0], colours))
            recent.append(colours)
            small = thumb(pixels)
            thumbs.append(small if not thumbs else _like(small, thumbs[0]))
            times.append(timed.seconds)
        end = times[-1] + video.frame_seconds if times else 0.0
    _refuse_empty(path, times)
    return Looked(times, end, steps, leaps, np.stack(thumbs))


def _like(small: NDArray[np.uint8], first: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture in the size of the first one: streams may change their size on the way."""
    if small.shape == first.shape:
        return small
    resized: NDArray[np.uint8] = cv2.resize(small, first.shape[1::-1], interpolation=cv2.INTER_AREA)
    return resized


def _refuse_empty(path: Place, times: Sequence[float]) -> None:
    if not times:
        raise UndecodableError(SourceReason.ZERO_LENGTH, f"{path.name} holds no frame")


def clock(path: Place) -> tuple[list[float], float]:
    """Times of the frames of a file and its end, without decoding. Raises `UndecodableError`."""
    with VideoFile(path) as video:
        times = video.packet_times()
        _refuse_empty(path, times)
        return times, times[-1] + video.frame_seconds


def _frames_at(times: Sequence[float], seconds: Iterable[float]) -> list[int]:
    """The frames nearest to some times."""
    found = np.searchsorted(np.array(times), np.array(list(seconds)) - 1e-3)
    return sorted({int(index) for index in found if 0 < index < len(times)})


def _spans(starts: Sequence[int], frames: int) -> list[Span]:
    return list(pairwise([0, *starts, frames]))


def _scenes(times: Sequence[float], end: float, spans: Sequence[Span]) -> list[Scene]:
    """The shots in seconds; one in which the clock leaps is parted there, and ends when its last frame does."""
    leaps = leaps_of(times)
    usual = float(np.median(np.diff(np.array(times)))) if leaps else 0.0
    if leaps:
        end = times[-1] + usual  # a mean rate over the interruption says nothing of the last frame
    scenes = []
    for first, after in spans:
        bounds = [first, *(leap for leap in leaps if first < leap < after), after]
        for begin, stop in pairwise(bounds):
            after_last = times[stop] if stop < len(times) else end
            final = times[stop - 1] + usual if stop in leaps else after_last
            scenes.append(Scene(tuple(times[begin:stop]), final))
    return scenes


def find_spans(looked: Looked, config: SplitConfig) -> list[Span]:
    """Frames [first, after) of each shot."""
    cuts = find_cuts(looked.steps, looked.leaps, config)
    starts = [cut + 1 for cut in cuts if not _is_long_flash(looked.thumbs, cut, config.flash_ratio)]
    frames = len(looked.times)
    if not config.gradual or frames < 2:
        return _spans(starts, frames)
    fps = 1 / max(float(np.median(np.diff(looked.times))), 1e-3)
    thumbs = looked.thumbs.astype(np.float32)
    mixed = find_fades(thumbs, fps)
    # first across all cuts, since a dissolve may begin with a step of hue; then between those that are left
    mixed = sorted(mixed + _dissolves(looked.thumbs, thumbs, (0, frames), fps, config))
    alone = _between(_spans([start for start in starts if not _inside(start, mixed)], frames), mixed)
    return [
        shot
        for span in alone
        for shot in _between([span], _dissolves(looked.thumbs, thumbs, span, fps, config))
    ]


def _inside(start: int, mixed: Sequence[Span]) -> bool:
    return any(first <= start <= after for first, after in mixed)


def _between(spans: Sequence[Span], mixed: Sequence[Span]) -> Iterator[Span]:
    """The spans without the mixed stretches in them."""
    for first, after in spans:
        position = first
        for begin, finish in mixed:
            if position < begin < after:
                yield position, begin
            if begin < after and finish > position:
                position = max(position, finish)
        if position < after:
            yield position, after


def _dissolves(
    pictures: NDArray[np.uint8], thumbs: NDArray[np.float32], span: Span, fps: float, config: SplitConfig
) -> list[Span]:
    """The mixed frames of dissolves in a span whose two shots differ as much as those of a cut."""
    first, after = span
    return [
        (first + ramp.span[0], first + ramp.span[1])
        for ramp in find_dissolves(thumbs[first:after], fps)
        if _difference(
            *(_hsv(pictures[first + frame]) for frame in (math.floor(ramp.start), math.ceil(ramp.end)))
        )
        > config.threshold
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


def _is_long_flash(thumbs: NDArray[np.uint8], index: int, ratio: float) -> bool:
    """The same for a flash of two or three frames."""
    step = _apart(thumbs, index, index + 1)
    returns = [
        _apart(thumbs, before, after)
        for frames in range(2, FLASH_FRAMES + 1)
        for before, after in ((index, index + 1 + frames), (index - frames, index + 1))
        if before >= 0 and after < len(thumbs)
    ]
    return bool(returns) and min(returns) < ratio * step


def _apart(thumbs: NDArray[np.uint8], one: int, other: int) -> float:
    return float(np.abs(thumbs[one].astype(np.int16) - thumbs[other]).mean())
