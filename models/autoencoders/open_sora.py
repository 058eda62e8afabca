"""The published video autoencoder of Open-Sora 1.2, read from its own checkpoint."""

import logging
from pathlib import Path

import torch

from models.autoencoders.config import VideoAutoencoderConfig
from models.autoencoders.convert import open_sora_to_ours
from models.autoencoders.presets import OPEN_SORA
from models.autoencoders.video import VideoAutoencoder
from models.autoencoders.weights import load_exact, read_tensors

NAMES = ("model.safetensors", "pytorch_model.bin", "model.pt")
log = logging.getLogger(__name__)


def load_open_sora_vae(path: Path, config: VideoAutoencoderConfig = OPEN_SORA) -> VideoAutoencoder:
    """The autoencoder in a checkpoint file (.safetensors, .bin, .pt), or in a folder with one.

    Logs what became of the tensors. Raises `ValueError` where there is no checkpoint, or where its tensors are not
    exactly those of the configuration.
    """
    state, report = open_sora_to_ours(read_tensors(_file_of(path)), config)
    log.info("%s:\n%s", path, report.text())
    with torch.device("meta"):
        codec = VideoAutoencoder.build(config)
    load_exact(codec, state, "video autoencoder of Open-Sora 1.2")
    return codec


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in NAMES if (path / name).is_file()]
    if not found:
        raise ValueError(f"{path} holds none of {', '.join(NAMES)}")
    return found[0]
