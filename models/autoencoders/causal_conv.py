"""The 3D convolutions of the temporal autoencoder: causal in time, and the residual block made of them.

B batch, C channels, T H W grid. Parameter names are those of Open-Sora 1.2, so that its weights load as they
are.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Triple = tuple[int, int, int]


class CausalConv3d(nn.Module):
    """A 3D convolution whose output at a frame never depends on a later frame.

    Time is padded with zeros in front only: kernel - stride frames, so that a stride divides the length
    exactly.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, time_stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        self.time_padding = kernel - time_stride
        self.conv = nn.Conv3d(
            channels_in,
            channels_out,
            kernel,
            stride=(time_stride, 1, 1),
            padding=(0, kernel // 2, kernel // 2),
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C', T / time_stride, H, W)."""
        if self.time_padding:
            x = functional.pad(x, (0, 0, 0, 0, self.time_padding, 0))
        convolved: Tensor = self.conv(x)
        return convolved


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with x through a 1x1x1 convolution where channels change."""

    def __init__(self, channels_in: int, channels_out: int, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, channels_in)
        self.conv1 = CausalConv3d(channels_in, channels_out, 3, bias=False)
        self.norm2 = nn.GroupNorm(norm_groups, channels_out)
        self.conv2 = CausalConv3d(channels_out, channels_out, 3, bias=False)
        self.conv3: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.conv3 = CausalConv3d(channels_in, channels_out, 1, bias=False)
        self.checkpointing = False

    def enable_gradient_checkpointing(self) -> None:
        """Keep only the block's input for the backward pass, and compute the rest again there."""
        self.checkpointing = True

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C', T, H, W)."""
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(self._forward, x, use_reentrant=False)
            return recomputed
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(x)))
        hidden = self.conv2(functional.silu(self.norm2(hidden)))
        added: Tensor = self.conv3(x) + hidden
        return added


class TimeUpsample(CausalConv3d):
    """Twice the frames: a convolution to 2C channels; channel 2c + k is frame 2t + k of channel c."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C, 2T, H, W)."""
        doubled = super().forward(x)  # (B, 2C, T, H, W)
        frames: Tensor = rearrange(doubled, "b (c k) t h w -> b c (t k) h w", k=2)
        return frames


def residual_blocks(channels_in: int, channels_out: int, count: int, norm_groups: int) -> nn.Sequential:
    """`count` blocks in a row, the first of which changes the channels."""
    sizes = [channels_in] + [channels_out] * (count - 1)
    return nn.Sequential(*(ResidualBlock(size, channels_out, norm_groups) for size in sizes))
