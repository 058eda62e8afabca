"""Buckets, mask shares, losses, optimizers and shares of images in the recipes, as their sources print them.

Open-Sora 1.2: report (docs/report_03.md) and configurations (configs/opensora-v1-2/train, configs/vae/train) of the
repository hpcaitech/Open-Sora. W.A.L.T: arXiv 2312.06662, section 4 and table 8 of its appendix; its autoencoder is
that of MAGVIT-v2, whose loss weights are those of the configuration of MAGVIT. HD-VILA and the causal model: the sheets
that describe them. Steps and sizes are in test_recipes.
"""

from typing import Any

import pytest
import torch

from components.adaptation.config import StepConfig
from components.autoencoder.config import TrainedOrTaken
from components.denoiser.config import FlowStageConfig
from components.stages import ADAPT_STEPS
from models.diffusion import FrameMasks
from models.transformers.presets import preset
from tests.test_recipes import recipe_of, value_at

OPEN_SORA = "open_sora_1_2"
RESOLUTIONS = ("144p", "256", "240p", "360p", "512", "480p", "720p", "1024", "1080p", "2048")
# frames: per resolution "keep, batch" or "(keep, share of the time), batch"; "-" is no bucket, keep 0 bars a length
BUCKETS = {
    "train.stage1": {
        1: "1,475 | .4,297 | .3,297 | .2,141 | .1,141 | .1,89 | .05,36 | .05,36 | .1,5 | .1,5",
        51: "1,51 | .5,20 | .4,20 | .15,8 | - | - | - | - | - | -",
        102: "(1,.33),27 | (.5,.33),10 | (.4,.33),10 | (.15,.33),4 | - | - | - | - | - | -",
        204: "(1,.1),13 | (.5,.1),5 | (.4,.1),5 | (.15,.1),2 | - | - | - | - | - | -",
        408: "(1,.1),6 | (.5,.1),2 | (.4,.1),2 | (.15,.1),1 | - | - | - | - | - | -",
    },
    "train.stage2": {
        1: "1,475 | .4,297 | .3,297 | .5,141 | .4,141 | .5,89 | .1,36 | .1,36 | .01,5 | .01,5",
        51: "1,51 | .5,20 | .4,20 | .15,8 | .15,8 | .2,5 | .03,1 | .02,1 | - | -",
        102: "(1,.33),27 | (.5,.33),10 | (.4,.33),10 | (.3,.5),4 | (.2,.4),4 | .2,2 | - | - | - | -",
        204: "(1,.1),13 | (.5,1),5 | (.4,1),5 | (.3,1),2 | (.2,1),2 | .1,1 | - | - | - | -",
        408: "(1,.1),6 | (.5,1),2 | (.4,1),2 | (.5,.5),1 | (.4,.5),1 | - | - | - | - | -",
    },
    "train.stage3": {
        1: "1,475 | 1,297 | 1,297 | 1,141 | 1,141 | 1,89 | .3,36 | .3,36 | .1,5 | .05,5",
        51: "1,51 | .5,20 | .5,20 | .5,8 | .5,8 | .5,5 | .2,2 | .1,2 | - | -",
        102: "1,27 | .5,10 | .5,10 | .5,4 | .5,4 | .5,3 | .1,1 | .1,1 | - | -",
        204: "1,13 | .5,5 | .5,5 | .5,2 | .5,2 | (.5,.5),1 | 0 | 0 | - | -",
        408: "1,6 | (.5,.5),2 | (.5,.4),2 | (.5,.3),1 | (.5,.2),1 | 0 | - | - | - | -",
    },
    "adapt.masks": {
        1: ".5,48 | .6,20 | .6,20 | .5,8 | .5,8 | .2,4 | .1,2 | .1,2 | .1,1 | -",
        17: "- | - | - | - | - | .3,1 | - | - | - | -",
        34: "1,2 | .5,2 | .5,2 | .2,1 | .2,1 | - | - | - | - | -",
        51: "1,4 | .5,1 | .5,1 | - | - | - | - | - | - | -",
        68: "- | .5,1 | .5,1 | - | - | 0 | - | - | - | -",
        102: "1,2 | - | - | 0 | 0 | - | - | - | - | -",
        136: "- | 0 | 0 | - | - | - | - | - | - | -",
        204: "1,1 | - | - | - | - | - | - | - | - | -",
    },
}
IMAGE_STEPS = [name for name in ADAPT_STEPS if name != "masks"]  # seven of the eight see still images alone
# random, interpolate, each of the four quarters, then image: random, head, tail, head and tail
MASKS = {
    "adapt.masks": (0.2, 0.01, 0.01, 0.05, 0.1, 0.05, 0.05),
    "train.stage1": (0.05, 0.005, 0.005, 0.025, 0.05, 0.025, 0.025),
    "train.stage2": (0.05, 0.005, 0.005, 0.025, 0.05, 0.025, 0.025),
    "train.stage3": (0.01, 0.002, 0.002, 0.0, 0.22, 0.005, 0.005),
}
TABLE: dict[str, dict[str, Any]] = {
    OPEN_SORA: {
        # report, "Rectified flow and model adaptation": the eight steps
        "adapt.multi_resolution.objective": "epsilon",
        "adapt.qk_norm.objective": "epsilon",
        "adapt.rectified_flow.objective": "flow",
        "adapt.rectified_flow.times.distribution": "uniform",
        "adapt.rectified_flow.times.shift": False,
        "adapt.time_shift.times.distribution": "logit-normal",
        "adapt.time_shift.times.mean": 0.0,
        "adapt.time_shift.times.std": 1.0,
        "adapt.time_shift.times.shift": True,
        "adapt.time_shift.times.base_resolution": 512,
        "adapt.time_shift.optimizer.eps": 1e-8,
        "adapt.adam_eps.optimizer.eps": 1e-15,
        "adapt.masks.optimizer.eps": 1e-15,
        "adapt.temporal.trainable": "all",
        "adapt.masks.trainable": "temporal",  # "we train the temporal attention blocks only"
        "filter.selections": {  # stage 2: an aesthetic score of at least 4.5
            "stage1": {},
            "stage2": {"min_aesthetic": 4.5},
            "stage3": {},
        },
        "text_encoder.max_tokens": 300,
        # configs/vae/train and report: 80 % videos in the first two stages, then lengths of 1 to 33 frames
        "autoencoder.stage1.target": "latents",
        "autoencoder.stage1.identity": True,
        "autoencoder.stage1.train_image_autoencoder": False,
        "autoencoder.stage1.image_share": 0.2,
        "autoencoder.stage1.data.frames": 17,
        "autoencoder.stage1.data.batch": 1,
        "autoencoder.stage1.loss.kl": 0.0,
        "autoencoder.stage2.target": "latents",
        "autoencoder.stage2.identity": False,
        "autoencoder.stage2.train_image_autoencoder": True,
        "autoencoder.stage2.image_share": 0.2,
        "autoencoder.stage2.data.frames": 17,
        "autoencoder.stage2.loss.kl": 0.0,
        "autoencoder.stage3.target": "pixels",
        "autoencoder.stage3.train_image_autoencoder": True,
        "autoencoder.stage3.image_share": 0.0,
        "autoencoder.stage3.mixed_lengths": True,
        "autoencoder.stage3.data.frames": 33,
        "autoencoder.stage3.perceptual.weight": 0.1,
        "autoencoder.stage3.loss.kl": 1e-6,
        "autoencoder.stage3.loss.l1": 1.0,
        "autoencoder.stage3.adversarial": None,
        "autoencoder.stage1.model.filters": 128,
        "autoencoder.stage1.model.multipliers": (1, 2, 2, 4),
        "autoencoder.stage1.model.blocks": 4,
        "autoencoder.stage1.model.temporal_downsample": (False, True, True),
        "autoencoder.stage1.model.chunk_frames": 17,
    },
    "walt_t2v": {
        # loss terms as in MAGVIT-v2: reconstruction 5, perceptual and adversarial 0.1, R1 10, LeCAM 0.001
        "walt.autoencoder.model.filters": 128,
        "walt.autoencoder.model.multipliers": (1, 2, 2, 4),
        "walt.autoencoder.model.latent_channels": 8,
        "walt.autoencoder.data.frames": 17,
        "walt.autoencoder.loss.mse": 5.0,
        "walt.autoencoder.loss.l1": 0.0,
        "walt.autoencoder.loss.kl": 0.0,
        "walt.autoencoder.perceptual.weight": 0.1,
        "walt.autoencoder.adversarial.weight": 0.1,
        "walt.autoencoder.adversarial.loss": "non-saturating",
        "walt.autoencoder.adversarial.r1": 10.0,
        "walt.autoencoder.adversarial.lecam": 0.001,
        "walt.autoencoder.adversarial.model.filters": 128,
        "walt.autoencoder.adversarial.model.multipliers": (2, 4, 4, 4, 4),
        "walt.autoencoder.optimizer.lr": 1e-4,
        "walt.autoencoder.optimizer.betas": (0.0, 0.99),
        "walt.autoencoder.ema": 0.999,
        "walt.wide.changes": {  # appendix: latents 5 x 16 x 28, windows 1 x 16 x 28 and 5 x 8 x 14
            "positions": {"kind": "learned", "grid": [5, 16, 28]},
            "pattern": {"spatial": {"size": [1, 16, 28]}, "spatiotemporal": {"size": [5, 8, 14]}},
        },
        "walt.super_resolution_1.upsampling.low_resolution": "169px",
        "walt.super_resolution_2.upsampling.low_resolution": "339px",
        "walt.super_resolution_1.optimizer.schedule": "cosine",
        "walt.super_resolution_2.optimizer.schedule": "cosine",
        "walt.super_resolution_1.ema": 0.0,
        "walt.super_resolution_2.ema": 0.0,
    },
    "hdvila_shifted_window": {
        "hdvila.stage1.model.preset": "hdvila-hourglass",
        "hdvila.stage2.optimizer.lr": 5e-5,
        "hdvila.stage2.activation_checkpointing": True,
        "text_encoder.max_tokens": 300,
    },
    "causal_5b": {
        "text_encoder.weights": "weights/umt5-xxl",
        "causal.stage1.model.preset": "causal-5b",
        "causal.stage1.times.shift": True,
        "causal.stage2.times.shift": True,
    },
}
# preset -> layers, width, heads, width of the feed-forward layer, patch; as published, but for the width of walt-t2v-3b
MODELS = {
    "stdit3-xl-2": (56, 1152, 16, 4608, (1, 2, 2)),
    "walt-t2v-3b": (52, 1792, 16, 9216, (1, 1, 1)),
    "walt-sr-2x": (40, 1408, 16, 4 * 1408, (1, 2, 2)),
    "walt-sr-2x2x": (24, 1024, 16, 4096, (1, 4, 4)),
    "hdvila-hourglass": (24, 1024, 16, 4096, (1, 2, 2)),
    "causal-5b": (30, 3072, 24, 14336, (1, 2, 2)),
}


