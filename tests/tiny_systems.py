"""Latents that a small model can learn in seconds, and the stages of the further systems on them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from components.artifacts import StagePaths, read_json
from components.data.latent_shards import Members, ShardRecord, sample_parts, write_latents, write_text
from components.data.latents import Family, LatentManifest, TextTable
from components.data.samples import write_samples
from components.denoiser import causal, shifted_windows, walt
from components.params import Params
from models.text import EncoderRecord, TextEncoder
from models.transformers.video_transformer import VideoTransformer
from tests.tiny_latents import contract
from tests.tiny_parts import CAPTIONS, tiny_text

ROOT = Path(__file__).parents[1]
CLIPS = 8
LOOP = {
    "precision": "fp32",
    "log_steps": 10,
    "checkpoint_steps": 1000,
    "ema": 0.0,
    "zero_stage": 0,
    "ladder": {"steps": 0},
}
Kind = tuple[str, tuple[int, int, int], tuple[int, int, int, int]]  # resolution, pixels, latent


def scenes(latent: tuple[int, int, int, int]) -> Tensor:
    """(CLIPS, C, t, h, w) of unit variance: a wave per caption, so that the caption says most of it.

    The same scene at every size: half the size is half the size of the same picture.
    """
    channels, frames, height, width = latent
    generator = torch.Generator().manual_seed(5)
    waves = torch.randn(len(CAPTIONS), channels, 3, 4, 4, generator=generator)
    own = 0.1 * torch.randn(CLIPS, channels, 3, 4, 4, generator=generator)
    coarse = waves[torch.arange(CLIPS) % len(CAPTIONS)] + own
    return functional.interpolate(coarse, (frames, height, width), mode="trilinear", align_corners=True)


def make_system_latents(
    root: Path, kinds: Sequence[Kind], contract: dict[str, Any], *, held_out: int = 0, name: str = "tiny"
) -> Path:
    """A manifest with one family per kind, and a text encoder for its captions; the last `held_out` clips are not
    trained on.
    """
    text_folder = tiny_text(root / "artifacts/text_encoder")
    text, mask = TextEncoder.from_pretrained(text_folder).encode(CAPTIONS)
    store, folder = root / "store", f"latents/{name}"
    shards = (write_text(store, f"{folder}/text.safetensors", text.half().numpy(), mask.numpy()),)
    table = TextTable(EncoderRecord.read(text_folder).digest, text.shape[2], text.shape[1], shards)
    made = [_family(store, folder, kind, held_out) for kind in kinds]
    families = tuple(family for family, _ in made)
    samples = write_samples(
        store, folder, lambda: sample_parts({family.name: [record] for family, record in made})
    )
    manifest = root / f"artifacts/latents/{name}.json"
    LatentManifest(contract, table, 8, families, {}, samples).write(manifest)
    return manifest


def _family(store: Path, folder: str, kind: Kind, held_out: int) -> tuple[Family, ShardRecord]:
    resolution, (frames, height, width), latent = kind
    key = f"{frames}x{height}x{width}"
    members = Members(
        clip_ids=[f"{clip:016x}" for clip in range(CLIPS)],
        splits=["train"] * (CLIPS - held_out) + ["validation"] * held_out,
        windows=[0] * CLIPS,
        variants=["plain"] * CLIPS,
        captions=[clip % len(CAPTIONS) for clip in range(CLIPS)],
    )
    latents = scenes(latent).half().numpy()
    record = write_latents(store, f"{folder}/{resolution}-{key}.safetensors", latents, members)
    return Family(key, resolution, "1:1", frames, height, width, latent, CLIPS, (record.shard,)), record


def small_stage(system: str, name: str, **changes: Any) -> Any:
    """The configuration of a stage in the system's small recipe, with changes for a test."""
    params = Params.load(ROOT / f"recipes/{system}_tiny.yaml")
    config = params.section(f"{system}.{name}")
    return type(config).model_validate({**config.model_dump(), **LOOP, **changes})


def stage_paths(root: Path, stage: str, latents: Path, initial: Path | None = None) -> StagePaths:
    """Paths of a denoiser stage in this workspace."""
    inputs = {"latents": latents, "text": root / "artifacts/text_encoder"}
    return StagePaths(
        root=root,
        inputs={**inputs, "initial": initial} if initial else inputs,
        outputs={
            "transformer": root / "artifacts" / stage.replace("@", "/"),
            "curve": root / f"curves/{stage}.csv",
        },
        checkpoints=root / "checkpoints" / stage,
    )


def losses(paths: StagePaths) -> list[float]:
    """The loss column of a stage's curve."""
    lines = paths.output("curve").read_text().splitlines()[1:]
    return [float(line.split(",")[1]) for line in lines]


CHANNELS = 8
KINDS = [
    ("16px", (1, 16, 16), (CHANNELS, 1, 4, 4)),
    ("16px", (9, 16, 16), (CHANNELS, 5, 4, 4)),
    ("20px", (1, 16, 24), (CHANNELS, 1, 4, 6)),
    ("20px", (9, 16, 24), (CHANNELS, 5, 4, 6)),
    ("32px", (9, 32, 32), (CHANNELS, 5, 8, 8)),
    ("39px", (1, 32, 48), (CHANNELS, 1, 8, 12)),
    ("39px", (9, 32, 48), (CHANNELS, 5, 8, 12)),
    ("78px", (1, 64, 96), (CHANNELS, 1, 16, 24)),
    ("78px", (9, 64, 96), (CHANNELS, 5, 16, 24)),
]
STEPS, LEARNING_RATE = 40, 4e-3
STAGES = {
    "hdvila@stage1": shifted_windows,
    "hdvila@stage2": shifted_windows,
    "walt@base": walt,
    "walt@wide": walt,
    "walt@super_resolution_1": walt,
    "walt@super_resolution_2": walt,
    "causal@stage1": causal,
    "causal@stage2": causal,
}


class Workspace:
    """Latents at several sizes, and a text encoder. `seen`: further inputs of its stages, by name."""

    def __init__(
        self,
        root: Path,
        made_by: dict[str, Any] | None = None,
        *,
        held_out: int = 0,
        seen: Mapping[str, Path] | None = None,
    ) -> None:
        self.root, self.seen = root, dict(seen or {})
        self.latents = make_system_latents(root, KINDS, made_by or contract(CHANNELS), held_out=held_out)

    def run(
        self, stage: str, buckets: dict[str, Any], initial: StagePaths | None = None, **changes: Any
    ) -> StagePaths:
        """Train a stage of the small recipe, shortened, on these buckets."""
        system, name = stage.split("@")
        start = initial.output("transformer") if initial else None
        paths = stage_paths(self.root, stage, self.latents, start)
        paths = replace(paths, inputs={**paths.inputs, **self.seen})
        batches = {"buckets": buckets, "seed": 1, "small_bucket": "repeat"}
        optimizer = {"lr": LEARNING_RATE, "warmup_steps": 5}
        config = small_stage(
            system, name, batches=batches, **{"steps": STEPS, "optimizer": optimizer, **changes}
        )
        STAGES[stage].run(config, paths)
        return paths


def fell(paths: StagePaths) -> float:
    """The mean loss of the first ten steps over that of the last ten."""
    rows = losses(paths)
    return rows[0] / rows[-1]


def assert_taken_over(paths: StagePaths) -> None:
    """Every tensor was loaded and nothing was left out."""
    folder = paths.output("transformer")
    coverage = read_json(folder / "coverage.json")
    assert set(coverage["loaded"]) == set(VideoTransformer.from_pretrained(folder).state_dict())
    assert not coverage["dropped"]
