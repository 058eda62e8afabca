"""The loss on held-out clips while a denoiser trains: fixed clips, noise and times for every bucket.

The training loss says little of a diffusion model, as its noise levels vary more than the model does.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from components.artifacts import StagePaths
from components.data.config import BatchesConfig
from components.data.latents import LatentStore
from components.data.loader import LatentBatch, first_of_each
from components.denoiser.config import LatentStageConfig
from components.runtime import compute_device
from components.training import processes
from components.training.config import ValidationConfig
from components.training.program import VALIDATION_LOSS, Check
from models.diffusion import IMAGE_FPS, Conditions, Denoiser
from models.diffusion.fixed_draws import Objective, fixed_noise, interior_times, losses_at

log = logging.getLogger(__name__)


def held_out_checks(config: LatentStageConfig, paths: StagePaths, objective: Objective) -> list[Check]:
    """The validation loss of a stage, if it asks for one and there are held-out clips."""
    if not config.validation.steps:
        return []
    store = LatentStore(paths.input("latents"), root=paths.root, captions=config.batches.captions)
    check = HeldOutLoss(store, config.batches, objective, config.validation, config.sequence_parallel > 1)
    if not check.batches:
        log.warning("no validation loss: %s has no held-out clips in these buckets", paths.input("latents"))
        return []
    return [check]


@dataclass
class HeldOutLoss:
    """Mean loss per bucket (resolution x length), and over all. Processes share the batches.

    `alone`: every process takes all batches, as where several share one clip.
    """

    store: LatentStore
    buckets: BatchesConfig
    objective: Objective
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

    def look(self, module: nn.Module, _step: int) -> Mapping[str, float]:
        sums: dict[str, tuple[float, int]] = {}
        for batch, counts in self._shared():
            losses = self._losses(cast(Denoiser, module), batch)
            if counts:
                total, number = sums.get(batch.bucket, (0.0, 0))
                sums[batch.bucket] = (total + float(losses.sum()), number + len(losses))
        found = [sums] if self.alone else processes.from_all(sums)
        names = sorted({name for one in found for name in one})
        totals = {name: [sum(one.get(name, (0.0, 0))[k] for one in found) for k in (0, 1)] for name in names}
        whole = sum(total for total, _ in totals.values()) / sum(number for _, number in totals.values())
        means = {f"{VALIDATION_LOSS}_{name}": total / number for name, (total, number) in totals.items()}
        return {VALIDATION_LOSS: whole, **means}

    def _shared(self) -> Iterator[tuple[LatentBatch, bool]]:
        """This process's batches. All have as many, which ZeRO 3 needs; a repeated one does not count."""
        every = self.batches
        count = 1 if self.alone else processes.size()
        for start in range(0, len(every), count):
            place = start + (0 if self.alone else processes.rank())
            yield every[min(place, len(every) - 1)], place < len(every)

    def _losses(self, model: Denoiser, batch: LatentBatch) -> Tensor:
        """Mean over the times, per sample (B,)."""
        device = compute_device()
        latents = batch.latents.to(device)
        fps = torch.full_like(batch.fps, IMAGE_FPS) if latents.shape[2] == 1 else batch.fps
        conditions = Conditions(
            text=batch.text.to(device),
            text_mask=batch.text_mask.to(device),
            fps=fps.to(device),
            size=batch.size.to(device),
        )
        times = interior_times(self.config.times)
        shape = latents.shape[1:]
        noise = torch.stack(
            [fixed_noise(clip, self.config.seed, len(times), shape) for clip in batch.clip_ids]
        )
        losses = [
            losses_at(self.objective, model, latents, conditions, (noise[:, index], time))
            for index, time in enumerate(times)
        ]
        return torch.stack(losses).double().mean(dim=0).cpu()
