"""Where a token is, and when: sinusoids of scalars and the 2D table of a frame.

Rotary phases are in `models.transformers.rotary`. Angles are computed in float32 whatever the precision of the model.
B batch, T H W token grid, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PERIOD = 10_000.0  # longest wavelength over 2 pi, of every table here


def inverse_wavelengths(count: int, device: torch.device | None = None) -> Tensor:
    """(count,) frequencies 10000^(-i / count), highest first."""
    exponents = torch.arange(count, device=device, dtype=torch.float32) / count
    return torch.exp(exponents * -torch.tensor(PERIOD, device=device).log())


def sinusoid(values: Tensor, width: int) -> Tensor:
    """(...) -> (..., width): cosines, then sines (the order of DiT's timestep embedding)."""
    angles = values.float()[..., None] * inverse_wavelengths(width // 2, values.device)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class ScalarEmbedding(nn.Module):
    """(...) numbers such as diffusion times or frame rates -> (..., width), by a sinusoid and two linear layers."""

    def __init__(self, width: int, sinusoid_width: int = 256) -> None:
        super().__init__()
        self.sinusoid_width = sinusoid_width
        self.hidden = nn.Linear(sinusoid_width, width)
        self.out = nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        waves = sinusoid(values, self.sinusoid_width).to(self.hidden.weight.dtype)
        embedded: Tensor = self.out(functional.silu(self.hidden(waves)))
        return embedded


def frame_positions(grid: tuple[int, int], width: int, scale: Tensor) -> Tensor:
    """Fixed 2D sin-cos table (B, 1, H, W, width) of PixArt and Open-Sora 1.2, in float32.

    `scale` (B,) is the side of the picture in units of the size that the model calls 1: a larger picture has finer
    steps and not a longer axis. Channels: sines and cosines of the column, then of the row.
    """
    rows, columns = grid
    side = round((rows * columns) ** 0.5)

    def axis(count: int) -> Tensor:  # (B, count, width / 2)
        steps = torch.arange(count, device=scale.device, dtype=torch.float32) * (side / count)
        angles = (steps / scale.float()[:, None])[..., None] * inverse_wavelengths(width // 4, scale.device)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)

    shape = (len(scale), 1, rows, columns, width // 2)
    column, row = axis(columns)[:, None, None], axis(rows)[:, None, :, None]
    return torch.cat((column.expand(shape), row.expand(shape)), dim=-1)
