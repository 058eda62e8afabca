"""The parts of a generation pipeline, as small as they get, with random weights."""

from pathlib import Path

import torch

from components.text.config import TinyT5Config
from components.text.tiny import vocabulary, write_tiny
from models.autoencoders.config import ImageAutoencoderConfig, TemporalAutoencoderConfig
from models.autoencoders.image import ImageAutoencoder
from models.autoencoders.temporal import TemporalAutoencoder
from models.autoencoders.video import VideoAutoencoder
from models.text import EncoderFolder, EncoderRecord
from models.transformers.video_transformer import VideoTransformer

CAPTIONS = ["a red circle moves left over grey stone", "a blue square moves up over dark slate"]
MAX_TOKENS = 12


def tiny_text(folder: Path, captions: list[str] = CAPTIONS, seed: int = 1) -> Path:
    """A folder with a T5 of width 32."""
    config = TinyT5Config(width=32, layers=1, heads=2, vocabulary=512, seed=seed)
    write_tiny(folder, config, vocabulary(captions, (), config.vocabulary), MAX_TOKENS)
    EncoderRecord.of(EncoderFolder.find(folder), MAX_TOKENS).write(folder)
    return folder


def tiny_codec(seed: int = 0, channels: int = 4) -> VideoAutoencoder:
    """Stride 4 in space and 2 in time, chunks of 5 frames."""
    torch.manual_seed(seed)
    image = ImageAutoencoder.build(
        ImageAutoencoderConfig(
            channels=(8, 8, 8), layers_per_level=1, latent_channels=channels, norm_groups=4
        )
    )
    temporal = TemporalAutoencoderConfig(
        filters=8,
        multipliers=(1, 1),
        blocks=1,
        temporal_downsample=(True,),
        norm_groups=4,
        chunk_frames=5,
        latent_channels=channels,
    )
    codec = VideoAutoencoder(image, TemporalAutoencoder(temporal))
    repeats = channels // 4
    codec.set_statistics([0.1, 0.0, -0.1, 0.2] * repeats, [1.0, 0.5, 2.0, 1.5] * repeats)
    return codec.eval()


def tiny_transformer(seed: int = 0) -> VideoTransformer:
    """Two layers of width 32; every weight is random, so that every input has an effect."""
    torch.manual_seed(seed)
    model = VideoTransformer(
        in_channels=4,
        out_channels=8,
        depth=2,
        heads=2,
        head_width=16,
        caption_channels=32,
        max_text_tokens=MAX_TOKENS,
        base_pixels=32,
    )
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return model.eval()
