"""Films harder than the footage stage makes: fine texture, pans, zooms, moving things and grain, with known cuts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from video_files import write_video

HEIGHT, WIDTH = 108, 192
FASTEST = 0.15  # widths per second, one standard deviation
GRAIN = 4.0


@dataclass(frozen=True)
class Film:
    """A file, the seconds of its cuts, and those of its dissolves."""

    path: Path
    cuts: Sequence[float]
    dissolves: Sequence[tuple[float, float]]


def shot(
    rng: np.random.Generator, frames: int, fps: int, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> np.ndarray:
    """(T, H, W, 3): a picture with the spectrum of nature under a moving camera, with up to three moving discs."""
    height, width = size
    picture = _texture(rng, height, width)
    speed = rng.normal(size=2) * rng.choice([0, 0, FASTEST / 3, FASTEST]) * width / fps
    zoom = rng.choice([0, 0, 0.05, -0.05]) / fps
    discs = [
        (
            rng.uniform(0, 1, 2),
            0.2 * rng.normal(size=2) / fps,
            rng.uniform(0.05, 0.15),
            rng.uniform(0, 255, 3),
        )
        for _ in range(rng.integers(0, 4))
    ]
    shape, middle = np.array([width, height]), np.array([width, height], dtype=float)
    filmed = []
    for index in range(frames):
        time = index - frames / 2
        scale = np.exp(-zoom * time)
        corner = middle - scale * middle / 2 + speed * time
        matrix = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frame = cv2.warpAffine(
            picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
        for place, pace, radius, colour in discs:
            centre = 1 - np.abs((place + pace * index) % 2 - 1)  # turns back at the edges
            at = [int(value) for value in centre * shape]
            cv2.circle(frame, at, int(radius * width), colour.tolist(), -1, cv2.LINE_AA)
        filmed.append(frame + rng.normal(size=frame.shape) * GRAIN)
    return np.stack(filmed)


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture of twice that size."""
    height, width = 2 * height, 2 * width
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    noise = np.fft.rfft2(rng.normal(size=(3, height, width))) / frequency ** rng.uniform(1.0, 1.4)
    layers = np.fft.irfft2(noise, (height, width))
    layers *= rng.uniform(15, 45) / layers.std()
    mixed = 1.2 * layers.mean(axis=0) + 0.4 * layers + rng.uniform(40, 180, 3)[:, None, None]
    return np.clip(mixed.transpose(1, 2, 0), 0, 255).astype(np.float32)


def make_film(path: Path, *, seed: int, fps: int, dissolves: bool) -> Film:
    """Six shots of 2 to 4 s, behind cuts or dissolves of 0.3 to 1.5 s."""
    rng = np.random.default_rng(seed)
    frames: list[np.ndarray] = []
    cuts, mixed = [], []
    for _ in range(6):
        following = shot(rng, int(rng.uniform(2, 4) * fps), fps)
        span = min(max(4, int(rng.choice([0.3, 0.5, 1.0, 1.5]) * fps)), len(following) // 3)
        if frames and dissolves:
            share = (np.arange(1, span + 1) / (span + 1))[:, None, None, None]
            mixed.append(((len(frames) - span) / fps, len(frames) / fps))
            frames[-span:] = list(np.stack(frames[-span:]) * (1 - share) + following[:span] * share)
            following = following[span:]
        elif frames:
            cuts.append(len(frames) / fps)
        frames += list(following)
    pixels = [np.clip(frame, 0, 255).astype(np.uint8) for frame in frames]
    write_video(path, pixels, fps=fps, options={"preset": "veryfast", "crf": "23"})
    return Film(path, cuts, mixed)
