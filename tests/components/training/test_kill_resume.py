"""A stage that loses its process goes on where it was, as it is run in earnest: `python -m components STAGE`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from components.artifacts import read_json, sha256_of
from components.denoiser.latent_inputs import facts_of, open_batches
from components.denoiser.training import export
from components.params import Params
from components.stages import execute, find
from models.transformers.convert import grow
from tests.stage_workspace import make_seen
from tests.tiny_latents import make_latents, make_text
from tests.tiny_parts import tiny_transformer

ROOT = Path(__file__).parents[3]
STAGE = "train@stage1"
BUCKETS = {"16px": {1: [0.5, 2], 5: [1.0, 3]}}
SECONDS = 120.0


def make_workspace(root: Path) -> Path:
    """A workspace in which everything before the stage has been made."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["train"]["stage1"] |= {
        "batches": {"buckets": BUCKETS, "seed": 4, "small_bucket": "repeat"},
        "steps": 60,
        "precision": "fp32",
        "log_steps": 5,
        "checkpoint_steps": 10,
        "ladder": {"steps": 0},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    make_text(root)
    make_seen(root)
    make_latents(root, "videos", [(1, 16, 16), (5, 16, 16), (5, 16, 24)])
    params = Params.load(root / "params.yaml")
    paths, config = find(STAGE).paths(root, params), params.train.stage1
    model, coverage = grow(tiny_transformer(), out_channels=4)
    times = config.times.model_dump(mode="json")
    facts = facts_of(open_batches(config.batches, paths), "flow", times)
    export(model, coverage, facts, paths.inputs["initial"])
    return root


def start(root: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "components", STAGE, "--root", str(root)]
    threads = {"OMP_NUM_THREADS": "1"}  # as in this process: sums are split by thread
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **threads}, stderr=subprocess.PIPE, text=True
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


def test_a_stage_that_was_killed_and_then_stopped_ends_as_if_nothing_had_happened(tmp_path):
    (tmp_path / "straight").mkdir()
    (tmp_path / "cut").mkdir()
    straight, cut = make_workspace(tmp_path / "straight"), make_workspace(tmp_path / "cut")
    killed = start(cut)
    wait_for_step(cut, 10, killed)
    killed.kill()
    killed.wait()
    stopped = start(cut)
    wait_for_step(cut, 30, stopped)
    stopped.send_signal(signal.SIGTERM)
    said = stopped.communicate(timeout=SECONDS)[1]
    assert stopped.returncode == 128 + signal.SIGTERM, said
    assert "Start the same stage again" in said
    assert not (cut / "artifacts/train/stage1").exists()
    for root in (cut, straight):
        execute(STAGE, root)
    for made in ("artifacts/train/stage1", f"curves/{STAGE}.csv", f"reports/{STAGE}.json"):
        assert sha256_of(cut / made) == sha256_of(straight / made), made
    assert read_json(cut / f"reports/{STAGE}.json")["metrics"]["steps"] == 60
    assert not (cut / "checkpoints" / STAGE).exists()
