"""What the camera does: the label that captions and filters use, in the published names.

A similarity transform is fitted to the optical flow between frames a moment apart, so that things that move on
their own do not count; the median over the clip decides. Directions are the camera's: in `pan_left` the picture
moves to the right. A camera that does several things at once has them joined, as `pan_left+tilt_up`: published
labels (Open-Sora's, from tracked points) name every axis that moves far enough.
"""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from components.data.motion import Flow, camera_matrix

SLOWEST = 0.02  # widths per second at the edge of the picture; what is slower is a static camera
BESIDE = 0.45  # of the fastest axis: what is slower than that is not named beside it
FITTED = 0.5  # of the moments: with fewer that a transform fits, nobody can tell


class CameraMotion(StrEnum):
    STATIC = "static"
    PAN_LEFT = "pan_left"
    PAN_RIGHT = "pan_right"
    TILT_UP = "tilt_up"
    TILT_DOWN = "tilt_down"
    ZOOM_IN = "zoom_in"
    ZOOM_OUT = "zoom_out"
    UNDETERMINED = "undetermined"


AXES = (
    (CameraMotion.PAN_RIGHT, CameraMotion.PAN_LEFT),
    (CameraMotion.TILT_UP, CameraMotion.TILT_DOWN),
    (CameraMotion.ZOOM_IN, CameraMotion.ZOOM_OUT),
)


def camera_label(flows: Sequence[tuple[Flow, float]]) -> str:
    """What moves of pan, tilt and zoom, joined by `+`, from optical flow (H, W, 2) and the seconds it took."""
    found = [(_move(flow), seconds) for flow, seconds in flows]
    moves = [move / seconds for move, seconds in found if move is not None]
    if len(moves) < FITTED * len(flows) or not moves:
        return CameraMotion.UNDETERMINED
    speeds = np.median(moves, axis=0)
    least = max(SLOWEST, BESIDE * float(np.abs(speeds).max()))
    named = [
        axis[0 if speed > 0 else 1] for axis, speed in zip(AXES, speeds, strict=True) if abs(speed) >= least
    ]
    return "+".join(named) or CameraMotion.STATIC


def _move(flow: Flow) -> NDArray[np.float64] | None:
    """Pan to the right, tilt upwards and zoom in, as the way of the picture's edge in widths; None without a fit."""
    matrix = camera_matrix(flow)
    if matrix is None:
        return None
    height, width, _ = flow.shape
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = matrix[:, :2] @ middle + matrix[:, 2] - middle
    growth = float(np.hypot(matrix[0, 0], matrix[1, 0])) - 1
    return np.array([-shift[0] / width, shift[1] / width, growth / 2])
