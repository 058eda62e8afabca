"""How much of the picture is covered by text laid over it: titles, subtitles, logos in letters.

No weights are needed, because overlaid text has four properties that scenes seldom have at once: strokes that are
thin and far brighter or darker than both their sides, the same place in every frame whatever moves behind, rows, in
which strokes and gaps alternate, and one colour throughout, which the grain of rock or leaves has not.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Levels = NDArray[np.float32]

STROKE = 0.09  # of the width: strokes are thinner than this
CONTRASTS = (36, 72, 108)  # grey levels between a stroke and its sides; high ones part letters from clutter
CORE = 0.7  # of the highest contrast in a line: the middle of its strokes
UNEVEN = 0.28  # of the contrast: how far the levels of the strokes may be apart
STAYS = 0.15  # share of the frames in which the contrast may be lower: something bright passes behind
GAP = 0.06  # of the width: what is closer in a row belongs to one line
LINE_HEIGHT = (0.05, 0.35)  # of the picture's height
LINE_WIDTH = 0.12  # of the picture's width, at least
ALTERNATIONS = 6  # changes between stroke and gap along a line: three letters
FILL = (0.2, 0.8)  # share of a line that is stroke


def text_share(frames: Sequence[Gray]) -> float:
    """Share of the picture covered by lines of text that stay in place through all frames (same size, uint8)."""
    stack = np.stack(frames)  # (T, H, W)
    size = max(3, round(STROKE * stack.shape[2]))
    usual = np.median(stack, axis=0).astype(np.float32)
    covered = np.zeros(usual.shape, dtype=np.uint8)
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):  # light strokes, dark strokes
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        contrast = np.stack([cv2.morphologyEx(frame, operation, kernel) for frame in stack])
        lasting = np.quantile(contrast, STAYS, axis=0).astype(np.float32)
        for least in CONTRASTS:
            for left, top, wide, tall in lines((lasting > least).astype(np.uint8)):
                box = np.s_[top : top + tall, left : left + wide]
                if _is_of_one_colour(usual[box], lasting[box], least):
                    covered[box] = 1
    return float(covered.mean())


def _is_of_one_colour(levels: Levels, contrast: Levels, least: float) -> bool:
    """True where the middles of the strokes are about equally light, as letters are."""
    core = contrast >= max(least, CORE * float(np.quantile(contrast[contrast > least], 0.9)))
    low, high = np.quantile(levels[core], (0.1, 0.9))
    return bool(high - low < UNEVEN * np.median(contrast[core]))


def lines(strokes: Mask) -> list[tuple[int, int, int, int]]:
    """Boxes (x, y, width, height) of rows of strokes that alternate as letters do. `strokes` (H, W) is 0 or 1."""
    bridge = np.ones((1, max(3, round(GAP * strokes.shape[1]))), dtype=np.uint8)
    rows = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, bridge)
    count, _, boxes, _ = cv2.connectedComponentsWithStats(rows)
    found = [box[:4].tolist() for box in boxes[1:count] if _is_line(strokes, box)]
    return [(left, top, wide, tall) for left, top, wide, tall in found]


def _is_line(strokes: Mask, box: NDArray[np.int32]) -> bool:
    height, width = strokes.shape
    left, top, wide, tall = (int(value) for value in box[:4])
    if (
        wide < LINE_WIDTH * width
        or not LINE_HEIGHT[0] * height <= tall <= LINE_HEIGHT[1] * height
        or wide < tall
    ):
        return False
    inside = strokes[top : top + tall, left : left + wide].astype(np.int8)
    changes = np.abs(np.diff(inside, axis=1)).sum(axis=1)  # per row of pixels
    return bool(np.quantile(changes, 0.75) >= ALTERNATIONS and FILL[0] <= inside.mean() <= FILL[1])
