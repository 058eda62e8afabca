"""The loss on held-out clips while a denoiser trains: fixed clips, noise and times for every bucket.

The training loss says little of a diffusion model, as its noise levels vary more than the model does.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from components.artifacts import StagePaths
from components.data.config import BatchesConfig
from components.data.latents import LatentStore
from components.data.loader import LatentBatch, first_of_each
from components.denoiser.config import DenoiserConfig
from components.runtime import compute_device
from components.training import processes
from components.training.config import ValidationConfig
from components.training.program import VALIDATION_LOSS, Check, Found
from models.diffusion import IMAGE_FPS, Conditions, Denoiser
from models.diffusion.fixed_draws import Objective, fixed_noise, interior_times, losses_at

log = logging.getLogger(__name__)


def held_out_checks(config: DenoiserConfig, paths: StagePaths, objective: Objective) -> list[Check]:
    """The validation loss of a stage, if it asks for one and there are held-out clips."""
    if not config.validation.steps:
        return []
    check = held_out_loss(config, paths, objective)
    return [check] if check else []


def held_out_loss(config: DenoiserConfig, paths: StagePaths, objective: Objective) -> "HeldOutLoss | None":
    """As `validation` says; None where there are no held-out clips."""
    store = LatentStore(paths.input("latents"), root=paths.root)
    check = HeldOutLoss(store, config.batches, objective, config.validation, config.sequence_parallel > 1)
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

    def look(self, module: nn.Module, _step: int) -> Found:
        """The loss per bucket and over all samples; of a clip with several windows, their mean for `clips`."""
        mine: list[tuple[str, str, float]] = []
        for batch, counts in self._shared():
            losses = self._losses(cast(Denoiser, module), batch).tolist()
            if counts:
                mine += [(batch.bucket, *each) for each in zip(batch.clip_ids, losses, strict=True)]
        every = mine if self.alone else [one for part in processes.from_all(mine) for one in part]
        buckets: dict[str, list[float]] = defaultdict(list)
        clips: dict[str, list[float]] = defaultdict(list)
        for bucket, clip, loss in every:
            buckets[bucket].append(loss)
            clips[f"{bucket}/{clip}"].append(loss)
        whole = _mean([loss for _, _, loss in every])
        means = {f"{VALIDATION_LOSS}_{name}": _mean(buckets[name]) for name in sorted(buckets)}
        own = {name: _mean(clips[name]) for name in sorted(clips)}
        return Found({VALIDATION_LOSS: whole, **means}, whole, own)

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


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
