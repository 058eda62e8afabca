"""Every training program of Open-Sora learns: its loss falls by the factor stated here, from where its chain begins.

The programs of the other systems have theirs in denoiser/test_systems and denoiser/test_walt_stages, the causal 3D
autoencoder in autoencoder/test_causal_stage.
"""

import pytest

from components.adaptation import step
from components.adaptation.config import StepConfig
from components.autoencoder import image, temporal
from components.autoencoder.config import AutoencoderConfig
from components.denoiser import pixart, train
from components.denoiser.config import FlowStageConfig, PixArtConfig
from components.stages import ADAPT_STEPS, STAGES, TRAIN_STAGES
from tests import tiny_latents
from tests.components.autoencoder.test_stages import CONFIG, paths_of
from tests.tiny_clips import make_clips
from tests.tiny_latents import contract
from tests.tiny_systems import losses, make_system_latents

LOOP = {"seed": 1, "precision": "fp32", "log_steps": 10, "checkpoint_steps": 1000, "ema": 0.0}
STEPS = 40
IMAGES = [("16px", (1, 16, 16), (4, 1, 4, 4))]
VIDEOS = [*IMAGES, ("16px", (5, 16, 16), (4, 3, 4, 4))]
TIMES = {"distribution": "logit-normal", "shift": True, "base_resolution": 16}
MASKS = {"random": 0.2, "image_head": 0.1}
# program -> (where its chain begins, the first mean loss there over its own last one). A chain goes on while programs
# have the same loss on the same latents
DENOISERS = {
    "pixart": ("pixart", 3.5),
    "multi_resolution": ("pixart", 4.0),
    "qk_norm": ("pixart", 4.0),
    "rectified_flow": ("rectified_flow", 1.3),
    "time_shift": ("rectified_flow", 1.5),
    "adam_eps": ("rectified_flow", 1.7),
    "autoencoder": ("rectified_flow", 2.1),
    "temporal": ("rectified_flow", 2.6),
    "masks": ("masks", 1.15),
    "stage1": ("masks", 1.3),
    "stage2": ("masks", 1.5),
    "stage3": ("masks", 1.7),
}
AUTOENCODERS = {
    "image": ("image", 1.4),
    "stage1": ("stage1", 1.5),
    "stage2": ("stage1", 2.5),
    "stage3": ("stage3", 1.2),
}


def batches(*frames):
    return {"buckets": {"16px": dict.fromkeys(frames, (1.0, 8))}, "seed": 1, "small_bucket": "repeat"}


def step_config(change):
    is_epsilon = change in {"multi_resolution", "qk_norm"}
    frames = {"masks": (1, 5)}.get(change, (1,))
    return StepConfig(
        **LOOP,
        steps=STEPS,
        caption_dropout=0.1,
        optimizer={"lr": 3e-3, "warmup_steps": 2, "eps": 1e-15 if change in {"adam_eps", "masks"} else 1e-8},
        change=change,
        objective="epsilon" if is_epsilon else "flow",
        times=None if is_epsilon else {"distribution": "uniform"} if change == "rectified_flow" else TIMES,
        batches=batches(*frames),
        masks=MASKS if change == "masks" else {},
    )


@pytest.fixture(scope="module")
def denoiser_curves(tmp_path_factory):
    """The image model, the eight steps and the three stages, one after the other; losses by program."""
    root = tmp_path_factory.mktemp("denoisers")
    manifests = {
        "images": make_system_latents(root, IMAGES, contract(4), name="images"),
        "videos": make_system_latents(root, VIDEOS, contract(4, "b"), name="videos"),
    }
    found, folder = {}, root / "artifacts/pixart"
    paths = tiny_latents.stage_paths(root, "pixart", None, manifests["images"], folder)
    model = {"depth": 2, "heads": 2, "head_width": 16, "patch": 2}
    common = {"steps": 3 * STEPS, "caption_dropout": 0.1, "optimizer": {"lr": 3e-3, "warmup_steps": 2}}
    pixart.run(PixArtConfig(**LOOP, **common, weights=None, model=model, batches=batches(1)), paths)
    found["pixart"] = losses(paths)
    for change, (latents, _) in ADAPT_STEPS.items():
        before, folder = folder, root / f"artifacts/adapt/{change}"
        paths = tiny_latents.stage_paths(root, f"adapt@{change}", before, manifests[latents], folder)
        step.run(step_config(change), paths)
        found[change] = losses(paths)
    for name in TRAIN_STAGES:
        before, folder = folder, root / f"artifacts/train/{name}"
        paths = tiny_latents.stage_paths(root, f"train@{name}", before, manifests["videos"], folder)
        config = FlowStageConfig(
            **LOOP, **{**common, "steps": STEPS}, times=TIMES, masks=MASKS, batches=batches(1, 5)
        )
        train.run(config, paths)
        found[name] = losses(paths)
    return found


@pytest.fixture(scope="module")
def autoencoder_curves(tmp_path_factory):
    """The four stages one after the other; losses by stage."""
    root = tmp_path_factory.mktemp("autoencoders")
    make_clips(root)
    more = {"steps": STEPS, "optimizer": {"lr": 4e-3}, "log_steps": 10, "ema": 0.0}
    config = AutoencoderConfig.model_validate({name: {**CONFIG[name], **more} for name in CONFIG})
    found = {}
    for name in AUTOENCODERS:
        (image if name == "image" else temporal).run(getattr(config, name), paths_of(root, name))
        found[name] = losses(paths_of(root, name))
    return found


@pytest.mark.parametrize("program", DENOISERS)
def test_the_loss_of_a_denoiser_falls(denoiser_curves, program):
    begin, factor = DENOISERS[program]
    assert denoiser_curves[begin][0] / denoiser_curves[program][-1] > factor


@pytest.mark.parametrize("stage", AUTOENCODERS)
def test_the_loss_of_an_autoencoder_falls(autoencoder_curves, stage):
    begin, factor = AUTOENCODERS[stage]
    assert autoencoder_curves[begin][0] / autoencoder_curves[stage][-1] > factor


def test_every_program_of_open_sora_has_its_factor():
    assert list(DENOISERS) == ["pixart", *ADAPT_STEPS, *TRAIN_STAGES]
    assert list(AUTOENCODERS) == [
        name.removeprefix("autoencoder@") for name in STAGES if "autoencoder@" in name
    ]
