"""The video classifier whose features stand in for I3D, and whose heads read colour, shape and motion.

Random features would not do: measured on damaged clips, a network with random weights answers to brightness a
hundred times more than to the order of frames. B batch, T H W frames and pixels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from components.artifacts import read_json, sha256_of, write_json
from components.data.synthetic import COLOURS, MOTIONS, SHAPES

VOCABULARY: dict[str, tuple[str, ...]] = {"colour": COLOURS, "shape": SHAPES, "motion": MOTIONS}
WEIGHTS, CONFIG = "model.safetensors", "config.json"
BATCH = 64
READ = 8  # clips read at a time: more of them fall out of the cache of a core, and take twice as long


@dataclass(frozen=True)
class ClassifierConfig:
    """Geometry. `widths` per level; the last one is the width of the features."""

    widths: tuple[int, ...]
    frames: int
    size: int  # pixels; clips are resized to a square of this side


class VideoClassifier(nn.Module):
    """3D convolutions, a global mean, and one linear head per attribute."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        inputs = (3, *config.widths[:-1])
        levels = []
        for level, (before, after) in enumerate(zip(inputs, config.widths, strict=True)):
            stride = (1, 1, 1) if level == 0 else (2, 2, 2)  # corners of a 12 pixel shape need every pixel
            convolution = nn.Conv3d(before, after, 3, stride=stride, padding=1, bias=False)
            levels += [convolution, nn.BatchNorm3d(after), nn.ReLU(inplace=True)]
        self.trunk = nn.Sequential(*levels)
        width = config.widths[-1]
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(words)) for name, words in VOCABULARY.items()})

    def features(self, clips: Tensor) -> Tensor:
        """clips: (B, 3, T, H, W) in [-1, 1] -> (B, D)."""
        grid: Tensor = self.trunk(clips)  # (B, D, t, h, w)
        return grid.mean(dim=(2, 3, 4))

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """clips: (B, 3, T, H, W) in [-1, 1] -> logits (B, words) per attribute."""
        features = self.features(clips)
        return {name: head(features) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Reading:
    """features (N, D) float32; words: per attribute the most likely word of each clip.

    probabilities (N, classes): of each combination of words, as the product over the attributes.
    """

    features: np.ndarray[Any, np.dtype[np.float32]]
    words: dict[str, list[str]]
    probabilities: np.ndarray[Any, np.dtype[np.float64]]


class Extractor:
    """A trained classifier with its identity. `sha256` is that of the weights file."""

    def __init__(self, model: VideoClassifier, sha256: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.sha256 = sha256

    @classmethod
    def load(cls, folder: Path) -> "Extractor":
        raw = read_json(folder / CONFIG)
        model = VideoClassifier(ClassifierConfig(tuple(raw["widths"]), raw["frames"], raw["size"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
        return cls(model, sha256_of(folder / WEIGHTS))

    @torch.inference_mode()
    def read(self, clips: np.ndarray[Any, np.dtype[np.uint8]]) -> Reading:
        """clips: uint8 (N, T, H, W, 3) of the extractor's number of frames. Raises `ValueError` for another
        one.
        """
        config = self.model.config
        if clips.ndim != 5 or clips.shape[1] != config.frames:
            raise ValueError(f"the extractor reads clips of {config.frames} frames, not {clips.shape}")
        features = torch.cat(
            [
                self.model.features(to_input(clips[i : i + READ], config.size))
                for i in range(0, len(clips), READ)
            ]
        )
        logits = {name: head(features) for name, head in self.model.heads.items()}
        words = {
            name: [VOCABULARY[name][index] for index in rows.argmax(dim=1).tolist()]
            for name, rows in logits.items()
        }
        return Reading(features.numpy(), words, joint_probabilities(list(logits.values())))


def joint_probabilities(logits: Sequence[Tensor]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(N, words) of each attribute -> (N, product of all): probabilities of every combination."""
    joint = logits[0].new_ones(len(logits[0]), 1).double()
    for rows in logits:
        joint = (joint[:, :, None] * rows.double().softmax(dim=1)[:, None, :]).flatten(1)
    array: np.ndarray[Any, np.dtype[np.float64]] = joint.numpy()
    return array


def to_input(clips: np.ndarray[Any, np.dtype[np.uint8]], size: int) -> Tensor:
    """uint8 (N, T, H, W, 3) -> (N, 3, T, size, size) in [-1, 1]; other sizes are reduced by area."""
    pixels = torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 1, 4, 2, 3).float().div(127.5).sub(1.0)
    if pixels.shape[-2:] != (size, size):
        flat = interpolate(pixels.flatten(0, 1), (size, size), mode="area")
        pixels = flat.reshape(*pixels.shape[:3], size, size)
    return pixels.transpose(1, 2).contiguous()


def save(model: VideoClassifier, folder: Path) -> None:
    """Write weights and geometry."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    write_json(folder / CONFIG, asdict(model.config))
