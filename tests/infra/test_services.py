"""Services of one machine: they come up, tell what is wrong with them, stop and leave nothing but data.

The tests of this file follow one another on the same services. What works on them: test_services_team.py, and the
whole pipeline in test_services_pipeline.py.
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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
import yaml

from components.errors import UserError
from components.registry.promote import promote_by_verdict
from components.registry.register import register_candidate
from flows.cli.doctor_services import service_checks
from tests.components.registry.release_files import make_release
from tests.infra.running_services import (
    champions,
    git,
    is_free,
    keys,
    marks,
    passwords,
    pids,
    ports,
    processes_of,
    store,
    with_services,
)
from tests.workspace import environment, reelforge

pytestmark = marks


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Iterator[Path]:
    with with_services(tmp_path_factory.mktemp("services") / "clone") as folder:
        yield folder


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


@pytest.fixture
def doctor(running, released) -> Callable[[str], str]:
    """What doctor says of one thing, asked anew as by a new command."""

    def ask(name: str) -> str:
        for setting in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE"):
            os.environ.pop(setting, None)
        return service_checks(running)[name]()

    return ask


def test_doctor_tells_a_password_that_was_changed(running, doctor):
    assert "mlflow" in doctor("databases")
    file = running / ".services/secrets/passwords.json"
    right = file.read_text()
    file.write_text(right.replace(passwords(running)["postgres"], "another"))
    with pytest.raises(UserError, match=r"does not take the password of .*passwords\.json"):
        doctor("databases")
    file.write_text(right)


def test_doctor_tells_a_bucket_that_is_gone_and_the_next_start_makes_it(running, doctor):
    assert "reelforge-raw" in doctor("buckets")
    store(running).delete_bucket(Bucket="reelforge-raw")
    with pytest.raises(
        UserError, match="bucket reelforge-raw is not there: `reelforge services up` makes it"
    ):
        doctor("buckets")
    assert reelforge(running, "services", "up").returncode == 0
    assert "reelforge-raw" in doctor("buckets")


def test_doctor_tells_keys_that_are_wrong_or_gone(running, doctor):
    file = running / ".services/secrets/aws_credentials"
    right = file.read_text()
    for name, word in (("s3_key", "InvalidAccessKeyId"), ("s3_secret", "SignatureDoesNotMatch")):
        file.write_text(right.replace(passwords(running)[name], "another"))
        with pytest.raises(
            UserError, match=rf"does not take our keys \({word}\): `reelforge services up` writes"
        ):
            doctor("buckets")
    file.unlink()
    with pytest.raises(UserError, match="holds the S3 keys, cannot be read: `reelforge services up` writes"):
        doctor("profile")
    file.write_text(right)
    assert "reelforge-raw" in doctor("buckets")


def test_doctor_tells_a_clock_that_is_wrong(doctor, monkeypatch):
    """Signatures of an hour ago, as a machine makes them whose clock is an hour late."""
    late = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_arguments, **_settings: late)
    with pytest.raises(UserError, match="clock of this machine is wrong"):
        doctor("buckets")


def test_doctor_tells_a_database_that_was_stopped(running, doctor):
    os.kill(pids(running)["postgres"], signal.SIGINT)
    while not is_free(ports(running)["postgres"]):
        time.sleep(0.1)
    with pytest.raises(
        UserError, match=r"PostgreSQL at port .* does not answer: `reelforge services up` starts"
    ):
        doctor("databases")
    assert reelforge(running, "services", "up").returncode == 0
    assert "mlflow" in doctor("databases")


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


def test_the_next_start_has_the_data_of_the_last(stopped):
    up = reelforge(stopped, "services", "up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "reelforge-t2v" in champions(stopped)
    assert any("/pipeline/" in key for key in keys(stopped, "reelforge-mlflow"))
