"""What a later stage lacks is said before the first one runs."""

import shutil
from pathlib import Path

import pytest

from components.errors import UserError
from flows import pipeline
from flows.edit_params import set_values

ROOT = Path(__file__).parents[2]
LACKING = {
    "split": ({"split.detector": "transnetv2", "split.weights": "weights/none.pth"}, "split.weights"),
    "score": ({"score.text_model": "weights/none.onnx"}, "score.text_model"),
    "caption": ({"caption.vision": {"model": "a-model"}}, "runtime.caption_endpoint"),
}


@pytest.fixture
def root(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("stage", LACKING)
def test_weights_and_models_that_are_not_there_are_refused_before_any_stage_runs(root, stage):
    values, named = LACKING[stage]
    set_values(root / "params.yaml", values)
    with pytest.raises(UserError, match=named):
        pipeline.data.fn(root=str(root), stale=["ingest", stage])
    assert [path.name for path in root.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("stage", LACKING)
def test_a_stage_that_need_not_run_lacks_nothing(root, stage):
    """What it has made may have been pulled, and its weights may be on another machine."""
    values, _ = LACKING[stage]
    set_values(root / "params.yaml", values)
    params = pipeline.Params.load(root / "params.yaml")
    pipeline.check_models(root, params, {"ingest", "dedup"})
