"""`reelforge evaluate` and `compare` as processes that are killed in earnest, and started again."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from components.artifacts import sha256_of, write_json
from components.evaluation.record import EvaluationRecord
from flows.edit_params import set_values
from models.generation.pipeline import TextToVideoPipeline
from models.text import TextEncoder
from tests.components.evaluation.test_evaluate import CONFIG, INPUTS, make_workspace
from tests.tiny_clips import SCENES
from tests.tiny_parts import tiny_transformer

ROOT = Path(__file__).parents[2]
PROTOCOL = {
    **{
        f"evaluate.{name}": getattr(CONFIG, name) for name in ("seed", "samples", "height", "width", "frames")
    },
    "evaluate.batch": 1,
    "evaluate.gallery": 2,
    "evaluate.reconstruction_clips": 2,
    "evaluate.sampler": {"steps": 2, "guidance": 2.0},
    "gate.min_samples": 4,
    "gate.min_items": 2,
    "gate.min_samples_per_feature": 0.0,
    "gate.permutations": 20,
    "gate.bootstrap": 20,
    "gate.margins": {"validation_loss": 0.05},
    "runtime.min_free_gb": 0.01,
}
WITHOUT_FLOORS = {
    "max_toy_fvd_share_of_untrained": None,
    "min_colour_accuracy": None,
    "min_motion_accuracy": None,
    "min_motion_energy": 0.0,
    "min_reconstruction_psnr": 0.0,
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """What `evaluate` reads, and two models with random weights: `artifacts/pipeline` and `other`."""
    root = tmp_path_factory.mktemp("cli")
    make_workspace(root, validation=range(len(SCENES)))
    set_values(root / "params.yaml", {**PROTOCOL, "gate.floors": WITHOUT_FLOORS})
    for name in ("components", ".dvc", ".git"):
        (root / name).mkdir()
    shutil.copy(ROOT / "dvc.yaml", root)
    write_json(root / "frozen_baseline/record.json", {"champion": None})
    first = TextToVideoPipeline.from_pretrained(root / INPUTS["pipeline"])
    TextToVideoPipeline(
        transformer=tiny_transformer(5),
        codec=first.codec,
        text_encoder=TextEncoder.from_pretrained(root / "text"),
        times=first.times,
        defaults=first.defaults,
    ).save_pretrained(root / "other")
    return root


def start(root, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "REELFORGE_TRACKING": "off"}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli.app", *arguments],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_after_two_videos(root, model, *arguments):
    """SIGKILL once two videos of a model are on the disk. The first is made still then, to be known again."""
    kept = f"checkpoints/evaluate-{sha256_of(root / model)[:16]}/*/candidate/*.npy"
    running = start(root, *arguments)
    until = time.monotonic() + 240
    while running.poll() is None and time.monotonic() < until:
        videos = sorted(root.glob(kept))
        if len(videos) >= 2:
            running.kill()
            break
        time.sleep(0.01)
    said = running.communicate()[0]
    assert running.returncode == -9, said
    np.save(videos[0], np.repeat(np.load(videos[0])[:, :1], CONFIG.frames, axis=1))


@pytest.mark.slow
def test_killed_commands_go_on_with_the_videos_they_have_up_to_the_verdict(workspace):
    kill_after_two_videos(workspace, "artifacts/pipeline", "evaluate", "workspace", "--output", "mine")
    assert not (workspace / "mine").exists()
    compare = ("compare", "workspace", "other")  # which goes on with what `evaluate` has made
    kill_after_two_videos(workspace, "other", *compare)
    (first,) = (workspace / "evaluations").iterdir()
    before = (first / "record.json").read_bytes()
    again = start(workspace, *compare)
    said = again.communicate(timeout=600)[0]
    assert again.returncode in {0, 3}, said
    for words in ("toy_fvd", "primary", "guard", "floor"):
        assert words in said
    assert said.strip().splitlines()[-1].split(":")[0] in {"promote", "reject", "inconclusive"}, said
    assert (first / "record.json").read_bytes() == before, "the finished evaluation was made again"
    evaluated = list((workspace / "evaluations").iterdir())
    assert len(evaluated) == 2
    for folder in evaluated:
        energies = EvaluationRecord.read(folder).metrics["motion_energy"].per_item
        still, *moving = (energies[name] for name in sorted(energies))
        assert still == 0, "a finished video was made again"
        assert min(moving) > 0
