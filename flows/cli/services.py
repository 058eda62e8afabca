"""`reelforge ui`: the MLflow and Prefect pages of this workspace, until Ctrl-C."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.runtime import tracking_uri
from flows.preflight import check_port, check_workspace

ROOT = Path()
STOP_SECONDS = 10
console = Console()


def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow page.")] = 5001,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect page and API.")] = 4200,
) -> None:
    """Serve the MLflow page (runs, curves, models) and the Prefect page (flow runs, schedules) on loopback."""
    check_workspace(ROOT)
    check_port(mlflow_port, purpose="the MLflow page", option="--mlflow-port")
    check_port(prefect_port, purpose="the Prefect page", option="--prefect-port")
    serve(ROOT, mlflow_port, prefect_port)


def serve(root: Path, mlflow_port: int, prefect_port: int) -> None:
    """Run both servers as children and stop them on Ctrl-C."""
    uri = tracking_uri(root)
    python = [sys.executable, "-m"]
    mlflow = [
        *python,
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(mlflow_port),
    ]
    prefect = [*python, "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)]
    children = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) for command in (mlflow, prefect)
    ]
    console.print(
        f"MLflow   http://127.0.0.1:{mlflow_port}\nPrefect  http://127.0.0.1:{prefect_port}\nCtrl-C stops both"
    )
    try:
        for child in children:
            child.wait()
    except KeyboardInterrupt:
        pass
    finally:
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
