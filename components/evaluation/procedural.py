"""Labelled clips for the extractor, drawn in memory with seeds that no footage uses.

They are drawn at the size of the footage and reduced by area, as the pipeline reads its clips. A module of
its own, because worker processes import it and must not load torch for that.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from components.data.pool import Limits, run_pool
from components.data.synthetic import COLOURS, MOTIONS, SHAPES, render_scene, sample_spec

DRAWN = 96  # pixels
FPS = 8.0
CHUNK = 64  # clips per work item


@dataclass(frozen=True)
class LabelledClips:
    """clips: uint8 (N, T, size, size, 3); labels: per attribute (N,) indices into its vocabulary."""

    clips: np.ndarray[Any, np.dtype[np.uint8]]
    labels: dict[str, np.ndarray[Any, np.dtype[np.int64]]]


@dataclass(frozen=True)
class _Order:
    seed: tuple[int, ...]
    count: int
    frames: int
    size: int


def draw_clips(seed: int, *, count: int, frames: int, size: int, limits: Limits) -> LabelledClips:
    """`count` clips; equal arguments give equal clips, whatever the number of workers."""
    orders = [
        _Order((seed, start), min(CHUNK, count - start), frames, size) for start in range(0, count, CHUNK)
    ]
    parts = [result.value for result in run_pool(_draw, orders, limits, title="procedural clips")]
    drawn = [part for part in parts if part is not None]
    if len(drawn) < len(orders):
        raise RuntimeError("drawing procedural clips failed in a worker; raise runtime.item_seconds")
    return LabelledClips(
        np.concatenate([part.clips for part in drawn]),
        {name: np.concatenate([part.labels[name] for part in drawn]) for name in drawn[0].labels},
    )


def _draw(order: _Order) -> LabelledClips:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(order.seed)
    specs = [sample_spec(rng, size=(DRAWN, DRAWN), frames=order.frames, fps=FPS) for _ in range(order.count)]
    clips = np.stack([[_reduced(frame, order.size) for frame in render_scene(spec)] for spec in specs])
    labels = {
        "colour": np.array([COLOURS.index(spec.colour) for spec in specs]),
        "shape": np.array([SHAPES.index(spec.shape) for spec in specs]),
        "motion": np.array([MOTIONS.index(str(spec.motion)) for spec in specs]),
    }
    return LabelledClips(clips, labels)


def _reduced(frame: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    reduced: np.ndarray[Any, Any] = cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
    return reduced
