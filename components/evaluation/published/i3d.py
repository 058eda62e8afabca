"""I3D (Carreira and Zisserman 2017): the inflated Inception network whose Kinetics-400 logits are FVD's features.

Parameter names are those of the PyTorch port that the `i3d_pretrained_400.pt` checkpoints are of. Convolutions and
poolings are padded as in TensorFlow: so that a stride divides the size rounded up, the odd zero at the end.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoint import check_exact, read_tensors, shapes_of

Triple = tuple[int, int, int]
CLASSES = 400
WIDTH = 1024
# name -> (channels in, channels of the branches: 1x1; 1x1 and 3x3; 1x1 and 3x3; pooling and 1x1)
MIXED: dict[str, tuple[int, tuple[int, int, int, int, int, int]]] = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
POOLED_BEFORE: dict[str, tuple[Triple, Triple]] = {  # (kernel, stride) of the pooling in front of a block
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
LAST_POOLING: Triple = (2, 7, 7)
NORM_EPS = 1e-3


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(channels_out, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv3d(padded(x, self.kernel, self.stride))))


class Mixed(nn.Module):
    """Four branches beside each other."""

    def __init__(self, channels_in: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, before_two, two, before_three, three, four = widths
        self.b0 = Unit(channels_in, one, 1)
        self.b1a, self.b1b = Unit(channels_in, before_two, 1), Unit(before_two, two, 3)
        self.b2a, self.b2b = Unit(channels_in, before_three, 1), Unit(before_three, three, 3)
        self.b3b = Unit(channels_in, four, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class Logits(nn.Module):
    """The last 1x1x1 convolution, which has a bias and no norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(WIDTH, CLASSES, 1)


class I3D(nn.Module):
    """Clips (B, 3, T, 224, 224) in [-1, 1], T >= 9 -> logits (B, 400), averaged over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, (channels, widths) in MIXED.items():
            self.add_module(name, Mixed(channels, widths))
        self.logits = Logits()

    @classmethod
    def from_file(cls, path: Path) -> "I3D":
        """Raises `ValueError` naming what is missing in the file."""
        state = {
            name: value
            for name, value in read_tensors(path).items()
            if not name.endswith("num_batches_tracked")
        }
        with torch.device("meta"):
            network = cls()
        wanted = {
            name: shape
            for name, shape in shapes_of(network.state_dict()).items()
            if not name.endswith("num_batches_tracked")
        }
        check_exact(wanted, shapes_of(state), f"{path}, which should be an I3D of Kinetics-400,")
        network = cls()
        network.load_state_dict(state, strict=False)
        return network.eval().requires_grad_(False)

    def forward(self, clips: Tensor) -> Tensor:
        x = clips
        for name, block in self.named_children():
            if name == "logits":
                break
            if name in POOLED_BEFORE:
                x = pool(x, *POOLED_BEFORE[name])
            x = block(x)
        pooled = functional.avg_pool3d(x, LAST_POOLING, stride=1)
        logits = cast(Tensor, self.logits.conv3d(pooled))
        return logits.flatten(2).mean(dim=2)


def padded(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """(B, C, T, H, W) with zeros around, so that a window starts at every stride."""
    sides: list[int] = []
    for size, length, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(length - (step if size % step == 0 else size % step), 0)
        sides = [total // 2, total - total // 2, *sides]
    return functional.pad(x, sides)


def pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Largest value of each window; the zeros around count, which changes nothing after a ReLU."""
    return functional.max_pool3d(padded(x, kernel, stride), kernel, stride)
