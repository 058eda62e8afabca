"""Stages of the systems beside Open-Sora: W.A.L.T, the HD-VILA shifted-window model, the causal 5B model.

Each has its own autoencoder, latents and transformers, all from the clips and the text encoder that every system
shares; what they end in is packaged, evaluated and gated by the stages that every system shares too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from components.stage import EXTRACTOR, TEXT, VIDEOS, Stage, clips_of, curve_of


@dataclass(frozen=True)
class System:
    """Where a system keeps what it makes, and the rows of its stages."""

    name: str
    autoencoder_module: str

    @property
    def file(self) -> str:
        return f"pipelines/{self.name}/dvc.yaml"

    @property
    def folder(self) -> str:
        return f"artifacts/{self.name}"

    def autoencoder(self) -> Stage:
        """From the pixels of the validated clips."""
        name = f"{self.name}_autoencoder"
        inputs = {**clips_of("dedup"), **VIDEOS, "validation": "artifacts/validate/result.json"}
        outputs = {"autoencoder": f"{self.folder}/autoencoder", **curve_of(name)}
        return self._stage(name, "autoencoder", self.autoencoder_module, "autoencoder", inputs, outputs)

    def encode(self, family: str) -> Stage:
        inputs = {**clips_of("dedup"), **VIDEOS, "autoencoder": f"{self.folder}/autoencoder", **TEXT}
        outputs = {
            "latents": f"{self.folder}/latents/{family}.json",
            "pictures": f"{self.folder}/latent_pictures/{family}",
        }
        name = f"{self.name}_encode@{family}"
        return self._stage(name, "autoencoder", "components.data.encode", f"encode.{family}", inputs, outputs)

    def train(self, name: str, module: str, latents: str, initial: str | None = None) -> Stage:
        """A transformer on the latents of a family, from nothing or from that of the stage `initial`."""
        stage = f"{self.name}@{name}"
        seen = {"autoencoder": f"{self.folder}/autoencoder", **EXTRACTOR}  # by the ladder
        inputs = {"latents": f"{self.folder}/latents/{latents}.json", **TEXT, **seen}
        if initial:
            inputs["initial"] = f"{self.folder}/{initial}"
        outputs = {"transformer": f"{self.folder}/{name}", **curve_of(stage)}
        return self._stage(stage, "training", module, name, inputs, outputs)

    def _stage(
        self,
        name: str,
        group: str,
        module: str,
        section: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
    ) -> Stage:
        return Stage(name, group, module, f"{self.name}.{section}", inputs, outputs, self.name, self.file)


HDVILA = System("hdvila", "components.autoencoder.image")
SHIFTED_WINDOWS = "components.denoiser.shifted_windows"

WALT = System("walt", "components.autoencoder.causal")
V_PREDICTION = "components.denoiser.walt"
WALT_CASCADE = Stage(
    "walt_cascade",
    "training",
    "components.denoiser.cascade",
    "walt.cascade",
    {
        "transformer": "artifacts/walt/wide",
        "super_resolution_1": "artifacts/walt/super_resolution_1",
        "super_resolution_2": "artifacts/walt/super_resolution_2",
        "autoencoder": "artifacts/walt/autoencoder",
        **TEXT,
    },
    {"pipeline": "artifacts/walt/cascade"},
    WALT.name,
    WALT.file,
)
CAUSAL = System("causal", "components.autoencoder.causal")
TEACHER_FORCING = "components.denoiser.causal"

SYSTEM_STAGES = (
    WALT.autoencoder(),
    WALT.encode("base"),
    WALT.encode("wide"),
    WALT.train("base", V_PREDICTION, "base"),
    WALT.train("wide", V_PREDICTION, "wide", "base"),
    WALT.train("super_resolution_1", V_PREDICTION, "wide"),
    WALT.train("super_resolution_2", V_PREDICTION, "wide"),
    WALT_CASCADE,
    CAUSAL.autoencoder(),
    CAUSAL.encode("videos"),
    CAUSAL.train("stage1", TEACHER_FORCING, "videos"),
    CAUSAL.train("stage2", TEACHER_FORCING, "videos", "stage1"),
    HDVILA.autoencoder(),
    HDVILA.encode("stage1"),
    HDVILA.encode("stage2"),
    HDVILA.train("stage1", SHIFTED_WINDOWS, "stage1"),
    HDVILA.train("stage2", SHIFTED_WINDOWS, "stage2", "stage1"),
)
