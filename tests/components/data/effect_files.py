"""Footage with known shots, transitions, flashes and whip pans at a size and rate that detectors are meant for."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from components.data.config import FootageConfig
from components.data.footage import FilePlan, plan_files, write_video
from components.data.footage_effects import Kind

FIELD = {
    Kind.FADE: "fade_files",
    Kind.DISSOLVE: "dissolve_files",
    Kind.FLASH: "flash_files",
    Kind.WHIP: "whip_files",
    Kind.DARK: "dark_files",
    Kind.BLACK: "black_files",
}


@dataclass(frozen=True)
class Made:
    """A file and the plan that it was made from."""

    path: Path
    plan: FilePlan

    @property
    def fps(self) -> float:
        return self.plan.scenes[0].fps

    @property
    def cuts(self) -> list[float]:
        """Seconds at which one scene follows another at once."""
        scenes, events = self.plan.layout
        edges = {stretch.start for stretch in scenes} | {one.end for one in events if one.what == "black"}
        edges |= {one.start for one in events if one.what == "black"}
        gradual = [one for one in events if one.what in ("dissolve", "fade_in", "fade_out")]
        mixed = {one.start for one in gradual} | {one.end for one in gradual}
        return sorted(edge / self.fps for edge in edges - mixed - {0})

    @property
    def dissolves(self) -> list[tuple[float, float]]:
        return self.plan.seconds_of([one for one in self.plan.layout[1] if one.what == "dissolve"])


def make(
    folder: Path, kind: Kind, *, files: int, seed: int, seconds: float = 0.5, scenes: int = 5
) -> list[Made]:
    """`files` files of a kind, 160 by 96 pixels at 24 frames a second."""
    config = FootageConfig(
        seed=seed,
        files=files + 1,
        scenes_per_file=scenes,
        scene_seconds=(2.0, 3.0),
        fps=24,
        sizes=((96, 160),),
        static_files=0,
        text_files=0,
        truncated_files=0,
        transition_seconds=seconds,
        validation_share=0,
        held_out_combinations=0,
        **{FIELD[kind]: files} if kind in FIELD else {},
    )
    plans = [plan for plan in plan_files(config) if plan.kind is kind][:files]
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for plan in plans:
        named = replace(plan, name=f"{kind}_{seed}_{plan.name}")
        write_video((folder, named))
        made.append(Made(folder / f"{named.name}.mp4", named))
    return made


def f1(found: list[float], truth: list[float], tolerance: float) -> tuple[int, int, int]:
    """True positives, false positives, false negatives of times, each matched once."""
    left = list(truth)
    hits = 0
    for time in found:
        near = [one for one in left if abs(one - time) <= tolerance]
        if near:
            left.remove(min(near, key=lambda one: abs(one - time)))
            hits += 1
    return hits, len(found) - hits, len(left)


def score_of(counts: list[tuple[int, int, int]]) -> float:
    hits, wrong, missed = np.sum(counts, axis=0)
    return float(2 * hits / (2 * hits + wrong + missed))
