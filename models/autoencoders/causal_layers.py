"""Layers of the causal 3D autoencoder: no frame ever depends on a later one, and norms look at single frames.

A GroupNorm over time would let the first frame see the whole clip; here every frame has statistics of its own. That
keeps "the first frame of a clip is encoded as the image it is" exact, and lets a clip be cut in time anywhere.
Layers take the frames and the clip they belong to (see `frame_cache`). B batch, C channels, T H W grid.
"""

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.autoencoders.frame_cache import WHOLE, Clip

Triple = tuple[int, int, int]
POINT: Triple = (1, 1, 1)
NORM_EPS = 1e-6
STYLE_EPS = 1e-5


class CausalConvolution(nn.Conv3d):
    """A 3D convolution that sees its own and earlier frames, and both sides in space.

    With a time stride of 2, output 0 is made of frame 0 alone and output i ends at frame 2i, so 1 + 2k frames give
    1 + k.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: Triple,
        *,
        stride: Triple = (1, 1, 1),
        bias: bool = True,
    ) -> None:
        time, height, width = kernel
        padding = (0, height // 2, width // 2)
        super().__init__(channels_in, channels_out, kernel, stride=stride, padding=padding, bias=bias)
        self.frames_before = time - 1
        self.frames_kept = max(0, time - stride[0])

    def forward(self, x: Tensor, clip: Clip = WHOLE) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C', T', H', W')."""
        return super().forward(clip.extend(self, x, padding=self.frames_before, kept=self.frames_kept))


class FrameNorm(nn.GroupNorm):
    """GroupNorm with the statistics of each frame."""

    def __init__(self, groups: int, channels: int, *, affine: bool = True) -> None:
        super().__init__(groups, channels, eps=NORM_EPS, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T, H, W) -> the same shape."""
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        return rearrange(super().forward(frames), "(b t) c h w -> b c t h w", b=len(x))


class LatentNorm(nn.Module):
    """FrameNorm whose scale and shift come from the latent: AdaGN of MAGVIT-v2, pooled per frame.

    The scale is a linear map of the deviations of the latent channels over a frame, the shift one of their means. A
    new norm starts with scale 1 and shift 0 (our choice).
    """

    def __init__(self, groups: int, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm = FrameNorm(groups, channels, affine=False)
        self.scale = nn.Linear(latent_channels, channels)
        self.shift = nn.Linear(latent_channels, channels)
        for linear, start in ((self.scale, 1.0), (self.shift, 0.0)):
            nn.init.zeros_(linear.weight)
            nn.init.constant_(linear.bias, start)

    def forward(self, x: Tensor, style: "LatentStyle") -> Tensor:
        """x: (B, C, T, H, W), style of as many frames -> the shape of x."""
        scale, shift = self.scale(style.deviation), self.shift(style.mean)  # (B, T, C)
        scale, shift = (rearrange(part, "b t c -> b c t 1 1") for part in (scale, shift))
        normed: Tensor = torch.addcmul(shift, self.norm(x), scale)
        return normed


class LatentStyle:
    """Mean and deviation over the positions of every latent frame: (B, T, C) each."""

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def of(cls, latents: Tensor) -> "LatentStyle":
        """latents: (B, C, T, h, w)."""
        variance, mean = torch.var_mean(latents, dim=(3, 4), correction=0)
        return cls(mean.transpose(1, 2), (variance + STYLE_EPS).sqrt().transpose(1, 2))

    def upsampled(self, time_stride: int, clip: Clip) -> "LatentStyle":
        """For the frames that `DepthToSpace` makes of these."""
        first = time_stride - 1 if clip.starts else 0
        mean, deviation = (
            part.repeat_interleave(time_stride, dim=1)[:, first:] for part in (self.mean, self.deviation)
        )
        return LatentStyle(mean, deviation)


class CausalResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with x through a 1x1x1 convolution where channels change."""

    def __init__(self, channels_in: int, channels_out: int, *, groups: int, kernel: Triple) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, channels_in)
        self.conv1 = CausalConvolution(channels_in, channels_out, kernel, bias=False)
        self.norm2 = FrameNorm(groups, channels_out)
        self.conv2 = CausalConvolution(channels_out, channels_out, kernel, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = nn.Conv3d(channels_in, channels_out, POINT, bias=False)
        self.checkpointing = False

    def enable_gradient_checkpointing(self) -> None:
        """Keep only the block's input for the backward pass of whole clips, and compute the rest again there."""
        self.checkpointing = True

    def forward(self, x: Tensor, clip: Clip = WHOLE) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C', T, H, W)."""
        if self.checkpointing and clip is WHOLE and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(self._forward, x, clip, use_reentrant=False))
        return self._forward(x, clip)

    def _forward(self, x: Tensor, clip: Clip) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(x)), clip)
        hidden = self.conv2(functional.silu(self.norm2(hidden)), clip)
        added: Tensor = self.shortcut(x) + hidden
        return added


class CausalBlocks(nn.ModuleList):
    """Residual blocks in a row, the first of which changes the channels."""

    def __init__(
        self, channels_in: int, channels_out: int, count: int, *, groups: int, kernel: Triple
    ) -> None:
        sizes = [channels_in] + [channels_out] * (count - 1)
        super().__init__(
            CausalResidualBlock(size, channels_out, groups=groups, kernel=kernel) for size in sizes
        )

    def forward(self, x: Tensor, clip: Clip = WHOLE) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C', T, H, W)."""
        for block in self:
            x = block(x, clip)
        return x


class DepthToSpace(nn.Module):
    """Upsampling by a convolution to more channels, which are then laid out in time and space.

    Of the frames made from the first one only the last stays: T frames become 1 + stride * (T - 1), as the encoder
    had them. `stride` is the factor of each axis; 1 leaves it as it is.
    """

    def __init__(self, channels: int, stride: Triple, kernel: Triple) -> None:
        super().__init__()
        time, height, width = stride
        self.stride = stride
        self.conv = CausalConvolution(channels, channels * time * height * width, kernel)

    def forward(self, x: Tensor, clip: Clip = WHOLE) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C, T', H * stride, W * stride)."""
        time, height, width = self.stride
        deep = self.conv(x, clip)
        made: Tensor = rearrange(
            deep, "b (c p q r) t h w -> b c (t p) (h q) (w r)", p=time, q=height, r=width
        )
        return made[:, :, time - 1 :] if clip.starts else made
