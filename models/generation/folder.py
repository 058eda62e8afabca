"""Whatever generates videos, read from its folder: one pipeline, or a cascade of models."""

import json
from pathlib import Path

from models.generation import layout
from models.generation.cascade import CLASS, Cascade
from models.generation.pipeline import TextToVideoPipeline


def load_generator(folder: Path | str) -> TextToVideoPipeline | Cascade:
    """Raises `ValueError` where the folder holds neither, or is not whole."""
    path = Path(folder) / layout.INDEX
    if not path.is_file():
        raise ValueError(f"{path} is missing: {folder} generates nothing")
    kind = json.loads(path.read_text()).get("_class_name")
    return Cascade.from_pretrained(folder) if kind == CLASS else TextToVideoPipeline.from_pretrained(folder)