def parsed(cell: str) -> tuple[float | tuple[float, ...], int]:
    """`.5,20` or `(1,.33),27` -> (keep, batch)."""
    if cell.startswith("("):
        keep, batch = cell[1:].split(")")
        return tuple(float(part) for part in keep.split(",")), int(batch.lstrip(","))
    keep, batch = cell.split(",")
    return float(keep), int(batch)


def published_buckets(rows: dict[int, str]) -> dict[str, dict[int, Any]]:
    table: dict[str, dict[int, Any]] = {}
    for frames, row in rows.items():
        for resolution, cell in zip(RESOLUTIONS, row.split(" | "), strict=True):
            if cell != "-":
                table.setdefault(resolution, {})[frames] = cell
    return table


def assert_same_buckets(given: Any, expected: dict[str, dict[int, str]]) -> None:
    assert {name: set(lengths) for name, lengths in given.items()} == {
        name: set(lengths) for name, lengths in expected.items()
    }
    for name, lengths in expected.items():
        for frames, cell in lengths.items():
            if cell == "0":
                assert given[name][frames][0] == 0, (name, frames)
            else:
                assert given[name][frames] == parsed(cell), (name, frames)


@pytest.mark.parametrize("stage", BUCKETS)
def test_buckets_keep_what_open_sora_published(stage: str):
    config = value_at(recipe_of(OPEN_SORA), stage)
    assert_same_buckets(config.batches.buckets, published_buckets(BUCKETS[stage]))


