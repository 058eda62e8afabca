"""What a codec and an autoencoder do to a clip, at random: blur, noise, tint, coarse colour, a shift.

The extractor must judge decoded generations, which are softer than the clips it is trained on; without this
it would measure softness more than content. Colour, shape and motion stay true under all of it.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

MAX_SHIFT = 2  # pixels
NOISE = 0.06  # largest standard deviation in [-1, 1]
TINT = 0.06
BLURRED, HALVED = 0.6, 0.5  # share of clips


def augment(clips: Tensor, generator: torch.Generator) -> Tensor:
    """clips: (B, 3, T, H, W) in [-1, 1] -> the same shape, with one strength per clip."""
    batch, channels, frames, height, width = clips.shape
    images = clips.transpose(1, 2).reshape(batch, frames * channels, height, width)
    images = _shifted(images, generator)
    blur = _uniform(batch, generator) * (_uniform(batch, generator) < BLURRED)
    images = images + blur * (_mean3(images) - images)
    coarse = (_uniform(batch, generator) < HALVED).float()
    images = images + coarse * _colour_detail(images, channels)
    gain = 1 + TINT * (2 * _uniform(batch, generator) - 1)
    offset = TINT * (2 * _uniform(batch, generator) - 1)
    noise = torch.randn(images.shape, generator=generator) * (NOISE * _uniform(batch, generator))
    images = (images * gain + offset + noise).clamp(-1, 1)
    return images.reshape(batch, frames, channels, height, width).transpose(1, 2)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) in [0, 1)."""
    return torch.rand(count, 1, 1, 1, generator=generator)


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    height, width = images.shape[-2:]
    padded = pad(images, [MAX_SHIFT] * 4, mode="replicate")
    corners = torch.randint(0, 2 * MAX_SHIFT + 1, (len(images), 2), generator=generator).tolist()
    crops = zip(padded, corners, strict=True)
    return torch.stack([image[:, top : top + height, left : left + width] for image, (top, left) in crops])


def _mean3(images: Tensor) -> Tensor:
    return avg_pool2d(pad(images, [1] * 4, mode="replicate"), 3, stride=1)


def _colour_detail(images: Tensor, channels: int) -> Tensor:
    """What is lost when colour has half the resolution of brightness, as in 4:2:0 video, negated."""
    shape = images.shape
    pixels = images.reshape(-1, channels, *shape[-2:])
    colour = pixels - pixels.mean(dim=1, keepdim=True)
    halved = interpolate(avg_pool2d(colour, 2, ceil_mode=True), shape[-2:], mode="bilinear")
    return (halved - colour).reshape(shape)
