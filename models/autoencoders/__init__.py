"""Autoencoders: clips into latents and back, built from a configuration or read from the folder one was saved in."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.autoencoders.codec import VideoCodec
    from models.autoencoders.config import AutoencoderConfig

__all__ = ["build_autoencoder", "load_autoencoder"]


def build_autoencoder(config: "AutoencoderConfig") -> "VideoCodec":
    """A new codec with random weights, of the kind that the configuration is of."""
    from models.autoencoders.causal3d import CausalAutoencoder
    from models.autoencoders.config import CausalAutoencoderConfig, ImageAutoencoderConfig
    from models.autoencoders.image import ImageAutoencoder
    from models.autoencoders.video import VideoAutoencoder

    if isinstance(config, CausalAutoencoderConfig):
        return CausalAutoencoder(config)
    if isinstance(config, ImageAutoencoderConfig):
        return ImageAutoencoder.build(config)
    return VideoAutoencoder.build(config)


def load_autoencoder(folder: Path | str) -> "VideoCodec":
    """The codec saved in `folder`, in float32 on the CPU, ready for inference.

    Raises `ValueError` where the folder holds none that is known here.
    """
    from models.autoencoders.causal3d import CausalAutoencoder
    from models.autoencoders.folder import read_config
    from models.autoencoders.image import ImageAutoencoder
    from models.autoencoders.video import VideoAutoencoder

    classes: dict[str, type[CausalAutoencoder | ImageAutoencoder | VideoAutoencoder]] = {
        "CausalAutoencoder": CausalAutoencoder,
        "ImageAutoencoder": ImageAutoencoder,
        "VideoAutoencoder": VideoAutoencoder,
    }
    name = read_config(Path(folder))["_class_name"]
    if name not in classes:
        raise ValueError(f"{folder} holds a {name}; known autoencoders: {', '.join(classes)}")
    return classes[name].from_pretrained(Path(folder)).eval()
