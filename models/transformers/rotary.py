"""Rotary phases: where queries and keys are, so that a score depends on the difference of two positions only.

RoFormer (arXiv 2104.09864) with interleaved pairs of channels. Angles are computed in float32 whatever the precision of
the model: phases in bfloat16 drift past some sixty frames. B batch, T H W token grid, K head width.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from models.positions import inverse_wavelengths


@dataclass(frozen=True, slots=True)
class Rotary:
    """Turns queries and keys (B, T, H, W, 2, heads, K) by their position -> the same shape.

    The head is split: `time` channels are turned by the frame, then `height` by the row and `width` by the column.
    Time alone (K, 0, 0) is Open-Sora 1.2's; (44, 42, 42) is the split of Wan, (16, 24, 24) that of CogVideoX.
    Frames are counted from `first_frame`, so that keys made earlier stay right when a video is continued.
    """

    time: int
    height: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        for axis, channels in (("time", self.time), ("height", self.height), ("width", self.width)):
            if channels < 0 or channels % 2:
                raise ValueError(f"rotary {axis}: {channels} channels; use an even number, or 0 for none")

    def __call__(self, query_key: Tensor, first_frame: int = 0) -> Tensor:
        channels = self.time + self.height + self.width
        if query_key.shape[-1] != channels:
            raise ValueError(
                f"rotary split {self.time} + {self.height} + {self.width} does not add up to the head width"
                f" {query_key.shape[-1]}"
            )
        _, frames, rows, columns = query_key.shape[:4]
        turn = phases(self, first_frame, (frames, rows, columns), query_key.device)
        pairs = torch.view_as_complex(query_key.float().reshape(*query_key.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(-2).to(query_key.dtype)


@lru_cache(maxsize=16)
def phases(rotary: Rotary, first_frame: int, grid: tuple[int, int, int], device: torch.device) -> Tensor:
    """(T, H, W, 1, 1, K / 2) complex64; an axis along which nothing turns has length 1."""
    with torch.inference_mode(False):  # a cached table must serve training too
        channels, first = (rotary.time, rotary.height, rotary.width), (first_frame, 0, 0)
        turning = [axis for axis in range(3) if channels[axis]]
        shape = [n if axis in turning else 1 for axis, n in enumerate(grid)]
        parts = []
        for axis in turning:
            places = torch.arange(first[axis], first[axis] + grid[axis], device=device, dtype=torch.float32)
            angles = places[:, None] * inverse_wavelengths(channels[axis] // 2, device)
            along = [n if other == axis else 1 for other, n in enumerate(grid)]
            parts.append(angles.view(*along, -1).expand(*shape, -1))
        angle = torch.cat(parts, dim=-1)
        return torch.polar(torch.ones_like(angle), angle)[:, :, :, None, None]
