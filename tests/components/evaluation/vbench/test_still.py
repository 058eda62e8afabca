"""Of a flickering prompt's videos only still ones count: which, in which order, and what is kept of the looking."""

import json
import stat
import sys
from pathlib import Path

import pytest
import torch

from components.evaluation.vbench.environment import Environment
from components.evaluation.vbench.run import STANDARD, Job, Status, obstacles, run_dimensions
from components.evaluation.vbench.weights import RAFT

FLICKER = "temporal_flickering"
PACKAGE = Path("lib/python3.11/site-packages/vbench")
FILTER = """
import torch
from pathlib import Path
DEVICE = "cuda"
class RAFT(torch.nn.Linear):
    def __init__(self, args):
        assert (args.small, "dropout" in args) == (False, True)
        super().__init__(1, 1)
class StaticFilter:
    def __init__(self, args, device):
        self.args, self.device = args, device
        self.load_model()
    def infer(self, path):
        assert (DEVICE, self.model.weight.item()) == ("cpu", 3.0)
        with Path({seen!r}).open("a") as stream:
            stream.write(Path(path).name + "\\n")
        return Path(path).read_text() == "still"
"""
BENCH = """
import json
from pathlib import Path
class VBench:
    def __init__(self, device, info, output):
        self.output = Path(output)
    def evaluate(self, videos_path, name, dimension_list, mode, local):
        self.output.mkdir()
        files = sorted(Path(videos_path).glob("*.mp4"))
        assert all(file.read_text() == "still" for file in files)
        rows = [{"video_path": str(file), "video_results": 0.5} for file in files]
        (self.output / f"{name}_eval_results.json").write_text(json.dumps({dimension_list[0]: [0.5, rows]}))
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def installed(tmp_path):
    """An environment with a VBench whose filter finds a video still if its file says so."""
    folder = tmp_path / "environment"
    entries = [{"prompt_en": prompt, "dimension": [FLICKER]} for prompt in ("a cat", "a dog")]
    write(folder / PACKAGE / "VBench_full_info.json", json.dumps(entries))
    write(folder / PACKAGE / "__init__.py", BENCH)
    write(folder / PACKAGE / "cli/__init__.py", "")
    write(folder / PACKAGE / "cli/static_filter.py", FILTER.format(seen=str(tmp_path / "seen")))
    python = write(
        folder / "bin/python", f'#!/bin/sh\nPYTHONPATH={folder / PACKAGE.parent} exec {sys.executable} "$@"\n'
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return Environment("full", folder, "digest")


@pytest.fixture
def job(tmp_path):
    """25 videos of a cat, every second of them still, and 25 of a dog, three of them still."""
    for index in range(25):
        write(tmp_path / f"videos/a cat-{index}.mp4", "moves" if index % 2 else "still")
        write(tmp_path / f"videos/a dog-{index}.mp4", "still" if index in {3, 11, 24} else "moves")
    weights = tmp_path / "weights" / RAFT
    weights.parent.mkdir(parents=True)
    torch.save({"module.weight": torch.full((1, 1), 3.0), "module.bias": torch.zeros(1)}, weights)
    return Job(tmp_path / "videos", STANDARD, {FLICKER: 10})


def run(tmp_path, job, environment):
    folders = {"weights": tmp_path / "weights", "results": tmp_path / "results"}
    return run_dimensions(job, [FLICKER], environment, **folders)[FLICKER]


def test_the_first_five_still_videos_count_and_none_is_looked_at_twice(tmp_path, job, installed):
    found = run(tmp_path, job, installed)
    assert (found.status, found.score) == (Status.OK, 0.5), found.reason
    assert found.reason == "1 of 2 prompts have fewer than 5 still videos"
    assert sorted(found.videos) == [f"a cat-{n}.mp4" for n in range(5)] + [f"a dog-{n}.mp4" for n in range(3)]
    (folder,) = (path for path in (tmp_path / "results").iterdir() if path.is_dir())
    cats = [(folder / f"a cat-{index}.mp4").resolve().name for index in range(5)]
    assert cats == [f"a cat-{index}.mp4" for index in (0, 10, 12, 14, 16)]  # in the order of their names
    seen = (tmp_path / "seen").read_text().splitlines()
    assert len(seen) == len(set(seen)) == 9 + 25  # of the cats no more than it takes
    answers = folder.with_suffix(".jsonl")
    answers.write_text(answers.read_text()[:-20])  # killed while it wrote the last one
    again = run(tmp_path, job, Environment("full", installed.folder, "another digest"))
    assert again.videos == found.videos
    assert (tmp_path / "seen").read_text().splitlines()[len(seen) :] == seen[-1:]


def test_without_the_filters_weights_the_standard_run_has_no_flickering(tmp_path, job, installed):
    (tmp_path / "weights" / RAFT).unlink()
    found = run(tmp_path, job, installed)
    assert (found.status, found.score) == (Status.UNAVAILABLE, None)
    assert found.reason.endswith("raft-things.pth is missing")
    light = Environment("light", installed.folder, "digest")
    assert "full environment" in obstacles(FLICKER, light, tmp_path)[0]
    assert obstacles(FLICKER, light, tmp_path, standard=False) == []


def test_a_filter_that_fails_or_leaves_nothing_is_a_failure(tmp_path, job, installed):
    for file in job.videos.iterdir():
        file.write_text("moves")
    assert run(tmp_path, job, installed).reason == "no video of the 2 flickering prompts is still"
    (tmp_path / "weights" / RAFT).write_bytes(b"no weights")
    (job.videos / "a cat-0.mp4").write_text("changed")
    found = run(tmp_path, job, installed)
    assert found.status is Status.FAILED
    assert found.reason.startswith("the filter for still videos: exit code 1")