@pytest.mark.parametrize("step", IMAGE_STEPS)
def test_an_adaptation_step_on_images_has_the_image_buckets(step: str):
    config: StepConfig = value_at(recipe_of(OPEN_SORA), f"adapt.{step}")
    assert_same_buckets(config.batches.buckets, published_buckets({1: BUCKETS["adapt.masks"][1]}))
    assert not any(config.masks.model_dump().values())


@pytest.mark.parametrize("stage", MASKS)
def test_frame_masks_have_the_published_shares(stage: str):
    random, interpolate, quarter, *image = MASKS[stage]
    expected = FrameMasks(
        random=random,
        interpolate=interpolate,
        **{f"quarter_{place}": quarter for place in ("random", "head", "tail", "head_tail")},
        **dict(zip(("image_random", "image_head", "image_tail", "image_head_tail"), image, strict=True)),
    )
    assert FrameMasks(**value_at(recipe_of(OPEN_SORA), stage).masks.model_dump()) == expected


@pytest.mark.parametrize(
    ("recipe", "parameter"), [(recipe, key) for recipe, table in TABLE.items() for key in table]
)
def test_a_recipe_has_the_published_figure(recipe: str, parameter: str):
    found, expected = value_at(recipe_of(recipe), parameter), TABLE[recipe][parameter]
    if isinstance(found, dict) and parameter.startswith("filter"):
        found = {name: chosen.model_dump(exclude_none=True) for name, chosen in found.items()}
    assert found == expected


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_the_training_stages_of_open_sora_share_their_settings(stage: str):
    """AdamW with eps 1e-15 and no decay, constant 1e-4, EMA 0.99, bf16, ZeRO 2, captions' layers frozen."""
    config: FlowStageConfig = value_at(recipe_of(OPEN_SORA), f"train.{stage}")
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.eps, optimizer.weight_decay, optimizer.clip) == (1e-4, 1e-15, 0.0, 1.0)
    assert (optimizer.betas, optimizer.schedule) == ((0.9, 0.999), "constant")
    assert (config.ema, config.precision, config.zero_stage) == (0.99, "bf16", 2)
    assert config.activation_checkpointing
    assert config.freeze_caption
    times = config.times
    assert (times.distribution, times.mean, times.std, times.shift) == ("logit-normal", 0.0, 1.0, True)
    assert config.caption_dropout == 0.1


