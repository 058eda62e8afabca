"""How much moves in a clip, told apart into the camera and the things before it.

A pan over a still scene is not action. The camera's part of the optical flow is a similarity transform fitted to
most of the picture; what it does not explain is the motion of objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]
Flow = NDArray[np.float32]  # (H, W, 2), x and y in pixels

GRID = 8  # pixels between the points that the camera is fitted to
INLIER_PIXELS = 0.5
MOVING_SHARE = 0.03  # of the picture: the object motion is the mean over the pixels that move most
BORDER = 0.06  # of the width, left out on each side: what a pan brings in was in no frame before
FINEST_SCALE = (
    1  # of the flow's pyramid, half the size; the preset stops at a quarter and loses small objects
)
REFINEMENTS = 5  # variational steps; without them a pan over a still scene scores almost twice as much


@dataclass(frozen=True)
class Motion:
    """Shares of the picture's width per second."""

    objects: float
    camera: float


class MotionMeter:
    """Measures pairs of frames by DIS optical flow (Kroeger et al. 2016), for pictures about 100 pixels wide."""

    def __init__(self) -> None:
        self.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.flow.setFinestScale(FINEST_SCALE)
        self.flow.setVariationalRefinementIterations(REFINEMENTS)

    def measure(self, pairs: Sequence[tuple[Gray, Gray, float]]) -> Motion:
        """Of pairs of frames (before, after, seconds between them)."""
        return motion_of(self.flows(pairs))

    def flows(self, pairs: Sequence[tuple[Gray, Gray, float]]) -> list[tuple[Flow, float]]:
        """Optical flow of each pair, and its seconds."""
        return [(self.flow.calc(before, after, None), seconds) for before, after, seconds in pairs]


def motion_of(flows: Sequence[tuple[Flow, float]]) -> Motion:
    """Median over flows and the seconds they took, so that one bad pair does not count."""
    if not flows:
        return Motion(objects=0.0, camera=0.0)  # a single picture
    found = [_motion(*flow) for flow in flows]
    return Motion(
        objects=float(np.median([motion.objects for motion in found])),
        camera=float(np.median([motion.camera for motion in found])),
    )


def _motion(flow: Flow, seconds: float) -> Motion:
    camera = camera_flow(flow)
    border = round(BORDER * flow.shape[1])
    inside = np.s_[border : flow.shape[0] - border, border : flow.shape[1] - border]
    residual = _length((flow - camera)[inside]).ravel()
    count = max(1, round(MOVING_SHARE * residual.size))
    most = np.partition(residual, -count)[-count:]
    scale = 1 / (flow.shape[1] * seconds)
    return Motion(float(most.mean()) * scale, float(_length(camera).mean()) * scale)


def camera_flow(flow: Flow) -> Flow:
    """The flow that shift, zoom and roll of the camera explain; zero where nothing fits."""
    height, width, _ = flow.shape
    y, x = (axis.astype(np.float32) for axis in np.ogrid[0:height, 0:width])
    explained = np.zeros_like(flow)
    matrix = camera_matrix(flow)
    if matrix is not None:
        (a, b, shift_x), (c, d, shift_y) = matrix.astype(np.float32)
        explained[..., 0] = (a - 1) * x + b * y + shift_x
        explained[..., 1] = c * x + (d - 1) * y + shift_y
    return explained


def camera_matrix(flow: Flow) -> NDArray[np.float64] | None:
    """(2, 3): the similarity transform that most of the picture follows, by RANSAC on a grid; None without one."""
    height, width, _ = flow.shape
    rows, columns = (np.arange(GRID // 2, size, GRID) for size in (height, width))
    start = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2).astype(np.float32)
    end = start + flow[np.ix_(rows, columns)].reshape(-1, 2)
    matrix: NDArray[np.float64] | None = cv2.estimateAffinePartial2D(
        start, end, method=cv2.RANSAC, ransacReprojThreshold=INLIER_PIXELS
    )[0]
    return matrix


def _length(vectors: Flow) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.sqrt(vectors[..., 0] ** 2 + vectors[..., 1] ** 2)
    return length
