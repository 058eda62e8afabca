"""One training step of a transformer on one bucket: run on the meta device at two depths, extended to all layers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from components.planning.flops import META
from components.planning.networks import Config
from components.planning.passes import Pass, extended, run_pass
from models.transformers.causal import TeacherForcing
from models.transformers.convert import public
from models.transformers.video_transformer import VideoTransformer


@dataclass(frozen=True)
class Sample:
    """What a transformer sees in a step: so many latents (channels, t, h, w) of one bucket."""

    batch: int
    latent: tuple[int, int, int, int]
    masked: bool = False  # frames have times of their own
    forced: bool = False  # clean frames come in front of the noisy ones
    images: bool = False  # the frames are a stack of still images, each with a caption


@dataclass(frozen=True)
class How:
    """What changes a step's memory beside its sizes."""

    bf16: bool = True
    recompute: bool = False
    temporal_only: bool = False  # only blocks that cross frames are trained


def build(config: Config) -> VideoTransformer:
    """A transformer without memory."""
    with torch.device(META):
        model: VideoTransformer = VideoTransformer(**public(config))
    return model


def step_of(config: Config, sample: Sample, how: How) -> Pass:
    """Forward and backward of a batch. What was asked before is not run again."""
    return _step_of(json.dumps(public(config), sort_keys=True), sample, how)


@cache
def _step_of(config: str, sample: Sample, how: How) -> Pass:
    keys = json.loads(config)
    depth, patterns = keys["depth"], keys.get("pattern")
    period = len(patterns) if isinstance(patterns, Sequence) else 1  # several patterns take turns
    if not isinstance(depth, int) or depth % period or depth <= 2 * period or how.temporal_only:
        return _run(keys, sample, how)
    one = _run({**keys, "depth": period}, sample, how)
    two = _run({**keys, "depth": 2 * period}, sample, how, backward=False)
    return extended(one, two, depth / period)


def _run(config: Config, sample: Sample, how: How, *, backward: bool = True) -> Pass:
    model = _network(json.dumps(config, sort_keys=True), how.temporal_only, how.recompute)
    given = arguments(model, sample)
    return run_pass(model, lambda: model(**given), bf16=how.bf16, backward=backward)


@cache
def _network(config: str, temporal_only: bool, recompute: bool) -> VideoTransformer:
    """Built once for all buckets: a pass leaves nothing behind in it."""
    model = build(json.loads(config))
    if temporal_only:
        model.requires_grad_(False)
        for parameter in model.temporal_parameters():
            parameter.requires_grad_(True)
    if recompute:
        model.enable_gradient_checkpointing()
    return model


def arguments(model: VideoTransformer, sample: Sample) -> dict[str, Any]:
    """Inputs of a training step, on the meta device."""
    config, batch = model.config, sample.batch
    channels, frames, rows, columns = sample.latent
    frames *= 2 if sample.forced else 1

    def empty(*shape: int) -> Tensor:
        return torch.empty(batch, *shape, device=META)

    given: dict[str, Any] = {
        "latents": empty(max(config.in_channels, channels), frames, rows, columns),
        "timestep": empty(frames) if sample.forced else empty(),
        "fps": empty(),
        "size": empty(2),
    }
    if model.null_caption is not None:
        captions = (frames, config.max_text_tokens) if sample.images else (config.max_text_tokens,)
        given["text"] = empty(*captions, config.caption_channels)
        given["text_mask"] = empty(*captions)
    if sample.masked and model.patch[0] == 1:
        given["frame_mask"] = empty(frames).bool()
    if sample.forced:
        given["cache"] = TeacherForcing()
    if sample.images:
        given["images"] = empty().bool()
    if config.low_resolution_channels:
        given["low_resolution"] = empty(config.low_resolution_channels, frames, rows // 2, columns // 2)
        given["t_sr"] = empty()
    if "class" in config.conditions:
        given["label"] = empty().long()
    return given
