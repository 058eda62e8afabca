"""Videos of a model under the protocol, kept batch by batch, so that a killed evaluation goes on."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.errors import UserError
from components.evaluation.config import EvaluateConfig
from components.progress import progress
from models.generation.layout import Changes, Settings
from models.generation.pipeline import TextToVideoPipeline
from models.transformers.video_transformer import VideoTransformer

log = logging.getLogger(__name__)
Frames = np.ndarray[Any, np.dtype[np.uint8]]


def changes_of(config: EvaluateConfig) -> Changes:
    """The settings that the protocol fixes."""
    return Changes(
        height=config.height,
        width=config.width,
        num_frames=config.frames,
        fps=config.fps,
        steps=config.sampler.steps,
        guidance_scale=config.sampler.guidance,
        negative_prompt=config.negative_prompt,
        seed=config.seed,
    )


def check(pipeline: TextToVideoPipeline, prompts: Sequence[str], config: EvaluateConfig) -> Settings:
    """The settings of the protocol. Raises `UserError` where the model cannot make such videos."""
    settings = replace(pipeline.defaults, **changes_of(config))
    try:
        pipeline.check(prompts, settings)
    except ValueError as error:
        raise UserError(f"evaluate: {error}") from None
    return settings


def untrained(pipeline: TextToVideoPipeline, seed: int) -> TextToVideoPipeline:
    """The same pipeline with a transformer that has never been trained: what any training must beat by far."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = VideoTransformer.from_config(pipeline.transformer.config)
    fresh = TextToVideoPipeline(
        transformer=transformer,
        codec=pipeline.codec,
        text_encoder=pipeline.text_encoder,
        times=pipeline.times,
        defaults=pipeline.defaults,
    )
    return fresh.to(pipeline.device, pipeline.dtype)


def generate(
    pipeline: TextToVideoPipeline, prompts: Sequence[str], config: EvaluateConfig, *, keep: Path, title: str
) -> Frames:
    """Videos uint8 (N, T, H, W, 3); video i starts from noise of `seed + i`. Finished batches are in `keep`."""
    keep.mkdir(parents=True, exist_ok=True)
    parts = []
    with progress(title, len(prompts)) as advance:
        for start in range(0, len(prompts), config.batch):
            part = prompts[start : start + config.batch]
            path = keep / f"{start:06d}-{len(part)}.npy"  # of another batch size there are others
            if not path.exists():
                changes = changes_of(config) | {"seed": config.seed + start}
                _save(path, pipeline(part, batch=config.batch, **changes))
            parts.append(np.load(path))
            advance(len(part))
    return np.concatenate(parts)


def _save(path: Path, frames: Frames) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        np.save(stream, frames)
    partial.replace(path)
