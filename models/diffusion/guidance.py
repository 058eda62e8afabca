"""Classifier-free guidance: training drops captions, sampling pushes away from the prediction without one.

Ho and Salimans 2022, arXiv 2207.12598. What stands for "no caption" is the model's own null caption with the
mask of the prompt, or the text of a negative prompt with a mask of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions, Denoiser, predict
from models.diffusion.times import MAX_TIME

GUIDANCE_RESCALE = 0.7  # with zero terminal SNR (Lin et al. 2023, arXiv 2305.08891, section 3.4)
GuidanceScale = Callable[[Tensor], Tensor]  # times (B,) in [0, 1000] -> scales (B,)


def drop_captions(text: Tensor, null_text: Tensor, *, probability: float, generator: Generator) -> Tensor:
    """Text (B, L, D) with whole captions replaced by the null caption, each with `probability`.

    The text mask stays as it is: a dropped caption keeps the prompt's length, as in PixArt and Open-Sora.
    """
    uniform = torch.rand(text.shape[0], generator=generator, device=generator.device).to(text.device)
    return torch.where((uniform < probability)[:, None, None], null_text.to(text.dtype), text)


@dataclass(frozen=True)
class PowerCosine:
    """A guidance scale that grows from 1 at pure noise to `scale` at the clean latents.

    1 + (scale - 1) (1 - cos(pi s^power)) / 2 with s = 1 - t/1000: little guidance while the layout is
    decided, so that samples stay diverse (MDT, Gao et al. 2023, arXiv 2303.14389, appendix D; W.A.L.T uses
    it on ImageNet). The dynamic guidance of CogVideoX with scale w is `PowerCosine(1 + w, 5)`.
    """

    scale: float
    power: float

    def __call__(self, times: Tensor) -> Tensor:
        progress = (1 - times.float() / MAX_TIME).clamp(min=0)
        return 1 + (self.scale - 1) * (1 - torch.cos(math.pi * progress**self.power)) / 2


def rescaled(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """`guided` (B, C, T, H, W) with `share` of the way to the standard deviation of `conditional`, per sample.

    A large scale inflates the prediction and so overexposes the picture (Lin et al. 2023, arXiv 2305.08891,
    section 3.4; they use a share of 0.7).
    """
    axes = tuple(range(1, guided.ndim))
    ratio = conditional.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guided * (share * ratio + (1 - share))


@dataclass(frozen=True)
class Guided:
    """A model with its conditions bound: latents and time in, guided prediction out.

    v = v_null + scale (v_cond - v_null), where the scale may be a function of time; `rescale` is the share
    of guidance rescale. At a constant scale of 1 this is the conditional prediction, and the null pass is
    saved.
    """

    model: Denoiser
    conditions: Conditions
    null: Conditions
    scale: float | GuidanceScale
    rescale: float = 0.0

    def __call__(
        self,
        latents: Tensor,
        times: Tensor,
        frame_mask: Tensor | None = None,
        *,
        beside: Tensor | None = None,
        null_beside: Tensor | None = None,
    ) -> Tensor:
        """latents: (B, C, T, H, W), times: (B,), frame_mask: (B, T) bool or None -> (B, C, T, H, W).

        `beside` are further input channels; the null prediction reads `null_beside` where that is given.
        """
        if self.scale == 1:
            return predict(self.model, latents, times, self.conditions, frame_mask, beside=beside)
        null_beside = beside if null_beside is None else null_beside
        both = None if beside is None or null_beside is None else torch.cat([beside, null_beside])
        output = predict(
            self.model,
            torch.cat([latents, latents]),
            torch.cat([times, times]),
            self.conditions.joined(self.null),
            None if frame_mask is None else torch.cat([frame_mask, frame_mask]),
            beside=both,
        )
        conditional, null = output.chunk(2)
        guided = null + self._scale_at(times, output) * (conditional - null)
        return rescaled(guided, conditional, self.rescale) if self.rescale else guided

    def _scale_at(self, times: Tensor, like: Tensor) -> Tensor | float:
        if not callable(self.scale):
            return self.scale
        return self.scale(times).to(like)[:, None, None, None, None]
