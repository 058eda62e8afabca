"""Services of one machine: they come up, the pipeline runs on them, they stop and leave nothing but data."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from components.stages import STAGES
from flows.services import postgres, state
from flows.services.postgres import PROGRAM_FOLDERS
from tests.workspace import call, environment, make_workspace, reelforge

PROGRAMS = [folder for pattern in PROGRAM_FOLDERS for folder in Path("/").glob(pattern[1:])]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.infra,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        not PROGRAMS and shutil.which("initdb") is None,
        reason="PostgreSQL's server programs are not on this machine: apt-get install postgresql",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def no_settings_of_aws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AWS_"):
                patch.delenv(name)
        yield


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name the services' folders, or run in them, or whose environment does."""
    places = [str(folder / ".services")]
    if (folder / ".services/ports.json").is_file():
        places.append(str(postgres.home(state.load(folder))))
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd(), *process.environ().values()]
            lives = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if lives and process.pid != os.getpid() and any(place in word for word in words for place in places):
            found.append(" ".join(process.cmdline()))
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Iterator[Path]:
    folder = make_workspace(tmp_path_factory.mktemp("services") / "clone")
    try:
        yield folder
    finally:
        data = postgres.home(state.load(folder))
        deleted = reelforge(folder, "services", "delete", "--yes")
        assert deleted.returncode == 0, deleted.stderr
        assert not data.exists()
        assert not (folder / ".services").exists()


@pytest.fixture(scope="module")
def running(workspace) -> Path:
    result = reelforge(workspace, "services", "up", "--free-ports")
    assert result.returncode == 0, result.stdout + result.stderr
    return workspace


@pytest.fixture(scope="module")
def profile(running) -> dict:
    return yaml.safe_load((running / "profile.yaml").read_text())


def passwords(folder: Path) -> dict[str, str]:
    return json.loads((folder / ".services/secrets/passwords.json").read_text())


def test_all_four_answer(running):
    result = reelforge(running, "services", "status")
    assert result.returncode == 0, result.stdout
    assert result.stdout.count("healthy") == 4


def test_secrets_are_their_owners_and_not_gits(running):
    files = list((running / ".services/secrets").iterdir())
    assert len(files) >= 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    git = ["git", "-C", str(running), "status", "--porcelain", "--untracked-files=all"]
    assert subprocess.run(git, capture_output=True, text=True, check=True).stdout == ""


def test_no_password_is_in_a_command_line_or_in_the_profile(running):
    lines = "\n".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    text = (running / "profile.yaml").read_text() + (running / ".dvc/config.local").read_text()
    for word in passwords(running).values():
        assert word not in lines
        assert word not in text


def test_everything_listens_on_loopback(running):
    pids = {json.loads(path.read_text())["pid"] for path in (running / ".services/running").glob("*.json")}
    assert len(pids) == 4
    ours = {process.pid for process in psutil.process_iter() if _session(process.pid) in pids}
    listening = [
        each for each in psutil.net_connections("inet") if each.status == "LISTEN" and each.pid in ours
    ]
    assert len(listening) >= 4
    assert {each.laddr.ip for each in listening} <= {"127.0.0.1"}


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def test_postgres_refuses_another_password(running, profile):
    import psycopg

    host, port = profile["databases"]["mlflow"].split("/")[0].split(":")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=host, port=int(port), user="mlflow", password="guess", dbname="mlflow")


def test_a_second_start_starts_nothing(running):
    before = sorted(path.read_text() for path in (running / ".services/running").glob("*.json"))
    result = reelforge(running, "services", "up")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("runs already") == 4
    assert sorted(path.read_text() for path in (running / ".services/running").glob("*.json")) == before


@pytest.fixture(scope="module")
def ran(running) -> Path:
    result = call(running, "flows.cli.app", "demo", seconds=2_000)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return running


def rows(folder: Path, database: str, query: str) -> list[tuple]:
    import psycopg

    ports = json.loads((folder / ".services/ports.json").read_text())
    words = passwords(folder)
    with psycopg.connect(
        host="127.0.0.1", port=ports["postgres"], user=database, password=words[database], dbname=database
    ) as connection:
        return connection.execute(query).fetchall()


def test_runs_and_models_are_in_mlflows_database(ran):
    finished = {name for (name,) in rows(ran, "mlflow", "SELECT name FROM runs WHERE status = 'FINISHED'")}
    assert finished >= set(STAGES)
    assert ("reelforge-t2v", "champion") in rows(
        ran, "mlflow", "SELECT name, alias FROM registered_model_aliases"
    )
    assert not (ran / "mlflow.db").exists()


