"""What an autoencoder is worth on held-out clips while it trains: its loss without the adversary, and PSNR.

By length: clips of `data.frames` and single frames. Windows of clips and the noise of the posterior stay the same.
"""

import logging
from pathlib import Path

import torch
from torch import Generator, nn

from components.artifacts import StagePaths
from components.autoencoder.config import TrainedOrTaken
from components.autoencoder.measure import batch_psnr
from components.autoencoder.objectives import LatentObjective, Loss, PixelObjective
from components.data.frame_batches import FrameBatches
from components.runtime import is_main_process
from components.training.config import PreviewConfig, ValidationConfig
from components.training.looks import Averaged, Means, shared
from components.training.program import VALIDATION_LOSS, Check, Found

log = logging.getLogger(__name__)
VALIDATION_PSNR = "val/psnr"
SHOWN = 4  # clips of a preview


def held_out_checks(
    config: TrainedOrTaken,
    objective: PixelObjective | LatentObjective,
    batches: FrameBatches | None,
    paths: StagePaths,
) -> list[Check]:
    """The looks that a stage asks for. batches: held-out clips; None where there are none."""
    wanted = [config.validation.steps, config.preview.steps]
    if not any(wanted):
        return []
    if batches is None:
        log.warning("no validation and no previews: %s has no held-out clips", paths.input("clips"))
        return []
    folder = paths.root / "previews" / paths.checkpoints.name
    checks: list[Check] = [
        HeldOutReconstruction(objective, batches, config.validation),
        ReconstructionPreviews(objective, batches, config.preview, folder),
    ]
    return [check for check, steps in zip(checks, wanted, strict=True) if steps]


class HeldOutReconstruction:
    """Mean loss and PSNR per length and over both. Processes share the batches."""

    scores = True

    def __init__(
        self,
        objective: PixelObjective | LatentObjective,
        batches: FrameBatches,
        config: ValidationConfig,
    ) -> None:
        self.objective, self.batches, self.config = objective, batches, config

    @property
    def every(self) -> int:
        return self.config.steps

    def look(self, module: nn.Module, _step: int) -> Found:
        """`val/loss` and `val/psnr`, each over all and by frames, height and width."""
        losses, ratios = Means(), Means()
        codec, data = self.objective.codec, self.batches.data
        count = -(-min(len(self.batches.clips), self.config.samples) // data.batch)
        for length in sorted({1, data.frames}):
            name = f"{length}x{data.height}x{data.width}"
            for position, counts in shared(range(count)):
                frames = self.batches.batch(position, frames=length).to(codec.shift.device)
                generator = Generator().manual_seed(self.config.seed + position)
                loss: Loss = module(frames, generator, step=None)
                if counts:
                    losses.add(name, loss.total.detach().expand(len(frames)))
                    ratios.add(name, batch_psnr(codec, frames))
        found, psnr = losses.over_processes(), ratios.over_processes()
        return Found({**_named(VALIDATION_LOSS, found), **_named(VALIDATION_PSNR, psnr)}, found.whole)


class ReconstructionPreviews:
    """Held-out clips beside what the autoencoder makes of them. All processes make them, one writes."""

    scores = False

    def __init__(
        self,
        objective: PixelObjective | LatentObjective,
        batches: FrameBatches,
        config: PreviewConfig,
        folder: Path,
    ) -> None:
        self.objective, self.batches, self.config, self.folder = objective, batches, config, folder

    @property
    def every(self) -> int:
        return self.config.steps

    def look(self, _module: nn.Module, step: int) -> Found:
        """Writes one file for each clip: on the left the clip, on the right its reconstruction."""
        from components.previews import log_frames  # brings in all that generation needs

        codec = self.objective.codec
        frames = self.batches.batch(0)[:SHOWN].to(codec.shift.device)
        output = codec.decode(codec.encode(frames), frames.shape[2])
        shown = torch.cat([frames[..., : output.shape[-2], : output.shape[-1]], output], dim=-1)
        if is_main_process():
            log_frames(self.folder, shown, step, self.batches.data.fps)
        return Found()


def _named(kind: str, found: Averaged) -> dict[str, float]:
    return {kind: found.whole, **{f"{kind}_{name}": value for name, value in found.by_name.items()}}
