"""Decoded frames as an autoencoder takes them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_pixels(frames: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """uint8 (B, T, H, W, 3) -> (B, 3, T, H, W) in [-1, 1] on a device."""
    pixels = torch.from_numpy(frames).to(device).permute(0, 4, 1, 2, 3)
    return pixels.float().div_(127.5).sub_(1.0)
