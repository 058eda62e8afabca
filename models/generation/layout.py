"""The folder of a generation pipeline, in the layout of diffusers: an index, a folder per part, two settings files.

Writing it needs none of the models, so a finished pipeline can be put together from folders by linking files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from models.diffusion.channels import InputChannels
from models.diffusion.schedules import NoiseSchedule
from models.diffusion.times import Times
from models.diffusion.v_prediction import VPrediction
from models.generation.rollout import CausalFlow
from models.transformers.causal import FrameBlocks

INDEX = "model_index.json"
DEFAULTS = "generation_config.json"
TRANSFORMER, CODEC, TEXT, SCHEDULER = "transformer", "vae", "text_encoder", "scheduler"
SCHEDULER_CONFIG = "scheduler_config.json"
# what the scheduler's file says it is
FLOW, V_PREDICTION, CAUSAL = ("RectifiedFlow", "VPrediction", "CausalFlow")
Sampling = Times | VPrediction | CausalFlow  # of rectified flow, its times; the others are whole
PIPELINE_CLASS = "TextToVideoPipeline"
PARTS = {
    TRANSFORMER: ["models.transformers.video_transformer", "VideoTransformer"],
    CODEC: ["models.autoencoders", "VideoCodec"],
    TEXT: ["models.text", "TextEncoder"],
    SCHEDULER: ["models.diffusion", FLOW],
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to generate. Sizes in pixels; `steps` of the sampler; guidance 1 is none; `num_frames` 1 is an image.

    `guidance_rescale` in 0..1 pulls the guided prediction back to the spread of the conditional one (0.7 is usual with
    zero terminal SNR). A `guidance_power` above 0 lets the guidance grow from 1 to its scale (`PowerCosine`).
    """

    height: int
    width: int
    num_frames: int
    fps: float
    steps: int
    guidance_scale: float
    guidance_rescale: float = 0.0
    guidance_power: float = 0.0
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
    guidance_rescale: float
    guidance_power: float
    negative_prompt: str
    seed: int


def write_settings(folder: Path, times: Sampling, settings: Settings) -> None:
    """Index, scheduler and default settings of a pipeline whose parts are put in `folder` by the caller."""
    kind = FLOW if isinstance(times, Times) else type(times).__name__
    index = {"_class_name": PIPELINE_CLASS, **PARTS, SCHEDULER: ["models.diffusion", kind]}
    _write(folder / INDEX, index)
    _write(folder / SCHEDULER / SCHEDULER_CONFIG, {"_class_name": kind, **asdict(times)})
    _write(folder / DEFAULTS, asdict(settings))


def read_settings(folder: Path) -> tuple[Sampling, Settings]:
    """What `write_settings` wrote. Raises `ValueError` where the folder is not a whole pipeline."""
    index = _read(folder / INDEX)
    if index.get("_class_name") != PIPELINE_CLASS:
        raise ValueError(f"{folder} holds a {index.get('_class_name')}, not a {PIPELINE_CLASS}")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ValueError(f"{folder} has no {', '.join(missing)}: the pipeline is not whole, package it again")
    return _times_of(folder / SCHEDULER / SCHEDULER_CONFIG), Settings(**_read(folder / DEFAULTS))


def _times_of(path: Path) -> Sampling:
    config = _read(path)
    kind = config.get("_class_name", FLOW)
    values = {name: value for name, value in config.items() if not name.startswith("_")}
    if kind == FLOW:
        return Times(**values)
    if kind == V_PREDICTION:
        return v_prediction_of(values)
    if kind == CAUSAL:
        nested = {"times": Times(**values["times"]), "blocks": FrameBlocks(**values["blocks"])}
        return CausalFlow(**{**values, **nested})
    raise ValueError(f"{path} is of a {kind}; this pipeline samples with {FLOW}, {V_PREDICTION} or {CAUSAL}")


def v_prediction_of(values: Mapping[str, Any]) -> VPrediction:
    """From its fields, as `asdict` gives them."""
    parts = {
        "schedule": NoiseSchedule(**values["schedule"]),
        "channels": InputChannels(**values["channels"]),
    }
    return VPrediction(**{**values, **parts})


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {path.parent} is no generation pipeline")
    value: dict[str, Any] = json.loads(path.read_text())
    return value
