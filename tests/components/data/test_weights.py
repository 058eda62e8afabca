"""Weights that DVC watches: the stages that read them run again when they change, and null is no problem."""

import subprocess
import sys

import pytest
import yaml
from footage_workspace import ROOT

from components.data.weights import FOLDER, unwatched
from components.params import Params
from components.stages import STAGES

READERS = ("split", "score", "caption")


@pytest.mark.parametrize("stage", READERS)
def test_the_stages_that_read_weights_depend_on_their_folder(stage):
    assert STAGES[stage].inputs["weights"] == FOLDER
    assert (ROOT / FOLDER / "README.md").is_file()  # DVC refuses a dependency that is not there


def test_dvc_notices_new_changed_and_removed_weights_and_null_ones_are_allowed(tmp_path):
    """The dependency alone: a stage of the same shape over a folder of the same name, run by DVC itself."""
    assert Params.load(ROOT / "params.yaml").score.text_model is None
    weights = tmp_path / FOLDER
    weights.mkdir(parents=True)
    (weights / "README.md").write_text("what goes here")
    (tmp_path / "params.yaml").write_text("score: {text_model: null}\n")
    stage = {"cmd": "echo ran >> log", "deps": [FOLDER], "params": ["score"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"score": stage}}))

    def runs():
        subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "-q"], cwd=tmp_path, check=True, capture_output=True
        )
        return (tmp_path / "log").read_text().count("ran")

    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    assert (runs(), runs()) == (1, 1)
    (weights / "text.onnx").write_bytes(b"first")
    assert (runs(), runs()) == (2, 2)
    (weights / "text.onnx").write_bytes(b"other weights")
    assert (runs(), runs()) == (3, 3)
    (weights / "text.onnx").unlink()
    assert runs() == 4


def test_weights_elsewhere_and_behind_a_link_are_named(tmp_path):
    elsewhere = tmp_path / "elsewhere.pth"
    elsewhere.write_bytes(b"weights")
    folder = tmp_path / "root" / FOLDER
    folder.mkdir(parents=True)
    (folder / "own.pth").write_bytes(b"weights")
    (folder / "link.pth").symlink_to(elsewhere)
    named = {
        "null": None,
        "own": f"{FOLDER}/own.pth",
        "link": f"{FOLDER}/link.pth",
        "absolute": str(elsewhere),
    }
    assert unwatched(named, tmp_path / "root") == ["link", "absolute"]
