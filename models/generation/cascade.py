"""A cascade: a base pipeline, and models that double the resolution of its latents one after the other (W.A.L.T).

Only the last latents are decoded. A super-resolution model is given the latents before it with a little noise, and the
time of that noise, which says how far it may depart from them (`NoiseAugmentation`).
B samples, C channels, t h w latents.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from models.diffusion.augmentation import NoiseAugmentation
from models.diffusion.conditions import Progress
from models.diffusion.guidance import Guided
from models.diffusion.rectified_flow import Draw
from models.diffusion.v_prediction import VPrediction
from models.generation import layout
from models.generation.given import from_pixels
from models.generation.layout import Changes, Settings
from models.generation.pipeline import TextToVideoPipeline, part_of, to_pixels
from models.transformers.video_transformer import VideoTransformer

CLASS = "Cascade"
BASE, STAGE, STAGE_FILE = "base", "super_resolution_{}", "super_resolution.json"
STAGE_SEED = 7_000_003  # between the seeds of two models; far beyond the number of samples in a call


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """How a super-resolution model is used. `noise_time` 0..999 is that of the noise on what it is given."""

    noise_time: int
    steps: int
    guidance_scale: float
    guidance_rescale: float = 0.0


@dataclass(frozen=True)
class SuperResolution:
    """One model that doubles height and width."""

    transformer: VideoTransformer
    diffusion: VPrediction
    refinement: Refinement


class Cascade:
    """Text to video by several models. Called like the pipeline that it begins with; sizes are those of that one."""

    def __init__(self, base: TextToVideoPipeline, stages: Sequence[SuperResolution]) -> None:
        """Raises `ValueError` where a model does not take the latents of the base."""
        self.base = base
        self.stages = tuple(stages)
        channels = base.codec.geometry.channels
        for number, stage in enumerate(stages, start=1):
            config = stage.transformer.eval().config
            if config.low_resolution_channels != channels:
                raise ValueError(
                    f"super-resolution model {number} reads {config.low_resolution_channels} channels of the model"
                    f" before it, which has {channels}; train it on the latents of the same autoencoder"
                )

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "Cascade":
        """The cascade in a folder. Raises `ValueError` where it is not whole."""
        folder = Path(folder)
        base = TextToVideoPipeline.from_pretrained(folder / BASE, device=device, dtype=dtype)
        stages: list[SuperResolution] = []
        while (part := folder / STAGE.format(len(stages) + 1)).is_dir():
            values = json.loads((part / STAGE_FILE).read_text())
            transformer = VideoTransformer.from_pretrained(part / layout.TRANSFORMER)
            diffusion = layout.v_prediction_of(values["diffusion"])
            torch.nn.Module.to(transformer, device)
            stages.append(SuperResolution(transformer, diffusion, Refinement(**values["refinement"])))
        return cls(base, stages)

    @property
    def defaults(self) -> Settings:
        """Those of the base."""
        return self.base.defaults

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the videos in pixels, at the defaults."""
        scale = 2 ** len(self.stages)
        return self.defaults.height * scale, self.defaults.width * scale

    def check(self, prompts: Sequence[str], settings: Settings) -> None:
        """Raises `ValueError` naming what cannot be generated."""
        self.base.check(prompts, settings)

    @torch.inference_mode()
    def __call__(
        self,
        prompts: Sequence[str],
        *,
        given: NDArray[np.uint8] | None = None,
        batch: int = 8,
        progress: Progress | None = None,
        **changes: Unpack[Changes],
    ) -> NDArray[np.uint8]:
        """Videos (B, T, H, W, 3), one per prompt; for `given` and `batch` see `TextToVideoPipeline`."""
        settings = replace(self.defaults, **changes)
        self.check(prompts, settings)
        frames = from_pixels(given, len(prompts), settings, self.base.codec.geometry)
        starts = range(0, len(prompts), batch)
        videos = []
        for index, start in enumerate(starts):
            here = replace(settings, seed=settings.seed + start)
            known = None if frames is None else frames[start : start + batch]
            precision = self.base.dtype
            with torch.autocast(self.base.device.type, precision, enabled=precision != torch.float32):
                report = part_of(progress, index, len(starts))
                videos.append(self._generate(prompts[start : start + batch], here, known, report))
        return np.concatenate(videos)

    def _generate(
        self, prompts: Sequence[str], settings: Settings, given: Tensor | None, progress: Progress | None
    ) -> NDArray[np.uint8]:
        parts = len(self.stages) + 1
        latents = self.base.sample(prompts, settings, given, part_of(progress, 0, parts))
        for number, stage in enumerate(self.stages, start=1):
            settings = replace(
                settings,
                height=2 * settings.height,
                width=2 * settings.width,
                seed=settings.seed + STAGE_SEED,
            )
            latents = self.refine(stage, latents, prompts, settings, part_of(progress, number, parts))
        return to_pixels(self.base.codec.decode(latents, settings.num_frames))

    def refine(
        self,
        stage: SuperResolution,
        latents: Tensor,
        prompts: Sequence[str],
        settings: Settings,
        progress: Progress | None = None,
    ) -> Tensor:
        """Latents (B, C, t, h, w) of the model before -> (B, C, t, 2h, 2w), at the size of `settings`."""
        chosen, base = stage.refinement, self.base
        told, null = base.conditions(prompts, settings)
        if not settings.negative_prompt:
            null = replace(null, text=stage.transformer.null_text(told.text))
        augmentation = NoiseAugmentation(max_time=chosen.noise_time, schedule=stage.diffusion.schedule)
        seeds = (settings.seed + STAGE_SEED // 2 + index for index in range(len(prompts)))
        rows = [torch.randn(latents.shape[1:], generator=Generator().manual_seed(seed)) for seed in seeds]
        times = torch.full((len(prompts),), chosen.noise_time, device=latents.device)
        draw = Draw(torch.stack(rows).to(latents), times)
        guided = Guided(
            stage.transformer,
            augmentation.applied(told, latents, draw),
            augmentation.applied(null, latents, draw),
            chosen.guidance_scale,
            chosen.guidance_rescale,
        )
        noise = base.noise(len(prompts), settings)
        return stage.diffusion.sample(guided, noise, chosen.steps, progress=progress)


def write_cascade(folder: Path, stages: Sequence[tuple[VPrediction, Refinement]]) -> None:
    """Index and settings of a cascade whose base and transformers are put in `folder` by the caller."""
    for number, (diffusion, refinement) in enumerate(stages, start=1):
        part = folder / STAGE.format(number)
        part.mkdir(parents=True, exist_ok=True)
        values = {"diffusion": asdict(diffusion), "refinement": asdict(refinement)}
        (part / STAGE_FILE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    index = {"_class_name": CLASS, BASE: ["models.generation.pipeline", layout.PIPELINE_CLASS]}
    (folder / layout.INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
