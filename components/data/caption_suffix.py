"""Scores in words at the end of a caption, in the format that Open-Sora 1.2 was trained and is prompted with.

So `a cat sleeps. aesthetic score: 5.5, motion score: 10, camera motion: pan left.`: a model that has seen the
scores can be asked for the good ones.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from components.data.config import CameraMotion, CaptionSuffix, PromptScores

_CAMERA_WORDS = get_args(CameraMotion)


def with_suffix(caption: str, scores: Mapping[CaptionSuffix, Any]) -> str:
    """The caption with the scores that are known, in the order of the format; unchanged where none is."""
    parts = [_FORMATS[name](scores[name]) for name in CaptionSuffix if scores.get(name) is not None]
    parts = [part for part in parts if part]
    if not parts:
        return caption
    ended = caption if caption.endswith((".", "!", "?")) else f"{caption}."
    return f"{ended} {', '.join(parts)}."


def asking(prompts: Sequence[str], scores: PromptScores) -> list[str]:
    """The prompts as a model that has learned from captions with scores is asked; unchanged where none is said."""
    return [with_suffix(prompt, scores.by_name) for prompt in prompts]


def is_said(clip_id: str, name: CaptionSuffix, share: float) -> bool:
    """Whether a clip's caption says a score: drawn by a hash for each clip and score, so the same in every run."""
    drawn = hashlib.sha256(f"{clip_id}:{name.value}".encode()).digest()[:8]
    return int.from_bytes(drawn, "big") < share * 2**64


def _aesthetic(value: float) -> str:
    return f"aesthetic score: {value:.1f}"


def _motion(value: float) -> str:
    return f"motion score: {value:.0f}" if value >= 10 else f"motion score: {value:.1f}".removesuffix(".0")


def _camera(label: str) -> str:
    """Labels come as `pan_left`, several joined by `+`; one that says nothing is left out."""
    words = [part.strip().replace("_", " ") for part in label.split("+")]
    known = [word for word in words if word in _CAMERA_WORDS]
    return f"camera motion: {' and '.join(known)}" if known else ""


_FORMATS: dict[CaptionSuffix, Callable[[Any], str]] = {
    CaptionSuffix.AESTHETIC: _aesthetic,
    CaptionSuffix.MOTION: _motion,
    CaptionSuffix.CAMERA: _camera,
}
