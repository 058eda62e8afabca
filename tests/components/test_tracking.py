"""Tracking through a real MLflow: what a run records, how it ends, and that it never stands in a stage's way."""

import logging
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from components import tracking
from components.params import Params
from components.report import Report
from components.stages import find
from components.tracking_writer import connect

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path, empty_database, monkeypatch):
    """A workspace that tracks into a database of its own."""
    monkeypatch.setenv("REELFORGE_TRACKING", "on")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    shutil.copyfile(REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


def started(root: Path, name: str = "train@stage1"):
    """`stage_run` of a stage in this workspace."""
    params = Params.load(root / "params.yaml")
    stage = find(name)
    return tracking.stage_run(stage, params, stage.paths(root, params))


def run_named(root: Path, name: str):
    client = connect(root)
    experiment = client.get_experiment_by_name("reelforge")
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    return client, run


def test_a_run_records_parameters_metrics_outputs_and_files(root):
    (root / "curves").mkdir()
    (root / "curves/train@stage1.csv").write_text("step,loss\n1,0.5\n")
    report = Report("train@stage1", metrics={"loss": 0.5}, counts={"clips": 7})
    with started(root) as tracked:
        for step in range(5):
            tracking.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
        report.write(root / "reports/train@stage1.json")
        tracked.finish(report)
    client, run = run_named(root, "train@stage1")
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.lr"] == str(Params.load(root / "params.yaml").train.stage1.optimizer.lr)
    assert [point.value for point in client.get_metric_history(run.info.run_id, "train/loss")][-1] == 0.2
    assert (run.data.metrics["loss"], run.data.metrics["counts/clips"]) == (0.5, 7)
    assert run.data.metrics["system/peak_memory_megabytes"] > 10
    assert run.data.tags["output.curve"].startswith("sha256:")
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "train@stage1.csv",
        "train@stage1.json",
    }
    assert (root / "mlartifacts").is_dir()


def test_stages_are_children_of_the_pipeline_that_started_them(root, monkeypatch):
    params = Params.load(root / "params.yaml")
    with tracking.pipeline_run(root, params, "pipeline") as parent:
        monkeypatch.setenv("REELFORGE_PARENT_RUN", parent)
        with started(root, "dedup") as tracked:
            tracked.finish(Report("dedup"))
        tracking.note_cached(root, parent, "dedup")
        tracking.note_cached(root, parent, "filter")
    _, child = run_named(root, "dedup")
    _, pipeline = run_named(root, "pipeline")
    assert child.data.tags["mlflow.parentRunId"] == parent == pipeline.info.run_id
    assert pipeline.data.tags["stage.dedup"] == f"cached, made by {child.info.run_id}"
    assert pipeline.data.tags["stage.filter"] == "cached, made by a run that was not tracked"


def test_a_stage_is_traced_to_the_run_that_made_what_is_here_and_not_to_the_newest(
    root, tmp_path_factory, monkeypatch
):
    """Two workspaces share a server: each finds its own run; so does one that goes back to an older result."""
    other = tmp_path_factory.mktemp("other")
    shutil.copyfile(root / "params.yaml", other / "params.yaml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    made = {}
    for place, loss in ((root, 0.5), (other, 0.25)):
        report = Report("dedup", metrics={"loss": loss})
        with started(place, "dedup") as tracked:
            report.write(place / "reports/dedup.json")
            tracked.finish(report)
        made[place] = tracked.run_id
    assert made[root] != made[other]
    for place, run in made.items():
        assert tracking.stage_summaries(place)["dedup"].run_id == run
        assert tracking.last_success(place, "dedup") == run


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_that_stops_early_says_how(root, error, status):
    with pytest.raises(type(error)), started(root, "gate"):
        raise error
    _, run = run_named(root, "gate")
    assert run.info.status == status
    assert ("boom" in run.data.tags.get("error", "")) == (status == "FAILED")


def test_a_training_step_does_not_wait_for_mlflow(root):
    with started(root):
        begun = time.monotonic()
        for step in range(2_000):
            tracking.log_metrics({"train/loss": 1.0}, step)
        assert time.monotonic() - begun < 0.5
    _, run = run_named(root, "train@stage1")
    assert run.data.metrics["train/loss"] == 1.0


def test_a_locked_database_loses_nothing(root):
    connection = sqlite3.connect(root / "mlflow.db", check_same_thread=False, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    threading.Timer(2.0, lambda: connection.execute("ROLLBACK")).start()
    with started(root):
        for step in range(100):
            tracking.log_metrics({"train/loss": float(step)}, step)
    client, run = run_named(root, "train@stage1")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(point.value for point in history) == [float(step) for step in range(100)]
    connection.close()


def test_a_server_that_is_away_costs_a_warning_and_not_the_run(root, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracking, "CLOSE_SECONDS", 1.0)
    with caplog.at_level(logging.WARNING), started(root) as tracked:
        tracking.log_metrics({"train/loss": 1.0}, 1)
        tracked.finish(Report("train@stage1"))
    assert "http://127.0.0.1:9 did not take" in caplog.text


def test_nothing_is_written_when_tracking_is_off(root, monkeypatch):
    monkeypatch.setenv("REELFORGE_TRACKING", "off")
    before = (root / "mlflow.db").read_bytes()
    with started(root) as tracked:
        tracking.log_metrics({"train/loss": 1.0}, 1)
        tracked.finish(Report("train@stage1"))
    assert (root / "mlflow.db").read_bytes() == before
    assert tracked.run_id is None


def test_a_run_is_found_again_in_the_servers_pages_and_nobodys_password_with_it(root, monkeypatch):
    assert tracking.link_to(root, "1", "abc") == ""  # an SQLite file has no pages
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://someone:secret@mlflow.example:8443/team/")
    link = tracking.link_to(root, "1", "abc")
    assert link == "https://mlflow.example:8443/team/#/experiments/1/runs/abc"
