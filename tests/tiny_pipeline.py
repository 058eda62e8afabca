"""A generation pipeline of the tiny parts."""

from pathlib import Path
from typing import Any

from models.diffusion.times import Times
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline
from models.text import TextEncoder
from tests.tiny_parts import tiny_codec, tiny_transformer

SETTINGS = Settings(height=16, width=24, num_frames=7, fps=8, steps=3, guidance_scale=3.0)


def tiny_pipeline(text_folder: Path, **changes: Any) -> TextToVideoPipeline:
    """Rectified flow with shifted times; `changes` replace parts."""
    parts = {
        "transformer": tiny_transformer(),
        "codec": tiny_codec(),
        "text_encoder": TextEncoder.from_pretrained(text_folder),
        "times": Times(distribution="logit-normal", shift=True, base_resolution=32),
        "defaults": SETTINGS,
    }
    return TextToVideoPipeline(**{**parts, **changes})
