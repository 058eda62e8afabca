"""The loss on held-out clips while a denoiser trains: fixed clips, noise and times for every bucket.

The training loss says little of a diffusion model, as its noise levels vary more than the model does.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn

from components.artifacts import StagePaths
from components.data.config import BatchesConfig
from components.data.latents import LatentStore
from components.data.loader import LatentBatch, first_of_each
from components.denoiser.config import DenoiserConfig
from components.denoiser.fixed_losses import FixedLosses, Level
from components.denoiser.programs import Fed, conditions_of
from components.runtime import compute_device
from components.training.config import ValidationConfig
from components.training.looks import Means, shared
from components.training.program import VALIDATION_LOSS, Check, Found
from models.diffusion import Denoiser
from models.diffusion.fixed_draws import fixed_noise, interior_times

log = logging.getLogger(__name__)


def held_out_checks(config: DenoiserConfig, paths: StagePaths, losses: FixedLosses) -> list[Check]:
    """The validation loss of a stage, if it asks for one and there are held-out clips."""
    if not config.validation.steps:
        return []
    check = held_out_loss(config, paths, losses)
    return [check] if check else []


def held_out_loss(config: DenoiserConfig, paths: StagePaths, losses: FixedLosses) -> "HeldOutLoss | None":
    """As `validation` says; None where there are no held-out clips."""
    store = LatentStore(paths.input("latents"), root=paths.root, captions=config.batches.captions)
    check = HeldOutLoss(store, config.batches, losses, config.validation, config.sequence_parallel > 1)
    if check.batches:
        return check
    log.warning("no validation loss: %s has no held-out clips in these buckets", paths.input("latents"))
    return None


@dataclass
class HeldOutLoss:
    """Mean loss per bucket (resolution x length), and over all. Processes share the batches.

    `alone`: every process takes all batches, as where several share one clip.
    """

    store: LatentStore
    buckets: BatchesConfig
    losses: FixedLosses
    config: ValidationConfig
    alone: bool = False
    split: str = "validation"

    @cached_property
    def batches(self) -> list[LatentBatch]:
        """What is looked at."""
        return list(first_of_each(self.store, self.buckets, split=self.split, count=self.config.samples))

    @property
    def every(self) -> int:
        return self.config.steps

    @property
    def scores(self) -> bool:
        return True

    def look(self, module: nn.Module, _step: int) -> Found:
        """The loss per bucket and over all samples; of a clip with several windows, their mean for `clips`."""
        means = Means()
        for batch, counts in self._shared():
            for given, losses in self._measured(cast(Denoiser, module), batch).items():
                if counts:
                    means.add(f"{batch.bucket}_{given}" if given else batch.bucket, losses, batch.clip_ids)
        found = means.over_processes(alone=self.alone)
        by_name = {f"{VALIDATION_LOSS}_{name}": value for name, value in found.by_name.items()}
        return Found({VALIDATION_LOSS: found.whole, **by_name}, found.whole, found.by_sample)

    def _shared(self) -> Iterator[tuple[LatentBatch, bool]]:
        """Bucket by bucket, as batches of one take equally many passes of the model."""
        for _, batches in groupby(self.batches, key=lambda batch: batch.bucket):
            yield from shared(list(batches), alone=self.alone)

    def _measured(self, model: Denoiser, batch: LatentBatch) -> dict[str, Tensor]:
        """Mean over the times, per sample (B,), by what the model is given."""
        device = compute_device()
        latents = batch.latents.to(device)
        is_image = latents.shape[2] == 1
        told = conditions_of(batch, batch.text, is_image=is_image).to(device)
        fed = Fed(batch, latents, told, "images" if is_image else "videos")
        times = interior_times(self.config.times)
        seed, shape = self.config.seed, latents.shape[1:]
        noise = torch.stack([fixed_noise(clip, seed, len(times), shape) for clip in batch.clip_ids])
        levels = [Level(noise[:, index].to(device), time, seed) for index, time in enumerate(times)]
        found = [self.losses(model, fed, level) for level in levels]
        return {
            given: torch.stack([one[given] for one in found]).double().mean(dim=0).cpu() for given in found[0]
        }
