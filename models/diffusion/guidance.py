"""Classifier-free guidance: training drops captions, sampling pushes away from the prediction without one.

Ho and Salimans 2022, arXiv 2207.12598. What stands for "no caption" is the model's own null caption, or the
text of a negative prompt.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from models.diffusion.conditions import Conditions, Denoiser, predict


def drop_captions(text: Tensor, null_text: Tensor, *, probability: float, generator: Generator) -> Tensor:
    """Text (B, L, D) with whole captions replaced by the null caption, each with `probability`.

    The text mask stays as it is: a dropped caption keeps the prompt's length, as in PixArt and Open-Sora.
    """
    uniform = torch.rand(text.shape[0], generator=generator, device=generator.device).to(text.device)
    return torch.where((uniform < probability)[:, None, None], null_text.to(text.dtype), text)


@dataclass(frozen=True)
class Guided:
    """A model with its conditions bound: latents and time in, guided prediction out.

    v = v_null + scale (v_cond - v_null). At scale 1 this is the conditional prediction, and the null pass
    is saved.
    """

    model: Denoiser
    conditions: Conditions
    null: Conditions
    scale: float

    def __call__(self, latents: Tensor, times: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """latents: (B, C, T, H, W), times: (B,), frame_mask: (B, T) bool or None -> (B, C, T, H, W)."""
        if self.scale == 1:
            return predict(self.model, latents, times, self.conditions, frame_mask)
        output = predict(
            self.model,
            torch.cat([latents, latents]),
            torch.cat([times, times]),
            self.conditions.joined(self.null),
            None if frame_mask is None else torch.cat([frame_mask, frame_mask]),
        )
        conditional, null = output.chunk(2)
        return null + self.scale * (conditional - null)
