"""What `reelforge doctor` says where something is wrong; of running services: tests/infra/test_services.py."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import boto3
import pytest
import yaml
from botocore.stub import Stubber

from components.errors import UserError
from flows.cli import doctor
from flows.cli.doctor_services import service_checks
from flows.infra import aws

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


def install(monkeypatch, folder: Path, name: str, version: str) -> None:
    """Metadata of a package, found before that of the one that is really installed."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_an_older_package_than_ours_is_named_with_the_one_that_is_needed(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, "reelforge", "0.1.0")
    metadata = tmp_path / "reelforge-0.1.0.dist-info/METADATA"
    metadata.write_text(
        metadata.read_text() + 'Requires-Dist: prefect==3.8.8\nRequires-Dist: torch>=2; extra == "train"\n'
    )
    assert "prefect" in doctor.CHECKS["packages"]()
    install(monkeypatch, tmp_path / "other", "prefect", "3.7.0")
    with pytest.raises(
        UserError, match=r"prefect 3\.7\.0 is installed, Reelforge needs ==3\.8\.8: `make install`"
    ):
        doctor.CHECKS["packages"]()


def test_a_release_that_is_known_to_break_is_told_with_what_breaks(tmp_path, monkeypatch):
    install(monkeypatch, tmp_path, "sqlalchemy", "2.1.9")
    with pytest.raises(UserError, match=r"sqlalchemy 2\.1\.9: .*scheduler.*pip install 'sqlalchemy<2\.1'"):
        doctor.CHECKS["known incompatibilities"]()


def test_a_disk_with_less_space_than_a_run_needs_is_told_with_what_is_there(workspace):
    for name in (".dvc", "components"):
        (workspace / name).mkdir()
    (workspace / "dvc.yaml").touch()
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["runtime"]["min_free_gb"] = shutil.disk_usage(workspace).total / 1e9 + 1
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match=r"GB free in .*dvc gc -w.*runtime\.min_free_gb"):
        doctor.CHECKS["workspace"]()


def test_a_folder_without_git_or_dvc_says_how_to_begin(workspace):
    with pytest.raises(UserError, match="git init"):
        doctor.CHECKS["version control"]()
    (workspace / ".git").mkdir()
    with pytest.raises(UserError, match="dvc init"):
        doctor.CHECKS["version control"]()
    (workspace / ".dvc").mkdir()
    (workspace / ".dvc/config").touch()
    assert "no DVC remote" in doctor.CHECKS["version control"]()


class Server(BaseHTTPRequestHandler):
    """What stands at the address of a profile: answers with the code and the words of its class."""

    code, words = 200, "0.0.1"

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(self.words.encode())

    def log_message(self, *_words: object) -> None: ...


@contextmanager
def serving(code: int, words: str = "") -> Iterator[int]:
    """Port at which every question is answered so."""
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Answer", (Server,), {"code": code, "words": words})
    ) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def finding(workspace: Path, name: str, **profile: object) -> str:
    """What doctor says of one of the services of a deployed platform."""
    buckets = {"raw": "a", "dvc": "b", "mlflow": "c", "checkpoints": "d"}
    written = {
        "made_by": "reelforge infra",
        "mlflow_uri": "http://127.0.0.1:9",
        "buckets": buckets,
        **profile,
    }
    (workspace / "profile.yaml").write_text(
        yaml.safe_dump({"prefect_api": "http://127.0.0.1:9/api", **written})
    )
    with pytest.raises(UserError) as told:
        service_checks(workspace)[name]()
    return str(told.value)


def test_a_server_of_another_version_is_named_with_both(workspace):
    with serving(200, "2.0.0") as port:
        said = finding(workspace, "MLflow", mlflow_uri=f"http://127.0.0.1:{port}")
    assert f"runs mlflow 2.0.0, here is {version('mlflow')}" in said


def test_a_server_that_refuses_our_password_is_no_server_that_is_down(workspace):
    with serving(401) as port:
        said = finding(workspace, "MLflow", mlflow_uri=f"http://127.0.0.1:{port}")
    assert "does not take our user and password" in said
    assert "reelforge infra profile" in said


def test_a_server_that_is_not_there_is_told_with_the_command_that_reaches_it(workspace):
    assert "kubectl port-forward" in finding(workspace, "MLflow")


def test_a_region_that_does_not_exist_is_told_with_those_that_are_like_it(workspace):
    assert "did you mean us-west-2" in finding(workspace, "buckets", region="us-west-9")


def test_keys_that_are_not_there_are_told_before_anything_is_asked(workspace):
    said = finding(workspace, "profile", made_by="reelforge services", credentials_file="gone")
    assert "holds the S3 keys, cannot be read: `reelforge services up` writes them anew" in said


def test_an_expired_signature_is_a_wrong_clock(monkeypatch):
    session = boto3.session.Session(region_name="us-west-2", aws_access_key_id="a", aws_secret_access_key="b")
    sts = session.client("sts")
    monkeypatch.setattr(session, "client", lambda *_arguments, **_settings: sts)
    with Stubber(sts) as stubber:  # AWS's words; the emulator looks at no clock
        words = "Signature expired: 20261121T120000Z is now earlier than 20261121T170000Z"
        stubber.add_client_error("get_caller_identity", "SignatureDoesNotMatch", words)
        with pytest.raises(
            UserError, match=r"clock of this machine is wrong .*Signature expired.*timedatectl"
        ):
            aws.account(session)
