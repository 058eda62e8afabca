"""The folder of a generation pipeline, in the layout of diffusers: an index, a folder per part, two settings files.

Writing it needs none of the models, so a finished pipeline can be put together from folders by linking files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from models.diffusion.times import Times

INDEX = "model_index.json"
DEFAULTS = "generation_config.json"
TRANSFORMER, CODEC, TEXT, SCHEDULER = "transformer", "vae", "text_encoder", "scheduler"
SCHEDULER_CONFIG = "scheduler_config.json"
PIPELINE_CLASS = "TextToVideoPipeline"
PARTS = {
    TRANSFORMER: ["models.transformers.video_transformer", "VideoTransformer"],
    CODEC: ["models.autoencoders", "VideoCodec"],
    TEXT: ["models.text", "TextEncoder"],
    SCHEDULER: ["models.diffusion", "RectifiedFlow"],
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to generate. Sizes in pixels; `steps` of the sampler; guidance 1 is none; `num_frames` 1 is an image."""

    height: int
    width: int
    num_frames: int
    fps: float
    steps: int
    guidance_scale: float
    negative_prompt: str = ""  # empty: the model's own null caption
    seed: int = 0  # sample i starts from noise of seed + i, in whatever batches they are made


class Changes(TypedDict, total=False):
    """Settings of one call, over those of the pipeline."""

    height: int
    width: int
    num_frames: int
    fps: float
    steps: int
    guidance_scale: float
    negative_prompt: str
    seed: int


def write_settings(folder: Path, times: Times, settings: Settings) -> None:
    """Index, scheduler and default settings of a pipeline whose parts are put in `folder` by the caller."""
    _write(folder / INDEX, {"_class_name": PIPELINE_CLASS, **PARTS})
    _write(folder / SCHEDULER / SCHEDULER_CONFIG, {"_class_name": "RectifiedFlow", **asdict(times)})
    _write(folder / DEFAULTS, asdict(settings))


def read_settings(folder: Path) -> tuple[Times, Settings]:
    """What `write_settings` wrote. Raises `ValueError` where the folder is not a whole pipeline."""
    index = _read(folder / INDEX)
    if index.get("_class_name") != PIPELINE_CLASS:
        raise ValueError(f"{folder} holds a {index.get('_class_name')}, not a {PIPELINE_CLASS}")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ValueError(f"{folder} has no {', '.join(missing)}: the pipeline is not whole, package it again")
    scheduler = _read(folder / SCHEDULER / SCHEDULER_CONFIG)
    times = Times(**{name: value for name, value in scheduler.items() if not name.startswith("_")})
    return times, Settings(**_read(folder / DEFAULTS))


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {path.parent} is no generation pipeline")
    value: dict[str, Any] = json.loads(path.read_text())
    return value
