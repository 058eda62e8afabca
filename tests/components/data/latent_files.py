"""A small latent store on disk, made by the same writers as the encode stage uses."""

from pathlib import Path

import torch

from components.data.latents import Family, LatentManifest, TextTable, describe_shard, write_shard

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


def make_latents(root: Path, families, *, shard_rows=4, windows=1, validation=()):
    """families: (resolution, aspect, frames, height, width, clips). The value of a latent is its clip's
    number.
    """
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(CAPTIONS, TOKENS, WIDTH, generator=generator).half()
    mask = torch.arange(TOKENS)[None] <= torch.arange(CAPTIONS)[:, None]
    folder = root / "store" / "latents" / "test"
    write_shard(folder / "text.safetensors", {"text": text, "text_mask": mask}, {})
    entries = []
    for resolution, aspect, frames, height, width, clips in families:
        shape = (2, -(-frames // 2), height // 8, width // 8)
        rows = [(number, window) for number in clips for window in range(windows)]
        shards = []
        for start in range(0, len(rows), shard_rows):
            part = rows[start : start + shard_rows]
            path = folder / f"{resolution}-{frames}x{height}x{width}-{start:03d}.safetensors"
            values = torch.tensor([float(number) for number, _ in part]).half()
            tensors = {
                "latents": values.view(-1, 1, 1, 1, 1).expand(-1, *shape).contiguous(),
                "caption": torch.tensor([number % CAPTIONS for number, _ in part]),
            }
            lists = {
                "clip_ids": [clip_id(number) for number, _ in part],
                "splits": ["validation" if number in validation else "train" for number, _ in part],
                "windows": [window for _, window in part],
            }
            write_shard(path, tensors, lists)
            shards.append(describe_shard(path, root, "latents"))
        key = f"{frames}x{height}x{width}"
        entries.append(
            Family(key, resolution, aspect, frames, height, width, shape, len(rows), tuple(shards))
        )
    table = TextTable("digest", WIDTH, TOKENS, (describe_shard(folder / "text.safetensors", root, "text"),))
    manifest = root / "artifacts" / "latents" / "videos.json"
    LatentManifest(CONTRACT, table, 8, tuple(entries), {}).write(manifest)
    return manifest, text.float(), mask
