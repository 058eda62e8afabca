"""Pictures and videos while a denoiser trains, made with the averaged weights: what a person looks at first.

They lie in `previews/STAGE` of the workspace and go to MLflow. Prompts and seeds stay the same, so that steps compare.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components import tracking
from components.artifacts import StagePaths
from components.data.latents import LatentManifest
from components.denoiser.config import LatentStageConfig
from components.errors import ContractError, UserError
from components.params import Params
from components.runtime import compute_device, is_main_process, resolve_precision
from components.training.config import PreviewConfig
from components.training.program import Check, Found
from models.autoencoders import load_autoencoder
from models.diffusion.times import Times
from models.generation.layout import Settings
from models.generation.pipeline import TextToVideoPipeline
from models.generation.video_file import WATCHABLE_SIDE, to_mp4
from models.text import TextEncoder
from models.transformers.video_transformer import VideoTransformer

log = logging.getLogger(__name__)
FOLDER = "previews"


def preview_checks(
    config: LatentStageConfig, paths: StagePaths, model: VideoTransformer, times: Times
) -> list[Check]:
    """The previews of a stage, if it asks for some.

    Raises `ContractError` where the autoencoder of `candidate` did not make the latents, `UserError` for a size that
    the model cannot make.
    """
    if not config.preview.steps:
        return []
    codec_folder = paths.root / Params.load(paths.root / "params.yaml").candidate.autoencoder
    if not codec_folder.is_dir():
        raise UserError(
            f"preview.steps needs the autoencoder {codec_folder} (candidate.autoencoder); it is missing"
        )
    codec, manifest = load_autoencoder(codec_folder), LatentManifest.read(paths.input("latents"))
    if codec.contract() != manifest.contract:
        raise ContractError(
            f"{codec_folder} (candidate.autoencoder) did not make {paths.input('latents')}; name the one that did, or"
            " set preview.steps to 0"
        )
    pipeline = TextToVideoPipeline(
        transformer=model,
        codec=codec.to(compute_device()),
        text_encoder=TextEncoder.from_pretrained(paths.input("text"), device=compute_device()),
        times=times,
        defaults=_settings(config.preview, manifest),
    )
    pipeline.dtype = torch.bfloat16 if resolve_precision(config.precision) == "bf16" else torch.float32
    try:
        pipeline.check(config.preview.prompts, pipeline.defaults)
    except ValueError as error:
        raise UserError(f"preview: {error}") from None
    return [Previews(pipeline, config.preview, paths.root / FOLDER / paths.checkpoints.name)]


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
        videos = self.pipeline(self.config.prompts)
        if is_main_process():
            for number, video in enumerate(videos):
                tracking.log_artifact(
                    write_preview(self.folder / f"step-{step:06d}-{number:02d}", video, self.fps)
                )
            log.info("%d previews of step %d are in %s", len(videos), step, self.folder)
        return Found()

    @property
    def fps(self) -> float:
        return self.pipeline.defaults.fps


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


def _settings(config: PreviewConfig, manifest: LatentManifest) -> Settings:
    """Of the size that is asked for, or of the largest bucket."""
    largest = max(manifest.families, key=lambda family: (family.height * family.width, family.frames))
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
        seed=config.seed,
    )
