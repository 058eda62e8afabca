"""The whole pipeline, in miniature: through the command line and Prefect, on a real server, and by DVC alone.

Its stages run once, in the first workspace. The clone that DVC is tried in gets what a colleague gets who shares the
cache and the store: DVC finds every stage in its run cache by the declared inputs, and a stage that is run again there
has nothing but declared outputs to read.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.params import Params
from components.stages import STAGES, stages_of
from flows.edit_params import set_values
from tests.workspace import call, environment, make_workspace, reelforge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = make_workspace(tmp_path_factory.mktemp("prefect") / "clone")
    result = reelforge(folder, "demo")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (folder.parent / "first.txt").write_text(result.stdout)
    return folder


def client(folder: Path):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def pipeline_runs(folder: Path):
    tracking = client(folder)
    experiment = tracking.get_experiment_by_name("reelforge")
    runs = tracking.search_runs(
        [experiment.experiment_id], order_by=["attributes.start_time ASC"], max_results=500
    )
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    return parents, children


def test_demo_ends_with_a_page_and_says_where_everything_is(workspace):
    said = (workspace.parent / "first.txt").read_text()
    assert "reports/index.html" in said
    assert "MLflow" in said and "Prefect" in said
    page = (workspace / "reports/index.html").read_text()
    assert page.count("<video") >= 4
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_every_stage_is_a_child_run_with_parameters_and_its_result(workspace):
    parents, children = pipeline_runs(workspace)
    assert parents[0].info.status == "FINISHED"
    assert {run.info.run_name for run in children} >= set(stages_of(Params.load(workspace / "params.yaml")))
    stage3 = next(run for run in children if run.info.run_name == "train@stage3")
    assert stage3.data.params["steps"] == "3"
    assert "train/loss" in stage3.data.metrics


def test_the_first_champion_is_the_candidate_that_kept_the_floors(workspace):
    verdict = json.loads((workspace / "artifacts/gate/verdict.json").read_text())
    assert verdict["verdict"] == "promote"
    aliases = client(workspace).get_registered_model("reelforge-t2v").aliases
    assert aliases["champion"] == aliases["candidate"]


def test_running_again_runs_no_stage_and_changes_no_version(workspace):
    before = client(workspace).get_registered_model("reelforge-t2v").aliases
    started = time.monotonic()
    result = reelforge(workspace, "run")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    total = len(stages_of(Params.load(workspace / "params.yaml")))
    assert f"0 stages run, {total} up to date" in result.stdout
    # the limit of 60 s is for an idle machine, see docs/measurements.md
    assert time.monotonic() - started < 120
    assert client(workspace).get_registered_model("reelforge-t2v").aliases == before


def test_status_knows_that_everything_is_up_to_date(workspace):
    result = reelforge(workspace, "status")
    assert result.returncode == 0
    assert "everything is up to date" in result.stdout
    assert "champion" in result.stdout


def test_generate_writes_a_video_of_the_champion(workspace):
    import av

    result = reelforge(
        workspace, "generate", "a red circle moves left", "--model", "champion", "--output", "made"
    )
    assert result.returncode == 0, result.stderr
    (video,) = (workspace / "made").glob("*.mp4")
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 9


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(workspace) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command,
        cwd=workspace,
        env=environment(workspace),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_healthy(f"{url}/health")
        yield url
    finally:
        stop(process)


def wait_until_healthy(url: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(url)


def stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_deployments_run_on_a_real_server_with_a_process_pool(workspace, server):
    settings = {"PREFECT_API_URL": server, "REELFORGE_ROOT": str(workspace)}
    assert (
        call(workspace, "prefect", "work-pool", "create", "local", "--type", "process", **settings).returncode
        == 0
    )
    deployed = call(workspace, "prefect", "--no-prompt", "deploy", "--all", **settings)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    listed = call(workspace, "prefect", "deployment", "ls", **settings).stdout
    assert all(name in listed for name in ("nightly-data", "weekly-training", "evaluate-candidate"))
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local"],
        cwd=workspace,
        env=environment(workspace, **settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.environ.pop("PREFECT_API_URL", None)
        result = call(
            workspace,
            "prefect",
            "deployment",
            "run",
            "data-refresh/nightly-data",
            "--watch",
            seconds=240,
            **settings,
        )
    finally:
        stop(worker)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    assert "Completed" in result.stdout


def repro(folder: Path, *targets: str) -> list[str]:
    """The stages that `dvc repro` ran. Nothing tracks them: that they can be is seen above."""
    result = call(folder, "dvc", "repro", *targets, REELFORGE_TRACKING="off")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return [name for name in STAGES if f"Running stage '{name}'" in result.stdout]


@pytest.fixture(scope="module")
def clone(workspace, tmp_path_factory) -> Path:
    """A clean clone with the cache and the store of the workspace."""
    folder = make_workspace(tmp_path_factory.mktemp("dvc") / "clone")
    for name in (".dvc/cache", "store"):
        shutil.copytree(workspace / name, folder / name)
    return folder


def test_dvc_repro_alone_takes_a_clean_clone_to_the_same_verdict(workspace, clone):
    assert repro(clone) == []  # all of it is in the cache
    for stage in stages_of(Params.load(clone / "params.yaml")).values():
        for path in (stage.report, *stage.outputs.values()):
            assert (clone / path).exists(), path
    here, there = (yaml.safe_load((folder / "dvc.lock").read_text()) for folder in (clone, workspace))
    assert here == there


def test_nothing_changed_runs_nothing(clone):
    started = time.monotonic()
    assert repro(clone) == []
    assert time.monotonic() - started < 60  # the aim of 15 s is for an idle machine, see docs/measurements.md


def test_metrics_and_plots_can_be_shown(clone):
    metrics = call(clone, "dvc", "metrics", "show", "--json")
    assert "reports/evaluate.json" in metrics.stdout
    shown = call(clone, "dvc", "plots", "show", "--json", "curves/train@stage3.csv")
    assert shown.returncode == 0, shown.stderr
    assert "train@stage3" in shown.stdout


def test_more_steps_in_stage_3_run_that_stage_and_what_follows_it(clone):
    set_values(clone / "params.yaml", {"train.stage3.steps": 4})
    assert repro(clone) == ["train@stage3", "package", "ladder", "evaluate", "gate"]


def test_dvc_repro_alone_curates_other_footage_from_nothing(clone):
    for name in ("artifacts", "data", "reports", "store"):
        shutil.rmtree(clone / name)
    set_values(clone / "params.yaml", {"footage.seed": 5})
    assert repro(clone, "validate") == [
        "footage",
        "ingest",
        "split",
        "score",
        "filter",
        "caption",
        "dedup",
        "validate",
    ]
    assert json.loads((clone / "artifacts/validate/result.json").read_text())["rows"] > 0
