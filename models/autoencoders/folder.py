"""The folder of a saved autoencoder: `config.json` says which class it holds, safetensors hold its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def write_config(folder: Path, model: nn.Module, values: Mapping[str, Any]) -> None:
    """`config.json` with the class of the model and what it is built with."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"_class_name": type(model).__name__, **values}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of an autoencoder's folder. Raises `ValueError` where there is none."""
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no autoencoder folder: it has no {CONFIG}")
    config: dict[str, Any] = json.loads(path.read_text())
    return config


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values from JSON as our configurations hold them: without the class, lists as tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name != "_class_name"
    }


def save_weights(module: nn.Module, folder: Path) -> None:
    """The module's state dict, as it is."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
