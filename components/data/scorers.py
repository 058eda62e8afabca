"""The scorers by name: the parameter that switches each, the columns it fills, and the function that does it.

Each is a function of the views of one clip alone, so that changing one recomputes one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import pyarrow as pa

from components.data.brightness import black_share, brightness
from components.data.camera import camera_label
from components.data.config import ScoreConfig, Scorer
from components.data.frozen import frozen_share
from components.data.looks import Job, Views
from components.data.motion import motion_of
from components.data.sharpness import median_sharpness
from components.data.text_overlay import text_share
from components.data.video import Pixels, VideoFile, scaled
from components.data.weights import warn_of_unwatched
from components.errors import UserError

Score = float | str | None
Scores = dict[str, Score]
AESTHETIC_MOMENTS = (0.1, 0.5, 0.9)  # of the clip; published, and used for detected text too
PATHS = ("clip_weights", "aesthetic_weights", "text_model")
TEXT_WIDTH = 640  # pixels for a text detector, unless the parameters say another width


NUMBER = pa.float32()


@dataclass(frozen=True)
class Entry:
    """`always`: its columns are in every table, empty when it is disabled; others appear when they are asked for."""

    columns: tuple[str, ...]
    score: Callable[[Views], Scores]
    always: bool = False
    type: pa.DataType = NUMBER


def _motion(views: Views) -> Scores:
    motion = motion_of(views.flows)
    return {"motion": motion.objects, "camera_motion": motion.camera}


def _sharpness(views: Views) -> Scores:
    return {"sharpness": median_sharpness(views.grey)}


def _text(views: Views) -> Scores:
    config = views.job.config
    if config.text_model is None:
        return {"text_share": text_share(views.fine_grey)}
    from components.data.text_detector import detected_share

    frames = frames_at(views.job, AESTHETIC_MOMENTS, width=config.text_width or TEXT_WIDTH)
    return {"text_share": detected_share(frames, Path(config.text_model))}


def _brightness(views: Views) -> Scores:
    return {"brightness": brightness(views.grey)}


def _camera(views: Views) -> Scores:
    return {"camera_label": camera_label(views.flows)}


def _black(views: Views) -> Scores:
    return {"black_share": black_share(views.grey)}


def _frozen(views: Views) -> Scores:
    return {"frozen_share": frozen_share([(look.before, look.after) for look in views.looks])}


def _aesthetic(views: Views) -> Scores:
    from components.data.aesthetic import aesthetic

    config = views.job.config
    frames = frames_at(views.job, AESTHETIC_MOMENTS)
    return {
        "aesthetic": aesthetic(frames, Path(config.clip_weights or ""), Path(config.aesthetic_weights or ""))
    }


def _match(views: Views) -> Scores:
    """None without a caption: nobody can say how well it fits."""
    from components.data.caption_match import caption_match

    if not views.job.caption:
        return {"match": None}
    (frame,) = frames_at(views.job, (0.5,))
    return {"match": caption_match(frame, views.job.caption, Path(views.job.config.clip_weights or ""))}


SCORERS = {
    "motion": Entry(("motion", "camera_motion"), _motion, always=True),
    "sharpness": Entry(("sharpness",), _sharpness, always=True),
    "text": Entry(("text_share",), _text, always=True),
    "brightness": Entry(("brightness",), _brightness, always=True),
    "camera": Entry(("camera_label",), _camera, type=pa.string()),
    "black": Entry(("black_share",), _black),
    "frozen": Entry(("frozen_share",), _frozen),
    "aesthetic": Entry(("aesthetic",), _aesthetic),
    "match": Entry(("match",), _match),
}


def modes_of(config: ScoreConfig) -> dict[str, Scorer]:
    """How each scorer is switched; those that are not in every table only where they are on."""
    modes = {name: Scorer(getattr(config, name)) for name in SCORERS}
    return {name: mode for name, mode in modes.items() if SCORERS[name].always or mode is not Scorer.DISABLE}


def columns_of(config: ScoreConfig) -> dict[str, pa.DataType]:
    """The columns that a configuration gives a table."""
    return {column: SCORERS[name].type for name in modes_of(config) for column in SCORERS[name].columns}


def check_weights(config: ScoreConfig) -> None:
    """Raises `UserError` where a scorer is on and what it reads is not there."""
    warn_of_unwatched({f"score.{name}": getattr(config, name) for name in PATHS})
    if config.text is not Scorer.DISABLE and config.text_model:
        _check_text_model(Path(config.text_model))
    model_based = config.aesthetic, config.match
    if all(mode is Scorer.DISABLE for mode in model_based):
        return
    if not Path(config.clip_weights or "", "config.json").is_file():
        raise UserError(
            f"score.clip_weights: {config.clip_weights} is no folder of a CLIP model; put"
            " `openai/clip-vit-large-patch14` there, or set score.aesthetic and score.match to disable"
        )
    if config.aesthetic is not Scorer.DISABLE and not Path(config.aesthetic_weights or "").is_file():
        raise UserError(
            f"score.aesthetic_weights: {config.aesthetic_weights} is no file; put"
            " `sac+logos+ava1-l14-linearMSE.pth` there, or set score.aesthetic to disable"
        )


def _check_text_model(path: Path) -> None:
    from components.data.text_detector import load

    if not path.is_file():
        raise UserError(
            f"score.text_model: {path} is no file; put a DB text detector there, as `ch_PP-OCRv4_det_infer.onnx`,"
            " or set it to null"
        )
    load(path)


def score_clip(job: Job) -> Scores:
    """The scores that are switched on. Raises `UndecodableError`."""
    cv2.setNumThreads(1)
    views = Views(job)
    scores: Scores = {}
    for name, mode in modes_of(job.config).items():
        if mode is not Scorer.DISABLE:
            scores |= SCORERS[name].score(views)
    return scores


def frames_at(job: Job, shares: tuple[float, ...], width: int | None = None) -> list[Pixels]:
    """Frames (H, W, 3) at shares of the clip, of full size or `width` pixels wide. Raises `UndecodableError`."""
    times = [job.start + share * (job.end - job.start) for share in shares]
    frames = []
    with VideoFile(job.path) as video:
        for timed in video.nearest(times, start=job.start, end=job.end):
            tall, wide = video.shown_size(timed.frame)
            scale = width / wide if width else 1.0
            frames.append(scaled(timed.frame, max(1, round(scale * tall)), width or wide))
    return frames
