"""Stage `footage`: video files for a workspace that has none yet, with the truth about them in sidecars.

They are what curation has to cope with, in small: several scenes per file with hard cuts, files where nothing moves,
files with text over the picture, and a file that was cut off; on request also transitions, flashes, whip pans,
night, black pictures, near-duplicates and damaged files. Validation files are whole files, and some
combinations of colour, shape and motion occur in those alone, so that generalisation can be measured.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from components.artifacts import StagePaths, fresh_folder, write_json
from components.data.config import FootageConfig
from components.data.footage_effects import MOMENTS, Kind, Stretch, corrupt, film, layout
from components.data.pool import Outcome, run_pool
from components.data.synthetic import (
    BACKGROUNDS,
    COMBINATIONS,
    Combination,
    Frames,
    SceneSpec,
    caption_of,
    held_out_combinations,
    render_scene,
    sample_spec,
)
from components.errors import UserError
from components.params import Params
from components.report import Report

CODEC = "libx264"
# macroblock-tree rate control is off: on pictures this small its AVX-512 code reads memory that nobody wrote, and
# equal input gave 8 different files in 25 runs
ENCODER = {"preset": "veryfast", "crf": "16", "threads": "1", "x264-params": "mbtree=0"}
COPIED = {Kind.NEAR_DUPLICATE: {"crf": "24"}}
CAPTIONS = "captions.csv"
LICENCE = "CC0-1.0"
TEXTS = ("BREAKING NEWS", "SUBSCRIBE NOW", "SALE 50% OFF", "LIVE REPORT", "PART 2 OF 3", "CLICK HERE")
KEPT_BYTES = 0.6  # of a truncated file: the index at its end is lost


@dataclass(frozen=True)
class FilePlan:
    """Everything one file is made from."""

    name: str
    split: str
    kind: Kind
    scenes: tuple[SceneSpec, ...]
    text: str = ""  # shown over the picture
    span: int = 0  # frames of a transition or a whip pan
    copy_of: str = ""  # name of the file that this one nearly repeats

    @property
    def layout(self) -> tuple[list[Stretch], list[Stretch]]:
        """The scenes, without what they share with others, and what happens in or between them."""
        return layout(self.kind, [scene.frames for scene in self.scenes], self.span)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Start and end of each scene in seconds."""
        return self.seconds_of(self.layout[0])

    def seconds_of(self, stretches: Sequence[Stretch]) -> list[tuple[float, float]]:
        fps = self.scenes[0].fps
        return [(stretch.start / fps, stretch.end / fps) for stretch in stretches]


def run(config: FootageConfig, paths: StagePaths) -> Report:
    """Write the files, their sidecars and `captions.csv` into a fresh folder."""
    _check(config)
    runtime = Params.load(paths.root / "params.yaml").runtime
    plans = plan_files(config)
    held_out = held_out_combinations(config.seed, config.held_out_combinations)
    with fresh_folder(paths.output("videos")) as folder:
        limits = runtime.limits("footage")
        results = run_pool(write_video, [(folder, plan) for plan in plans], limits, title="footage")
        for plan, result in zip(plans, results, strict=True):
            if result.outcome is not Outcome.OK:
                raise UserError(
                    f"writing {plan.name} failed ({result.reason}: {result.detail}); check free disk space"
                )
            write_json(folder / f"{plan.name}.json", sidecar_of(plan, held_out))
        _write_captions(folder / CAPTIONS, plans)
    return _report(plans, held_out)


def _check(config: FootageConfig) -> None:
    """Raises `UserError` for what could only fail later."""
    odd = [size for size in config.sizes if size[0] % 2 or size[1] % 2]
    if odd:
        raise UserError(
            f"footage.sizes: {odd[0]} is odd; H.264 with 4:2:0 colour needs even height and width"
        )
    special = sum(_special(config).values())
    training = config.files - _validation_files(config)
    if special >= training:
        raise UserError(
            f"footage: {special} special files do not leave a plain one among {training}"
            f" training files; raise footage.files ({config.files}) or lower the others"
        )
    shortest = 4 * _span(config) / config.fps
    if _events(config) and config.scene_seconds[0] < shortest:
        raise UserError(
            f"footage.scene_seconds: {config.scene_seconds[0]:g} is too short for footage.transition_seconds"
            f" {config.transition_seconds:g}; a scene of {shortest:g} s leaves half of it alone"
        )
    if CODEC not in av.codecs_available:
        raise UserError(
            f"this build of PyAV cannot write H.264 ({CODEC}); install the wheel from PyPI: `pip install av`"
        )


