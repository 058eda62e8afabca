"""Autoencoders: clips into latents and back. `load_autoencoder` reads any folder one was saved in."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.autoencoders.codec import VideoCodec

__all__ = ["load_autoencoder"]


def load_autoencoder(folder: Path | str) -> "VideoCodec":
    """The codec saved in `folder`, in float32 on the CPU, ready for inference.

    Raises `ValueError` where the folder holds none that is known here.
    """
    from models.autoencoders.image import ImageAutoencoder, read_config
    from models.autoencoders.video import VideoAutoencoder

    classes: dict[str, type[ImageAutoencoder | VideoAutoencoder]] = {
        "ImageAutoencoder": ImageAutoencoder,
        "VideoAutoencoder": VideoAutoencoder,
    }
    name = read_config(Path(folder))["_class_name"]
    if name not in classes:
        raise ValueError(f"{folder} holds a {name}; known autoencoders: {', '.join(classes)}")
    return classes[name].load(Path(folder)).eval()
