"""The ladder of a training stage: cheap metrics every so many steps, on the averaged weights.

They choose the best checkpoint, and tell before the full evaluation whether a candidate is worth it (see `survive`).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from torch import nn

from components.artifacts import StagePaths
from components.data.latents import LatentStore
from components.denoiser.config import TimesConfig, VideoConfig
from components.denoiser.fixed_losses import FixedLosses, from_noise
from components.denoiser.held_out import HeldOutLoss, held_out_loss
from components.errors import ContractError, UserError
from components.evaluation.classifier import Extractor
from components.evaluation.identity import identity
from components.ladder.config import LadderConfig
from components.ladder.record import FLICKERING, MOTION_ENERGY, TOY_FVD, TOY_KVD, LadderRecord, Rung
from components.ladder.record import VALIDATION_LOSS as LOSS
from components.ladder.sample import Maker, SmallSample, sampled_family
from components.runtime import compute_device, resolve_precision
from components.training.curves import Look, best_of
from components.training.loop import TrainResult
from components.training.program import VALIDATION_LOSS, Found
from models.autoencoders import load_autoencoder
from models.diffusion.objective import Sampler
from models.transformers.video_transformer import VideoTransformer

log = logging.getLogger(__name__)
PREFIX = "ladder/"  # of what the small sample finds, in logs and in MLflow
OF_LOOKS = {VALIDATION_LOSS: LOSS} | {
    f"{PREFIX}{name}": name for name in (TOY_FVD, TOY_KVD, MOTION_ENERGY, FLICKERING)
}


@dataclass(frozen=True)
class Climber:
    """The model that climbs, what it learns, and what tells this objective from others of its kind."""

    model: VideoTransformer
    objective: Sampler
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    guidance_rescale: float = 0.0
    losses: FixedLosses | None = None  # that are measured on held-out clips; None: that of the objective


@dataclass
class Ladder:
    """A check of the training loop. Without enough held-out clips for videos there is the loss alone."""

    config: LadderConfig
    climber: Climber
    loss: HeldOutLoss
    sample: SmallSample | None
    scores = True

    @property
    def every(self) -> int:
        return self.config.steps

    def look(self, module: nn.Module, step: int) -> Found:
        loss = self.loss.look(module, step)
        made = self.sample.measure() if self.sample else {}
        metrics = {**loss.metrics, **{f"{PREFIX}{name}": value for name, value in made.items()}}
        score = {LOSS: loss.score, **made}[self.config.best_by]
        return Found(metrics, score, loss.clips)

    def identities(self) -> dict[str, str]:
        """How each metric is measured."""
        manifest = self.loss.store.manifest
        facts = {
            "objective": self.climber.name,
            **self.climber.facts,
            "clips": [[batch.bucket, list(batch.clip_ids)] for batch in self.loss.batches],
            "times": self.loss.config.times,
            "seed": self.loss.config.seed,
            "autoencoder": manifest.contract,
            "text": manifest.text.digest,
        }
        known = {LOSS: identity(LOSS, facts)}
        if self.sample:
            reading = self.sample.facts()
            known |= {name: identity(name, reading) for name in (TOY_FVD, TOY_KVD, MOTION_ENERGY, FLICKERING)}
        return known

    def write(self, result: TrainResult, folder: Path) -> None:
        """The record, beside the weights."""
        best = best_of(result.looks)
        kept = {result.used, best.step if best else result.used}
        LadderRecord(
            rule=self.config.model_dump(mode="json"),
            identities=self.identities(),
            used=result.used,
            best=best.step if best else None,
            rungs=[_rung(look, with_clips=look.step in kept) for look in result.looks],
        ).write(folder)


def weighed_by(times: TimesConfig) -> dict[str, Any]:
    """The weight that training gives to each time: models that weigh them otherwise are not compared by their loss."""
    return {"weights": times.model_dump(mode="json")}


def ladder_of(config: VideoConfig, paths: StagePaths, climber: Climber) -> Ladder | None:
    """The ladder of a stage, if it asks for one.

    Raises `UserError` where there is nothing to measure by, and `ContractError` where the stage's autoencoder did not
    make its latents.
    """
    if not config.ladder.steps:
        return None
    loss = held_out_loss(config, paths, climber.losses or from_noise(climber.objective))
    if loss is None:
        raise UserError(
            f"ladder.steps needs held-out clips, and {paths.input('latents')} has none in these buckets; raise"
            " ingest.validation_share, or set ladder.steps to 0"
        )
    sample = _sample(config, paths, climber, loss.store)
    if sample is None and config.ladder.best_by != LOSS:
        raise UserError(
            f"ladder.best_by {config.ladder.best_by} needs two held-out clips as long as extractor.frames; add clips or"
            f" buckets, or choose by {LOSS}"
        )
    return Ladder(config.ladder, climber, loss, sample)


def _sample(
    config: VideoConfig, paths: StagePaths, climber: Climber, store: LatentStore
) -> SmallSample | None:
    extractor = Extractor.load(paths.input("extractor"))
    wanted = (f for f in store.manifest.families if f.frames in config.batches.buckets.get(f.resolution, {}))
    family = sampled_family(store, wanted, extractor.model.config.frames, config.ladder.clips)
    if family is None:
        log.warning("the ladder makes no videos: no bucket has two held-out clips long enough to be read")
        return None
    codec = load_autoencoder(paths.input("autoencoder"))
    if codec.contract() != store.manifest.contract:
        raise ContractError(
            f"{paths.input('autoencoder')} did not make {paths.input('latents')}; encode again, or set"
            " ladder.steps to 0"
        )
    bf16 = resolve_precision(config.precision) == "bf16"
    maker = Maker(
        climber.model, climber.objective, codec.to(compute_device()), climber.guidance_rescale, bf16
    )
    return SmallSample(store, family, maker, extractor, config.ladder, config.sequence_parallel > 1)


def _rung(look: Look, *, with_clips: bool) -> Rung:
    """Numbers under the names of the record; those that are none are left out, which `survive` takes for a failure."""
    metrics = {OF_LOOKS.get(name, name): value for name, value in look.metrics.items() if isfinite(value)}
    clips = {name: value for name, value in look.clips.items() if isfinite(value)} if with_clips else {}
    return Rung(look.step, metrics, look.score, clips)
