"""The validation loss of several processes is that of one."""

import json
import os
import subprocess
import sys

import pytest
import torch

from components.data.config import BatchesConfig
from components.data.latents import LatentStore
from components.denoiser.held_out import HeldOutLoss
from components.denoiser.v_prediction import FixedTasks
from components.training.config import ValidationConfig
from models.diffusion import FramePrediction, InputChannels, VPrediction
from models.transformers.video_transformer import VideoTransformer
from tests import tiny_looks
from tests.tiny_systems import ROOT, Workspace

WALT = VPrediction(channels=InputChannels(estimate=True, frames=True), self_conditioning=0.9)


def test_two_processes_find_what_one_finds_with_parameters_divided_among_them(tmp_path):
    """Three batches of two kinds for two: images need fewer passes than clips, and ZeRO 3 waits for each."""
    workspace = Workspace(tmp_path, held_out=3)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.tiny_looks", str(tmp_path), str(workspace.latents)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "REELFORGE_TRACKING": "off"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    looks = [json.loads((tmp_path / f"looks-{rank}.json").read_text()) for rank in (0, 1)]
    assert looks[0] == looks[1]
    config = BatchesConfig(buckets=tiny_looks.BUCKETS, seed=0, small_bucket="repeat")
    store = LatentStore(workspace.latents, root=tmp_path)
    settings = ValidationConfig(**tiny_looks.VALIDATION)
    alone = HeldOutLoss(store, config, FixedTasks(WALT, FramePrediction(longest=2)), settings)
    assert [len(batch.clip_ids) for batch in alone.batches] == [3, 2, 1]
    model = VideoTransformer.from_pretrained(tmp_path / "artifacts/walt/base").eval()
    with torch.no_grad():
        assert looks[0][-1] == pytest.approx(alone.look(model, 2).metrics, rel=1e-4)
