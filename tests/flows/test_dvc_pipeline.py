"""The whole pipeline through `dvc repro`, in miniature."""

import json
import time
from pathlib import Path

import pytest

from components.params import Params
from components.stages import STAGES, stages_of
from flows.edit_params import set_values
from tests.workspace import call, make_workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = make_workspace(tmp_path_factory.mktemp("dvc") / "clone")
    result = call(folder, "dvc", "repro")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return folder


def ran(output: str) -> list[str]:
    return [name for name in STAGES if f"Running stage '{name}'" in output]


def test_dvc_repro_alone_takes_a_clean_clone_to_a_verdict(workspace):
    verdict = json.loads((workspace / "artifacts/gate/verdict.json").read_text())
    assert verdict["verdict"] in {"promote", "reject", "inconclusive"}
    for stage in stages_of(Params.load(workspace / "params.yaml")).values():
        assert (workspace / stage.report).exists(), stage.name


def test_nothing_changed_runs_nothing(workspace):
    started = time.monotonic()
    result = call(workspace, "dvc", "repro")
    assert result.returncode == 0
    assert ran(result.stdout) == []
    assert time.monotonic() - started < 60  # the aim of 15 s is for an idle machine, see docs/measurements.md


def test_metrics_and_plots_can_be_shown(workspace):
    metrics = call(workspace, "dvc", "metrics", "show", "--json")
    assert "reports/evaluate.json" in metrics.stdout
    shown = call(workspace, "dvc", "plots", "show", "--json", "curves/train@stage3.csv")
    assert shown.returncode == 0, shown.stderr
    assert "train@stage3" in shown.stdout


def test_more_steps_in_stage_3_run_that_stage_and_what_follows_it(workspace):
    set_values(workspace / "params.yaml", {"train.stage3.steps": 4})
    result = call(workspace, "dvc", "repro")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert ran(result.stdout) == ["train@stage3", "package", "ladder", "evaluate", "gate"]
