"""Longer videos than the model makes at once: each round continues from the last frames of what is there.

The last frames are encoded anew, as the beginning of a clip, so that a causal autoencoder treats the first
of them as a first frame (W.A.L.T: the last 5 frames are 2 latents, and each round of 17 frames appends 12).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from models.diffusion.conditions import Progress
from models.generation.given import check_head
from models.generation.layout import Changes
from models.generation.pipeline import TextToVideoPipeline, part_of

ROUND_SEED = 1_000_003  # between the seeds of two rounds; far beyond the number of samples in a call


def extend(
    pipeline: TextToVideoPipeline,
    videos: NDArray[np.uint8],
    prompts: Sequence[str],
    *,
    overlap: int,
    rounds: int = 1,
    batch: int = 8,
    progress: Progress | None = None,
    **changes: Unpack[Changes],
) -> NDArray[np.uint8]:
    """`videos` (B, T, H, W, 3) with `rounds` times `num_frames - overlap` frames appended.

    Each round gives the last `overlap` frames to the model and generates what follows them; existing frames
    are returned as they are. There is one prompt per video. Size is that of the videos, other settings those
    of the pipeline with `changes` over them. Raises `ValueError` where a video is shorter than the overlap,
    or the overlap does not fill whole latents.
    """
    if len(prompts) != len(videos):
        raise ValueError(f"{len(videos)} videos and {len(prompts)} prompts; give one prompt per video")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    changes = Changes(**{**changes, "height": videos.shape[2], "width": videos.shape[3]})
    settings = replace(pipeline.defaults, **changes)
    check_head(pipeline.codec.geometry, overlap, settings.num_frames)
    if videos.shape[1] < overlap:
        raise ValueError(f"the videos have {videos.shape[1]} frames, fewer than the overlap of {overlap}")
    for index in range(rounds):
        changes["seed"] = settings.seed + index * ROUND_SEED
        clip = pipeline(
            prompts,
            given=videos[:, -overlap:],
            batch=batch,
            progress=part_of(progress, index, rounds),
            **changes,
        )
        videos = np.concatenate([videos, clip[:, overlap:]], axis=1)
    return videos
