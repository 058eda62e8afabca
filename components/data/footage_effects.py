"""What editors, cameras and broken disks do to footage, done to rendered scenes with the truth known.

Each effect keeps account of the stretch that belongs to one scene alone, because that is what a clip may hold: of a
dissolve or a fade no frame, of a flash or a whip pan every one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB
FLASH = 140  # levels that a camera flash adds
NIGHT = 0.12  # of the light is left in a dark scene
SPOILT = (0.35, 0.65)  # the part of a corrupted file that is overwritten
BRIGHTER = 1.03  # a near-duplicate


class Kind(StrEnum):
    """What is special about a file."""

    PLAIN = "plain"
    STATIC = "static"
    TEXT = "text"
    TRUNCATED = "truncated"
    FADE = "fade"
    DISSOLVE = "dissolve"
    FLASH = "flash"
    WHIP = "whip"
    DARK = "dark"
    BLACK = "black"
    NEAR_DUPLICATE = "near_duplicate"
    DUPLICATE = "duplicate"
    CORRUPTED = "corrupted"


@dataclass(frozen=True)
class Stretch:
    """Frames [start, end) of a file that are of one make: a scene, or a transition, a flash, a whip pan."""

    what: str
    start: int
    end: int


def layout(kind: Kind, lengths: Sequence[int], span: int) -> tuple[list[Stretch], list[Stretch]]:
    """The scenes of a file and its events, from the frames of each scene and of a transition."""
    scenes: list[Stretch] = []
    events: list[Stretch] = []
    position = 0
    for index, length in enumerate(lengths):
        last = index == len(lengths) - 1
        if kind is Kind.FADE:
            events.append(Stretch("fade_in", position, position + span))
            scenes.append(Stretch("scene", position + span, position + length - span))
            events.append(Stretch("fade_out", position + length - span, position + length))
        elif kind is Kind.DISSOLVE:
            begin = position + (span if index else 0)
            scenes.append(Stretch("scene", begin, position + length - (0 if last else span)))
            if not last:
                events.append(Stretch("dissolve", position + length - span, position + length))
                position -= span
        else:
            scenes.append(Stretch("scene", position, position + length))
        if kind in MOMENTS:
            middle = position + length // 2
            events.append(Stretch(str(kind), middle, middle + (1 if kind is Kind.FLASH else span)))
        position += length
        if kind is Kind.BLACK and not last:
            events.append(Stretch("black", position, position + length))
            position += length
    return scenes, events


def film(kind: Kind, shots: Iterator[Frames], span: int) -> Iterator[Frames]:
    """The frames of a file, in batches, as `layout` says."""
    if kind is Kind.DISSOLVE:
        yield from _dissolved(shots, span)
    elif kind is Kind.BLACK:
        yield from _parted(shots)
    else:
        yield from (_changed(kind, shot, span) for shot in shots)


def _changed(kind: Kind, shot: Frames, span: int) -> Frames:
    if kind in SPANNING:
        return SPANNING[kind](shot, span)
    return CHANGES[kind](shot) if kind in CHANGES else shot


def ramp(span: int) -> NDArray[np.float32]:
    """(span, 1, 1, 1): shares of what comes, above 0 and below 1."""
    shares: NDArray[np.float32] = (np.arange(1, span + 1) / (span + 1)).astype(np.float32)
    return shares[:, None, None, None]


def _dissolved(shots: Iterator[Frames], span: int) -> Iterator[Frames]:
    held: Frames | None = None
    for shot in shots:
        if held is not None:
            yield rounded(held * (1 - ramp(span)) + shot[:span] * ramp(span))
        yield shot[0 if held is None else span : -span]
        held = shot[-span:]
    if held is not None:
        yield held


def _parted(shots: Iterator[Frames]) -> Iterator[Frames]:
    """Black pictures behind every scene but the last, as many as it has frames."""
    previous: Frames | None = None
    for shot in shots:
        if previous is not None:
            yield np.zeros_like(previous)
        yield shot
        previous = shot


def _faded(shot: Frames, span: int) -> Frames:
    share = np.concatenate([ramp(span), np.ones((len(shot) - 2 * span, 1, 1, 1)), 1 - ramp(span)])
    return rounded(shot * share)


def _flashed(shot: Frames) -> Frames:
    flashed = shot.copy()
    flashed[len(shot) // 2] = rounded(shot[len(shot) // 2].astype(np.float32) + FLASH)
    return flashed


def _whipped(shot: Frames, span: int) -> Frames:
    """The camera is torn once around a panorama, the picture and its mirror image, and comes to rest as before."""
    torn = shot.copy()
    first, width = len(shot) // 2, shot.shape[2]
    blur = max(3, round(2 * width / span) // 2)
    for index in range(span):
        panorama = np.concatenate([shot[first + index], shot[first + index, :, ::-1]], axis=1)
        turned = np.roll(panorama, -round(2 * width * (index + 1) / (span + 1)), axis=1)
        torn[first + index] = cv2.blur(turned, (blur, 1))[:, :width]
    return torn


def _darkened(shot: Frames) -> Frames:
    return rounded(shot * np.float32(NIGHT))


def _brightened(shot: Frames) -> Frames:
    return rounded(shot * np.float32(BRIGHTER))


def rounded(pixels: NDArray[np.float32]) -> Frames:
    return (np.clip(pixels, 0, 255) + 0.5).astype(np.uint8)


def corrupt(path: Path, seed: int) -> None:
    """Overwrite the middle of a file with noise; header and index stay, so that it opens."""
    size = path.stat().st_size
    first, after = (int(share * size) for share in SPOILT)
    with path.open("r+b") as file:
        file.seek(first)
        file.write(np.random.default_rng(seed).bytes(after - first))


MOMENTS = (Kind.FLASH, Kind.WHIP)  # happen within a scene and are no cut
SPANNING: Mapping[Kind, Callable[[Frames, int], Frames]] = {Kind.FADE: _faded, Kind.WHIP: _whipped}
CHANGES: Mapping[Kind, Callable[[Frames], Frames]] = {
    Kind.FLASH: _flashed,
    Kind.DARK: _darkened,
    Kind.NEAR_DUPLICATE: _brightened,
}
