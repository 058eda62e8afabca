"""What a denoiser stage opens before its first step: batches, and the facts that its output is to carry."""

from collections.abc import Mapping
from typing import Any

from components.artifacts import StagePaths
from components.data.config import BatchesConfig
from components.data.loader import LatentBatches
from components.data.video_batches import VideoBatches
from components.denoiser.facts import TrainingFacts
from components.errors import ContractError
from models.text import EncoderRecord


def open_batches(config: BatchesConfig, paths: StagePaths) -> LatentBatches:
    """Training batches from the stage's latents, or from the videos that they are of.

    Raises `ContractError` if their captions were encoded with another text encoder than the stage is given.
    """
    manifest = paths.input("latents")
    source = VideoBatches if config.source == "videos" else LatentBatches
    batches = source(manifest, root=paths.root, config=config)
    digest = EncoderRecord.read(paths.input("text")).digest
    if batches.store.manifest.text.digest != digest:
        raise ContractError(
            f"captions in {manifest} were encoded with text encoder {batches.store.manifest.text.digest[:12]}, but"
            f" {paths.input('text')} is {digest[:12]}; run the encode stage of these latents again"
        )
    return batches


def facts_of(batches: LatentBatches, objective: str, times: Mapping[str, Any] | None) -> TrainingFacts:
    """What a model trained on these batches is made for."""
    manifest = batches.store.manifest
    shapes = {(family.frames, family.height, family.width) for family in batches.families}
    return TrainingFacts(
        objective=objective,
        autoencoder=manifest.contract,
        text={
            "digest": manifest.text.digest,
            "width": manifest.text.width,
            "max_tokens": manifest.text.max_tokens,
        },
        times=dict(times) if times is not None else None,
        fps=manifest.fps,
        shapes=[list(shape) for shape in sorted(shapes)],
    )


def channels_of(batches: LatentBatches) -> int:
    """Latent channels of the batches."""
    return int(batches.store.manifest.contract["channels"])
