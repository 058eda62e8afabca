"""The networks of a recipe, stage by stage, on the meta device: what each stage trains, and on which latents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from components.adaptation.config import StepConfig
from components.adaptation.step import CHANGES
from components.autoencoder.config import CausalStageConfig, ImageStageConfig, TemporalStageConfig
from components.denoiser.beginning import configuration
from components.denoiser.config import PixArtConfig
from components.denoiser.system_config import VideoStageConfig, WaltStageConfig
from components.denoiser.training import NOTHING_BESIDE
from components.denoiser.walt import CHANNELS
from components.params import Params
from components.stage import Stage
from components.stages import stages_of
from models.autoencoders import build_autoencoder
from models.autoencoders.causal3d import CausalAutoencoder
from models.autoencoders.codec import VideoCodec
from models.autoencoders.config import CausalAutoencoderConfig, VideoAutoencoderConfig
from models.autoencoders.image import ImageAutoencoder
from models.autoencoders.presets import AUTOENCODERS
from models.shapes import LatentGeometry
from models.transformers.convert import image_config

Config = dict[str, Any]  # keys of `VideoTransformer`
PUBLISHED_VIDEO_CODEC = "opensora-vae-1.2"  # what `weights` of a temporal stage without a model are
# of T5 v1.1, by the folder's name
TEXT_WIDTHS = {"xxl": 4096, "xl": 2048, "large": 1024, "base": 768, "small": 512}


@dataclass(frozen=True)
class Networks:
    """What the stages of a parameter set build. Artifacts are named by path, as in the stage table."""

    params: Params
    root: Path

    @cached_property
    def stages(self) -> Mapping[str, Stage]:
        return stages_of(self.params)

    @cached_property
    def makers(self) -> Mapping[str, Stage]:
        """The stage that makes each artifact."""
        return {path: stage for stage in self.stages.values() for path in stage.outputs.values()}

    def config(self, stage: Stage) -> Any:
        return self.params.section(stage.section)

    @cached_property
    def text(self) -> tuple[int, int]:
        """Width and number of the text tokens.

        The width is what the encoder's folder says, or where it is not there yet that of the T5 it is named after.
        """
        settings = self.params.text_encoder
        if settings.weights is None:
            return settings.tiny.width, settings.max_tokens
        path = self.root / settings.weights / "config.json"
        if path.is_file():
            return int(json.loads(path.read_text())["d_model"]), settings.max_tokens
        parts = Path(settings.weights).name.lower().replace("_", "-").split("-")
        width = next((TEXT_WIDTHS[part] for part in parts if part in TEXT_WIDTHS), TEXT_WIDTHS["xxl"])
        return width, settings.max_tokens

    def codec(self, path: str) -> VideoCodec:
        """The autoencoder at a path, on the meta device."""
        stage = self.makers[path]
        config = self.config(stage)
        with torch.device("meta"):
            if isinstance(config, TemporalStageConfig):
                return self._temporal(config, stage)
            assert isinstance(config, ImageStageConfig | CausalStageConfig)
            return build_autoencoder(config.model)

    def _temporal(self, config: TemporalStageConfig, stage: Stage) -> VideoCodec:
        before = stage.inputs["autoencoder"]
        if isinstance(config.model, CausalAutoencoderConfig):
            return CausalAutoencoder(config.model)
        if config.model is not None:
            image = self.config(self.makers[before]).model
            return build_autoencoder(VideoAutoencoderConfig(image=image, temporal=config.model))
        codec = self.codec(before)
        if isinstance(codec, ImageAutoencoder):
            return AUTOENCODERS[PUBLISHED_VIDEO_CODEC].build()
        return codec

    def encoder_of(self, stage: Stage) -> Stage:
        """The encode stage whose latents a stage trains on."""
        return self.makers[stage.inputs["latents"]]

    def geometry(self, stage: Stage) -> LatentGeometry:
        """Of the latents that a stage trains on."""
        path = self.encoder_of(stage).inputs["autoencoder"]
        if path not in self._geometries:
            self._geometries[path] = self.codec(path).geometry
        return self._geometries[path]

    @cached_property
    def _geometries(self) -> dict[str, LatentGeometry]:
        """By autoencoder: a stage asks for that of every stage before it, and building one takes long."""
        return {}

    def transformer(self, stage: Stage) -> Config:
        """Keys of the `VideoTransformer` that a stage trains."""
        config, channels = self.config(stage), self.geometry(stage).channels
        if isinstance(config, PixArtConfig):
            return self._image_model(config, self.geometry(stage))
        if isinstance(config, VideoStageConfig) and "initial" not in stage.inputs:
            beside = CHANNELS if isinstance(config, WaltStageConfig) else NOTHING_BESIDE
            return dict(configuration(config, channels=channels, caption=self.text, beside=beside))
        before = self.transformer(self.makers[stage.inputs["initial"]])
        if isinstance(config, VideoStageConfig):
            return {**before, **config.changes}
        if isinstance(config, StepConfig):
            return {**before, **CHANGES[config.change](config, channels)}
        return before

    def _image_model(self, config: PixArtConfig, geometry: LatentGeometry) -> Config:
        """PixArt in our class, which has the same layers: sizes as the stage `pixart` sets them."""
        model = config.model
        width, tokens = self.text
        pixart = {
            "sample_size": 64,  # where positions count from: no size depends on it
            "in_channels": geometry.channels,
            "out_channels": 2 * geometry.channels,
            "patch_size": model.patch,
            "num_layers": model.depth,
            "num_attention_heads": model.heads,
            "attention_head_dim": model.head_width,
            "caption_channels": width,
        }
        return image_config(pixart, spatial_stride=geometry.spatial_stride, max_text_tokens=tokens)
