"""The published video autoencoder of Open-Sora 1.2, read from its own checkpoint."""

import logging
from pathlib import Path

import torch

from models.autoencoders.config import VideoAutoencoderConfig
from models.autoencoders.convert import open_sora_to_ours
from models.autoencoders.presets import OPEN_SORA
from models.autoencoders.video import VideoAutoencoder
from models.checkpoint import read_tensors

log = logging.getLogger(__name__)


def load_open_sora_vae(path: Path, config: VideoAutoencoderConfig = OPEN_SORA) -> VideoAutoencoder:
    """The autoencoder in a checkpoint file (.safetensors, .bin, .pt), or in a folder with one.

    Logs what became of the tensors. Raises `ValueError` where there is no checkpoint, or where its tensors are not
    exactly those of the configuration.
    """
    state, report = open_sora_to_ours(read_tensors(path), config)
    log.info("%s:\n%s", path, report.text())
    with torch.device("meta"):
        codec = VideoAutoencoder.build(config)
    codec.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    return codec
