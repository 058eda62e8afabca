"""The first step of `temporal_flickering` in the standard run: only videos of a still scene count.

Flicker is measured as the difference of neighbouring frames, to which motion adds. So of the 25 videos of a prompt the
first five are kept in which VBench's filter finds no motion by optical flow (RAFT), under the names that the dimension
looks for. Published scores are of such videos.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from components.artifacts import fresh_folder, read_json
from components.evaluation.vbench.child import run_script
from components.evaluation.vbench.environment import Environment
from components.evaluation.vbench.prompts import FLICKER, SAMPLES, package_info
from components.evaluation.vbench.weights import RAFT

RUNNER = Path(__file__).with_name("still_runner.py")


@dataclass(frozen=True)
class StillVideos:
    """A folder with links to them; `short`: prompts with fewer than five; `problem`: why there are none."""

    folder: Path
    count: int = 0
    prompts: int = 0
    short: int = 0
    problem: str = ""

    @property
    def note(self) -> str:
        """What the score should be read with."""
        return (
            f"{self.short} of {self.prompts} prompts have fewer than {SAMPLES} still videos"
            if self.short
            else ""
        )


def keep_still(
    videos: Path, environment: Environment, *, weights: Path, answers: Path, device: str, seconds: float
) -> StillVideos:
    """The still videos of the flickering prompts, as links in a folder beside `answers`.

    That file keeps what was found of each video of this very set, so that a killed run goes on. `seconds` is the time
    for all of them.
    """
    wanted = _videos_of_prompts(videos, environment)
    folder = answers.with_suffix("")
    task = {
        "prompts": [[str(file) for file in files] for files in wanted.values()],
        "model": str((weights / RAFT).resolve()),
        "device": device,
        "enough": SAMPLES,
        "answers": str(answers.resolve()),
    }
    answers.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="vbench-") as temporary:
        work = Path(temporary)
        ended = run_script(environment.python, RUNNER, task, work, weights=weights, seconds=seconds)
        if ended.code != 0 or not (work / "result.json").is_file():
            return StillVideos(folder, problem=f"the filter for still videos: {ended.why}")
        found: dict[str, bool] = json.loads((work / "result.json").read_text())
    kept = {
        prompt: [file for file in files if found.get(str(file))][:SAMPLES] for prompt, files in wanted.items()
    }
    count = sum(map(len, kept.values()))
    if not count:
        return StillVideos(folder, problem=f"no video of the {len(wanted)} flickering prompts is still")
    with fresh_folder(folder) as made:
        for prompt, files in kept.items():
            for index, file in enumerate(files):
                (made / f"{prompt}-{index}.mp4").symlink_to(file)
    short = sum(len(files) < SAMPLES for files in kept.values())
    return StillVideos(folder, count, len(kept), short)


def _videos_of_prompts(videos: Path, environment: Environment) -> dict[str, list[Path]]:
    """The files of each flickering prompt, in the order in which VBench's filter takes them: that of their names."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(videos.resolve().glob("*.mp4")):
        found[file.stem.rpartition("-")[0]].append(file)
    asked = [
        entry["prompt_en"] for entry in read_json(package_info(environment)) if FLICKER in entry["dimension"]
    ]
    return {prompt: found.get(prompt, []) for prompt in asked}