def _validation_files(config: FootageConfig) -> int:
    return round(config.validation_share * config.files)


def _span(config: FootageConfig) -> int:
    return max(2, round(config.transition_seconds * config.fps))


def _special(config: FootageConfig) -> dict[Kind, int]:
    """How many files of each special kind."""
    return {
        Kind.STATIC: config.static_files,
        Kind.TEXT: config.text_files,
        Kind.TRUNCATED: config.truncated_files,
        Kind.FADE: config.fade_files,
        Kind.DISSOLVE: config.dissolve_files,
        Kind.FLASH: config.flash_files,
        Kind.WHIP: config.whip_files,
        Kind.DARK: config.dark_files,
        Kind.BLACK: config.black_files,
        Kind.NEAR_DUPLICATE: config.near_duplicate_files,
        Kind.DUPLICATE: config.duplicate_files,
        Kind.CORRUPTED: config.corrupted_files,
    }


def _events(config: FootageConfig) -> int:
    """Files with something that takes `transition_seconds` of a scene."""
    return config.fade_files + config.dissolve_files + config.whip_files


def plan_files(config: FootageConfig) -> list[FilePlan]:
    """The files of a configuration; a pure function of it."""
    rng = np.random.default_rng(config.seed)
    held_out = held_out_combinations(config.seed, config.held_out_combinations)
    seen = [one for one in COMBINATIONS if one not in held_out]
    # a deck of its own for each split and kind of combination, so that each is spread evenly
    training = [_deck(seen, rng)]
    validation = [_deck(seen, rng), _deck(sorted(held_out), rng)] if held_out else [_deck(seen, rng)]
    plans = []
    for index, (split, kind) in enumerate(_roles(config, rng)):
        decks = validation if split == "validation" else training
        scenes: list[SceneSpec] = []
        for position in range(config.scenes_per_file):
            previous = scenes[-1].background if scenes else ""
            only = [next(decks[(index + position) % len(decks)])]
            scenes.append(_scene(config, rng, config.sizes[index % len(config.sizes)], only, previous))
        if kind is Kind.STATIC:
            scenes = [replace(scene, motion=None, camera="still") for scene in scenes]
        text = TEXTS[rng.integers(len(TEXTS))] if kind is Kind.TEXT else ""
        plans.append(FilePlan(f"video_{index:04d}", split, kind, tuple(scenes), text, _span(config)))
    return _with_copies(plans)


def _with_copies(plans: Sequence[FilePlan]) -> list[FilePlan]:
    """The plans, in which each duplicate and near-duplicate shows the scenes of a plain training file."""
    plain = cycle(plan for plan in plans if plan.split == "train" and plan.kind is Kind.PLAIN)
    copies = (Kind.NEAR_DUPLICATE, Kind.DUPLICATE)
    return [_copy(plan, next(plain)) if plan.kind in copies else plan for plan in plans]


def _copy(plan: FilePlan, original: FilePlan) -> FilePlan:
    return replace(plan, scenes=original.scenes, copy_of=original.name)


def _roles(config: FootageConfig, rng: np.random.Generator) -> list[tuple[str, Kind]]:
    """Split and kind of each file; the special ones are all in training, where curation has to find them."""
    validation = _validation_files(config)
    roles = [("validation", Kind.PLAIN)] * validation
    roles += [("train", kind) for kind, count in _special(config).items() for _ in range(count)]
    roles += [("train", Kind.PLAIN)] * (config.files - len(roles))
    return [roles[index] for index in rng.permutation(len(roles))]


def _deck(cards: Sequence[Combination], rng: np.random.Generator) -> Iterator[Combination]:
    """Shuffled rounds over the cards without end, so that each is dealt about equally often."""
    while True:
        yield from (cards[index] for index in rng.permutation(len(cards)))


def _scene(
    config: FootageConfig,
    rng: np.random.Generator,
    size: tuple[int, int],
    only: Sequence[Combination],
    previous: str,
) -> SceneSpec:
    """A scene of the given combinations before another background than the previous one: a cut that shows."""
    frames = math.ceil(rng.uniform(*config.scene_seconds) * config.fps)
    spec = sample_spec(rng, size=size, frames=frames, fps=config.fps, only=only)
    backgrounds = [name for name in BACKGROUNDS if name != previous]
    return replace(spec, background=backgrounds[rng.integers(len(backgrounds))])


