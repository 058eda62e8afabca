"""The videos that VBench's standard run asks for: which prompt, which sample, which seed, under which file name."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.evaluation.vbench.environment import Environment
from components.evaluation.vbench.scores import DIMENSIONS

INFO = "VBench_full_info.json"  # in the package
SAMPLES = 5  # per prompt
FLICKER, FLICKER_SAMPLES = "temporal_flickering", 25  # of which the first five still ones are kept


@dataclass(frozen=True)
class Request:
    """One video. `seed` counts over the whole plan, so no two videos share one."""

    prompt: str
    index: int  # of the sample of its prompt
    seed: int
    dimensions: tuple[str, ...]

    @property
    def file(self) -> str:
        return f"{self.prompt}-{self.index}.mp4"


def package_info(environment: Environment) -> Path:
    """VBench's list of prompts in an installed environment. Raises `UserError` where there is none."""
    found = sorted(environment.folder.glob(f"lib/python*/site-packages/vbench/{INFO}"))
    if not found:
        raise UserError(f"{environment.folder} has no {INFO}; install it again: `reelforge vbench install`")
    return found[0]


def standard_requests(
    info: Path, *, seed: int, dimensions: Sequence[str] = (), flicker_samples: int = SAMPLES
) -> list[Request]:
    """The videos of the standard run, in the order of the list; all dimensions unless some are named.

    The 946 entries name 944 prompts: one that is in two lists is made once. With `flicker_samples` 25 there are
    enough videos of the flickering prompts to filter out those that move, as published. Raises `UserError` for
    dimensions that do not exist.
    """
    unknown = sorted(set(dimensions) - set(DIMENSIONS))
    if unknown:
        raise UserError(f"VBench has no dimension {', '.join(unknown)}; it has {', '.join(DIMENSIONS)}")
    entries: list[dict[str, Any]] = json.loads(info.read_text())
    wanted = set(dimensions or DIMENSIONS)
    asked: dict[str, set[str]] = {}
    for entry in entries:
        if wanted & set(entry["dimension"]):
            asked.setdefault(entry["prompt_en"], set()).update(entry["dimension"])
    requests: list[Request] = []
    for prompt, named in asked.items():
        count = max(SAMPLES, flicker_samples) if FLICKER in named else SAMPLES
        for index in range(count):
            requests.append(Request(prompt, index, seed + len(requests), tuple(sorted(named))))
    return requests


def expected_videos(requests: Sequence[Request], dimension: str) -> int:
    """Videos that VBench looks at for a dimension: five of each of its prompts."""
    return sum(dimension in request.dimensions and request.index < SAMPLES for request in requests)


def refuse_colliding(requests: Sequence[Request], folder: Path) -> None:
    """Raises `UserError` on a disk where two of the prompts would be one file.

    Two prompts of the list differ in the case of one letter only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".Case"
    probe.touch()
    same = (folder / ".case").exists()
    probe.unlink()
    names = [request.file.lower() for request in requests]
    if same and len(set(names)) < len(names):
        raise UserError(
            f"{folder} is on a disk that takes upper and lower case for the same, and two of VBench's prompts differ"
            " in nothing else; use another disk"
        )
