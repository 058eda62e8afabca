"""Channels that a model reads beside the noisy latents: its own last estimate, and frames that are given.

W.A.L.T (arXiv 2312.06662) has both: C noisy channels, C of the estimate, C of the given frames and one that
marks them, 3C + 1 in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class InputChannels:
    """Which of them a model has, in this order."""

    estimate: bool = False  # self-conditioning (Chen et al. 2022, arXiv 2208.04202)
    frames: bool = False  # frame prediction: given frames, clean, and the channel that marks them

    def count(self, channels: int) -> int:
        """Input channels of a model of latents with `channels`."""
        return channels * (1 + self.estimate + self.frames) + self.frames

    def beside(
        self,
        noisy: Tensor,
        *,
        estimate: Tensor | None = None,
        given: Tensor | None = None,
        frame_mask: Tensor | None = None,
    ) -> Tensor | None:
        """The channels after `noisy` (B, C, T, H, W), or None for a model without any.

        An estimate that is not there yet is zero. `given` (B, C, T, H, W) are clean latents, of which the
        frames are shown whose `frame_mask` (B, T) is False. Raises `ValueError` where frames are given to a
        model without channels for them.
        """
        if frame_mask is not None and not self.frames:
            raise ValueError("frames are given, but this model has no channels for them (frame prediction)")
        parts = []
        if self.estimate:
            parts.append(torch.zeros_like(noisy) if estimate is None else estimate)
        if self.frames:
            parts.append(_shown(noisy, given, frame_mask))
        return torch.cat(parts, dim=1) if parts else None


def _shown(noisy: Tensor, given: Tensor | None, frame_mask: Tensor | None) -> Tensor:
    """Given frames, zeros elsewhere, and 1 in the last channel where a frame is given."""
    batch, channels, *grid = noisy.shape
    if given is None or frame_mask is None:
        return noisy.new_zeros(batch, channels + 1, *grid)
    marks = (~frame_mask)[:, None, :, None, None]
    shown = torch.where(marks, given, 0.0)
    return torch.cat([shown, marks.to(shown.dtype).expand(batch, 1, *grid)], dim=1)
