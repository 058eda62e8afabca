"""The transformer that a stage of a system begins with: built from a preset, or taken over from the stage before."""

import inspect
from typing import Any

import torch

from components.artifacts import StagePaths
from components.data.loader import LatentBatches
from components.denoiser.facts import TrainingFacts
from components.denoiser.latent_inputs import channels_of
from components.denoiser.system_config import VideoStageConfig
from components.denoiser.training import NOTHING_BESIDE, Start, require_channels, require_division
from components.errors import ContractError, UserError
from models.coverage import CoverageReport
from models.diffusion import InputChannels
from models.shapes import token_grid
from models.transformers.convert import build, grow
from models.transformers.presets import PRESETS
from models.transformers.token_positions import LearnedPositions
from models.transformers.video_transformer import VideoTransformer

FROM_LATENTS = ("in_channels", "out_channels", "low_resolution_channels", "caption_channels")


def begin(
    config: VideoStageConfig,
    batches: LatentBatches,
    paths: StagePaths,
    objective: str,
    beside: InputChannels = NOTHING_BESIDE,
) -> Start:
    """The model of a stage, with what became of every tensor.

    Raises `ContractError` before the first step where weights and latents do not belong together, `UserError` where the
    stage does not say what to build.
    """
    name = paths.checkpoints.name
    try:
        if "initial" in paths.inputs:
            start = _taken_over(config, batches, paths, objective)
        else:
            start = _built(config, batches, objective, beside)
        _check_grids(start.model, batches)
    except (ContractError, UserError):
        raise
    except ValueError as error:  # of the model: a key or a size that it cannot have
        raise UserError(f"{name}: {error}") from None
    require_channels(start.model, channels_of(batches), paths.input("latents"), beside)
    require_division(start.model, batches, config.sequence_parallel)
    start.model.set_attention_dropout(config.attention_dropout)
    return start


def configuration(
    config: VideoStageConfig, *, channels: int, caption: tuple[int, int], beside: InputChannels
) -> dict[str, Any]:
    """Keys of a new transformer for latents of `channels` and captions of (width, tokens).

    Raises `UserError` naming a preset or a key that does not exist.
    """
    model = config.model
    if model is None:
        raise UserError("the first stage of a system builds its transformer: give `model` with a preset")
    if config.changes:
        raise UserError(
            "a stage that builds its `model` changes its keys in `model.changes`; move `changes` there"
        )
    if model.preset not in PRESETS:
        raise UserError(f"there is no transformer preset `{model.preset}`; presets: {', '.join(PRESETS)}")
    keys = {**PRESETS[model.preset].config, **model.changes}
    known = set(inspect.signature(VideoTransformer.__init__).parameters) - {"self"}
    if wrong := sorted((set(model.changes) - known) | (set(model.changes) & set(FROM_LATENTS))):
        possible = ", ".join(sorted(known - set(FROM_LATENTS)))
        raise UserError(f"model.changes cannot set {', '.join(wrong)}; possible: {possible}")
    width, tokens = caption
    keys |= {
        "in_channels": beside.count(channels),
        "out_channels": channels,
        "caption_channels": width,
        "max_text_tokens": tokens,
    }
    if keys.get("low_resolution_channels"):
        keys["low_resolution_channels"] = channels
    return keys


def _built(config: VideoStageConfig, batches: LatentBatches, objective: str, beside: InputChannels) -> Start:
    text = batches.store.manifest.text
    keys = configuration(
        config, channels=channels_of(batches), caption=(text.width, text.max_tokens), beside=beside
    )
    model = build(keys, config.seed)
    state = model.state_dict()
    coverage = CoverageReport(
        loaded=(),
        new=tuple(name for name, value in state.items() if value.any()),
        zero_initialised=tuple(name for name, value in state.items() if not value.any()),
    )
    return Start(model, coverage, objective)


def _check_grids(model: VideoTransformer, batches: LatentBatches) -> None:
    """Learned positions are of one picture size. Raises `ValueError` for a bucket of another one."""
    positions = model.token_positions
    if not isinstance(positions, LearnedPositions):
        return
    for family in batches.families:
        grid = token_grid(family.latent_shape[1:], model.patch)
        positions.check(torch.Size((1, *grid)))


def _taken_over(config: VideoStageConfig, batches: LatentBatches, paths: StagePaths, objective: str) -> Start:
    """The model of the stage before, with the changes of this one."""
    initial, manifest = paths.input("initial"), batches.store.manifest
    if config.model is not None:
        raise UserError(
            f"this stage goes on from {initial} and builds no `model`; use `changes` for keys that differ"
        )
    facts = TrainingFacts.read(initial)
    facts.expect(codec=manifest.contract, text_digest=manifest.text.digest)
    if facts.objective != objective:
        raise ContractError(f"{initial} was trained with {facts.objective} and this stage with {objective}")
    model, coverage = grow(VideoTransformer.from_pretrained(initial), seed=config.seed, **config.changes)
    return Start(model, coverage, objective)
