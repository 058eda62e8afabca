"""Published sizes of the video transformer and a tiny twin of each kind, as configurations and nothing else."""

from collections.abc import Mapping
from typing import Any

from models.transformers.video_transformer import VideoTransformer

Config = Mapping[str, Any]
_IMAGE = {"qk_norm": False, "fps_conditioning": False, "temporal": False}
_TINY = {
    "in_channels": 8,
    "depth": 3,
    "heads": 4,
    "head_width": 32,
    "caption_channels": 64,
    "max_text_tokens": 24,
    "base_pixels": 32,
}
PRESETS: Mapping[str, Config] = {
    "stdit3-xl-2": {"depth": 28, "heads": 16, "head_width": 72},
    "stdit3-3b-2": {"depth": 28, "heads": 26, "head_width": 72},
    "pixart-sigma-xl-2": {"depth": 28, "heads": 16, "head_width": 72, **_IMAGE},
    "stdit3-tiny": {**_TINY, "out_channels": 8},
    "pixart-sigma-tiny": {**_TINY, "out_channels": 16, **_IMAGE},
}


def preset(name: str, **changes: Any) -> VideoTransformer:
    """A freshly initialised model of a preset, with some keys changed. Raises `ValueError` listing the names."""
    if name not in PRESETS:
        raise ValueError(f"there is no transformer preset `{name}`; presets: {', '.join(PRESETS)}")
    model: VideoTransformer = VideoTransformer(**{**PRESETS[name], **changes})
    return model
