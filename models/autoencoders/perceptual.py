"""Perceptual distance LPIPS on VGG16 (as a loss) or AlexNet (as a metric), from weights given by path.

The networks are torchvision's convolutions under its names, so that its ImageNet weights load as they are; the linear
heads are those published with LPIPS 0.1. None of them are shipped here. N images, C channels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoint import check_exact, read_tensors, shapes_of

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # convolutions per level
ALEX = (64, 192, 384, 256, 256)  # channels of AlexNet's convolutions
ALEX_KERNELS = (11, 5, 3, 3, 3)
CLASSIFIER = "classifier."  # the rest of torchvision's networks, which LPIPS does not use
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in [-1, 1], by LPIPS
EPS = 1e-10


@dataclass(frozen=True)
class Backbone:
    """`taps`: layers whose output is compared; `widths`: its channels; `smallest`: pixels a side."""

    name: str  # torchvision's
    layers: tuple[nn.Module, ...]
    taps: tuple[int, ...]
    widths: tuple[int, ...]
    smallest: int


def vgg(levels: tuple[tuple[int, ...], ...] = VGG16) -> Backbone:
    """As torchvision's vgg16: convolutions with ReLU, a pooling after every level; tapped in front of the poolings."""
    layers: list[nn.Module] = []
    taps: list[int] = []
    channels = 3
    for level in levels:
        for width in level:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        taps.append(len(layers) - 1)
        layers.append(nn.MaxPool2d(2))
    return Backbone(
        "vgg16", tuple(layers), tuple(taps), tuple(level[-1] for level in levels), 2 ** (len(levels) - 1)
    )


def alex(widths: tuple[int, ...] = ALEX) -> Backbone:
    """As torchvision's alexnet: tapped after every ReLU; poolings after the first two and the last."""
    layers: list[nn.Module] = []
    taps: list[int] = []
    channels = 3
    for place, (width, kernel) in enumerate(zip(widths, ALEX_KERNELS, strict=True)):
        stride = 4 if place == 0 else 1
        layers += [nn.Conv2d(channels, width, kernel, stride=stride, padding=min(kernel // 2, 2)), nn.ReLU()]
        taps.append(len(layers) - 1)
        if place in (0, 1, len(widths) - 1):
            layers.append(nn.MaxPool2d(3, 2))
        channels = width
    return Backbone("alexnet", tuple(layers), tuple(taps), widths, 31)


class PerceptualDistance(nn.Module):
    """Frozen: distances of clips, with gradients to their pixels only."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone | None = None) -> None:
        super().__init__()
        backbone = backbone or vgg()
        self.name = backbone.name
        self.features = nn.Sequential(*backbone.layers)
        self.taps, self.smallest = backbone.taps, backbone.smallest
        self.heads = nn.ParameterList(torch.ones(width) for width in backbone.widths)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @classmethod
    def from_files(cls, network: Path, heads: Path, backbone: Backbone | None = None) -> Self:
        """With the weights of torchvision's network (vgg16 unless another is given) and of LPIPS' heads for it.

        Raises `ValueError` that names the file and what is missing in it.
        """
        model = cls(backbone)
        features = {
            name: value for name, value in read_tensors(network).items() if not name.startswith(CLASSIFIER)
        }
        own = {f"features.{name}": shape for name, shape in shapes_of(model.features.state_dict()).items()}
        check_exact(own, shapes_of(features), f"{network}, which should be torchvision's {model.name},")
        linear = read_tensors(heads)
        wanted = {_head(level): (1, len(head), 1, 1) for level, head in enumerate(model.heads)}
        check_exact(wanted, shapes_of(linear), f"{heads}, which should be LPIPS' heads for it,")
        own_heads = {f"heads.{level}": linear[name].flatten() for level, name in enumerate(wanted)}
        model.load_state_dict(features | own_heads)
        return model.eval()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """(B, 3, T, H, W) twice, in [-1, 1] -> (B,): mean over the frames.

        Raises `ValueError` for frames that are too small for the network.
        """
        if min(output.shape[-2:]) < self.smallest:
            raise ValueError(
                f"{tuple(output.shape[-2:])} pixels are less than {self.smallest} a side; use larger frames"
            )
        pairs = zip(self.levels(output), self.levels(target), self.heads, strict=True)
        distances = [
            ((one - other).square() * head.view(1, -1, 1, 1)).sum(dim=1).mean(dim=(1, 2))
            for one, other, head in pairs
        ]
        per_frame = torch.stack(distances).sum(dim=0)  # (B * T,)
        return per_frame.view(len(output), -1).mean(dim=1)

    def levels(self, frames: Tensor) -> list[Tensor]:
        """Features (N, C, h, w) at the taps, of unit length at every place."""
        x = (rearrange(frames.float(), "b c t h w -> (b t) c h w") - self.shift) / self.scale
        found: list[Tensor] = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.taps:
                found.append(functional.normalize(x, dim=1, eps=EPS))
            if len(found) == len(self.taps):
                break
        return found


def _head(level: int) -> str:
    """Name in LPIPS' files, where a dropout precedes the convolution (1, C, 1, 1)."""
    return f"lin{level}.model.1.weight"
