"""A workspace with small latents in the format of the encode stage, for stages that train a denoiser on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from components.artifacts import StagePaths
from components.data.latent_shards import Members, ShardRecord, sample_parts, write_latents, write_text
from components.data.latents import Family, LatentManifest, TextTable
from components.data.samples import write_samples
from models.text import EncoderRecord, TextEncoder
from tests.tiny_parts import CAPTIONS, tiny_text

Shape = tuple[int, int, int]  # frames, height, width in pixels
STRIDE, TIME_STRIDE = 4, 2
CLIPS = 6


def contract(channels: int = 4, weights: str = "a") -> dict[str, Any]:
    """What an autoencoder with `channels` latent channels would say of itself."""
    return {
        "weights_sha256": weights * 64,
        "channels": channels,
        "spatial_stride": STRIDE,
        "temporal_stride": TIME_STRIDE,
        "chunk_frames": None,
        "shift": [0.0] * channels,
        "scale": [1.0] * channels,
    }


def make_text(root: Path, seed: int = 1) -> Path:
    """The folder of a tiny text encoder."""
    return tiny_text(root / "artifacts/text_encoder", seed=seed)


def make_latents(
    root: Path,
    name: str,
    shapes: Sequence[Shape],
    *,
    channels: int = 4,
    weights: str = "a",
    poisoned: int | None = None,
    held_out: int = 0,
    codec: dict[str, Any] | None = None,
) -> Path:
    """The manifest of `name`, with `CLIPS` random latents per shape; clip k has caption k modulo 2.

    The latents of the clip `poisoned` are not finite; the last `held_out` clips are for validation.
    `codec` is the contract of a real autoencoder.
    """
    text_folder = root / "artifacts/text_encoder"
    text, mask = TextEncoder.from_pretrained(text_folder).encode(CAPTIONS)
    store, folder = root / "store", f"latents/{name}"
    shards = (write_text(store, f"{folder}/text.safetensors", text.half().numpy(), mask.numpy()),)
    table = TextTable(EncoderRecord.read(text_folder).digest, 32, text.shape[1], shards)
    special = (poisoned, held_out)
    made = [_family(store, folder, shape, channels, special) for shape in shapes]
    families = tuple(family for family, _ in made)
    samples = write_samples(
        store, folder, lambda: sample_parts({family.name: [record] for family, record in made})
    )
    manifest = root / f"artifacts/latents/{name}.json"
    LatentManifest(codec or contract(channels, weights), table, 8, families, {}, samples).write(manifest)
    return manifest


def _family(
    store: Path, folder: str, shape: Shape, channels: int, special: tuple[int | None, int]
) -> tuple[Family, ShardRecord]:
    frames, height, width = shape
    latent = (channels, -(-frames // TIME_STRIDE), height // STRIDE, width // STRIDE)
    generator = torch.Generator().manual_seed(frames * 1000 + height + width)
    key = f"{frames}x{height}x{width}"
    poisoned, held_out = special
    members = Members(
        clip_ids=[f"{clip:016x}" for clip in range(CLIPS)],
        splits=["train"] * (CLIPS - held_out) + ["validation"] * held_out,
        windows=[0] * CLIPS,
        variants=["plain"] * CLIPS,
        captions=[clip % len(CAPTIONS) for clip in range(CLIPS)],
    )
    tensor = torch.randn(CLIPS, *latent, generator=generator).half()
    if poisoned is not None:
        tensor[poisoned] = float("nan")
    latents = tensor.numpy()
    record = write_latents(store, f"{folder}/{key}.safetensors", latents, members)
    aspect = "1:1" if height == width else "2:3"
    return Family(key, "16px", aspect, frames, height, width, latent, CLIPS, (record.shard,)), record


def stage_paths(root: Path, stage: str, initial: Path | None, latents: Path, output: Path) -> StagePaths:
    """Paths of a denoiser stage in this workspace."""
    inputs = {"latents": latents, "text": root / "artifacts/text_encoder"}
    return StagePaths(
        root=root,
        inputs={**inputs, "initial": initial} if initial else inputs,
        outputs={"transformer": output, "curve": root / f"curves/{stage}.csv"},
        checkpoints=root / "checkpoints" / stage,
    )
