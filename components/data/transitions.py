"""Where one shot becomes the next by degrees: dissolves, and fades from and to black.

Both are found in pictures of a few cells, in which grain and small motion are gone. In a dissolve every frame is a
mixture of the two shots whose share grows from 0 to 1 and rests before and after; a pan is no mixture, and a
slow one does not rest. A fade is a ramp between a picture and darkness.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Thumbs = NDArray[np.float32]  # (T, cells, 3) in 0..255
Vector = NDArray[np.float64]
Span = tuple[int, int]  # frames [first, after)

CELLS = 16  # wide
LONGEST_SECONDS = 3.0
SHORTEST = 3  # frames; what is shorter is a cut
GROWTH = 1.3  # of the lengths that are tried
BLACK_MEAN, BLACK_MOST = 5.0, 16.0  # levels of a frame that is black: on average, and its brightest cell
DARK_SHARE = 0.35  # a fade ends below this share of the light
DIMMED = 0.85  # cosine of a dim frame with its picture in full light
FADE_ERROR = 0.1  # from a straight ramp
MIN_CHANGE = 4.0  # levels between the two shots of a dissolve
SPREAD = 0.5  # of the mean change: what the median cell must change; a thing that moves changes few cells
MIDDLE_ERROR = 0.4  # of the change: how far the middle may be from the mean of both ends
RAMP_ERROR = 0.11
MIXTURE_ERROR = 0.3  # of the change: what no evenly growing mixture of the two shots explains
RESTLESS = 0.65  # of the change: what may change as long before or behind; a pan goes on, a dissolve has ends
SAME_SCENE = 0.85  # correlation: the light has changed, not the scene


@dataclass(frozen=True)
class Ramp:
    """A transition in frames, with fractions: the last of the one shot alone, the first of the other, the misfit."""

    start: float
    end: float
    error: float

    @property
    def span(self) -> Span:
        """The frames that show both."""
        return int(np.floor(self.start - 0.25)) + 1, int(np.ceil(self.end + 0.25))


def thumb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) as (h, 16, 3), by area."""
    height = max(2, round(CELLS * pixels.shape[0] / pixels.shape[1]))
    small: NDArray[np.uint8] = cv2.resize(pixels, (CELLS, height), interpolation=cv2.INTER_AREA)
    return small


def find_fades(thumbs: Thumbs, fps: float) -> list[Span]:
    """Stretches in which a shot goes to or comes from darkness, with the black between."""
    longest = round(LONGEST_SECONDS * fps)
    flat = thumbs.reshape(len(thumbs), -1)
    level = flat.mean(axis=1)
    found = []
    for first, after in _dark_points(flat, level):
        out = _fade(flat[max(0, first - longest - 8) : first][::-1], level[first])
        into = _fade(flat[after : after + longest + 8], level[after - 1])
        if out or into:
            found.append((first - out, after + into))
    return _merged(found)


