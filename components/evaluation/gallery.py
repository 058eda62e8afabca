"""Sample videos for people: chosen to show every colour and motion, not the prettiest ones."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np

from components.evaluation.attributes import Judgement
from components.evaluation.record import Reconstruction, Sample

CODEC = "libx264"
ENCODER = {"preset": "veryfast", "crf": "14", "threads": "1"}  # one thread: equal clips give equal files
SHOWN_SIDE = 128  # pixels at least, so that small clips can be watched
Frames = np.ndarray[Any, np.dtype[np.uint8]]


def write_video(path: Path, clip: Frames, *, fps: int) -> None:
    """Write (T, H, W, 3) as H.264 in MP4, pixels repeated until the shorter side can be watched."""
    scale = max(1, -(-SHOWN_SIDE // min(clip.shape[1:3])))
    shown = clip.repeat(scale, axis=1).repeat(scale, axis=2)
    shown = shown[:, : shown.shape[1] // 2 * 2, : shown.shape[2] // 2 * 2]  # 4:2:0 needs even sides
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODEC, rate=Fraction(fps), options=ENCODER)
        stream.height, stream.width = shown.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in shown:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
            )
        container.mux(stream.encode())


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
