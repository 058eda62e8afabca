"""The moments of a clip that its scores are made from: decoded once, whatever is asked of them."""

from dataclasses import dataclass
from functools import cached_property

import cv2

from components.data.config import ScoreConfig
from components.data.motion import Flow, MotionMeter
from components.data.reasons import SourceReason
from components.data.video import Pixels, UndecodableError, VideoFile, scaled
from components.storage import Place

PAIR_SECONDS = 0.125  # between the two frames that motion compares: the same at every frame rate
LEAST_SIDE = 12  # pixels of the analysed picture: optical flow needs as many
MOST_SIDES = 16  # times as tall as wide: more is no picture
MOTION_PAIRS = 5  # compared per clip, about; more change the median little


@dataclass(frozen=True)
class Job:
    """One clip to score; seconds from the first frame of the file."""

    path: Place
    start: float
    end: float
    fps: float
    config: ScoreConfig
    caption: str = ""  # what `match` compares with


@dataclass(frozen=True)
class Look:
    """A moment of a clip: the frame then in RGB, the one a little later, and the seconds between them."""

    before: Pixels
    after: Pixels
    seconds: float
    fine: Pixels  # `before` at the width at which text is looked for


def look_at(job: Job) -> list[Look]:
    """`frames` evenly spaced moments of the clip, `analysis_width` wide.

    Raises `UndecodableError`, also for strips in which nothing can be measured.
    """
    gap = max(PAIR_SECONDS, 1 / job.fps)
    room = max(0.0, job.end - job.start - gap)
    count = job.config.frames
    moments = [job.start + (index + 0.5) / count * room for index in range(count)]
    times = sorted([*moments, *(moment + gap for moment in moments)])
    coarse, fine = job.config.analysis_width, job.config.text_width or job.config.analysis_width
    seen: dict[float, tuple[float, Pixels, Pixels]] = {}
    with VideoFile(job.path) as video:
        found = video.nearest(times, start=job.start, end=job.end)
        for asked, timed in zip(times, found, strict=True):
            height, width = video.shown_size(timed.frame)
            if not LEAST_SIDE * width <= coarse * height <= MOST_SIDES * coarse * width:
                raise UndecodableError(SourceReason.TOO_FLAT, f"{job.path.name}: {width}x{height} pixels")
            sizes = {side: max(2, round(side * height / width)) for side in (coarse, fine)}
            pixels = scaled(timed.frame, sizes[coarse], coarse)
            second = asked in moments and fine != coarse
            seen[asked] = (
                timed.seconds,
                pixels,
                scaled(timed.frame, sizes[fine], fine) if second else pixels,
            )
    return [
        Look(
            seen[moment][1],
            seen[moment + gap][1],
            seen[moment + gap][0] - seen[moment][0],
            seen[moment][2],
        )
        for moment in moments
    ]


class Views:
    """The looks at one clip, and what several scorers make of them, each computed when it is first asked for."""

    def __init__(self, job: Job) -> None:
        self.job = job

    @cached_property
    def looks(self) -> list[Look]:
        return look_at(self.job)

    @cached_property
    def grey(self) -> list[Pixels]:
        """(H, W) of each moment."""
        return [_grey(look.before) for look in self.looks]

    @cached_property
    def fine_grey(self) -> list[Pixels]:
        """(H, W) of each moment, in the size for text."""
        return [_grey(look.fine) for look in self.looks]

    @cached_property
    def flows(self) -> list[tuple[Flow, float]]:
        """Optical flow at a few moments, and the seconds it took."""
        some = self.looks[:: max(1, round(len(self.looks) / MOTION_PAIRS))]
        pairs = [(value(look.before), value(look.after), look.seconds) for look in some if look.seconds > 0]
        return MotionMeter().flows(pairs)


def _grey(pixels: Pixels) -> Pixels:
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey


def value(frame: Pixels) -> Pixels:
    """(H, W): the strongest colour. A red thing on green moss is no darker than the moss, but it stands out here."""
    strongest: Pixels = frame.max(axis=2)
    return strongest
