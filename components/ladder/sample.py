"""A small sample of videos while a model trains, read by the offline extractor: a loss says little of how they look.

The videos have the shape of a bucket, the captions of its held-out clips, and noise of their own seeds, the same in
every look. They are measured against what the autoencoder makes of the held-out latents, so that a distance speaks of
the transformer alone. The numbers are of few videos: they order looks of one run and equal identities, no more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from components.data.latents import Family, LatentStore
from components.data.loader import LatentBatch, read_batch
from components.denoiser.programs import conditions_of
from components.evaluation.classifier import Extractor
from components.evaluation.frechet import frechet_distance, kernel_distance
from components.evaluation.motion import motion_energy, temporal_flickering
from components.ladder.config import LadderConfig
from components.ladder.record import FLICKERING, MOTION_ENERGY, TOY_FVD, TOY_KVD
from components.runtime import compute_device
from components.training import processes
from models.autoencoders.codec import VideoCodec
from models.diffusion import Guided
from models.diffusion.objective import Sampler
from models.generation.pipeline import to_pixels
from models.transformers.video_transformer import VideoTransformer

DDOF = 1
FEWEST = 2  # clips: the least that has a covariance
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Maker:
    """How videos are made: the module that is trained, its objective, and the autoencoder of its latents."""

    model: VideoTransformer
    sampler: Sampler
    codec: VideoCodec
    guidance_rescale: float = 0.0
    bf16: bool = False


@dataclass
class SmallSample:
    """Videos of one family. `alone`: every process makes all of them, as where several share one clip."""

    store: LatentStore
    family: Family
    maker: Maker
    extractor: Extractor
    config: LadderConfig
    alone: bool = False

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Held-out rows by clip id, one for each clip."""
        every = self.store.rows(self.family)
        held_out = every.in_split("validation")
        _, first = np.unique(every.keys[held_out], return_index=True)
        return held_out[first]

    @property
    def count(self) -> int:
        """Videos of a look."""
        return min(self.config.clips, len(self.rows))

    def facts(self) -> dict[str, Any]:
        """What decides the numbers besides the model."""
        every, family, config = self.store.rows(self.family), self.family, self.config
        return {
            "bucket": family.key,
            "shape": [family.frames, family.height, family.width],
            "fps": self.store.manifest.fps,
            "frames": self.extractor.model.config.frames,
            "prompts": every.clip_ids(self.rows[: self.count]),
            "reference": every.clip_ids(self.rows[: config.reference_clips]),
            "autoencoder": self.store.manifest.contract,
            "text": self.store.manifest.text.digest,
            "extractor_sha256": self.extractor.sha256,
            "sampling": [config.sampling_steps, config.guidance, self.maker.guidance_rescale, config.seed],
            "precision": "bf16" if self.maker.bf16 else "fp32",
            "ddof": DDOF,
        }

    def measure(self) -> dict[str, float]:
        """The metrics of the present weights, the same on all processes."""
        features, energies, stillness = self._everyones()
        return {
            TOY_FVD: frechet_distance(self._reference, features, ddof=DDOF),
            TOY_KVD: kernel_distance(self._reference, features),
            MOTION_ENERGY: float(np.mean(energies)),
            FLICKERING: float(np.mean(stillness)),
        }

    def _everyones(self) -> tuple[NDArray[np.float32], list[float], list[float]]:
        """Features (N, D), motion energy and stillness of the videos, of all processes in the order of the captions."""
        mine: list[tuple[int, NDArray[np.float32], float, float]] = []
        for start, counts in self._shared():
            made = self._make(start)
            if counts:
                features = self.extractor.read(made).features
                moves = [(motion_energy(clip), temporal_flickering(clip)) for clip in made]
                mine += [(start + i, features[i], *moves[i]) for i in range(len(made))]
        parts = [mine] if self.alone else processes.from_all(mine)
        every = sorted((one for part in parts for one in part), key=lambda one: one[0])
        return np.stack([one[1] for one in every]), [one[2] for one in every], [one[3] for one in every]

    def _shared(self) -> Iterator[tuple[int, bool]]:
        """First clip of this process's batches. All have as many, which ZeRO 3 needs; a repeated one does not count."""
        starts = range(0, self.count, self.config.batch)
        size = 1 if self.alone else processes.size()
        for first in range(0, len(starts), size):
            place = first + (0 if self.alone else processes.rank())
            yield starts[min(place, len(starts) - 1)], place < len(starts)

    def _make(self, start: int) -> Frames:
        """uint8 (B, T, H, W, 3) of the batch whose first clip is `start`."""
        device, maker = compute_device(), self.maker
        batch = self._batch(start, self.count)
        shape = batch.latents.shape[1:]
        seeds = range(self.config.seed + start, self.config.seed + start + len(batch.latents))
        noise = torch.stack([torch.randn(shape, generator=Generator().manual_seed(seed)) for seed in seeds])
        told = conditions_of(batch, batch.text, is_image=False).to(device)
        null = replace(told, text=maker.model.null_text(told.text))
        guided = Guided(maker.model, told, null, self.config.guidance, maker.guidance_rescale)
        with self._precision():
            latents = maker.sampler.sample(guided, noise.to(device), self.config.sampling_steps)
        return self._decode(latents)

    def _precision(self) -> torch.autocast:
        return torch.autocast(compute_device().type, torch.bfloat16, enabled=self.maker.bf16)

    def _batch(self, start: int, end: int) -> LatentBatch:
        return read_batch(self.store, self.family, self.rows[start : min(start + self.config.batch, end)])

    def _decode(self, latents: Tensor) -> Frames:
        """As many frames of each clip as the extractor reads."""
        with self._precision():
            pixels = to_pixels(self.maker.codec.decode(latents, self.family.frames))
        return pixels[:, : self.extractor.model.config.frames]

    @cached_property
    def _reference(self) -> NDArray[np.float32]:
        """Features of the held-out clips as the autoencoder gives them back; one process makes them."""
        nothing = np.zeros((0, 0), dtype=np.float32)
        return processes.from_main(self._read_reference() if processes.rank() == 0 else nothing)

    def _read_reference(self) -> NDArray[np.float32]:
        end = min(self.config.reference_clips, len(self.rows))
        parts = []
        for start in range(0, end, self.config.batch):
            latents = self._batch(start, end).latents.to(compute_device())
            parts.append(self.extractor.read(self._decode(latents)).features)
        return np.concatenate(parts)


def sampled_family(store: LatentStore, wanted: Iterable[Family], frames: int, clips: int) -> Family | None:
    """The cheapest bucket whose clips are long enough, of those with most held-out clips; None where none has two."""
    held_out = {}
    for family in wanted:
        rows = store.rows(family)
        found = len(np.unique(rows.keys[rows.in_split("validation")]))
        if family.frames >= frames and found >= FEWEST:
            held_out[family.name] = (-min(found, clips), family.frames * family.height * family.width, family)
    return min(held_out.values(), key=lambda one: one[:2])[2] if held_out else None
