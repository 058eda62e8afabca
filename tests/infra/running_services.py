"""Services of a workspace as the tests see them: their processes, databases, objects and API."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.services import postgres, state
from flows.services.postgres import PROGRAM_FOLDERS
from tests.workspace import call, environment, make_workspace, reelforge

PROGRAMS = [folder for pattern in PROGRAM_FOLDERS for folder in Path("/").glob(pattern[1:])]
marks = [
    pytest.mark.slow,
    pytest.mark.infra,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        not PROGRAMS and shutil.which("initdb") is None,
        reason="PostgreSQL's server programs are not on this machine: apt-get install postgresql",
    ),
]


@contextmanager
def with_services(folder: Path, **parameters: Any) -> Iterator[Path]:
    """A workspace in `folder` whose services are deleted at the end, and with them all that they have left."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        make_workspace(folder, **parameters)
        try:
            yield folder
        finally:
            current = state.load(folder)
            data = postgres.home(current)
            deleted = reelforge(folder, "services", "delete", "--yes")
            assert deleted.returncode == 0, deleted.stderr
            assert not data.exists()
            assert not current.folder.exists()


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name the services' folders, or run in them, or whose environment does."""
    places = [str(folder / ".services")]
    if (folder / ".services/ports.json").is_file():
        places.append(str(postgres.home(state.load(folder))))
    return _living(lambda words: any(place in word for word in words for place in places))


def stages_in(folder: Path) -> list[str]:
    """Command lines of living processes that work in the workspace."""
    return _living(lambda words: words[0] == str(folder))


def _living(wanted: Callable[[list[str]], bool]) -> list[str]:
    """Command lines of the living processes whose folder, command line and environment are `wanted`."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [process.cwd(), *process.cmdline(), *process.environ().values()]
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
        except psutil.Error:
            continue
        if wanted(words):
            found.append(" ".join(process.cmdline()))
    return found


def pids(folder: Path) -> dict[str, int]:
    """Service -> process id of its leader."""
    records = (folder / ".services/running").glob("*.json")
    return {path.stem: json.loads(path.read_text())["pid"] for path in records}


def ports(folder: Path) -> dict[str, int]:
    return json.loads((folder / ".services/ports.json").read_text())


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def passwords(folder: Path) -> dict[str, str]:
    return json.loads((folder / ".services/secrets/passwords.json").read_text())


def rows(folder: Path, database: str, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Answer of one of the databases to a query by its own role."""
    import psycopg

    where = {"host": "127.0.0.1", "port": ports(folder)["postgres"]}
    with psycopg.connect(
        **where, user=database, password=passwords(folder)[database], dbname=database
    ) as connection:
        return connection.execute(query, values).fetchall()


def champions(folder: Path) -> list[str]:
    """Registered models that have a champion."""
    query = "SELECT name FROM registered_model_aliases WHERE alias = 'champion'"
    return [name for (name,) in rows(folder, "mlflow", query)]


def store(folder: Path) -> Any:
    """A client of the services' object store."""
    import boto3

    words = passwords(folder)
    return boto3.session.Session().client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports(folder)['s3']}",
        aws_access_key_id=words["s3_key"],
        aws_secret_access_key=words["s3_secret"],
        region_name="us-east-1",
    )


def keys(folder: Path, bucket: str) -> list[str]:
    """Names of the objects in a bucket of the services."""
    pages = store(folder).get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    ).stdout


def settings(folder: Path) -> dict[str, str]:
    """What `eval "$(reelforge services env)"` sets."""
    said = reelforge(folder, "services", "env")
    assert said.returncode == 0, said.stderr
    words = [shlex.split(line) for line in said.stdout.splitlines()]
    return dict(pair.split("=", 1) for export, pair in words if export == "export")


class PrefectApi:
    """The few requests that the tests make, as any client in any language would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **body: Any) -> Any:
        """POST where there is a body, else GET; the answer's JSON."""
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.url}/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def start(self, deployment: str) -> str:
        """Ask for a run of `flow/deployment`; its id."""
        found = self.ask(f"deployments/name/{deployment}")
        made = self.ask(f"deployments/{found['id']}/create_flow_run", state={"type": "SCHEDULED"})
        return str(made["id"])

    def wait_for(self, run: str, wanted: str, seconds: float) -> None:
        """Until the run's state is `wanted`; another final state fails at once, with the run's log."""
        deadline = time.monotonic() + seconds
        while (state_type := self.ask(f"flow_runs/{run}")["state_type"]) != wanted:
            final = state_type in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
            assert not final and time.monotonic() < deadline, f"{state_type}: {self.log(run)[-3000:]}"
            time.sleep(0.5)

    def log(self, run: str) -> str:
        where = {"flow_run_id": {"any_": [run]}}
        return "\n".join(line["message"] for line in self.ask("logs/filter", logs=where, limit=200))


def wait_until_ended(folder: Path) -> None:
    """Until no process works in the workspace; an interrupted stage may still write its checkpoint."""
    deadline = time.monotonic() + 120
    while left := stages_in(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def first_words(folder: Path, stage: str) -> str:
    """What a training stage says until it trains; it is stopped then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "components", stage],
        cwd=folder,
        env=environment(folder, REELFORGE_TRACKING="off"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = ""
    for line in process.stdout:
        said += line
        if " at step " in line or "Error" in line:
            break
    process.terminate()
    try:
        process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return said


@contextmanager
def worker(folder: Path) -> Iterator[PrefectApi]:
    """A worker of the pool `local`, and the workspace's deployments, by the commands of the runbook."""
    place = {**settings(folder), "REELFORGE_ROOT": str(folder)}
    for command in (
        ("work-pool", "create", "local", "--type", "process"),
        ("--no-prompt", "deploy", "--all"),
    ):
        done = call(folder, "prefect", *command, **place)
        assert done.returncode == 0, done.stdout + done.stderr
    with (folder.parent / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local"],
            cwd=folder.parent,
            env=environment(folder, **place),
            stdout=log,
            stderr=log,
        )
        try:
            yield PrefectApi(place["PREFECT_API_URL"])
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()
                process.wait()
