"""A workspace with a handful of real clips: H.264 files, and a clip table that names them."""

import shutil
from pathlib import Path

import pyarrow as pa

from components.artifacts import StagePaths
from components.data import store
from components.data.footage import FilePlan, Kind, write_video
from components.data.synthetic import SceneSpec, attributes_of, caption_of

ROOT = Path(__file__).parents[1]
SCENES = [
    ("red", "circle", "left"),
    ("green", "square", "right"),
    ("blue", "triangle", "up"),
    ("yellow", "circle", "down"),
    ("red", "square", "up"),
    ("blue", "circle", "right"),
]


def make_clips(root: Path, *, validation=(4, 5), frames=12, sizes=((48, 48), (40, 60))):
    """One file and one clip per scene of SCENES, at 8 frames a second; `validation` are indices of scenes."""
    videos, rows = root / "data" / "footage", []
    videos.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    for index, (colour, shape, motion) in enumerate(SCENES):
        height, width = sizes[index % len(sizes)]
        scene = SceneSpec(
            colour=colour,
            shape=shape,
            motion=motion,
            background="grey stone",
            camera="still",
            height=height,
            width=width,
            frames=frames,
            seed=index,
        )
        name = f"video_{index}"
        write_video((videos, FilePlan(name, "train", Kind.PLAIN, (scene,), "")))
        rows.append(
            {
                "clip_id": f"{index:016x}",
                "source": f"{name}.mp4",
                "source_digest": f"digest of {name}",
                "licence": "CC0-1.0",
                "start_seconds": 0.0,
                "end_seconds": frames / 8,
                "fps": 8.0,
                "frames": frames,
                "width": width,
                "height": height,
                "split": "validation" if index in validation else "train",
                "caption": caption_of(scene),
                "caption_source": "sidecar",
                "kept": True,
            }
        )
        assert attributes_of(rows[-1]["caption"])["colour"] == colour
    manifest = root / "artifacts" / "clips" / "dedup.json"
    store.create(root, "clips", pa.Table.from_pylist(rows), "dedup").write(manifest)
    return manifest


def stage_paths(root: Path, inputs, outputs, name="stage") -> StagePaths:
    """Paths of a stage, relative to the workspace."""
    return StagePaths(
        root,
        {name: root / path for name, path in inputs.items()},
        {name: root / path for name, path in outputs.items()},
        root / "checkpoints" / name,
    )