def test_flow_runs_are_in_prefects_database(ran):
    states = rows(
        ran, "prefect", "SELECT f.name, r.state_type FROM flow_run r JOIN flow f ON f.id = r.flow_id"
    )
    assert ("reelforge", "COMPLETED") in {(name, str(state)) for name, state in states}


def store(folder: Path, profile: dict):
    import boto3

    words = passwords(folder)
    return boto3.session.Session().client(
        "s3",
        endpoint_url=profile["s3_endpoint"],
        aws_access_key_id=words["s3_key"],
        aws_secret_access_key=words["s3_secret"],
        region_name=profile["region"],
    )


def keys(client, bucket: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


def test_artifacts_are_in_the_object_store(ran, profile):
    found = keys(store(ran, profile), profile["buckets"]["mlflow"])
    assert any(key.endswith("index.html") for key in found)
    assert any("/models/" in key for key in found)
    assert not (ran / "mlartifacts").exists()


def test_what_was_pushed_comes_back(ran, profile):
    pushed = call(ran, "dvc", "push")
    assert pushed.returncode == 0, pushed.stderr
    assert keys(store(ran, profile), profile["buckets"]["dvc"])
    made = contents(ran / "artifacts/evaluate")
    assert len(made) > 1
    shutil.rmtree(ran / "artifacts/evaluate")
    shutil.rmtree(ran / ".dvc/cache")
    pulled = call(ran, "dvc", "pull", "evaluate")
    assert pulled.returncode == 0, pulled.stderr
    assert contents(ran / "artifacts/evaluate") == made


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_doctor_tells_what_is_in_force_and_that_it_serves(ran, profile):
    said = " ".join(reelforge(ran, "doctor").stdout.split())
    assert "reelforge services" in said
    assert profile["mlflow_uri"] in said
    assert profile["buckets"]["dvc"] in said


def test_after_a_stop_nothing_runs_and_the_data_come_back(ran):
    down = reelforge(ran, "services", "down")
    assert down.returncode == 0, down.stderr
    assert processes_of(ran) == []
    assert not (ran / "profile.yaml").exists()
    assert "reelforge" not in (ran / ".dvc/config.local").read_text()
    up = reelforge(ran, "services", "up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert ("reelforge-t2v", "champion") in rows(
        ran, "mlflow", "SELECT name, alias FROM registered_model_aliases"
    )


def test_servers_that_were_killed_are_replaced(ran):
    killed = {}
    for path in (ran / ".services/running").glob("*.json"):
        killed[path.stem] = json.loads(path.read_text())["pid"]
        os.kill(killed[path.stem], 9)
    assert reelforge(ran, "services", "status").returncode == 1
    up = reelforge(ran, "services", "up")
    assert up.returncode == 0, up.stdout + up.stderr
    for path in (ran / ".services/running").glob("*.json"):
        assert json.loads(path.read_text())["pid"] != killed[path.stem]
    assert rows(ran, "mlflow", "SELECT count(*) FROM runs")[0][0] > len(STAGES)


def test_new_passwords_replace_all_old_ones_and_the_data_stay(ran):
    old = passwords(ran)
    result = reelforge(ran, "services", "rotate")
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(passwords(ran).values()).isdisjoint(old.values())
    assert rows(ran, "mlflow", "SELECT count(*) FROM runs")[0][0] > len(STAGES)
    assert reelforge(ran, "services", "status").returncode == 0


def test_a_record_with_another_process_under_its_id_harms_nobody(ran):
    assert reelforge(ran, "services", "down").returncode == 0
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    try:
        record = ran / ".services/running/mlflow.json"
        record.write_text(json.dumps({"pid": bystander.pid, "started": 1.0}))
        assert reelforge(ran, "services", "down").returncode == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_port_that_is_taken_is_named_and_nothing_starts(ran):
    port = json.loads((ran / ".services/ports.json").read_text())["prefect"]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        result = reelforge(ran, "services", "up")
    assert result.returncode == 2
    assert f"prefect {port}" in " ".join(result.stderr.split())
    assert processes_of(ran) == []


def test_without_a_profile_nothing_is_changed(ran):
    assert not (ran / "profile.yaml").exists()
    code = "from pathlib import Path; from components.runtime import tracking_uri, use_profile as use;"
    said = subprocess.run(
        [sys.executable, "-c", code + "print(use(Path()), tracking_uri(Path()))"],
        cwd=ran,
        env=environment(ran),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith("None sqlite:///")
