"""What a model was made from, in a workspace in which models of several systems were trained."""

import pytest
import yaml

from components.params import Params
from components.registry.lineage import build_lineage
from components.registry.page import origins
from components.tracking import RunSummary
from tests.components.registry.release_files import REPOSITORY, write_clips

LOCKS = {
    "dvc.lock": ("split", "autoencoder@image", "train@stage3", "package"),
    "pipelines/hdvila/dvc.lock": ("hdvila_autoencoder", "hdvila@stage2"),
    "pipelines/walt/dvc.lock": ("walt@wide",),
}
OWN = {  # in the order in which they run
    "demo": ["split", "autoencoder@image", "train@stage3", "package"],
    "hdvila_tiny": ["split", "hdvila_autoencoder", "hdvila@stage2", "package"],
    "walt_tiny": ["split", "walt@wide", "package"],
}


@pytest.fixture
def workspace(tmp_path):
    write_clips(tmp_path)
    for path, names in LOCKS.items():
        stages = {name: {"cmd": "", "outs": [{"path": f"out/{name}", "md5": f"of {name}"}]} for name in names}
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(yaml.safe_dump({"stages": stages}))
    return tmp_path


@pytest.mark.parametrize("recipe", OWN)
def test_a_model_descends_from_the_stages_of_its_own_system(workspace, recipe):
    params = Params.load(REPOSITORY / f"recipes/{recipe}.yaml")
    stages = build_lineage(workspace, params)["stages"]
    assert list(stages) == OWN[recipe]
    assert stages["package"]["writes"] == {"out/package": "md5:of package"}
    assert [origin.stage for origin in origins.lineage(workspace, params, {})] == OWN[recipe]


def test_a_stage_that_only_the_tracking_knows_of_has_its_place(workspace):
    params = Params.load(REPOSITORY / "recipes/walt_tiny.yaml")
    known = dict.fromkeys(("gate", "walt@base"), RunSummary("run", 1.0, None, {}, {}))
    told = [origin.stage for origin in origins.lineage(workspace, params, known)]
    assert told == ["split", "walt@base", "walt@wide", "package", "gate"]
