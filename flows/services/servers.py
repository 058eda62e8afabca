"""The MLflow and Prefect servers of a workspace, each on its PostgreSQL database."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from components.artifacts import read_json, write_json
from components.errors import UserError
from components.runtime import server_environment
from flows.services import postgres, seaweedfs
from flows.services.daemon import Daemon
from flows.services.state import LOOPBACK, State

# read from the database, which `/health` does not do; the experiment is there from the first start, even if deleted
DEFAULT_EXPERIMENT = "api/2.0/mlflow/experiments/get?experiment_id=0"


def _database(state: State, dialect: str, name: str) -> str:
    """Address without a password, which the client takes from `PGPASSFILE`.

    The driver is named: which one `postgresql://` means changed with SQLAlchemy 2.1.
    """
    return f"{dialect}://{name}@{LOOPBACK}:{state.ports.postgres}/{name}"


def _mlflow_environment(state: State) -> dict[str, str]:
    return server_environment(
        {
            "PGPASSFILE": str(postgres.password_file(state)),
            "MLFLOW_BACKEND_STORE_URI": _database(state, "postgresql+psycopg", "mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{seaweedfs.BUCKETS.mlflow}/artifacts",
            "MLFLOW_S3_ENDPOINT_URL": seaweedfs.endpoint(state),
            "AWS_SHARED_CREDENTIALS_FILE": str(state.credentials),
            "AWS_PROFILE": seaweedfs.CREDENTIALS_PROFILE,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # background jobs of features that we do not use
        }
    )


def mlflow_uri(state: State) -> str:
    return f"http://{LOOPBACK}:{state.ports.mlflow}"


def mlflow(state: State) -> Daemon:
    """Tracking server and registry; clients send artifacts through it, so they need no key of the object store."""
    options = ["--host", LOOPBACK, "--port", str(state.ports.mlflow), "--workers", "1"]
    options += ["--uvicorn-opts", "--log-level=warning"]  # else a line for every request
    return Daemon(
        name="mlflow",
        command=(sys.executable, "-m", "mlflow", "server", *options),
        environment=_mlflow_environment(state),
        folder=state.folder,
        log=state.log("mlflow"),
        record=state.record("mlflow"),
        healthy=lambda: seaweedfs.answers(f"{mlflow_uri(state)}/{DEFAULT_EXPERIMENT}"),
        address=mlflow_uri(state),
    )


def prefect_api(state: State) -> str:
    return f"http://{LOOPBACK}:{state.ports.prefect}/api"


def prefect(state: State) -> Daemon:
    """API, pages and scheduler. It brings its tables up to its version by itself."""
    settings = {
        "PGPASSFILE": str(postgres.password_file(state)),
        "PREFECT_API_DATABASE_CONNECTION_URL": _database(state, "postgresql+asyncpg", "prefect"),
        "PREFECT_HOME": str(state.folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    options = ["--host", LOOPBACK, "--port", str(state.ports.prefect)]
    return Daemon(
        name="prefect",
        command=(sys.executable, "-m", "prefect", "server", "start", *options),
        environment=server_environment(settings),
        folder=state.folder,
        log=state.log("prefect"),
        record=state.record("prefect"),
        healthy=lambda: seaweedfs.answers(f"{prefect_api(state)}/ready"),
        address=prefect_api(state).removesuffix("/api"),
    )


def bring_tables_up_to_date(state: State) -> bool:
    """MLflow makes its tables when there are none, and refuses those of another version: then they are converted.

    True if that was needed. Raises `UserError` with what MLflow said.
    """
    note: Path = state.folder / "versions.json"
    before = read_json(note) if note.is_file() else {}
    now = {"mlflow": version("mlflow")}
    if before == now:
        return False
    if before:
        environment = _mlflow_environment(state)
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", "db", "upgrade", environment["MLFLOW_BACKEND_STORE_URI"]],
            env=environment,
            cwd=state.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise UserError(
                f"MLflow's tables, made by {before['mlflow']}, could not be brought to {now['mlflow']}:"
                f" {done.stderr.strip()[-1_000:]}; install {before['mlflow']} again, or restore a backup"
            )
    write_json(note, now)
    return bool(before)
