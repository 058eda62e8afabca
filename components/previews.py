"""Pictures and videos while a denoiser trains, made with the averaged weights: what a person looks at first.

They lie in `previews/STAGE` of the workspace and go to MLflow. Prompts and seeds stay the same, so that steps compare.
A super-resolution stage shows held-out clips instead, made from their own low-resolution latents.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components import tracking
from components.artifacts import StagePaths
from components.data.config import BatchesConfig
from components.data.latents import LatentManifest, LatentStore
from components.data.loader import LatentBatch, first_of_each, requested
from components.denoiser.programs import Fed, conditions_of
from components.denoiser.v_prediction import Upsampling
from components.errors import ContractError, UserError
from components.params import Params
from components.runtime import compute_device, is_main_process, resolve_precision
from components.stages import STAGES
from components.training.config import LoopConfig, PreviewConfig
from components.training.program import Check, Found
from models.autoencoders import load_autoencoder
from models.diffusion.blockwise_flow import BlockwiseFlow
from models.diffusion.guidance import GUIDANCE_RESCALE, Guided
from models.diffusion.objective import Objective, Sampler
from models.diffusion.v_prediction import VPrediction
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline, to_pixels
from models.generation.rollout import CausalFlow
from models.generation.video_file import WATCHABLE_SIDE, to_mp4
from models.text import TextEncoder
from models.transformers.video_transformer import VideoTransformer

log = logging.getLogger(__name__)
FOLDER = "previews"


@dataclass(frozen=True)
class Previewed:
    """What previews are made of: a model, its objective, and the low-resolution latents that it starts from."""

    model: VideoTransformer
    objective: Objective
    upsampling: Upsampling | None = None

    @property
    def sampler(self) -> Sampler:
        """The objective, with the way that a block-causal one makes videos."""
        objective = self.objective
        if isinstance(objective, BlockwiseFlow):
            return CausalFlow(times=objective.times, blocks=objective.blocks)
        return cast(Sampler, objective)


def preview_checks(
    config: LoopConfig, buckets: BatchesConfig, paths: StagePaths, previewed: Previewed
) -> list[Check]:
    """The previews of a stage, if it asks for some.

    Raises `ContractError` where the autoencoder that is at hand did not make the latents, `UserError` for a size that
    the model cannot make.
    """
    if not config.preview.steps:
        return []
    pipeline = _pipeline(config, buckets, paths, previewed)
    folder = paths.root / FOLDER / paths.checkpoints.name
    if previewed.upsampling is None:
        try:
            pipeline.check(config.preview.prompts, pipeline.defaults)
        except ValueError as error:
            raise UserError(f"preview: {error}") from None
        return [Previews(pipeline, config.preview, folder)]
    batch = _held_out(config, buckets, paths, pipeline.defaults)
    if batch is None:
        log.warning("no previews: %s has no held-out clips in these buckets", paths.input("latents"))
        return []
    return [UpsampledPreviews(pipeline, config.preview, folder, batch, previewed.upsampling)]


def _pipeline(
    config: LoopConfig, buckets: BatchesConfig, paths: StagePaths, previewed: Previewed
) -> TextToVideoPipeline:
    manifest = LatentManifest.read(paths.input("latents"))
    codec_folder, named = _autoencoder(paths)
    if not codec_folder.is_dir():
        raise UserError(f"preview.steps needs the autoencoder {codec_folder} ({named}); it is missing")
    codec = load_autoencoder(codec_folder)
    if codec.contract() != manifest.contract:
        raise ContractError(
            f"{codec_folder} ({named}) did not make {paths.input('latents')}; name the one that did, or"
            " set preview.steps to 0"
        )
    pipeline = TextToVideoPipeline(
        transformer=previewed.model,
        codec=codec.to(compute_device()),
        text_encoder=TextEncoder.from_pretrained(paths.input("text"), device=compute_device()),
        times=previewed.sampler,
        defaults=_settings(config.preview, buckets, manifest, previewed.sampler),
    )
    pipeline.dtype = torch.bfloat16 if resolve_precision(config.precision) == "bf16" else torch.float32
    return pipeline


def _autoencoder(paths: StagePaths) -> tuple[Path, str]:
    """The folder of the autoencoder that the latents are of, and what names it."""
    for stage in STAGES.values():
        made = stage.outputs.get("latents")
        if made and paths.root / made == paths.input("latents"):
            return paths.root / stage.inputs["autoencoder"], f"of {stage.name}"
    return paths.root / Params.load(paths.root / "params.yaml").candidate.autoencoder, "candidate.autoencoder"


class Previews:
    """All processes make them together, since parameters may be shared among them; one writes."""

    scores = False

    def __init__(self, pipeline: TextToVideoPipeline, config: PreviewConfig, folder: Path) -> None:
        self.pipeline, self.config, self.folder = pipeline, config, folder

    @property
    def every(self) -> int:
        return self.config.steps

    def look(self, _module: nn.Module, step: int) -> Found:
        """Writes one file for each prompt."""
        self.write(self.pipeline(self.config.prompts), step)
        return Found()

    def write(self, videos: NDArray[np.uint8], step: int) -> None:
        """One file for each of (B, T, H, W, 3), by the main process."""
        if is_main_process():
            log_previews(self.folder, videos, step, self.fps)

    @property
    def fps(self) -> float:
        return self.pipeline.defaults.fps


class UpsampledPreviews(Previews):
    """Held-out clips at twice the size of their low-resolution latents, as many as there are prompts."""

    def __init__(
        self,
        pipeline: TextToVideoPipeline,
        config: PreviewConfig,
        folder: Path,
        batch: LatentBatch,
        upsampling: Upsampling,
    ) -> None:
        super().__init__(pipeline, config, folder)
        self.batch, self.upsampling = batch, upsampling

    @torch.inference_mode()
    def look(self, _module: nn.Module, step: int) -> Found:
        """Writes one file for each clip."""
        pipeline, device = self.pipeline, self.pipeline.device
        settings, count = pipeline.defaults, len(self.batch.clip_ids)
        is_image = settings.num_frames == 1
        told = conditions_of(self.batch, self.batch.text, is_image=is_image).to(device)
        fed = Fed(self.batch, self.batch.latents.to(device), told, "images" if is_image else "videos")
        shown = self.upsampling.at_half(self.upsampling.told(fed), settings.seed).conditions
        null = replace(shown, text=pipeline.transformer.null_text(shown.text))
        guided = Guided(pipeline.transformer, shown, null, settings.guidance_scale, settings.guidance_rescale)
        with torch.autocast(device.type, pipeline.dtype, enabled=pipeline.dtype != torch.float32):
            latents = pipeline.objective.sample(guided, pipeline.noise(count, settings), settings.steps)
            self.write(to_pixels(pipeline.codec.decode(latents, settings.num_frames)), step)
        return Found()


def log_frames(folder: Path, frames: Tensor, step: int, fps: float) -> None:
    """`log_previews` of clips (B, 3, T, H, W) in [-1, 1]."""
    log_previews(folder, to_pixels(frames), step, fps)


def log_previews(folder: Path, videos: NDArray[np.uint8], step: int, fps: float) -> None:
    """Write one file for each of (B, T, H, W, 3), and hand it to MLflow."""
    for number, video in enumerate(videos):
        tracking.log_artifact(write_preview(folder / f"step-{step:06d}-{number:02d}", video, fps))
    log.info("%d previews of step %d are in %s", len(videos), step, folder)


def write_preview(stem: Path, frames: NDArray[np.uint8], fps: float) -> Path:
    """Write (T, H, W, 3) as a picture if it is one frame, else as a video."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    if len(frames) == 1:
        from PIL import Image

        path = stem.with_suffix(".png")
        Image.fromarray(frames[0]).save(path)
        return path
    path = stem.with_suffix(".mp4")
    path.write_bytes(to_mp4(frames, fps, least_side=WATCHABLE_SIDE))
    return path


