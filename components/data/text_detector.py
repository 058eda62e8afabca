"""How much of the picture is covered by text of any kind, as a published detector sees it.

The detector is a DB network (Liao et al. 2020, "Real-time Scene Text Detection with Differentiable Binarization") as
an ONNX file: PP-OCR's and DBNet's exports give one probability per pixel for RGB pictures normalised as ImageNet's.
OpenCV runs it; its own reading of the map (`TextDetectionModel_DB`) fails in OpenCV 5 on maps of four axes, so the
boxes are read here as the paper does. Open-Sora's `ocr` score comes from DBNet++ and counts the boxes above the same
confidence in one frame; the share of the area is kept here, which does not depend on how a line is cut into words.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from components.data.video import Pixels
from components.errors import UserError

ProbabilityMap = NDArray[np.float32]
Box = NDArray[np.float32]  # (4, 2): corners, x and y

MULTIPLE = 32  # pixels: what the sides of a picture must divide by
MEAN = np.array((123.675, 116.28, 103.53), dtype=np.float32)  # of ImageNet, red first
DEVIATION = np.array((58.395, 57.12, 57.375), dtype=np.float32)
PIXEL = 0.3  # probability above which a pixel is text
CONFIDENCE = 0.3  # mean probability in a box, as Open-Sora counts them
UNCLIP = 1.5  # the network marks shrunken lines; they grow by this times area over perimeter
SMALLEST = 3.0  # pixels, the shorter side of a box


@lru_cache(maxsize=1)
def load(weights: Path) -> cv2.dnn.Net:
    """The network; one per process. Raises `UserError` when the file holds no detector of this kind."""
    try:
        network = cv2.dnn.readNetFromONNX(str(weights))
        found = probabilities(network, np.zeros((2 * MULTIPLE, 3 * MULTIPLE, 3), dtype=np.uint8))
    except cv2.error as error:
        raise UserError(f"score.text_model: {weights} cannot be run by OpenCV: {error}") from None
    if found.ndim != 2 or not 0 <= found.min() <= found.max() <= 1:
        raise UserError(
            f"score.text_model: {weights} gives {found.shape} numbers from {found.min():.3g} to {found.max():.3g};"
            " a DB text detector gives one probability per pixel"
        )
    return network


def detected_share(frames: Sequence[Pixels], weights: Path) -> float:
    """Mean share of frames (H, W, 3) that boxes of text cover; where boxes overlap, once."""
    network = load(weights)
    return float(np.mean([_share(probabilities(network, frame)) for frame in frames]))


def probabilities(network: cv2.dnn.Net, frame: Pixels) -> ProbabilityMap:
    """(h, w) in 0..1 of a frame (H, W, 3), whose sides are rounded to what the network takes."""
    height, width = (max(MULTIPLE, MULTIPLE * round(side / MULTIPLE)) for side in frame.shape[:2])
    picture = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    normalised = (picture - MEAN) / DEVIATION
    network.setInput(np.ascontiguousarray(normalised.transpose(2, 0, 1)[None]))
    found: ProbabilityMap = np.asarray(network.forward(), dtype=np.float32).squeeze()
    return found


def boxes(chances: ProbabilityMap) -> list[Box]:
    """The rotated boxes around text in a map (h, w), in its pixels."""
    outlines, _ = cv2.findContours((chances > PIXEL).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for outline in outlines:
        middle, (wide, tall), angle = cv2.minAreaRect(outline)
        if min(wide, tall) >= SMALLEST and _confidence(chances, outline) > CONFIDENCE:
            grown = 2 * UNCLIP * wide * tall / (2 * (wide + tall))  # on both sides
            found.append(cv2.boxPoints((middle, (wide + grown, tall + grown), angle)))
    return found


def _confidence(chances: ProbabilityMap, outline: NDArray[np.int32]) -> float:
    """Mean probability within an outline."""
    left, top, wide, tall = cv2.boundingRect(outline)
    inside = np.zeros((tall, wide), dtype=np.uint8)
    cv2.drawContours(inside, [outline], 0, 1, cv2.FILLED, offset=(-left, -top))
    return float(cv2.mean(chances[top : top + tall, left : left + wide], inside)[0])


def _share(chances: ProbabilityMap) -> float:
    covered = np.zeros(chances.shape, dtype=np.uint8)
    for box in boxes(chances):
        cv2.fillPoly(covered, [np.rint(box).astype(np.int32)], 1)
    return float(covered.mean())
