"""Services of one machine: they come up, flows and a team work on them, they stop and leave nothing but data.

The tests of this file follow one another on the same services. The whole pipeline: test_services_pipeline.py.
"""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from components.registry.promote import promote_by_verdict
from components.registry.register import register_candidate
from flows.edit_params import set_values
from tests.components.registry.release_files import make_release
from tests.infra.running_services import (
    PrefectApi,
    champions,
    contents,
    first_words,
    git,
    is_free,
    keys,
    marks,
    passwords,
    pids,
    ports,
    processes_of,
    rows,
    wait_until_ended,
    with_services,
    worker,
)
from tests.workspace import call, environment, reelforge

pytestmark = marks
SHARED_STORE = "s3://reelforge-dvc/store"
DATA_STAGES = {"footage", "ingest", "split", "score", "filter", "caption", "dedup", "validate"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Iterator[Path]:
    """Fewer and shorter videos than elsewhere: what is looked at is where things end up."""
    folder = tmp_path_factory.mktemp("services") / "clone"
    with with_services(folder, **{"footage.files": 5, "runtime.store": SHARED_STORE}) as made:
        yield made


@pytest.fixture(scope="module")
def running(workspace) -> Path:
    result = reelforge(workspace, "services", "up", "--free-ports")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^ +\d+ s  prefect is up", result.stdout, re.MULTILINE)
    return workspace


@pytest.fixture(scope="module")
def profile(running) -> dict:
    return yaml.safe_load((running / "profile.yaml").read_text())


def test_all_four_answer(running):
    result = reelforge(running, "services", "status")
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("healthy") == 4


def test_secrets_are_their_owners_and_not_gits(running):
    files = list((running / ".services/secrets").iterdir())
    assert len(files) >= 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert git(running, "status", "--porcelain", "--untracked-files=all") == ""


def test_no_password_is_in_a_command_line_or_in_the_profile(running):
    lines = "\n".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    text = (running / "profile.yaml").read_text() + (running / ".dvc/config.local").read_text()
    for word in passwords(running).values():
        assert word not in lines
        assert word not in text


def test_everything_listens_on_loopback(running):
    leaders = set(pids(running).values())
    assert len(leaders) == 4
    ours = {process.pid for process in psutil.process_iter() if _session(process.pid) in leaders}
    listening = [
        each for each in psutil.net_connections("inet") if each.status == "LISTEN" and each.pid in ours
    ]
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    assert {each.laddr.port for each in listening} == set(ports(running).values())


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def test_postgres_refuses_another_password(running):
    import psycopg

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            host="127.0.0.1",
            port=ports(running)["postgres"],
            user="mlflow",
            password="guess",
            dbname="mlflow",
        )


def test_a_second_start_starts_nothing(running):
    before = pids(running)
    result = reelforge(running, "services", "up")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("runs already") == 4
    assert pids(running) == before


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


def test_a_second_clone_gets_the_same_files_from_the_remote(running, second_clone, profile):
    alone = reelforge(second_clone, "pull")
    assert alone.returncode == 2
    assert "reelforge services join" in alone.stderr
    assert reelforge(second_clone, "services", "join", str(running)).returncode == 0
    pulled = reelforge(second_clone, "pull")
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    for folder in ("artifacts", "data/footage"):
        assert contents(second_clone / folder) == contents(running / folder)
    assert any(key.startswith("files/md5/") for key in keys(running, profile["buckets"]["dvc"]))
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


@pytest.fixture(scope="module")
def released(running, profile, tmp_path_factory) -> dict:
    """A tiny model, registered and promoted by the code that the flow's last tasks call."""
    root = tmp_path_factory.mktemp("released")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", profile["mlflow_uri"])
        params = make_release(root)
        promote_by_verdict(root, params, register_candidate(root, params))
    return profile


