"""A workspace to encode in: a few clips, an autoencoder and a text encoder, and the stage's configuration."""

import sys
from pathlib import Path

from components.data import encode
from components.data.config import BucketsConfig, EncodeConfig
from tests.tiny_clips import make_clips, stage_paths
from tests.tiny_parts import tiny_codec, tiny_text

INPUTS = {
    "clips": "artifacts/clips/dedup.json",
    "videos": "data/footage",
    "autoencoder": "artifacts/autoencoder/stage3",
    "text": "artifacts/text_encoder",
}
OUTPUTS = {"latents": "artifacts/latents/videos.json", "pictures": "artifacts/latent_pictures/videos"}


def config(**more):
    buckets = {"resolutions": ("32px",), "frames": (1, 9), "aspects": ("1:1", "2:3"), "multiple": 8}
    buckets |= {name: more.pop(name) for name in list(more) if name in buckets}
    values = {"fps": 8, "windows": 2, "batch": 3, "shard_mb": 1} | more
    return EncodeConfig(buckets=BucketsConfig(**buckets), **values)


def make_workspace(folder: Path, **more):
    make_clips(folder, **more)
    tiny_codec().save_pretrained(folder / INPUTS["autoencoder"])
    tiny_text(folder / INPUTS["text"])
    return folder


def paths_of(root: Path):
    return stage_paths(root, INPUTS, OUTPUTS)


def set_runtime(root: Path, **values):
    """Change values of the section `runtime`."""
    path = root / "params.yaml"
    lines = path.read_text().splitlines()
    for name, value in values.items():
        (index,) = [i for i, line in enumerate(lines) if line.startswith(f"  {name}: ")]
        lines[index] = f"  {name}: {value}"
    path.write_text("\n".join(lines) + "\n")


FEW = {"frames": (9,), "aspects": ("1:1",), "windows": 1}  # 2,560 bytes a clip
TWO_CLIPS = 5_200  # bytes of a shard


def few_clips_per_shard():
    """So that there is something to share out and to interrupt."""
    from components.data import encode_plan

    encode_plan.MEGABYTE = TWO_CLIPS


def main():
    """`python encode_workspace.py ROOT`: encode, to be killed on the way."""
    few_clips_per_shard()
    encode.run(config(**FEW), paths_of(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
