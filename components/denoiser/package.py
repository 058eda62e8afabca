"""Stage `package`: the trained parts become one folder that generates video.

Weights are linked, not copied. What the denoiser was trained on decides the defaults, and is checked
against the autoencoder and the text encoder before anything is put together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from components.artifacts import StagePaths, fresh_folder
from components.denoiser.facts import TrainingFacts
from components.errors import ContractError
from components.evaluation.config import SamplerConfig
from components.report import Report
from models.autoencoders import load_autoencoder
from models.diffusion.guidance import GUIDANCE_RESCALE
from models.diffusion.times import Times
from models.diffusion.v_prediction import VPrediction
from models.files import link_tree
from models.generation import layout
from models.generation.layout import Sampling, Settings
from models.generation.rollout import CausalFlow
from models.text import EncoderRecord, save_encoder
from models.transformers.causal import FrameBlocks
from models.transformers.video_transformer import VideoTransformer


def run(config: SamplerConfig, paths: StagePaths) -> Report:
    """Put transformer, autoencoder, text encoder and sampler settings into one pipeline folder.

    Raises `ContractError` if the transformer was trained with another autoencoder or text encoder.
    """
    transformer, autoencoder, text = (paths.input(name) for name in ("transformer", "autoencoder", "text"))
    parts = Parts(transformer, autoencoder, text)
    facts = parts.facts()
    settings = default_settings(facts, config)
    with fresh_folder(paths.output("pipeline")) as folder:
        parts.link(folder, sampling_of(facts, transformer), settings)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Report(
        "package",
        metrics={"bytes": size, "steps": settings.steps, "guidance": settings.guidance_scale},
        notes=[
            f"default: {settings.num_frames} frames of {settings.height}x{settings.width} at {settings.fps} fps"
        ],
    )


@dataclass(frozen=True)
class Parts:
    """The folders that a pipeline is made of."""

    transformer: Path
    autoencoder: Path
    text: Path

    def facts(self) -> TrainingFacts:
        """What the transformer was trained on. Raises `ContractError` where the parts do not belong together."""
        facts = TrainingFacts.read(self.transformer)
        if facts.objective not in SAMPLING:
            raise ContractError(
                f"{self.transformer} was trained with the {facts.objective} objective; package needs one of"
                f" {', '.join(SAMPLING)}"
            )
        codec = load_autoencoder(self.autoencoder).contract()
        facts.expect(codec=codec, text_digest=EncoderRecord.read(self.text).digest)
        return facts

    def link(self, folder: Path, sampling: Sampling, settings: Settings) -> None:
        """Put them into a pipeline folder without copying weights."""
        link_tree(self.transformer, folder / layout.TRANSFORMER)
        link_tree(self.autoencoder, folder / layout.CODEC)
        save_encoder(self.text, folder / layout.TEXT)
        layout.write_settings(folder, sampling, settings)


def sampling_of(facts: TrainingFacts, transformer: Path) -> Sampling:
    """How a model of these facts makes videos."""
    return SAMPLING[facts.objective](facts.times or {}, transformer)


def _flow(times: Mapping[str, Any], _transformer: Path) -> Times:
    """The times of training, whose transform sampling must share."""
    known = {field.name for field in fields(Times)}
    return Times(**{name: value for name, value in times.items() if name in known})


def _v_prediction(values: Mapping[str, Any], _transformer: Path) -> VPrediction:
    return layout.v_prediction_of(values)


def _causal(times: Mapping[str, Any], transformer: Path) -> CausalFlow:
    """Blocks are those of the model."""
    config = VideoTransformer.load_config(transformer)
    return CausalFlow(times=_flow(times, transformer), blocks=FrameBlocks(**config["frame_blocks"]))


SAMPLING: Mapping[str, Callable[[Mapping[str, Any], Path], Sampling]] = {
    "flow": _flow,
    "v_prediction": _v_prediction,
    "teacher_forcing": _causal,
}


def default_settings(facts: TrainingFacts, config: SamplerConfig) -> Settings:
    """Defaults of the pipeline: the longest clips it was trained on, at the largest of their sizes."""
    frames, height, width = max(facts.shapes, key=lambda shape: (shape[0], shape[1] * shape[2]))
    return Settings(
        height=height,
        width=width,
        num_frames=frames,
        fps=facts.fps,
        steps=config.steps,
        guidance_scale=config.guidance,
        guidance_rescale=GUIDANCE_RESCALE if facts.objective == "v_prediction" else 0.0,
    )
