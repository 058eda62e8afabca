"""Discrete noise schedules: how much of the signal is left at each of the training steps.

Ho et al. 2020 (arXiv 2006.11239) for the betas; Lin et al. 2023 (arXiv 2305.08891) for zero terminal SNR: with
the plain schedule the last step still shows 0.6 % of the clean latent, which tells a model the brightness
of what it should have to imagine.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """x_t = sqrt(g_t) x_0 + sqrt(1 - g_t) noise, g from linear betas."""

    steps: int = 1000
    first_beta: float = 1e-4
    last_beta: float = 2e-2
    zero_terminal_snr: bool = True  # rescale so that the last step is pure noise

    def signal(self, device: torch.device | str = "cpu") -> Tensor:
        """g of every step, (steps,) float64, falling; shared between callers, so treat it as read-only."""
        return _signal(self, torch.device(device))

    def shares(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(g) and sqrt(1 - g) at `times` (B,), float32 and in a shape that scales (B, C, T, H, W).

        Raises `ValueError` for times that are not of a whole-number type.
        """
        if times.is_floating_point():
            raise ValueError(f"times of a discrete schedule are whole numbers (int64), not {times.dtype}")
        share = self.signal(times.device)[times]
        signal, noise = torch.stack([share.sqrt(), (1 - share).sqrt()]).float()[..., None, None, None, None]
        return signal, noise

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents (B, C, T, H, W) at whole-numbered `times` (B,)."""
        a, b = self.shares(times)
        return a.to(latents.dtype) * latents + b.to(latents.dtype) * noise

    def trailing(self, count: int) -> list[int]:
        """`count` sampling times from the last step down, equally spaced: 999, 979, ..., 19 for 50 of 1000.

        A sampler must start at the last step: it is the one that was trained on pure noise.
        """
        if not 1 <= count <= self.steps:
            raise ValueError(f"a sampler takes 1 to {self.steps} steps, not {count}")
        return [round(self.steps - index * self.steps / count) - 1 for index in range(count)]


@cache
def _signal(schedule: NoiseSchedule, device: torch.device) -> Tensor:
    betas = torch.linspace(
        schedule.first_beta, schedule.last_beta, schedule.steps, dtype=torch.float64, device="cpu"
    )
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    if schedule.zero_terminal_snr:
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root.square().to(device)