@pytest.mark.parametrize("step", ADAPT_STEPS)
def test_the_adaptation_steps_of_open_sora_share_their_settings(step: str):
    config: StepConfig = value_at(recipe_of(OPEN_SORA), f"adapt.{step}")
    assert (config.optimizer.lr, config.optimizer.warmup_steps, config.zero_stage) == (1e-4, 0, 2)
    assert config.precision == "bf16"
    assert not config.activation_checkpointing
    assert config.change == step


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_the_autoencoder_stages_of_open_sora_share_their_settings(stage: str):
    """AdamW 1e-5 without decay, constant, clipped at 1, bf16, ZeRO 2, checkpointing, no EMA."""
    config: TrainedOrTaken = value_at(recipe_of(OPEN_SORA), f"autoencoder.{stage}")
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.weight_decay, optimizer.clip) == (1e-5, 0.0, 1.0)
    assert (optimizer.schedule, optimizer.warmup_steps) == ("constant", 0)
    assert (config.precision, config.zero_stage, config.ema) == ("bf16", 2, 0.0)
    assert config.activation_checkpointing
    assert (config.data.height, config.data.width) == (256, 256)


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_has_the_published_geometry(name: str):
    with torch.device("meta"):
        model = preset(name)
    blocks = list(model.blocks())
    layers, width, heads, hidden, patch = MODELS[name]
    assert len(blocks) == layers
    assert {block.attention.layout for block in blocks} == {(3, heads, width // heads)}
    assert {block.feed_forward.hidden.weight.shape for block in blocks} == {(hidden, width)}
    assert tuple(model.patch) == patch
