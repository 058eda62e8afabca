"""Clips to captions by a model: pictures from worker processes, several requests at a time, answers kept."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.artifacts import sha256_of, sha256_of_json
from components.data.captioning.answers import FOLDER, Answers
from components.data.captioning.endpoint import Endpoint, Server
from components.data.captioning.local import LocalModel, check_weights
from components.data.captioning.pictures import PictureOrder, take_pictures
from components.data.captions import CaptionProblem
from components.data.config import VisionConfig
from components.data.pool import RejectedError, run_pool
from components.data.weights import warn_of_unwatched
from components.errors import UserError
from components.params import RuntimeConfig
from components.progress import Advance, progress
from components.runtime import caption_key
from components.storage import Place

log = logging.getLogger(__name__)
PART = 256  # clips whose pictures are in memory at a time
Row = dict[str, Any]


class Captioner(Protocol):
    """Says what pictures show."""

    requests: int

    def __call__(self, pictures: Sequence[bytes]) -> str: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Written:
    """Captions by clip id, and for clips that got none the reason code."""

    texts: dict[str, str]
    problems: dict[str, str]
    requests: int
    kept_before: int  # answers that were there already


def write_captions(
    clips: Sequence[Row], config: VisionConfig, root: Path, videos: Place, runtime: RuntimeConfig
) -> Written:
    """Ask about every clip that was not asked about yet. Raises `UserError` where asking on is pointless."""
    check_model(config, root, runtime)
    answers = Answers(root / FOLDER / f"{identity(config, root)}.jsonl")
    waiting = [clip for clip in clips if answers.get(clip["clip_id"]) is None]
    problems: dict[str, str] = {}
    requests = 0
    if waiting:
        captioner = _captioner(config, root, runtime)
        try:
            with progress("captions", len(waiting)) as advance:
                for start in range(0, len(waiting), PART):
                    part = waiting[start : start + PART]
                    if _is_spent(captioner, config):
                        problems |= {clip["clip_id"]: str(CaptionProblem.OVER_BUDGET) for clip in part}
                        advance(len(part))
                        continue
                    pictures = _pictures(part, config, videos, runtime, problems)
                    _ask_all(pictures, captioner, answers, runtime, problems, advance)
        finally:
            captioner.close()
        requests = captioner.requests
    texts = {clip["clip_id"]: text for clip in clips if (text := answers.get(clip["clip_id"])) is not None}
    return Written(texts, problems, requests, len(clips) - len(waiting))


def _is_spent(captioner: Captioner, config: VisionConfig) -> bool:
    return config.max_requests is not None and captioner.requests >= config.max_requests


def identity(config: VisionConfig, root: Path) -> str:
    """Digest of all that an answer depends on but the clip: the model, the prompt, and what it is shown."""
    model = sha256_of(root / config.weights) if config.weights else config.model
    asked = [model, config.prompt, config.frames, config.side, config.max_tokens]
    return sha256_of_json(asked)[:16]


def check_model(config: VisionConfig, root: Path, runtime: RuntimeConfig) -> None:
    """Raises `UserError` where no model is named that could be asked."""
    if config.weights:
        warn_of_unwatched({"caption.vision.weights": config.weights}, root)
        check_weights(root / config.weights)
    elif not runtime.caption_endpoint:
        raise UserError(
            "caption.vision needs a model: set `caption.vision.weights` to a folder, or"
            " `runtime.caption_endpoint` to an OpenAI-compatible server, as http://host:8000/v1"
        )


def _captioner(config: VisionConfig, root: Path, runtime: RuntimeConfig) -> Captioner:
    if config.weights:
        return LocalModel(root / config.weights, config)
    url, seconds = runtime.caption_endpoint or "", runtime.caption_seconds
    return Endpoint(Server(url, caption_key(), seconds, runtime.caption_retries), config)


def _pictures(
    clips: Sequence[Row],
    config: VisionConfig,
    videos: Place,
    runtime: RuntimeConfig,
    problems: dict[str, str],
) -> dict[str, list[bytes]]:
    orders = [
        PictureOrder(
            videos / clip["source"], clip["start_seconds"], clip["end_seconds"], config.frames, config.side
        )
        for clip in clips
    ]
    results = run_pool(take_pictures, orders, runtime.limits("caption"), title="pictures")
    pictures = {}
    for clip, result in zip(clips, results, strict=True):
        if result.value is None:
            problems[clip["clip_id"]] = str(result.reason)
        else:
            pictures[clip["clip_id"]] = result.value
    return pictures


def _ask_all(
    pictures: dict[str, list[bytes]],
    captioner: Callable[[Sequence[bytes]], str],
    answers: Answers,
    runtime: RuntimeConfig,
    problems: dict[str, str],
    advance: Advance,
) -> None:
    """Several requests at a time; an answer is kept at once. The first pointless one ends all."""
    with ThreadPoolExecutor(runtime.caption_requests, thread_name_prefix="caption") as pool:
        asked = {pool.submit(captioner, shown): clip_id for clip_id, shown in pictures.items()}
        try:
            for future in as_completed(asked):
                clip_id = asked[future]
                try:
                    answers.add(clip_id, future.result())
                except RejectedError as error:
                    problems[clip_id] = str(error.reason)
                    if error.detail:
                        log.warning("clip %s: %s", clip_id, error)
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