def _dark_points(flat: NDArray[np.float32], level: NDArray[np.float32]) -> list[Span]:
    """Runs of black frames, and single frames darker than all around them."""
    black = (level < BLACK_MEAN) & (flat.max(axis=1) < BLACK_MOST)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], black, [False]]).astype(np.int8)))
    runs = [(int(first), int(after)) for first, after in edges.reshape(-1, 2)]
    reach = 3
    padded = np.pad(level, reach, mode="constant", constant_values=np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    lowest = np.flatnonzero((level <= around.min(axis=1)) & ~black)
    return sorted(runs + [(int(index), int(index) + 1) for index in lowest])


def _fade(away: NDArray[np.float32], floor: float) -> int:
    """Frames of the ramp that begins at a dark point of mean level `floor`, looking away from it; 0 without one."""
    if len(away) < SHORTEST or away.mean(axis=1).max() * DARK_SHARE < floor:
        return 0
    gram = away.astype(np.float64) @ away.T
    best, length = FADE_ERROR, 0
    for top in range(SHORTEST, len(away) - 2):  # at least two frames in full light
        share = gram[: top + min(top, 8) + 1, top] / max(gram[top, top], 1e-9)
        if share[0] >= 2 * DARK_SHARE or not _is_dimmed(away[0], away[top]):
            continue
        steps = np.arange(len(share), dtype=np.float64)
        below = np.arange(1, 2 + top // 4)[:, None]  # frames from the first of the ramp down to no light
        models = np.minimum(1.0, (steps + below) / (top + below))
        error = float(np.sqrt(((share - models) ** 2).mean(axis=1)).min())
        if error < best:
            best, length = error, top
    return length


def _is_dimmed(dark: NDArray[np.float32], lit: NDArray[np.float32]) -> bool:
    """False when a dark frame shows another picture than the one it would be the dark end of."""
    scale = float(np.linalg.norm(dark) * np.linalg.norm(lit))
    return bool(dark.mean() < BLACK_MEAN) or float(dark @ lit) > DIMMED * scale


def find_dissolves(thumbs: Thumbs, fps: float) -> list[Ramp]:
    """The dissolves within frames without a cut, in order."""
    flat = thumbs.reshape(len(thumbs), -1)
    ramps = [ramp for start, length in _candidates(flat, fps) if (ramp := fit_ramp(flat, start, length))]
    chosen: list[Ramp] = []
    for ramp in sorted(ramps, key=lambda one: one.error):
        if all(ramp.end <= other.start or other.end <= ramp.start for other in chosen):
            chosen.append(ramp)
    return sorted(chosen, key=lambda one: one.start)


def _candidates(flat: NDArray[np.float32], fps: float) -> Iterator[Span]:
    """(start, frames) of stretches that change much, most at their place, and whose middle is a mixture."""
    length = float(SHORTEST + 1)
    while length <= min(LONGEST_SECONDS * fps, len(flat) - 3):
        whole = 2 * round(length / 2)
        ends, middles, starts = flat[whole:], flat[whole // 2 : -whole // 2], flat[:-whole]
        change = np.abs(ends - starts).mean(axis=1)
        bent = np.abs(middles - (starts + ends) / 2).mean(axis=1)
        reach = max(1, whole // 4)
        padded = np.pad(change, reach, constant_values=0)
        most = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
        for start in np.flatnonzero(
            (change == most) & (change > MIN_CHANGE) & (bent < MIDDLE_ERROR * change)
        ):
            yield int(start), whole
        length *= GROWTH


def fit_ramp(flat: NDArray[np.float32], start: int, length: int) -> Ramp | None:
    """The dissolve around [start, start + length], if there is one that rests before and after."""
    rest = max(2, length // 4)
    low, high = max(0, start - length), min(len(flat), start + 2 * length + 1)
    before = np.median(flat[max(0, start - rest) : start + 1], axis=0)
    behind = np.median(flat[start + length : start + length + rest + 1], axis=0)
    change = (behind - before).astype(np.float64)
    size = float(np.abs(change).mean())
    typical = float(np.median(np.abs(change).reshape(-1, 3).mean(axis=1)))
    if size < MIN_CHANGE or typical < SPREAD * size or _correlation(before, behind) > SAME_SCENE:
        return None
    shares = _shares(flat[low:high] - before, change)
    crossings = [_crossing(shares, level, start - low) for level in (0.25, 0.75)]
    if crossings[0] is None or crossings[1] is None or crossings[1] <= crossings[0]:
        return None
    begin = low + 1.5 * crossings[0] - 0.5 * crossings[1]
    finish = low + 1.5 * crossings[1] - 0.5 * crossings[0]
    if finish - begin < SHORTEST or begin - 1 < 0 or finish + 1 > len(flat) - 1:
        return None
    first, after = int(np.floor(begin)), int(np.ceil(finish)) + 1
    if _restlessness(flat, first, after - 1) > RESTLESS * size:
        return None
    rest = max(2, (after - first) // 2)
    window = np.arange(max(low, first - rest), min(high, after + rest))
    model = np.clip((window - begin) / (finish - begin), 0, 1)
    error = float(np.sqrt(np.mean((shares[window - low] - model) ** 2)))
    inside = slice(max(first, low), min(after, high))
    mixed = before + shares[inside.start - low : inside.stop - low, None] * change
    unexplained = float(np.abs(flat[inside] - mixed).mean()) / size
    if error > RAMP_ERROR or error + unexplained > MIXTURE_ERROR:
        return None
    return Ramp(begin, finish, error + unexplained)


def _restlessness(flat: NDArray[np.float32], start: int, end: int) -> float:
    """Mean change over the stretches before `start` and behind `end`, as long as the one between, the larger."""
    length = end - start
    changes = []
    for first, last in ((max(0, start - length), start), (end, min(len(flat) - 1, end + length))):
        if last - first < SHORTEST:
            return np.inf  # nobody can tell
        scale = min(2.0, length / (last - first))  # a shorter stretch has had less time to change
        changes.append(scale * float(np.abs(flat[last] - flat[first]).mean()))
    return max(changes)


def _shares(difference: NDArray[np.float32], change: Vector) -> Vector:
    """How much of the change each frame (T, cells) has made: the median over cells, weighted by their change."""
    weights = np.abs(change)
    told = weights > 0.25 * weights.mean()
    ratios = difference[:, told] / change[told]
    order = np.argsort(ratios, axis=1)
    passed = np.cumsum(weights[told][order], axis=1)
    half = np.argmax(passed >= passed[:, -1:] / 2, axis=1)
    shares: Vector = np.take_along_axis(ratios, order, axis=1)[np.arange(len(ratios)), half]
    return shares.astype(np.float64)


def _crossing(shares: Vector, level: float, near: int) -> float | None:
    """Where the shares last rise through a level, not before `near` frames in by more than the window allows."""
    rising = np.flatnonzero((shares[:-1] < level) & (shares[1:] >= level))
    if not len(rising):
        return None
    index = int(rising[np.argmin(np.abs(rising - near))])
    return index + float((level - shares[index]) / (shares[index + 1] - shares[index]))


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale > 0 else 0.0


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for first, after in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(after, merged[-1][1]))
        else:
            merged.append((first, after))
    return merged