def write_video(job: tuple[Path, FilePlan]) -> int:
    """Render and encode one planned file as H.264 in MP4; its size in bytes."""
    folder, plan = job
    cv2.setNumThreads(1)
    path = folder / f"{plan.name}.mp4"
    rate = Fraction(plan.scenes[0].fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODEC, rate=rate, options=ENCODER | COPIED.get(plan.kind, {}))
        stream.height, stream.width = plan.scenes[0].height, plan.scenes[0].width
        stream.pix_fmt = "yuv420p"
        shots = (_titled(render_scene(scene), plan.text) for scene in plan.scenes)
        for frames in film(plan.kind, shots, plan.span):
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    if plan.kind is Kind.TRUNCATED:
        with path.open("r+b") as file:
            file.truncate(int(KEPT_BYTES * path.stat().st_size))
    if plan.kind is Kind.CORRUPTED:
        corrupt(path, plan.scenes[0].seed)
    return path.stat().st_size


def _titled(frames: Frames, text: str) -> Frames:
    """The frames with two lines of large white letters on a dark shadow over the lower part."""
    if not text:
        return frames
    height, width = frames.shape[1:3]
    words = text.split()
    lines = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
    font, thickness = cv2.FONT_HERSHEY_DUPLEX, max(1, round(height / 64))
    (widest, tall), _ = cv2.getTextSize(max(lines, key=len), font, 1.0, thickness)
    size = min(0.85 * width / widest, 0.2 * height / tall)
    for frame in frames:
        for row, line in enumerate(lines):
            origin = (round(0.06 * width), round((0.62 + 0.28 * row) * height))
            shadow = (origin[0] + thickness, origin[1] + thickness)
            cv2.putText(frame, line, shadow, font, size, (20, 20, 20), thickness, cv2.LINE_AA)
            cv2.putText(frame, line, origin, font, size, (245, 245, 245), thickness, cv2.LINE_AA)
    return frames


def sidecar_of(plan: FilePlan, held_out: frozenset[Combination]) -> dict[str, Any]:
    """What is known about a file: its split, and per scene the bounds, the caption and the attributes."""
    scenes = [
        {
            "start": start,
            "end": end,
            "caption": caption_of(scene),
            "colour": scene.colour,
            "shape": scene.shape,
            "motion": scene.motion,
            "background": scene.background,
            "camera": scene.camera,
            "held_out": _is_held_out(scene, held_out),
        }
        for scene, (start, end) in zip(plan.scenes, plan.bounds, strict=True)
    ]
    known = {"split": plan.split, "kind": plan.kind, "licence": LICENCE, "scenes": scenes}
    events = plan.layout[1]
    if events:
        name = "moments" if plan.kind in MOMENTS else "transitions"
        known[name] = [
            {"kind": event.what, "start": start, "end": end}
            for event, (start, end) in zip(events, plan.seconds_of(events), strict=True)
        ]
    return known | ({"duplicate_of": f"{plan.copy_of}.mp4"} if plan.copy_of else {})


def _is_held_out(scene: SceneSpec, held_out: frozenset[Combination]) -> bool:
    return (scene.colour, scene.shape, scene.motion) in held_out


def _write_captions(path: Path, plans: Sequence[FilePlan]) -> None:
    """The captions as a table, for a team that keeps them in one file: path, text, start, end."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "text", "start", "end"))
        for plan in plans:
            for scene, bounds in zip(plan.scenes, plan.bounds, strict=True):
                table.writerow((f"{plan.name}.mp4", caption_of(scene), *bounds))


def _report(plans: Sequence[FilePlan], held_out: frozenset[Combination]) -> Report:
    scenes = [(plan, scene) for plan in plans for scene in plan.scenes]
    made = Counter(plan.kind for plan in plans)
    kinds = {f"files_{kind}": made[kind] for kind in Kind}
    return Report(
        "footage",
        metrics={"seconds": round(sum(plan.bounds[-1][1] for plan in plans), 3)},
        counts={
            "files": len(plans),
            **kinds,
            "files_validation": sum(plan.split == "validation" for plan in plans),
            "scenes": len(scenes),
            "scenes_validation": sum(plan.split == "validation" for plan, _ in scenes),
            "scenes_held_out": sum(_is_held_out(scene, held_out) for _, scene in scenes),
        },
        notes=[f"only in validation: {', '.join(' '.join(one) for one in sorted(held_out)) or 'nothing'}"],
    )
