"""Make the videos of a VBench run. What is there already is not made again, whenever the run was stopped."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.artifacts import read_json, sha256_of_json, write_json
from components.errors import UserError
from components.evaluation.vbench.prompts import Request, refuse_colliding
from components.progress import progress
from models.generation.layout import Settings
from models.generation.video_file import to_mp4

PLAN = "reelforge.json"  # beside the videos: what made them
Make = Callable[[Sequence[str], int], NDArray[np.uint8]]  # (prompts, seed of the first) -> (N, T, H, W, 3)


def make_videos(
    requests: Sequence[Request], folder: Path, make: Make, *, model: str, settings: Settings, batch: int
) -> int:
    """Write an MP4 file per request; the number that was missing.

    `make` must give sample i of its prompts from `seed + i`. `model` is the digest of what `make` runs. Raises
    `UserError` for a folder that holds videos of another model, other settings or other seeds.
    """
    refuse_colliding(requests, folder)
    _agree(folder, requests, model, settings)
    made = 0
    with progress("videos", len(requests)) as advance:
        rest = iter(requests)
        while part := list(islice(rest, batch)):
            missing = [row for row, request in enumerate(part) if not (folder / request.file).is_file()]
            if missing:
                frames = make([request.prompt for request in part], part[0].seed)
                for row in missing:
                    _write(folder / part[row].file, to_mp4(frames[row], settings.fps))
            made += len(missing)
            advance(len(part))
    return made


def _agree(folder: Path, requests: Sequence[Request], model: str, settings: Settings) -> None:
    facts = {
        "model_sha256": model,
        "settings": asdict(settings),
        "requests_sha256": sha256_of_json([[request.file, request.seed] for request in requests]),
        "videos": {request.file: request.seed for request in requests},
    }
    path = folder / PLAN
    if not path.is_file():
        write_json(path, facts)
        return
    before = read_json(path)
    changed = [name for name in facts if before.get(name) != facts[name] and name != "videos"]
    if changed:
        raise UserError(
            f"{folder} holds videos of another run ({', '.join(changed)} differ); give another folder, or remove it"
        )


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
