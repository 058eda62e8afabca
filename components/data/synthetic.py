"""Procedural clips with known content: one saturated shape that moves over a muted, textured background.

They stand in for footage where a clone has none. Three things use them: the footage stage writes them as real
video files, the extractor trains on them in memory (other seeds), and evaluation reads the attributes of a
prompt back. Because colour, shape and direction are known, every stage can be tested against the truth.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import product
from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from components.errors import UserError

Frames = NDArray[np.uint8]  # (T, H, W, 3) RGB
Combination = tuple[str, str, str]  # colour, shape, motion

# name -> hue in degrees and its jitter; saturation and brightness are always high
COLOUR_HUES = {"red": (0.0, 7.0), "green": (125.0, 12.0), "blue": (226.0, 9.0), "yellow": (53.0, 5.0)}
COLOURS = tuple(COLOUR_HUES)
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}  # x, y
MOTIONS = tuple(DIRECTIONS)
COMBINATIONS: tuple[Combination, ...] = tuple(product(COLOURS, SHAPES, MOTIONS))

# name -> hue in degrees, saturation, mean brightness, contrast of the texture
BACKGROUND_LOOKS = {
    "grey stone": (220.0, 0.04, 0.52, 0.08),
    "pale sand": (38.0, 0.20, 0.66, 0.05),
    "dark slate": (212.0, 0.20, 0.30, 0.05),
    "dry clay": (18.0, 0.24, 0.44, 0.06),
    "soft moss": (105.0, 0.20, 0.40, 0.07),
    "worn concrete": (60.0, 0.06, 0.60, 0.06),
}
BACKGROUNDS = tuple(BACKGROUND_LOOKS)
# name -> pan in x and y, and zoom, per second, as shares of the shorter side
CAMERA_MOVES = {
    "still": (0.0, 0.0, 0.0),
    "pans left": (-0.1, 0.0, 0.0),
    "pans right": (0.1, 0.0, 0.0),
    "zooms in": (0.0, 0.0, 0.1),
    "zooms out": (0.0, 0.0, -0.1),
    "tilts up": (0.0, -0.1, 0.0),
    "tilts down": (0.0, 0.1, 0.0),
    "pans left and tilts up": (-0.1, -0.1, 0.0),
    "pans right and tilts down": (0.1, 0.1, 0.0),
    "pans left and zooms in": (-0.1, 0.0, 0.1),
    "tilts up and zooms out": (0.0, -0.1, -0.1),
}
CAMERAS = ("still", "pans left", "pans right", "zooms in", "zooms out")  # what scenes are drawn from
STILL_SHARE = 0.7  # of scenes; the others draw from all cameras

TRACK = (
    0.72  # longest path of the shape's centre, in shorter sides: it stays in the central square, mostly whole
)
SPEED = (0.40, 0.50)  # shorter sides per second
DIAMETER = (0.32, 0.42)  # of the shorter side: still about 12 pixels after a resize to 32x32

MOVING_PHRASES = (
    "a {colour} {shape} moves {motion} over {background}",
    "a {colour} {shape} moving {motion} across {background}",
    "{colour} {shape} moves {motion} on {background}",
    "over {background} a {colour} {shape} moves {motion}",
)
RESTING_PHRASES = ("a {colour} {shape} rests on {background}", "a resting {colour} {shape} over {background}")
CAMERA_MOVE = r"(?:pans|panning|zooms|zooming|moves|tilts)\s+(?:to the\s+)?\w+"
CAMERA_PHRASE = re.compile(rf"\bcamera\s+{CAMERA_MOVE}(?:\s+and\s+{CAMERA_MOVE})?")


class Attributes(TypedDict):
    """What a text says about a scene; None where it does not say it."""

    colour: str | None
    shape: str | None
    motion: str | None


@dataclass(frozen=True, kw_only=True)
class SceneSpec:
    """One scene. Equal specs give equal pixels: tint, size, speed, start and texture come from `seed`."""

    colour: str
    shape: str
    motion: str | None  # None: the shape lies on the background and moves only with the camera
    background: str
    camera: str
    height: int
    width: int
    frames: int
    seed: int
    fps: float = 8.0
    speed: float | None = None  # of the shape, shorter sides per second; None draws it from `SPEED`
    camera_speed: float = 1.0  # times what `CAMERA_MOVES` says

    def __post_init__(self) -> None:
        words = (
            ("colour", self.colour, COLOURS),
            ("shape", self.shape, SHAPES),
            ("motion", self.motion, (*MOTIONS, None)),
            ("background", self.background, BACKGROUNDS),
            ("camera", self.camera, tuple(CAMERA_MOVES)),
        )
        for field, value, valid in words:
            if value not in valid:
                raise UserError(f"scene {field} is {value!r}; valid: {', '.join(map(str, valid))}")


def sample_spec(
    rng: np.random.Generator,
    *,
    size: tuple[int, int],
    frames: int,
    fps: float = 8.0,
    exclude: Collection[Combination] = (),
    only: Collection[Combination] | None = None,
) -> SceneSpec:
    """A random moving scene of `size` (height, width).

    Its combination is one of `only` (default: all) that is not in `exclude`. Raises `UserError` when none is left.
    """
    allowed = [one for one in COMBINATIONS if (only is None or one in only) and one not in exclude]
    if not allowed:
        raise UserError(
            "no combination of colour, shape and motion is left to draw scenes from; exclude fewer"
        )
    colour, shape, motion = allowed[rng.integers(len(allowed))]
    return SceneSpec(
        colour=colour,
        shape=shape,
        motion=motion,
        background=BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        camera="still" if rng.random() < STILL_SHARE else CAMERAS[rng.integers(len(CAMERAS))],
        height=size[0],
        width=size[1],
        frames=frames,
        fps=fps,
        seed=int(rng.integers(2**62)),
    )


def held_out_combinations(seed: int, count: int) -> frozenset[Combination]:
    """`count` combinations for validation only, spread evenly over attributes and pairs of attributes.

    At most half of all, so that every single attribute and every pair of two still occurs in training.
    """
    if not 0 <= count <= len(COMBINATIONS) // 2:
        raise UserError(
            f"held_out_combinations is {count}; it must lie between 0 and {len(COMBINATIONS) // 2},"
            f" half of the {len(COMBINATIONS)} combinations"
        )
    order = [COMBINATIONS[i] for i in np.random.default_rng(seed).permutation(len(COMBINATIONS))]
    used: Counter[tuple[int | str, ...]] = Counter()
    chosen: list[Combination] = []
    for _ in range(count):
        best = min(
            (one for one in order if one not in chosen), key=lambda one: sum(used[k] for k in _aspects(one))
        )
        chosen.append(best)
        used.update(_aspects(best))
    return frozenset(chosen)


def _aspects(one: Combination) -> list[tuple[int | str, ...]]:
    """The attributes of a combination and their pairs, each as a key of its own."""
    colour, shape, motion = one
    return [(0, colour), (1, shape), (2, motion), (3, colour, shape), (4, colour, motion), (5, shape, motion)]


def caption_of(spec: SceneSpec) -> str:
    """A sentence of at most 20 words with the scene's attribute words; the wording is chosen by the seed."""
    phrases = MOVING_PHRASES if spec.motion else RESTING_PHRASES
    phrase = phrases[spec.seed % len(phrases)]
    sentence = phrase.format(
        colour=spec.colour, shape=spec.shape, motion=spec.motion, background=spec.background
    )
    return sentence if spec.camera == "still" else f"{sentence}, camera {spec.camera}"