def _held_out(
    config: LoopConfig, buckets: BatchesConfig, paths: StagePaths, settings: Settings
) -> LatentBatch | None:
    """Clips of the size of the settings."""
    store = LatentStore(paths.input("latents"), root=paths.root, captions=buckets.captions)
    count = len(config.preview.prompts)
    key = (settings.num_frames, settings.height, settings.width)
    for batch in first_of_each(store, buckets, split="validation", count=count):
        frames = next(f.frames for f in store.manifest.families if f.key == batch.bucket)
        if (frames, *batch.size[0].int().tolist()) == key:
            return batch
    return None


def _settings(
    config: PreviewConfig, buckets: BatchesConfig, manifest: LatentManifest, sampler: Sampler
) -> Settings:
    """Of the size that is asked for, or of the stage's largest bucket."""
    largest = max(
        (family for family, _ in requested(manifest, buckets)),
        key=lambda family: (family.height * family.width, family.frames),
    )
    sizes: dict[str, Any] = {
        "height": config.height or largest.height,
        "width": config.width or largest.width,
        "num_frames": config.frames or largest.frames,
    }
    return Settings(
        **sizes,
        fps=manifest.fps,
        steps=config.sampling_steps,
        guidance_scale=config.guidance,
        guidance_rescale=GUIDANCE_RESCALE if isinstance(sampler, VPrediction) else 0.0,
        seed=config.seed,
    )
