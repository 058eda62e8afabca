"""Sample videos for people: chosen to show every colour and motion, not the prettiest ones."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation.attributes import Judgement
from components.evaluation.record import Reconstruction, Sample
from models.generation.video_file import WATCHABLE_SIDE, to_mp4

Frames = np.ndarray[Any, np.dtype[np.uint8]]


def write_video(path: Path, clip: Frames, *, fps: int) -> None:
    """Write uint8 (T, H, W, 3) as an MP4 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_mp4(clip, fps, least_side=WATCHABLE_SIDE))


def choose(judgements: Sequence[Judgement], count: int) -> list[int]:
    """Indices of `count` samples: one of each (colour, motion) that prompts ask for, in turn."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, one in enumerate(judgements):
        key = (str(one.expected["colour"]), str(one.expected["motion"]))
        groups.setdefault(key, []).append(index)
    rounds = zip_longest(*(groups[key] for key in sorted(groups)))
    order = [index for together in rounds for index in together if index is not None]
    return sorted(order[:count])


def write_samples(
    folder: Path,
    clips: Frames,
    prompts: Sequence[str],
    judgements: Sequence[Judgement],
    *,
    count: int,
    fps: int,
) -> list[Sample]:
    """Write the chosen samples below `folder` and say what is in them."""
    return [
        _sample(folder, f"samples/{number:03d}.mp4", clips[index], prompts[index], judgements[index], fps)
        for number, index in enumerate(choose(judgements, count))
    ]


def _sample(folder: Path, file: str, clip: Frames, prompt: str, judgement: Judgement, fps: int) -> Sample:
    write_video(folder / file, clip, fps=fps)
    expected = {
        name: word for name, word in judgement.expected.items() if word is None or isinstance(word, str)
    }
    return Sample(file, prompt, expected, dict(judgement.judged))


def write_reconstructions(
    folder: Path, originals: Frames, decoded: Frames, scores: Sequence[float], *, fps: int
) -> list[Reconstruction]:
    """Write real clips and what the autoencoder makes of them, side by side in the record."""
    return list(_pairs(folder, originals, decoded, scores, fps))


def _pairs(
    folder: Path, originals: Frames, decoded: Frames, scores: Sequence[float], fps: int
) -> Iterator[Reconstruction]:
    for number, (original, made, score) in enumerate(zip(originals, decoded, scores, strict=True)):
        files = f"reconstructions/{number:03d}-original.mp4", f"reconstructions/{number:03d}-decoded.mp4"
        for file, clip in zip(files, (original, made), strict=True):
            write_video(folder / file, clip, fps=fps)
        yield Reconstruction(*files, psnr=round(score, 4))
