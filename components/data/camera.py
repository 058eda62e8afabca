"""What the camera does: the label that captions and filters use, in the published names.

A similarity transform is fitted to the optical flow between frames a moment apart, so that things that move on
their own do not count; the median over the clip decides. Directions are the camera's: in `pan_left` the picture
moves to the right.
"""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from components.data.motion import Flow, camera_matrix

SLOWEST = 0.02  # widths per second at the edge of the picture; what is slower is a static camera
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


def camera_label(flows: Sequence[tuple[Flow, float]]) -> CameraMotion:
    """The strongest of pan, tilt and zoom, from optical flow (H, W, 2) and the seconds it took."""
    found = [(_move(flow), seconds) for flow, seconds in flows]
    moves = [move / seconds for move, seconds in found if move is not None]
    if len(moves) < FITTED * len(flows) or not moves:
        return CameraMotion.UNDETERMINED
    speeds = np.median(moves, axis=0)
    strongest = int(np.argmax(np.abs(speeds)))
    if abs(speeds[strongest]) < SLOWEST:
        return CameraMotion.STATIC
    return AXES[strongest][0 if speeds[strongest] > 0 else 1]


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
