"""A small latent store on disk, made by the same writers as the encode stage uses."""

from pathlib import Path

import torch

from components.data.latent_shards import Members, sample_parts, write_latents, write_text
from components.data.latents import Family, LatentManifest, TextTable
from components.data.samples import write_samples

CAPTIONS, TOKENS, WIDTH = 4, 5, 6
CONTRACT = {
    "weights_sha256": "0" * 64,
    "channels": 2,
    "spatial_stride": 8,
    "temporal_stride": 2,
    "chunk_frames": 9,
}


def clip_id(number):
    return f"{number:016x}"


def make_latents(root: Path, families, *, shard_rows=4, windows=1, validation=(), variants=("plain",)):
    """families: (resolution, aspect, frames, height, width, clips). The value of a latent is its clip's
    number.
    """
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(CAPTIONS, TOKENS, WIDTH, generator=generator).half()
    mask = torch.arange(TOKENS)[None] <= torch.arange(CAPTIONS)[:, None]
    store, folder = root / "store", "latents/test"
    texts = write_text(store, f"{folder}/text.safetensors", text.numpy(), mask.numpy())
    entries, records = [], {}
    for resolution, aspect, frames, height, width, clips in families:
        shape = (2, -(-frames // 2), height // 8, width // 8)
        rows = [(n, window, variant) for n in clips for window in range(windows) for variant in variants]
        key = f"{frames}x{height}x{width}"
        found = []
        for start in range(0, len(rows), shard_rows):
            part = rows[start : start + shard_rows]
            file = f"{folder}/{resolution}-{key}-{start:03d}.safetensors"
            values = torch.tensor([float(number) for number, *_ in part]).half()
            members = Members(
                clip_ids=[clip_id(number) for number, *_ in part],
                splits=["validation" if number in validation else "train" for number, *_ in part],
                windows=[window for _, window, _ in part],
                variants=[variant for *_, variant in part],
                captions=[number % CAPTIONS for number, *_ in part],
            )
            latents = values.view(-1, 1, 1, 1, 1).expand(-1, *shape).contiguous()
            found.append(write_latents(store, file, latents.numpy(), members))
        shards = tuple(record.shard for record in found)
        entries.append(Family(key, resolution, aspect, frames, height, width, shape, len(rows), shards))
        records[entries[-1].name] = found
    table = TextTable("digest", WIDTH, TOKENS, (texts,))
    samples = write_samples(store, folder, lambda: sample_parts(records))
    manifest = root / "artifacts" / "latents" / "videos.json"
    LatentManifest(CONTRACT, table, 8, tuple(entries), {}, samples).write(manifest)
    return manifest, text.float(), mask
