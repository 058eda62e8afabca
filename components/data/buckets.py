"""Which (resolution, frames, aspect) shapes exist and which of them a clip can serve.

The sizes are a rule instead of a table (area of the resolution, side ratio of the aspect, sides rounded to
what the model can divide), so that any autoencoder stride works. A clip that serves no bucket gets a reason
code: samples that vanish because nothing fits them are the most frequent complaint about bucketed training.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from components.data.config import BucketsConfig
from components.errors import ParamsError

# Pixel areas as published with Open-Sora 1.2.
RESOLUTIONS = {
    "144p": 36_864,
    "256": 65_536,
    "240p": 102_240,
    "360p": 230_400,
    "512": 262_144,
    "480p": 409_920,
    "720p": 921_600,
    "1024": 1_048_576,
    "1080p": 2_073_600,
    "2k": 3_686_400,
    "2048": 4_194_304,
    "4k": 8_294_400,
}
COVERED = 0.8  # share of a bucket's area that a clip must have (Open-Sora 1.2)
ROUNDING = 1e-3  # of a frame: n/fps seconds are n frames, whatever floats make of it
TOO_SMALL = "too_small"
TOO_SHORT = "too_short"


@dataclass(frozen=True, order=True)
class Bucket:
    """One shape of sample. `height` and `width` in pixels."""

    resolution: str
    frames: int
    aspect: str  # "height:width"
    height: int
    width: int

    @property
    def key(self) -> str:
        """`frames x height x width`, as latents and logs name it."""
        return f"{self.frames}x{self.height}x{self.width}"


@dataclass(frozen=True)
class Assignment:
    """Buckets a clip serves (longest first, then largest first), or the reason that it serves none."""

    buckets: tuple[Bucket, ...]
    reason: str | None = None


@dataclass
class Fill:
    """How many clips each bucket gets; every clip is in `served` or in one of `unserved`."""

    clips: dict[Bucket, int] = field(default_factory=dict)
    served: int = 0
    unserved: dict[str, int] = field(default_factory=dict)  # reason -> clips


def area_of(resolution: str) -> int:
    """Pixels of a resolution name; `32px` is the area of a square of side 32. Raises `ParamsError`."""
    if resolution in RESOLUTIONS:
        return RESOLUTIONS[resolution]
    if match := re.fullmatch(r"([1-9]\d*)px", resolution):
        return int(match[1]) ** 2
    raise ParamsError(
        f"unknown resolution `{resolution}`; use one of {', '.join(RESOLUTIONS)}, or a side like `64px`"
    )


def ratio_of(aspect: str) -> float:
    """Height over width of `height:width`. Raises `ParamsError`."""
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", aspect)
    if not match:
        raise ParamsError(f"aspect `{aspect}` is not `height:width`, as in `9:16`")
    return int(match[1]) / int(match[2])


def sides(resolution: str, aspect: str, multiple: int) -> tuple[int, int]:
    """(height, width) of about the resolution's area and the aspect's ratio, both multiples of `multiple`."""
    area, ratio = area_of(resolution), ratio_of(aspect)
    exact = math.sqrt(area * ratio), math.sqrt(area / ratio)
    height, width = (max(multiple, multiple * round(side / multiple)) for side in exact)
    return height, width


@lru_cache(maxsize=32)
def buckets_of(config: BucketsConfig) -> tuple[Bucket, ...]:
    """All buckets of a section: longest first, then largest resolution, then aspects in the given order.

    Aspects that round to the same sides are one bucket, under the first of their names.
    """
    found: dict[tuple[str, str], Bucket] = {}
    for frames in sorted(set(config.frames), reverse=True):
        for resolution in sorted(set(config.resolutions), key=area_of, reverse=True):
            for aspect in config.aspects:
                bucket = Bucket(resolution, frames, aspect, *sides(resolution, aspect, config.multiple))
                found.setdefault((resolution, bucket.key), bucket)
    return tuple(found.values())


def nearest_aspect(height: int, width: int, aspects: Sequence[str]) -> str:
    """The aspect whose side ratio is nearest on a log scale; the first one of equals."""
    return min(aspects, key=lambda aspect: abs(math.log(height / width) - math.log(ratio_of(aspect))))


def available_frames(seconds: float, fps: float, own: int | None = None) -> int:
    """Frames that `seconds` of video give at `fps`, as `read_frames` counts them: at least one.

    A picture, whose `own` number of frames is 1, is one frame however long it is shown.
    """
    return 1 if own == 1 else max(1, math.floor(seconds * fps + ROUNDING))


def assign(height: int, width: int, frames: int, config: BucketsConfig) -> Assignment:
    """The buckets that a clip of that size, with `frames` frames at the sampling rate, can serve.

    A clip serves every frame count that it is long enough for, and every resolution of which it covers 80 %
    of the area, at the nearest aspect. Which of the resolutions a sample is trained at in an epoch is the
    loader's choice: the published walk from large to small with keep probabilities.
    """
    covered = _covered(height, width, config)
    if not covered:
        return Assignment((), TOO_SMALL)
    fitting = tuple(bucket for bucket in covered if bucket.frames <= frames)
    return Assignment(fitting, None if fitting else TOO_SHORT)


@lru_cache(maxsize=1 << 14)
def _covered(height: int, width: int, config: BucketsConfig) -> tuple[Bucket, ...]:
    """The buckets of the nearest aspect whose area a clip of that size covers; a data set has few sizes."""
    aspect = nearest_aspect(height, width, config.aspects)
    return tuple(
        bucket
        for bucket in buckets_of(config)
        if (bucket.height, bucket.width) == sides(bucket.resolution, aspect, config.multiple)
        and height * width >= COVERED * area_of(bucket.resolution)
    )


def fill(geometries: Iterable[tuple[int, int, int]], config: BucketsConfig) -> Fill:
    """Count what each bucket would get from clips of (height, width, frames at the sampling rate)."""
    clips = dict.fromkeys(buckets_of(config), 0)
    reasons: Counter[str] = Counter()
    served = 0
    for height, width, frames in geometries:
        assignment = assign(height, width, frames, config)
        for bucket in assignment.buckets:
            clips[bucket] += 1
        if assignment.reason:
            reasons[assignment.reason] += 1
        else:
            served += 1
    return Fill(clips, served, dict(reasons))