def attributes_of(text: str) -> Attributes:
    """Colour, shape and motion named in a text: the first word of each vocabulary, None where there is none.

    What the camera does ("camera pans left") is not the motion of the shape.
    """
    words = re.findall(r"[a-z]+", CAMERA_PHRASE.sub(" ", text.lower()))
    return Attributes(
        colour=_first(words, COLOURS), shape=_first(words, SHAPES), motion=_first(words, MOTIONS)
    )


def _first(words: Iterable[str], vocabulary: Collection[str]) -> str | None:
    return next((word for word in words if word in vocabulary), None)


def render_scene(spec: SceneSpec) -> Frames:
    """The scene as uint8 RGB (T, H, W, 3)."""
    rng = np.random.default_rng(spec.seed)
    side = min(spec.height, spec.width)
    brightness = rng.uniform(0.92, 1.08)
    colour = _rgb(*_tint(spec.colour, rng)) * brightness
    radius = 0.5 * rng.uniform(*DIAMETER) * side
    track = _track(spec, rng)  # (T, 2), x and y in pixels
    margin = round(0.15 * side * max(1.0, spec.camera_speed))
    canvas = _background(spec, margin, rng) * brightness
    if spec.motion is None:
        canvas = _draw(canvas[None], spec.shape, track[:1] + margin, radius, colour)[0]
    frames = _film(canvas, spec)
    if spec.motion is not None:
        frames = _draw(frames, spec.shape, track, radius, colour)
    return (np.clip(frames, 0, 255) + 0.5).astype(np.uint8)


