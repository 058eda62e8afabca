"""What is measured on a trained autoencoder: the statistics its latents are normalised with, and its PSNR.

Both look at a bounded number of clips, so that the end of a stage does not grow with the data.
"""

import torch
from torch import Tensor

from components.autoencoder.program import Batches
from models.autoencoders.codec import VideoCodec
from models.autoencoders.losses import psnr

STATISTICS_CLIPS = 512
PSNR_CLIPS = 64


@torch.no_grad()
def measure_statistics(codec: VideoCodec, batches: Batches, *, count: int) -> None:
    """Set the codec's shift and scale to mean and deviation of each channel over `count` batches."""
    total = torch.zeros(codec.geometry.channels, dtype=torch.float64)
    squares, values = torch.zeros_like(total), 0
    for position in range(count):
        frames = batches.batch(position).to(codec.shift.device)
        latents = codec.posterior(frames).mean.to("cpu", torch.float64)
        total += latents.sum(dim=(0, 2, 3, 4))
        squares += latents.square().sum(dim=(0, 2, 3, 4))
        values += latents[:, 0].numel()
    mean = total / values
    deviation = (squares / values - mean.square()).clamp_min(0).sqrt()
    codec.set_statistics(mean.tolist(), deviation.tolist())


@torch.no_grad()
def reconstruction_psnr(
    codec: VideoCodec, batches: Batches, *, count: int, frames: int | None = None
) -> float:
    """Mean PSNR in dB of the clips of `count` batches; `frames` shortens them."""
    ratios = [
        batch_psnr(codec, batches.batch(position, frames=frames).to(codec.shift.device))
        for position in range(count)
    ]
    return float(torch.cat(ratios).mean())


def batch_psnr(codec: VideoCodec, frames: Tensor) -> Tensor:
    """PSNR in dB (B,) of clips (B, 3, T, H, W) after the codec."""
    output = codec.decode(codec.encode(frames), frames.shape[2])
    return psnr(output, frames[..., : output.shape[-2], : output.shape[-1]])
