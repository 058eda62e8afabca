"""The whole pipeline, in miniature, by the command of a user, on the services of one machine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.params import Params
from components.stages import stages_of
from tests.infra.running_services import (
    champions,
    contents,
    keys,
    marks,
    processes_of,
    rows,
    with_services,
)
from tests.workspace import call, reelforge

pytestmark = [*marks, pytest.mark.heavy]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Iterator[Path]:
    with with_services(tmp_path_factory.mktemp("pipeline") / "clone") as folder:
        for command in (("services", "up", "--free-ports"), ("demo",)):
            result = call(folder, "flows.cli.app", *command, seconds=2_000)
            assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        (folder.parent / "said.txt").write_text(result.stdout)
        yield folder


def test_runs_and_models_are_in_mlflows_database(ran):
    finished = {name for (name,) in rows(ran, "mlflow", "SELECT name FROM runs WHERE status = 'FINISHED'")}
    assert finished >= set(stages_of(Params.load(ran / "params.yaml")))
    assert "reelforge-t2v" in champions(ran)
    assert not (ran / "mlflow.db").exists()


def test_flow_runs_are_in_prefects_database(ran):
    states = rows(
        ran, "prefect", "SELECT f.name, r.state_type FROM flow_run r JOIN flow f ON f.id = r.flow_id"
    )
    assert ("reelforge", "COMPLETED") in {(name, str(state)) for name, state in states}


def test_artifacts_are_in_the_object_store(ran):
    found = keys(ran, "reelforge-mlflow")
    assert any(key.endswith("index.html") for key in found)
    assert any("/models/" in key for key in found)
    assert not (ran / "mlartifacts").exists()


def test_it_ends_by_saying_how_it_is_shared_and_what_was_pushed_comes_back(ran):
    said = " ".join((ran.parent / "said.txt").read_text().split())
    assert "dvc push && git add dvc.lock" in said
    assert "runtime.store: s3://reelforge-dvc/store" in said
    pushed = call(ran, "dvc", "push")
    assert pushed.returncode == 0, pushed.stderr
    made = contents(ran / "artifacts")
    assert len(made) > 30
    shutil.rmtree(ran / "artifacts")
    shutil.rmtree(ran / ".dvc/cache")
    pulled = reelforge(ran, "pull")
    assert pulled.returncode == 0, pulled.stderr
    assert contents(ran / "artifacts") == made


def test_the_champion_makes_a_video(ran):
    made = reelforge(ran, "generate", "a red circle moves left", "--model", "champion", "--output", "made")
    assert made.returncode == 0, made.stderr
    assert len(list((ran / "made").glob("*.mp4"))) == 1


def test_then_everything_stops_and_no_process_is_left(ran):
    assert reelforge(ran, "services", "down").returncode == 0
    assert processes_of(ran) == []
