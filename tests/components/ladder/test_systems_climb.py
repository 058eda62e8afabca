"""Models of the further systems climb the same ladder: each by its own objective and its own way to make videos."""

import math

import pytest
import torch

from components.errors import UserError
from components.evaluation.classifier import ClassifierConfig, VideoClassifier, save
from components.ladder.record import LadderRecord
from tests.tiny_parts import tiny_codec
from tests.tiny_systems import CHANNELS, Workspace

LADDER = {"steps": 2, "clips": 2, "reference_clips": 3, "sampling_steps": 2, "guidance": 2.0, "batch": 2}
SHORT = {"steps": 2, "checkpoint_steps": 2, "validation": {"samples": 2, "times": 2}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("climbing")
    codec = tiny_codec(channels=CHANNELS)
    codec.save_pretrained(root / "autoencoder")
    torch.manual_seed(0)
    (root / "extractor").mkdir()
    # reads the first 5 of 9 frames
    save(VideoClassifier(ClassifierConfig((4, 8), 5, 16)), root / "extractor")
    seen = {"autoencoder": root / "autoencoder", "extractor": root / "extractor"}
    return Workspace(root, codec.contract(), held_out=3, seen=seen)


@pytest.mark.parametrize("stage", ["hdvila@stage1", "walt@base", "causal@stage1"])
def test_a_system_is_measured_by_loss_and_by_videos(workspace, stage):
    paths = workspace.run(stage, {"16px": {"9": [1.0, 2]}}, ladder=LADDER, **SHORT)
    record = LadderRecord.read(paths.output("transformer"))
    (rung,) = record.rungs
    assert (rung.step, record.used, record.best) == (2, 2, 2)
    assert set(record.identities) <= set(rung.metrics)
    assert all(math.isfinite(value) for value in rung.metrics.values())
    asked = ("", "_given1", "_given2") if stage == "walt@base" else ("",)  # with first frames given, too
    assert set(rung.clips) == {f"9x16x16{given}/{clip:016x}" for given in asked for clip in (5, 6)}


def test_no_two_objectives_share_an_identity_of_the_loss(workspace):
    folders = [
        workspace.root / f"artifacts/{name}" for name in ("hdvila/stage1", "walt/base", "causal/stage1")
    ]
    records = [LadderRecord.read(folder) for folder in folders]
    assert len({record.identities["validation_loss"] for record in records}) == 3


def test_a_super_resolution_model_has_no_ladder_to_climb(workspace):
    with pytest.raises(UserError, match="which a super-resolution model cannot"):
        workspace.run("walt@super_resolution_1", {"39px": {"9": [1.0, 2]}}, ladder=LADDER, **SHORT)
