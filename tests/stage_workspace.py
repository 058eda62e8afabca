"""A workspace in which a training stage can be run as in earnest: `python -m components STAGE`."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from components.denoiser.latent_inputs import facts_of, open_batches
from components.denoiser.training import export
from components.evaluation.classifier import ClassifierConfig, VideoClassifier, save
from components.params import Params
from components.stages import find
from models.transformers.convert import grow
from tests.tiny_latents import make_latents, make_text
from tests.tiny_parts import tiny_codec, tiny_transformer

ROOT = Path(__file__).parents[1]
STAGE = "train@stage1"
BUCKETS = {"16px": {1: [0.5, 2], 5: [1.0, 3]}}
SECONDS = 240.0


def make_workspace(
    root: Path,
    runtime: dict[str, Any] | None = None,
    *,
    latents: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A workspace in which everything before the stage has been made; `changes` are of the stage's parameters.

    `latents` are further arguments of `make_latents`.
    """
    root.mkdir(parents=True, exist_ok=True)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["runtime"] |= runtime or {}
    raw["train"]["stage1"] |= {
        "batches": {"buckets": BUCKETS, "seed": 4, "small_bucket": "repeat"},
        "steps": 60,
        "precision": "fp32",
        "log_steps": 5,
        "checkpoint_steps": 10,
        "ladder": {"steps": 0},
        **changes,
    }
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    make_text(root)
    make_seen(root)
    make_latents(root, "videos", [(1, 16, 16), (5, 16, 16), (5, 16, 24)], **(latents or {}))
    params = Params.load(root / "params.yaml")
    paths, config = find(STAGE).paths(root, params), params.section(STAGE.replace("@", "."))
    model, coverage = grow(tiny_transformer(), out_channels=4)
    times = config.times.model_dump(mode="json")
    facts = facts_of(open_batches(config.batches, paths), "flow", times)
    export(model, coverage, facts, paths.inputs["initial"])
    return root


def make_seen(root: Path) -> None:
    """What the ladder sees with: an autoencoder, and an extractor of five frames with random weights."""
    folder = root / "artifacts/extractor"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save(VideoClassifier(ClassifierConfig((4, 8), 5, 16)), folder)
    tiny_codec().save_pretrained(root / "artifacts/autoencoder/stage3")


def start(root: Path) -> "subprocess.Popen[str]":
    """The stage in a process of its own."""
    command = [sys.executable, "-m", "components", STAGE, "--root", str(root)]
    lone = {"RANK", "LOCAL_RANK", "WORLD_SIZE"}  # what training in this process has left behind
    inherited = {name: value for name, value in os.environ.items() if name not in lone}
    threads = {"OMP_NUM_THREADS": "1"}  # as in this process: sums are split by thread
    return subprocess.Popen(
        command, cwd=ROOT, env={**inherited, **threads}, stderr=subprocess.PIPE, text=True
    )


def wait_for_step(root: Path, step: int, process: "subprocess.Popen[str]") -> None:
    """Until a checkpoint of this or a later step is whole."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        names = [path.parent.name for path in (root / "checkpoints" / STAGE).glob("step-*/state.json")]
        if any(int(name.removeprefix("step-")) >= step for name in names):
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    pytest.fail(f"no checkpoint of step {step} after {SECONDS} s")