def _rgb(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    """(3,) in 0..255 from a hue in degrees and shares."""
    offsets = np.array([0.0, 240.0, 120.0])
    sector = np.abs((hue + offsets) % 360 / 60 - 3) - 1
    mixed: NDArray[np.float32] = (1 - saturation + saturation * np.clip(sector, 0, 1)).astype(np.float32)
    return mixed * np.float32(255 * value)


def _tint(colour: str, rng: np.random.Generator) -> tuple[float, float, float]:
    hue, jitter = COLOUR_HUES[colour]
    return hue + rng.uniform(-jitter, jitter), rng.uniform(0.85, 1.0), rng.uniform(0.78, 0.95)


def _track(spec: SceneSpec, rng: np.random.Generator) -> NDArray[np.float32]:
    """Centre of the shape in each frame, (T, 2) as x and y in pixels, inside the central square."""
    side = min(spec.height, spec.width)
    seconds = np.arange(spec.frames) / spec.fps
    direction = np.array(DIRECTIONS[spec.motion] if spec.motion else (0.0, 0.0))
    drawn = rng.uniform(*SPEED)
    speed = drawn if spec.speed is None else spec.speed
    way = min(speed * seconds[-1], TRACK)  # a long scene is a slower one, so that the shape never leaves
    start = rng.uniform(-1, 1) * (TRACK - way) / 2 - way / 2  # along the direction, from the middle
    across = rng.uniform(-0.18, 0.18)
    share = seconds / max(seconds[-1], 1 / spec.fps)
    along = (start + way * share)[:, None] * direction + across * np.abs(direction[::-1])
    if spec.motion is None:
        along = along + np.array([across, rng.uniform(-0.18, 0.18)])
    middle = np.array([spec.width - 1, spec.height - 1]) / 2
    track: NDArray[np.float32] = (middle + along * side).astype(np.float32)
    return track


def _background(spec: SceneSpec, margin: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A still texture larger than the frame by `margin` pixels on each side: (H, W, 3) in 0..255."""
    hue, saturation, value, contrast = BACKGROUND_LOOKS[spec.background]
    height, width = spec.height + 2 * margin, spec.width + 2 * margin
    texture = np.zeros((height, width), dtype=np.float32)
    for cells, weight in ((3, 0.55), (7, 0.35), (17, 0.25)):  # three octaves
        rows = cells + 1
        columns = max(2, round(cells * width / height) + 1)
        grid = rng.uniform(-1, 1, size=(rows, columns)).astype(np.float32)
        texture += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    tint = _rgb(hue + rng.uniform(-8, 8), saturation * rng.uniform(0.8, 1.2), value)
    shade = 1 + contrast / value * texture
    background: NDArray[np.float32] = np.clip(shade[..., None] * tint, 0, 255).astype(np.float32)
    return background


def _film(canvas: NDArray[np.float32], spec: SceneSpec) -> NDArray[np.float32]:
    """The canvas as the camera sees it: (T, H, W, 3)."""
    pan_x, pan_y, zoom = (spec.camera_speed * move for move in CAMERA_MOVES[spec.camera])
    side = min(spec.height, spec.width)
    canvas_middle = np.array([canvas.shape[1] - 1, canvas.shape[0] - 1]) / 2
    frame_middle = np.array([spec.width - 1, spec.height - 1]) / 2
    frames = np.empty((spec.frames, spec.height, spec.width, 3), dtype=np.float32)
    for index in range(spec.frames):
        seconds = (index - (spec.frames - 1) / 2) / spec.fps  # the middle of the scene looks straight on
        scale = np.exp(-zoom * seconds)  # canvas pixels per frame pixel
        corner = canvas_middle + np.array([pan_x, pan_y]) * side * seconds - scale * frame_middle
        matrix = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
        cv2.warpAffine(
            canvas,
            matrix,
            (spec.width, spec.height),
            dst=frames[index],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    return frames


def _draw(
    frames: NDArray[np.float32],
    shape: str,
    centres: NDArray[np.float32],
    radius: float,
    colour: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Frames (T, H, W, 3) with the shape painted at each centre (T, 2), edges one pixel soft."""
    _, height, width, _ = frames.shape
    x = np.arange(width, dtype=np.float32) - centres[:, :1]  # (T, W)
    y = np.arange(height, dtype=np.float32) - centres[:, 1:]  # (T, H)
    distance = _distance(shape, x[:, None, :], y[:, :, None], radius)  # (T, H, W)
    alpha = np.clip(0.5 - distance, 0, 1)[..., None]
    painted: NDArray[np.float32] = frames + alpha * (colour - frames)
    return painted


def _distance(
    shape: str, x: NDArray[np.float32], y: NDArray[np.float32], radius: float
) -> NDArray[np.float32]:
    """Signed distance in pixels to the outline; square and triangle have about the area of the circle."""
    distance: NDArray[np.float32]
    if shape == "circle":
        distance = np.sqrt(x * x + y * y) - np.float32(radius)
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - np.float32(0.89 * radius)
    else:  # an equilateral triangle that points up, its inscribed circle a little below the middle
        inscribed, slope = np.float32(0.72 * radius), np.float32(np.sqrt(3) / 2)
        lowered = y - np.float32(0.12 * radius)
        distance = np.maximum(lowered, slope * np.abs(x) - lowered / 2) - inscribed
    return distance
