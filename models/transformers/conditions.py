"""What a clip is said to be, beside its text: numbers and a class, embedded and added to the embedding of time.

B batch, T frames, D width.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.positions import ScalarEmbedding
from models.transformers.initialise import SpecialStart, zero
from models.transformers.kinds import of_kind


class Given(NamedTuple):
    """The conditions of a call. A model reads some of them."""

    fps: Tensor | None = None  # (B,) frames per second
    size: Tensor | None = None  # (B, 2) height and width of the picture in pixels
    frames: int = 1  # of the latents
    t_sr: Tensor | None = (
        None  # (B,) time of the noise on a low-resolution input, on the scale of the timestep
    )
    label: Tensor | None = (
        None  # (B,), or (B, T) with a class per image of a stack; the number of classes means none
    )
    images: Tensor | None = None  # (B,) bool, True where the frames are a stack of independent images
    low_resolution: Tensor | None = None  # (B, C, T, h, w) latents of the stage before

    def need(self, name: str) -> Tensor:
        """A condition that the model cannot do without. Raises `ValueError` naming one that was not given."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise ValueError(f"this model reads `{name}` and was called without; pass {name}=")
        return value


def frame_rate(given: Given) -> Tensor:
    """(B,) frames per second."""
    return given.need("fps")


def frame_count(given: Given) -> Tensor:
    """(1,) latent frames."""
    return torch.tensor([given.frames])


def noise_time(given: Given) -> Tensor:
    """(B,) time of the noise on the low-resolution input."""
    return given.need("t_sr")


def area_side(given: Given) -> Tensor:
    """(B,) side in pixels of the square with the area of the picture."""
    return given.need("size").float().prod(dim=1).sqrt()


def aspect_ratio(given: Given) -> Tensor:
    """(B,) height over width."""
    height, width = given.need("size").float().unbind(1)
    return height / width


class AddedScalar(ScalarEmbedding, SpecialStart):
    """A number of the clip (B,) -> (B, 1, D). Starts without effect, so that a trained model can be given one."""

    def __init__(self, width: int, number: Callable[[Given], Tensor]) -> None:
        super().__init__(width)
        self.number = number

    def forward(self, given: Given) -> Tensor:  # type: ignore[override]
        return super().forward(self.number(given).to(self.hidden.weight.device))[:, None]

    def start(self) -> None:
        nn.init.normal_(self.hidden.weight, std=0.02)
        zero(self.out)


class AddedSize(SpecialStart):
    """Height and width in pixels (B, 2) -> (B, 1, D): half of the channels for each, by the same embedding.

    The micro-condition of SDXL (arXiv 2307.01952) and PixArt-alpha.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = ScalarEmbedding(width // 2)

    def forward(self, given: Given) -> Tensor:
        sides: Tensor = self.embedding(given.need("size"))  # (B, 2, D / 2)
        return sides.flatten(1)[:, None]

    def start(self) -> None:
        zero(self.embedding.out)


class AddedClass(SpecialStart):
    """A class in [0, count), or `count` for none of them, (B,) or (B, T) -> (B, 1 or T, D)."""

    def __init__(self, width: int, *, count: int) -> None:
        super().__init__()
        self.count = count
        self.table = nn.Embedding(count + 1, width)

    def forward(self, given: Given) -> Tensor:
        """Raises `ValueError` naming a class that does not exist."""
        label = given.need("label")
        if label.device.type == "cpu" and len(wrong := label[(label < 0) | (label > self.count)]):
            raise ValueError(
                f"label {int(wrong[0])}: this model has the classes 0 to {self.count - 1},"
                f" and {self.count} for no class"
            )
        embedded: Tensor = self.table(label.view(len(label), -1))
        return embedded

    def start(self) -> None:
        nn.init.normal_(self.table.weight, std=0.02)


CONDITIONS: Mapping[str, Callable[..., nn.Module]] = {
    "size": AddedSize,
    "resolution": partial(AddedScalar, number=area_side),
    "aspect": partial(AddedScalar, number=aspect_ratio),
    "frames": partial(AddedScalar, number=frame_count),
    "t_sr": partial(AddedScalar, number=noise_time),
    "class": AddedClass,
}


def build_conditions(config: Mapping[str, Mapping[str, int]], width: int) -> nn.ModuleDict:
    """One module per name. Raises `ValueError` for a name or an option that does not exist."""
    return nn.ModuleDict(
        {
            name: of_kind(CONDITIONS, {"kind": name, **options}, "condition", width)
            for name, options in config.items()
        }
    )
