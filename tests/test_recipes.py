"""Recipes against the publications they follow, figure by figure; every model of a recipe built without weights."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from components.data.bucket_walk import slots_of
from components.data.buckets import available_frames, sides
from components.data.forecast import Walk, forecast, requests_of
from components.denoiser.beginning import configuration
from components.denoiser.system_config import VideoStageConfig, WaltStageConfig
from components.denoiser.walt import CHANNELS
from components.params import Params
from components.stages import stages_of, system_of
from components.training.config import LoopConfig
from models.autoencoders import build_autoencoder
from models.diffusion import InputChannels
from models.transformers.video_transformer import VideoTransformer

ROOT = Path(__file__).parents[1]
RECIPES = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml"))}
SYSTEMS = [name for name in RECIPES if system_of(Params.load(RECIPES[name])) != "open_sora"]

# parameter -> value, as published; see the sources in each recipe
PUBLISHED: dict[str, dict[str, Any]] = {
    "open_sora_1_2": {  # Open-Sora 1.2: report and configurations
        "adapt.multi_resolution.steps": 20_000,
        "adapt.qk_norm.steps": 18_000,
        "adapt.rectified_flow.steps": 10_000,
        "adapt.time_shift.steps": 33_000,
        "adapt.adam_eps.steps": 8_000,
        "adapt.autoencoder.steps": 25_000,
        "adapt.temporal.steps": 3_000,
        "adapt.masks.steps": 38_000,
        "adapt.masks.optimizer.lr": 1e-4,
        "adapt.adam_eps.optimizer.eps": 1e-15,
        "adapt.masks.masks.random": 0.2,
        "adapt.masks.masks.image_head": 0.1,
        "train.stage1.steps": 30_000,
        "train.stage2.steps": 23_000,
        "train.stage3.steps": 15_000,
        "train.stage1.optimizer.warmup_steps": 1000,
        "train.stage2.optimizer.warmup_steps": 0,
        "train.stage3.optimizer.warmup_steps": 1000,
        "train.stage3.optimizer.lr": 1e-4,
        "train.stage1.optimizer.clip": 1.0,
        "train.stage1.optimizer.weight_decay": 0.0,
        "train.stage1.ema": 0.99,
        "train.stage1.zero_stage": 2,
        "train.stage1.seed": 42,
        "train.stage1.caption_dropout": 0.1,
        **{f"train.stage{number}.step_batches": 96 for number in (1, 2, 3)},  # 12 nodes of 8 GPUs
        **{f"train.stage{number}.batches.selection": f"stage{number}" for number in (1, 2, 3)},
        "train.stage1.batches.captions": "plain",
        "train.stage2.batches.captions": "plain",
        "train.stage3.batches.captions": "scored",  # the report: scores in captions instead of filters
        "caption.suffixes": ("aesthetic", "motion", "camera"),
        "caption.suffix_share": 0.8,
        "encode.videos.scored_captions": True,
        "evaluate.scores.aesthetic": 6.5,
        "train.stage1.times.distribution": "logit-normal",
        "train.stage1.times.base_resolution": 512,
        "train.stage1.masks.random": 0.05,
        "train.stage1.masks.interpolate": 0.005,
        "train.stage3.masks.image_head": 0.22,
        "train.stage3.masks.image_random": 0.0,
        "autoencoder.stage1.steps": 380_000,
        "autoencoder.stage2.steps": 640_000 - 380_000,
        "autoencoder.stage3.steps": 1_200_000 - 640_000,
        "autoencoder.stage1.optimizer.lr": 1e-5,
        "autoencoder.stage1.image_share": 0.2,
        "evaluate.sampler.steps": 30,
        "evaluate.sampler.guidance": 7.0,
    },
    "walt_t2v": {  # W.A.L.T, table 8
        "walt.autoencoder.steps": 1_000_000,
        "walt.autoencoder.optimizer.schedule": "cosine",
        "walt.base.steps": 550_000,
        "walt.base.optimizer.name": "adafactor",
        "walt.base.optimizer.lr": 2e-4,
        "walt.base.optimizer.schedule": "cosine",
        "walt.wide.steps": 250_000,
        "walt.wide.optimizer.name": "adafactor",
        "walt.wide.optimizer.lr": 5e-5,
        "walt.wide.optimizer.schedule": "constant",
        "walt.super_resolution_1.steps": 675_000,
        "walt.super_resolution_1.optimizer.name": "adafactor",
        "walt.super_resolution_1.optimizer.lr": 5e-4,
        "walt.super_resolution_2.steps": 275_000,
        "walt.super_resolution_2.optimizer.name": "adafactor",
        "walt.super_resolution_2.optimizer.lr": 5e-4,
        "walt.base.self_conditioning": 0.9,
        "walt.super_resolution_2.self_conditioning": 0.9,
        "walt.base.frame_prediction.longest": 2,
        "walt.base.ema": 0.0,
        "evaluate.sampler.steps": 50,
    },
    "hdvila_shifted_window": {  # the given sheet of the HD-VILA model
        "hdvila.stage1.steps": 100_000,
        "hdvila.stage1.optimizer.lr": 5e-5,
        "hdvila.stage1.optimizer.warmup_steps": 5000,
        "hdvila.stage1.attention_dropout": 0.1,
        "hdvila.encode.stage1.flips": True,  # in early stages only
        "hdvila.encode.stage2.flips": False,
        "hdvila.stage1.zero_stage": 3,
        "hdvila.stage1.activation_checkpointing": True,
        "hdvila.stage2.attention_dropout": 0.1,
        "hdvila.stage2.zero_stage": 3,
        "text_encoder.weights": "weights/t5-v1_1-xxl",
    },
    "causal_5b": {  # the given sheet, and Wan2.2-TI2V-5B where it is silent
        "text_encoder.max_tokens": 512,
        "causal.autoencoder.model.latent_channels": 48,
    },
}
# recipe and stage -> (frames, height, width) of its clips
SIZES = {
    ("walt_t2v", "base"): (17, 128, 128),
    ("walt_t2v", "wide"): (17, 128, 224),
    ("walt_t2v", "super_resolution_1"): (17, 256, 448),
    ("walt_t2v", "super_resolution_2"): (17, 512, 896),
    ("hdvila_shifted_window", "stage1"): (16, 256, 256),
    ("hdvila_shifted_window", "stage2"): (16, 512, 512),
    ("causal_5b", "stage2"): (121, 704, 1280),
}
MILLIONS = {  # parameters as published, and how near ours come
    ("walt_t2v", "base"): (3000, 0.04),
    ("walt_t2v", "super_resolution_1"): (1300, 0.01),
    ("walt_t2v", "super_resolution_2"): (419, 0.01),
    ("hdvila_shifted_window", "stage1"): (429, 0.01),
    ("causal_5b", "stage1"): (5000, 0.01),
}


@cache
def recipe_of(name: str) -> Params:
    return Params.load(RECIPES[name])


def value_at(params: Params, dotted: str) -> Any:
    node: Any = params
    for key in dotted.split("."):
        node = getattr(node, key)
    return node


@pytest.mark.parametrize(
    ("recipe", "parameter"), [(recipe, key) for recipe, table in PUBLISHED.items() for key in table]
)
def test_a_recipe_has_the_published_figure(recipe: str, parameter: str):
    assert value_at(recipe_of(recipe), parameter) == PUBLISHED[recipe][parameter]


@pytest.mark.parametrize(
    ("recipe", "stage", "share"),
    [
        ("adapt", "masks", 0.50),
        ("train", "stage1", 0.20),
        ("train", "stage2", 0.20),
        ("train", "stage3", 0.25),
    ],
)
def test_the_masked_share_of_open_sora_is_the_published_total(recipe: str, stage: str, share: float):
    masks = value_at(recipe_of("open_sora_1_2"), f"{recipe}.{stage}.masks")
    assert sum(masks.model_dump().values()) == pytest.approx(share)


@pytest.mark.parametrize("stage", ["base", "wide", "super_resolution_1", "super_resolution_2"])
def test_the_batch_of_walt_is_512_clips_or_stacks(stage: str):
    config: WaltStageConfig = value_at(recipe_of("walt_t2v"), f"walt.{stage}")
    (lengths,) = config.batches.buckets.values()
    assert lengths[17][1] * config.step_batches == 512
    assert lengths[1][1] / 5 * config.step_batches == 512
    codec = recipe_of("walt_t2v").walt.autoencoder
    assert codec.data.batch * codec.step_batches == 256


@pytest.mark.parametrize(("recipe", "stage"), SIZES)
def test_the_largest_clips_of_a_stage_have_the_published_size(recipe: str, stage: str):
    params = recipe_of(recipe)
    table = {s.name: s for s in stages_of(params).values()}[f"{system_of(params)}@{stage}"]
    encode = value_at(params, f"{system_of(params)}.encode.{Path(table.inputs['latents']).stem}").buckets
    config = params.section(table.section)
    made = {
        (frames, *sides(resolution, aspect, encode.multiple))
        for resolution, lengths in config.batches.buckets.items()
        for frames in lengths
        for aspect in encode.aspects
        if resolution in encode.resolutions and frames in encode.frames
    }
    assert SIZES[recipe, stage] in made
    assert max(frames * height * width for frames, height, width in made) <= 1.05 * (
        SIZES[recipe, stage][0] * SIZES[recipe, stage][1] * SIZES[recipe, stage][2]
    )


def built(recipe: str, stage: str) -> VideoTransformer:
    """The transformer of a stage that builds one, without weights."""
    params = recipe_of(recipe)
    system = value_at(params, system_of(params))
    model = system.autoencoder.model
    caption = {"t5-v1_1-xl": 2048}.get(Path(params.text_encoder.weights or "tiny").name, 4096)
    beside = CHANNELS if isinstance(getattr(system, stage), WaltStageConfig) else InputChannels()
    keys = configuration(
        getattr(system, stage),
        channels=model.latent_channels,
        caption=(caption, params.text_encoder.max_tokens),
        beside=beside,
    )
    with torch.device("meta"):
        return VideoTransformer(**keys)


@pytest.mark.parametrize(("recipe", "stage"), MILLIONS)
def test_a_model_has_the_published_size(recipe: str, stage: str):
    published, tolerance = MILLIONS[recipe, stage]
    count = sum(parameter.numel() for parameter in built(recipe, stage).parameters()) / 1e6
    assert count == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_training_stage_of_a_recipe_judges_spikes(recipe: str):
    params = recipe_of(recipe)
    configs = [params.section(stage.section) for stage in stages_of(params).values()]
    limits = [config.sentinel.spike for config in configs if isinstance(config, LoopConfig)]
    assert limits
    assert None not in limits


@pytest.mark.parametrize("recipe", SYSTEMS)
def test_every_model_of_a_recipe_can_be_built(recipe: str):
    params = recipe_of(recipe)
    system = value_at(params, system_of(params))
    stages = {name: config for name, config in system if isinstance(config, VideoStageConfig)}
    assert stages
    for name, config in stages.items():
        assert (config.model is not None) == (name in {"base", "stage1"} or "super_resolution" in name)
        if config.model is not None:
            built(recipe, name)
    with torch.device("meta"):
        build_autoencoder(system.autoencoder.model)


@pytest.mark.parametrize("recipe", SYSTEMS)
def test_the_bucket_of_a_stage_is_one_that_its_latents_have(recipe: str):
    params = recipe_of(recipe)
    for stage in stages_of(params).values():
        config = params.section(stage.section)
        if not isinstance(config, VideoStageConfig):
            continue
        encode = value_at(params, f"{stage.system}.encode.{Path(stage.inputs['latents']).stem}").buckets
        for resolution, lengths in config.batches.buckets.items():
            assert resolution in encode.resolutions, (stage.name, resolution)
            assert set(lengths) <= set(encode.frames), (stage.name, lengths)
        if isinstance(config, WaltStageConfig) and config.upsampling:
            assert config.upsampling.low_resolution in encode.resolutions


def longest_clip(params: Params, resolution: str, aspect: str, frames: int) -> pa.Table:
    """The clip table with one clip: as long as the splitter makes them, as small as bucket and filter allow."""
    height, width = sides(resolution, aspect, 1)
    scale = max(1.0, (params.filter.min_side or 0) / min(height, width))
    split = params.split
    row = {
        "clip_id": f"{1:016x}",
        "height": math.ceil(scale * height),
        "width": math.ceil(scale * width),
        "start_seconds": 0.0,
        "end_seconds": split.max_seconds if frames > 1 else split.min_seconds,
        "frames": 1 if frames == 1 else 1000,
        "split": "train",
    }
    return pa.Table.from_pylist([row])


@pytest.mark.parametrize("walk", ["loader", "published"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_bucket_can_be_filled_by_a_clip_that_the_splitter_may_make(recipe: str, walk: Walk):
    params = recipe_of(recipe)
    looked = 0
    for request in requests_of(params):
        for slot in slots_of(request.batches):
            if slot.keep * slot.keep_length == 0:
                continue
            alone = request.batches.model_copy(
                update={"buckets": {slot.resolution: {slot.frames: (1.0, slot.batch)}}}
            )
            for aspect in request.encode.buckets.aspects:
                clip = longest_clip(params, slot.resolution, aspect, slot.frames)
                found = forecast(clip, replace(request, batches=alone), walk)
                bucket = (request.stage, slot.resolution, slot.frames, aspect)
                assert (found.used, found.unused, found.nothing) == (1, {}, ()), bucket
                looked += 1
    assert looked


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_autoencoder_can_see_clips_as_long_as_it_asks_for(recipe: str):
    params = recipe_of(recipe)
    for stage in stages_of(params).values():
        data = getattr(params.section(stage.section), "data", None)
        if data is not None:
            assert available_frames(params.split.max_seconds, data.fps) >= data.frames, stage.name
