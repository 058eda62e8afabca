"""What a denoiser is told besides the latents, as one value that training, guidance and sampling hand on."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

IMAGE_FPS = 120.0  # what a still image is labelled with, as published; the frame rate of no video in the data

OPTIONAL = ("label", "images", "low_resolution", "t_sr")

Progress = Callable[[int, int], None]  # (steps done, steps in all)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Inputs of a denoiser that stay the same over all times. B batch, T frames, L text tokens.

    The optional ones are for models that read them, and are left out of the call where they are None. For a
    model without text, L is 0.
    """

    text: Tensor  # (B, L, caption channels)
    text_mask: Tensor  # (B, L), 1 or True where there is a token
    fps: Tensor  # (B,) frames per second; `IMAGE_FPS` for still images
    size: Tensor  # (B, 2) height and width in pixels
    label: Tensor | None = None  # (B,), or (B, T) with a class per image; the number of classes means none
    images: Tensor | None = None  # (B,) bool, True where the frames are a stack of independent images
    low_resolution: Tensor | None = None  # (B, C, T, h, w) latents of the stage before
    t_sr: Tensor | None = None  # (B,) time of the noise on `low_resolution`

    def to(self, device: torch.device | str) -> "Conditions":
        """The same conditions on another device."""
        return Conditions(**{name: value.to(device) for name, value in self.present().items()})

    def first(self, count: int) -> "Conditions":
        """The conditions of the first samples."""
        return Conditions(**{name: value[:count] for name, value in self.present().items()})

    def joined(self, other: "Conditions") -> "Conditions":
        """Both batches one after the other, for one pass of the model over the two."""
        mine, theirs = self.present(), other.present()
        if different := mine.keys() ^ theirs.keys():
            raise ValueError(f"only one of two batches has {', '.join(sorted(different))}; give it to both")
        return Conditions(**{name: torch.cat([value, theirs[name]]) for name, value in mine.items()})

    def extras(self) -> dict[str, Tensor]:
        """The optional conditions that are there, by the name of the model's argument."""
        present = self.present()
        return {name: present[name] for name in OPTIONAL if name in present}

    def present(self) -> dict[str, Tensor]:
        """Every condition that is there, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


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
        **extras: Tensor,
    ) -> Tensor:
        """(B, C, T, H, W) latents, (B,) times in [0, 1000], (B, T) bool mask -> (B, C_out, T, H, W)."""
        ...


def predict(
    model: Denoiser,
    latents: Tensor,
    timestep: Tensor,
    conditions: Conditions,
    frame_mask: Tensor | None = None,
    *,
    beside: Tensor | None = None,
) -> Tensor:
    """The model's prediction in the channels of `latents`: (B, C, T, H, W).

    `beside` (B, C', T, H, W) are channels that the model reads after the noisy ones. Models that start from
    PixArt have 2C outputs; the second half is a learned variance that neither the simple loss nor the flow
    uses, and it is dropped here.
    """
    output = model(
        latents if beside is None else torch.cat([latents, beside.to(latents.dtype)], dim=1),
        timestep,
        conditions.text,
        conditions.text_mask,
        fps=conditions.fps,
        size=conditions.size,
        frame_mask=frame_mask,
        **conditions.extras(),
    )
    return output[:, : latents.shape[1]]
