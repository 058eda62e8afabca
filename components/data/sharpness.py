"""How sharp a picture is, to leave out footage that is out of focus or was scaled up."""

from collections.abc import Sequence

import cv2
import numpy as np

from components.data.video import Pixels


def sharpness(frame: Pixels) -> float:
    """Variance of the Laplacian at the analysed size: low for a picture without edges."""
    return float(cv2.Laplacian(frame, cv2.CV_32F).var())


def median_sharpness(frames: Sequence[Pixels]) -> float:
    """Of grey frames (H, W)."""
    return float(np.median([sharpness(frame) for frame in frames]))
