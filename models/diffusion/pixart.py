"""diffusers' PixArt transformer behind the interface of our denoisers, so that one loss serves both."""

import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor, nn


class PixArtDenoiser(nn.Module):
    """A `PixArtTransformer2DModel` that is called like the video transformer, on still images.

    `null_caption` (L, D) stands for "no caption"; diffusers' PixArt has no such weight and uses the text
    encoder's output for the empty prompt. Frame rate and size are not conditions of PixArt-Sigma and are
    not read.
    """

    null_caption: Tensor

    def __init__(self, transformer: PixArtTransformer2DModel, null_caption: Tensor) -> None:
        super().__init__()
        self.transformer = transformer
        self.register_buffer("null_caption", null_caption)

    def null_text(self, text: Tensor) -> Tensor:
        """The null caption in the shape of `text` (B, L, D)."""
        return self.null_caption.to(text).expand_as(text)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor,
        **_: Tensor | None,
    ) -> Tensor:
        """latents: (B, C, 1, H, W), timestep: (B,), text: (B, L, D) -> (B, C_out, 1, H, W)."""
        if latents.shape[2] != 1:
            raise ValueError(f"PixArt makes still images; these latents have {latents.shape[2]} frames")
        output: Tensor = self.transformer(
            latents[:, :, 0],
            encoder_hidden_states=text,
            encoder_attention_mask=text_mask.to(torch.int64),
            timestep=timestep,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        return output[:, :, None]
