"""What the autoencoders are trained with, and the PSNR they are judged by.

The sums are Open-Sora 1.2's, divided by the number of values in a frame: a KL weight therefore means the same
at every size, and the loss can be compared between sizes. B batch, C channels, T H W grid.
"""

import torch
from torch import Tensor


def reconstruction_loss(
    output: Tensor, target: Tensor, *, l1: float, mse: float, saturation: float = 0.0
) -> Tensor:
    """Mean of weight * (l1 * |error| + mse * error^2) over all values of (B, C, T, H, W), in float32.

    `saturation` needs pixels in [-1, 1]: a pixel counts 1 + saturation * (largest - smallest channel, in
    0..1). Most pixels of natural video are muted; without the weight a small model learns their mean and
    loses colours.
    """
    output, target = output.float(), target.float()
    error = output - target
    terms = l1 * error.abs() + mse * error.square()
    if saturation:
        terms = terms * (1 + saturation * saturation_of(target))
    return terms.mean()


def saturation_of(pixels: Tensor) -> Tensor:
    """(B, 3, T, H, W) in [-1, 1] -> (B, 1, T, H, W): largest minus smallest channel, in 0..1."""
    return (pixels.amax(dim=1, keepdim=True) - pixels.amin(dim=1, keepdim=True)) / 2


def kl_loss(kl: Tensor, frame_values: int) -> Tensor:
    """Mean of the divergence (B,) of a sample, per value of a frame."""
    return kl.mean() / frame_values


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratio in dB of each clip (B, 3, T, H, W) in [-1, 1]; the output is clamped."""
    error = (output.float().clamp(-1, 1) - target.float()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / error.clamp_min(1e-10))
