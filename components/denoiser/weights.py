"""The folder of the image model: written by the stage `pixart`, read by the first adaptation step.

It holds a PixArt in the layout of diffusers with the null caption beside it, or a checkpoint file in the
original layout, which has a null caption of its own.
"""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from models.transformers.convert import PixArtWeights, read_pixart

CONFIG = "config.json"
CLASS = "PixArtTransformer2DModel"
NULL_CAPTION = "null_caption.safetensors"
ORIGINAL_KEY = "y_embedder.y_embedding"  # what PixArt's own code calls it
ORIGINAL_FILES = ("*.pth", "*.safetensors")


def holds_pixart(folder: Path) -> bool:
    """True for a folder of the stage `pixart`, False for one of ours."""
    config = folder / CONFIG
    return not config.is_file() or json.loads(config.read_text()).get("_class_name") == CLASS


def read_image_model(folder: Path) -> PixArtWeights:
    """Weights with the null caption among them. Raises `ValueError` where there are none."""
    if not (folder / CONFIG).is_file():
        files = [file for pattern in ORIGINAL_FILES for file in sorted(folder.glob(pattern))]
        return read_pixart(files[0] if files else folder)
    weights = read_pixart(folder)
    null = load_file(folder / NULL_CAPTION)["null_caption"]
    return PixArtWeights({**weights.state, ORIGINAL_KEY: null}, weights.config)


def write_null_caption(folder: Path, null_caption: Tensor) -> None:
    """null_caption: (L, D), the text encoder's output for an empty prompt."""
    save_file({"null_caption": null_caption.contiguous().cpu()}, folder / NULL_CAPTION)
