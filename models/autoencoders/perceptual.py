"""Perceptual distance LPIPS on VGG16, from weights given by path.

The network is VGG16's convolutions under torchvision's names, so that its ImageNet weights load as they are; the
linear heads are those published with LPIPS 0.1. None of them are shipped here. N images, C channels.
"""

from pathlib import Path
from typing import Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoint import check_exact, read_tensors, shapes_of

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # convolutions per level
CLASSIFIER = "classifier."  # the rest of torchvision's VGG16, which LPIPS does not use
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in [-1, 1], by LPIPS
EPS = 1e-10


class PerceptualDistance(nn.Module):
    """Frozen: distances of clips, with gradients to their pixels only."""

    shift: Tensor
    scale: Tensor

    def __init__(self, levels: tuple[tuple[int, ...], ...] = VGG16) -> None:
        """levels: channels of the convolutions between two poolings; tests use narrower ones."""
        super().__init__()
        self.features = nn.Sequential(*_layers(levels))
        self.heads = nn.ParameterList(torch.ones(level[-1]) for level in levels)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @classmethod
    def from_files(cls, vgg: Path, heads: Path, levels: tuple[tuple[int, ...], ...] = VGG16) -> Self:
        """With the weights of torchvision's `vgg16` and of LPIPS' `vgg.pth`.

        Raises `ValueError` that names the file and what is missing in it.
        """
        model = cls(levels)
        features = {
            name: value for name, value in read_tensors(vgg).items() if not name.startswith(CLASSIFIER)
        }
        own = {f"features.{name}": shape for name, shape in shapes_of(model.features.state_dict()).items()}
        check_exact(own, shapes_of(features), f"{vgg}, which should be torchvision's vgg16,")
        linear = read_tensors(heads)
        wanted = {_head(level): (1, len(head), 1, 1) for level, head in enumerate(model.heads)}
        check_exact(wanted, shapes_of(linear), f"{heads}, which should be LPIPS' vgg.pth,")
        own_heads = {f"heads.{level}": linear[name].flatten() for level, name in enumerate(wanted)}
        model.load_state_dict(features | own_heads)
        return model.eval()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """(B, 3, T, H, W) twice, in [-1, 1] -> (B,): mean over the frames.

        Raises `ValueError` for frames that are too small for the network.
        """
        smallest = 2 ** (len(self.heads) - 1)
        if min(output.shape[-2:]) < smallest:
            raise ValueError(
                f"{tuple(output.shape[-2:])} pixels are less than {smallest} a side; use larger frames"
            )
        pairs = zip(self.levels(output), self.levels(target), self.heads, strict=True)
        distances = [
            ((one - other).square() * head.view(1, -1, 1, 1)).sum(dim=1).mean(dim=(1, 2))
            for one, other, head in pairs
        ]
        per_frame = torch.stack(distances).sum(dim=0)  # (B * T,)
        return per_frame.view(len(output), -1).mean(dim=1)

    def levels(self, frames: Tensor) -> list[Tensor]:
        """Features (N, C, h, w) at the end of every level, of unit length at every place."""
        x = (rearrange(frames.float(), "b c t h w -> (b t) c h w") - self.shift) / self.scale
        found: list[Tensor] = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                found.append(functional.normalize(x, dim=1, eps=EPS))
            if len(found) == len(self.heads):
                break
            x = layer(x)
        return found


def _layers(levels: tuple[tuple[int, ...], ...]) -> list[nn.Module]:
    """As in torchvision: convolutions with ReLU, and a pooling after every level."""
    layers: list[nn.Module] = []
    channels = 3
    for level in levels:
        for width in level:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return layers


def _head(level: int) -> str:
    """Name in LPIPS' files, where a dropout precedes the convolution (1, C, 1, 1)."""
    return f"lin{level}.model.1.weight"
