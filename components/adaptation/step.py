"""Stages `adapt@...`: the eight published steps from an image model to a video model, one change at a time.

A step loads what the one before exported, changes the model, says what became of every tensor, and trains
until the change has settled.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.adaptation.config import StepConfig
from components.artifacts import StagePaths
from components.data.loader import LatentBatches
from components.denoiser.facts import TrainingFacts
from components.denoiser.latent_inputs import channels_of, open_batches
from components.denoiser.training import Start, train_stage
from components.denoiser.weights import holds_pixart, read_image_model
from components.errors import ContractError
from components.report import Report
from models.coverage import CoverageReport
from models.transformers.convert import build, grow, image_config, pixart_to_ours
from models.transformers.video_transformer import STDIT_PATTERN, VideoTransformer

Changes = dict[str, Any]  # keys of the transformer's configuration


def _nothing(_config: StepConfig, _channels: int) -> Changes:
    """A change of data or training alone."""
    return {}


def _qk_norm(_config: StepConfig, _channels: int) -> Changes:
    return {"qk_norm": True}


def _rectified_flow(_config: StepConfig, channels: int) -> Changes:
    """The velocity has no variance: that half of the output goes."""
    return {"out_channels": channels}


def _autoencoder(_config: StepConfig, channels: int) -> Changes:
    """Latents of the video autoencoder, and a frame rate to go with them."""
    return {"fps_conditioning": True, "in_channels": channels, "out_channels": channels}


def _temporal(config: StepConfig, _channels: int) -> Changes:
    """Blocks across frames, which start as identity."""
    pattern = {**STDIT_PATTERN, "temporal": {"size": list(config.window)}}
    return {"temporal": True, "pattern": pattern}


Change = Callable[[StepConfig, int], Changes]  # int: channels of the latents that are trained on
CHANGES: dict[str, Change] = {
    "multi_resolution": _nothing,
    "qk_norm": _qk_norm,
    "rectified_flow": _rectified_flow,
    "time_shift": _nothing,
    "adam_eps": _nothing,
    "autoencoder": _autoencoder,
    "temporal": _temporal,
    "masks": _nothing,
}


def run(config: StepConfig, paths: StagePaths) -> Report:
    """Make one change and train.

    Raises `ContractError` before the first step if the latents are not those the model was trained on: only the
    step `autoencoder` may go on with another autoencoder, and only `rectified_flow` with another objective.
    """
    initial = paths.input("initial")
    batches = open_batches(config.batches, paths)
    _check(TrainingFacts.read(initial), config, batches, initial)
    changes = CHANGES[config.change](config, channels_of(batches))
    if holds_pixart(initial):
        model, coverage = _converted(initial, changes, batches, config.seed)
    else:
        model, coverage = grow(VideoTransformer.from_pretrained(initial), seed=config.seed, **changes)
    start = Start(model, coverage, config.objective)
    return train_stage(paths.checkpoints.name, start, batches, config, paths)


def _converted(
    initial: Path, changes: Changes, batches: LatentBatches, seed: int
) -> tuple[VideoTransformer, CoverageReport]:
    """The same image model in our class, then changed."""
    weights, manifest = read_image_model(initial), batches.store.manifest
    stride, tokens = manifest.contract["spatial_stride"], manifest.text.max_tokens
    config = {**image_config(weights.config, spatial_stride=stride, max_text_tokens=tokens), **changes}
    state, coverage = pixart_to_ours(weights.state, weights.config, config, seed=seed)
    model = build(config, seed)
    model.load_state_dict(state)
    return model, coverage


def _check(facts: TrainingFacts, config: StepConfig, batches: LatentBatches, initial: Path) -> None:
    """What the model was trained on against what this step trains it on."""
    manifest = batches.store.manifest
    switches = config.change == "autoencoder"
    codec = facts.autoencoder if switches else manifest.contract
    facts.expect(codec=codec, text_digest=manifest.text.digest)
    if facts.objective != config.objective and config.change != "rectified_flow":
        raise ContractError(
            f"{initial} was trained with the {facts.objective} objective and this step asks for"
            f" {config.objective}; only the step rectified_flow changes it"
        )