def test_a_registered_version_is_on_postgres_and_s3_and_loads(running, released):
    import mlflow

    assert "reelforge-t2v" in champions(running)
    assert any("/pipeline/" in key for key in keys(running, released["buckets"]["mlflow"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", released["mlflow_uri"])
        model = mlflow.pyfunc.load_model("models:/reelforge-t2v@champion")
        (video,) = model.predict(["a red circle moves left"], params={"num_frames": 5})
    assert video[4:8] == b"ftyp"


def test_doctor_tells_what_is_in_force_and_that_it_serves(running, released):
    said = " ".join(reelforge(running, "doctor").stdout.split())
    assert "reelforge services" in said
    assert released["mlflow_uri"] in said
    assert released["buckets"]["dvc"] in said
    assert "reelforge-t2v v1" in said


def test_a_killed_database_and_server_are_told_and_come_back(running, released):
    before = pids(running)
    for name in ("postgres", "mlflow"):
        os.kill(before[name], signal.SIGKILL)
    status = reelforge(running, "services", "status")
    assert status.returncode == 1
    assert re.search(r"^stopped +postgres", status.stdout, re.MULTILINE)
    assert re.search(r"^stopped +mlflow", status.stdout, re.MULTILINE)
    assert re.search(r"^no answer +prefect", status.stdout, re.MULTILINE), "it cannot read its database"
    up = reelforge(running, "services", "up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert {name for name, pid in pids(running).items() if pid != before[name]} == {"postgres", "mlflow"}
    assert "reelforge-t2v" in champions(running)


def test_new_passwords_replace_all_old_ones_and_the_data_stay(running, released):
    old = passwords(running)
    result = reelforge(running, "services", "rotate")
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(passwords(running).values()).isdisjoint(old.values())
    assert reelforge(running, "services", "status").returncode == 0
    assert "reelforge-t2v" in champions(running)


def test_deleting_asks_for_the_name(running, released):
    refused = subprocess.run(
        [sys.executable, "-m", "flows.cli.app", "services", "delete"],
        cwd=running,
        env=environment(running),
        input="yes\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert f"Type {running.name} to delete" in refused.stdout
    assert "nothing was deleted" in refused.stderr
    assert "reelforge-t2v" in champions(running)


@pytest.fixture(scope="module")
def stopped(running, released) -> Path:
    down = reelforge(running, "services", "down")
    assert down.returncode == 0, down.stderr
    return running


def test_after_a_stop_nothing_is_left_but_data(stopped):
    assert processes_of(stopped) == []
    assert all(is_free(port) for port in ports(stopped).values())
    numbers = {str(port) for port in ports(stopped).values()}
    assert not [path for path in Path("/tmp").glob("seaweedfs-*.sock") if path.stem.split("-")[-1] in numbers]
    assert not (stopped / "profile.yaml").exists()
    assert "reelforge" not in (stopped / ".dvc/config.local").read_text()


def test_without_a_profile_nothing_is_changed(stopped):
    code = "from pathlib import Path; from components.runtime import tracking_uri, use_profile as use;"
    said = subprocess.run(
        [sys.executable, "-c", code + "print(use(Path()), tracking_uri(Path()))"],
        cwd=stopped,
        env=environment(stopped),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith("None sqlite:///")


def test_a_record_with_another_process_under_its_id_harms_nobody(stopped):
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    try:
        record = stopped / ".services/running/mlflow.json"
        record.write_text(json.dumps({"pid": bystander.pid, "started": 1.0}))
        assert reelforge(stopped, "services", "down").returncode == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_port_that_is_taken_is_named_and_nothing_starts(stopped):
    port = ports(stopped)["prefect"]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        result = reelforge(stopped, "services", "up")
    assert result.returncode == 2
    assert f"prefect {port}" in " ".join(result.stderr.split())
    assert processes_of(stopped) == []


def test_the_next_start_has_the_data_of_the_last(stopped, ran):
    up = reelforge(stopped, "services", "up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "reelforge-t2v" in champions(stopped)
    assert rows(stopped, "prefect", "SELECT count(*) FROM flow_run WHERE id = %s", ran) == [(1,)]
    assert keys(stopped, "reelforge-dvc")
