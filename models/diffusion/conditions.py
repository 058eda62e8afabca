"""What a denoiser is told besides the latents, as one value that training, guidance and sampling hand on."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

IMAGE_FPS = 120.0  # what a still image is labelled with, as published; the frame rate of no video in the data

Progress = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Inputs of a denoiser that stay the same over all times. B batch, L text tokens."""

    text: Tensor  # (B, L, caption channels)
    text_mask: Tensor  # (B, L), 1 or True where there is a token
    fps: Tensor  # (B,) frames per second; `IMAGE_FPS` for still images
    size: Tensor  # (B, 2) height and width in pixels

    def to(self, device: torch.device | str) -> "Conditions":
        """The same conditions on another device."""
        return Conditions(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def joined(self, other: "Conditions") -> "Conditions":
        """Both batches one after the other, for one pass of the model over the two."""
        return Conditions(
            **{f.name: torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)}
        )


class Denoiser(Protocol):
    """A network that predicts a velocity or a noise from noisy latents."""

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor,
        *,
        fps: Tensor,
        size: Tensor,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, C, T, H, W) latents, (B,) times in [0, 1000], (B, T) bool mask -> (B, C_out, T, H, W)."""
        ...


def predict(
    model: Denoiser,
    latents: Tensor,
    timestep: Tensor,
    conditions: Conditions,
    frame_mask: Tensor | None = None,
) -> Tensor:
    """The model's prediction in the channels of `latents`: (B, C, T, H, W).

    Models that start from PixArt have 2C outputs; the second half is a learned variance that neither the
    simple loss nor the flow uses, and it is dropped here.
    """
    output = model(
        latents,
        timestep,
        conditions.text,
        conditions.text_mask,
        fps=conditions.fps,
        size=conditions.size,
        frame_mask=frame_mask,
    )
    return output[:, : latents.shape[1]]
