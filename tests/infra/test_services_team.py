"""A team on the services of one machine: deployed flows, a second clone with the same data, a run that is cancelled.

The tests of this file follow one another on the same services.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.edit_params import set_values
from tests.infra.running_services import (
    PrefectApi,
    contents,
    first_words,
    git,
    keys,
    marks,
    rows,
    wait_until_ended,
    with_services,
    worker,
)
from tests.workspace import call, reelforge

pytestmark = marks
SHARED_STORE = "s3://reelforge-dvc/store"
DATA_STAGES = {"footage", "ingest", "split", "score", "filter", "caption", "dedup", "validate"}


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("team") / "clone"
    with with_services(folder, **{"runtime.store": SHARED_STORE}) as workspace:
        result = reelforge(workspace, "services", "up", "--free-ports")
        assert result.returncode == 0, result.stdout + result.stderr
        yield workspace


@pytest.fixture(scope="module")
def api(running) -> Iterator[PrefectApi]:
    with worker(running) as made:
        yield made


@pytest.fixture(scope="module")
def ran(running, api) -> str:
    """Id of a run of the nightly deployment, asked for by the API."""
    run = api.start("data-refresh/nightly-data")
    api.wait_for(run, "COMPLETED", 900)
    return run


def test_a_deployments_run_is_in_prefects_database(running, ran):
    query = "SELECT f.name, r.state_type FROM flow_run r JOIN flow f ON f.id = r.flow_id WHERE r.id = %s"
    ((flow, state_type),) = rows(running, "prefect", query, ran)
    assert (flow, str(state_type)) == ("data-refresh", "COMPLETED")
    done = rows(running, "prefect", "SELECT name FROM task_run WHERE state_type = 'COMPLETED'")
    assert {name for (name,) in done} >= DATA_STAGES


def test_its_stages_are_in_mlflows_database(running, ran):
    finished = {
        name for (name,) in rows(running, "mlflow", "SELECT name FROM runs WHERE status = 'FINISHED'")
    }
    assert finished >= DATA_STAGES
    assert not (running / "mlflow.db").exists()


def test_its_log_says_how_the_team_gets_what_it_made(running, ran, api):
    deadline = time.monotonic() + 30  # logs are sent in batches
    while "reelforge pull" not in (log := api.log(ran)) and time.monotonic() < deadline:
        time.sleep(1)
    assert "git add dvc.lock reports" in log
    assert "reelforge pull" in log


@pytest.fixture(scope="module")
def second_clone(running, ran) -> Path:
    """Of a team member on the same machine, after what the run's log says was done."""
    pushed = call(running, "dvc", "push")
    assert pushed.returncode == 0, pushed.stderr
    git(running, "add", "dvc.lock", "reports")
    git(running, "commit", "-q", "-m", "a run")
    clone = running.parent / "second"
    git(running, "clone", "-q", str(running), str(clone))
    return clone


def test_a_second_clone_gets_the_same_files_from_the_remote(running, second_clone):
    alone = reelforge(second_clone, "pull")
    assert alone.returncode == 2
    assert "reelforge services join" in alone.stderr
    assert reelforge(second_clone, "services", "join", str(running)).returncode == 0
    pulled = reelforge(second_clone, "pull")
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    for folder in ("artifacts", "data/footage"):
        assert contents(second_clone / folder) == contents(running / folder)
    assert any(key.startswith("files/md5/") for key in keys(running, "reelforge-dvc"))
    said = reelforge(second_clone, "status").stdout
    assert all(re.search(rf"^{name} +up to date", said, re.MULTILINE) for name in DATA_STAGES), said
    assert git(second_clone, "status", "--porcelain") == ""


def test_it_goes_on_from_the_tables_of_the_shared_store(second_clone):
    again = reelforge(second_clone, "stage", "validate", "--force")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not (second_clone / "store/clips.lance").exists()


def test_what_nobody_pushed_is_an_error_and_not_silence(running, second_clone):
    lock = yaml.safe_load((second_clone / "dvc.lock").read_text())
    lock["stages"]["filter"]["outs"][0]["md5"] = "0" * 32
    (second_clone / "dvc.lock").write_text(yaml.safe_dump(lock))
    pulled = reelforge(second_clone, "pull")
    git(second_clone, "checkout", "-q", "dvc.lock")
    assert pulled.returncode == 2
    assert "has to push" in " ".join(pulled.stderr.split())


def test_a_clone_that_joined_does_not_stop_what_others_use(running, second_clone):
    assert reelforge(second_clone, "services", "status").returncode == 0
    for command in ("down", "up", "rotate", "delete"):
        refused = reelforge(second_clone, "services", command)
        assert refused.returncode == 2
        assert f"belong to {running}" in " ".join(refused.stderr.split())
    assert reelforge(second_clone, "services", "leave").returncode == 0
    assert not (second_clone / "profile.yaml").exists()
    assert reelforge(running, "services", "status").returncode == 0


def test_a_cancelled_run_ends_its_stage_which_goes_on_from_its_checkpoint(running, ran, api):
    """Cancelled through the API, as a button of Prefect's page does."""
    changes = {"autoencoder.image.steps": 100_000, "autoencoder.image.checkpoint_steps": 5}
    set_values(running / "params.yaml", changes)
    checkpoints = running / "checkpoints/autoencoder@image"
    run = api.start("reelforge/weekly-training")
    deadline = time.monotonic() + 600
    while not list(checkpoints.glob("step-*")):
        assert time.monotonic() < deadline, api.log(run)[-3000:]
        time.sleep(0.2)
    api.ask(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    api.wait_for(run, "CANCELLED", 120)
    wait_until_ended(running)
    status = reelforge(running, "status").stdout
    reached = int(re.search(r"^autoencoder@image +interrupted at step (\d+)", status, re.MULTILINE)[1])
    assert reached > 0
    assert f"resuming at step {reached}/" in first_words(running, "autoencoder@image")
    git(running, "checkout", "-q", "params.yaml")
