"""The real clips that a model is measured against, and whose captions are its prompts."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.artifacts import StagePaths
from components.data.buckets import Bucket, available_frames
from components.data.clips import Clip, read_clips
from components.data.pool import Limits
from components.data.windows import WindowRequest, read_all
from components.errors import UserError
from components.evaluation.config import EvaluateConfig

log = logging.getLogger(__name__)
FEWEST = 2  # clips: the least that has a covariance
Frames = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Reference:
    """clips: sorted by id, validation first; frames: uint8 (N, T, H, W, 3), the middle of each clip."""

    clips: tuple[Clip, ...]
    frames: Frames
    training_captions: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        return [clip.clip_id for clip in self.clips]

    @property
    def prompts(self) -> list[str]:
        return [clip.caption for clip in self.clips]

    @property
    def scored_captions(self) -> list[str]:
        """The captions with the clips' own scores, where there are such."""
        return [clip.scored_caption or clip.caption for clip in self.clips]

    @property
    def digest(self) -> str:
        """sha256 of ids and pixels."""
        digest = hashlib.sha256("\0".join(self.ids).encode())
        digest.update(np.ascontiguousarray(self.frames).tobytes())
        return digest.hexdigest()


def read_reference(config: EvaluateConfig, paths: StagePaths, limits: Limits) -> Reference:
    """The first `samples` usable validation clips; where there are hardly any, training clips, with a note.

    Raises `UserError` when fewer than two clips can be used.
    """
    clips = read_clips(paths.input("clips"), root=paths.root, videos=paths.place("videos"))
    training = [clip for clip in clips if clip.split == "train"]
    chosen, frames = _usable([clip for clip in clips if clip.split == "validation"], config, limits)
    notes = []
    if len(chosen) < FEWEST:
        more, more_frames = _usable(training, config, limits)
        notes.append(
            f"only {len(chosen)} validation clips can be used: training clips were added, so these scores say"
            " how well clips are remembered, not how well new ones are made"
        )
        chosen, frames = [*chosen, *more], [*frames, *more_frames]
    if len(chosen) < FEWEST:
        raise UserError(
            f"evaluation needs at least {FEWEST} clips with {config.frames} frames at {config.fps} frames per"
            f" second, there are {len(chosen)}; add videos or lower evaluate.frames"
        )
    if len(chosen) < config.samples:
        notes.append(f"{len(chosen)} prompts instead of the {config.samples} asked for: no more clips")
    for note in notes:
        log.warning(note)
    count = config.samples
    captions = tuple(clip.caption for clip in training)
    return Reference(tuple(chosen[:count]), np.stack(frames[:count]), captions, tuple(notes))


def _usable(clips: Sequence[Clip], config: EvaluateConfig, limits: Limits) -> tuple[list[Clip], list[Frames]]:
    """The first `samples` clips that are long enough and can be decoded, with the frames of their middle."""
    bucket = Bucket("", config.frames, f"{config.height}:{config.width}", config.height, config.width)
    long = [
        clip
        for clip in clips
        if available_frames(clip.end_seconds - clip.start_seconds, config.fps) >= config.frames
    ]
    requests = [WindowRequest(clip, bucket, config.fps, 1) for clip in long[: config.samples]]
    kept: list[Clip] = []
    frames: list[Frames] = []
    for request, result in read_all(requests, limits, title="reference clips"):
        if result.value is None:
            log.warning("clip %s: %s %s", request.clip.clip_id, result.reason, result.detail)
            continue
        kept.append(request.clip)
        frames.append(result.value.frames[0])
    return kept, frames
