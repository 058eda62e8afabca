"""What `reelforge doctor` says about the cluster; what else it checks is seen by whoever runs it."""

import shutil
import socket
from pathlib import Path

import pytest
import yaml

from components.errors import UserError
from flows.cli import doctor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    return tmp_path


def test_without_a_cluster_there_is_nothing_to_reach(workspace):
    assert doctor.CHECKS["cluster"]() == "none is named: work is done on this machine"


def test_a_cluster_that_is_named_and_not_there_is_reported(workspace):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["runtime"]["cluster"] = address
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(
        UserError, match=f"runtime.cluster: {address} does not answer .* null to work on this"
    ):
        doctor.CHECKS["cluster"]()
