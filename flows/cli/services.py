"""`reelforge ui`: the MLflow and Prefect pages of this workspace, until Ctrl-C. `reelforge services`: ones that stay.

With a profile in force the pages are those of its services, and `reelforge ui` only says where.
"""

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from components.errors import UserError
from components.runtime import tracking_uri, use_profile
from flows.preflight import check_port, check_room, check_workspace

ROOT = Path()
STOP_SECONDS = 10
console = Console()
app = typer.Typer(
    help="MLflow, Prefect, PostgreSQL and an S3 endpoint on this machine.", no_args_is_help=True
)


def _said(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


@app.command()
def up(
    free_ports: Annotated[
        bool,
        typer.Option("--free-ports", help="At the first start take any ports that are free; they are kept."),
    ] = False,
) -> None:
    """Start them, wait until they answer, and point this workspace at them. Running it again starts what is missing.

    PostgreSQL's server programs must be installed; the S3 endpoint is fetched. Data and passwords are in .services/.
    """
    from flows.services import stack

    check_room(ROOT, check_workspace(ROOT))
    started = time.monotonic()

    def said(line: str) -> None:
        _said(f"{time.monotonic() - started:4.0f} s  {line}")

    profile = stack.up(ROOT, said, free_ports=free_ports)
    _said(f"\nhealthy after {time.monotonic() - started:.0f} s; profile.yaml points this workspace at them")
    _said(f"MLflow   {profile.mlflow_uri}\nPrefect  {profile.prefect_api.removesuffix('/api')}")
    _said(f"S3       {profile.s3_endpoint}   buckets {', '.join(profile.buckets.names)}")
    _said(
        "DVC      remote `reelforge`: dvc push; in another clone `reelforge services join`, `reelforge pull`"
    )
    _said("\nreelforge services status | down")


@app.command()
def down() -> None:
    """Stop them all; data and passwords stay. The workspace goes by its own files again."""
    from flows.services import stack

    stack.down(ROOT, _said)


@app.command("status")
def services_status() -> None:
    """Which of them run and answer. Exit code 1 if one does not."""
    from flows.services import stack

    findings = stack.status(ROOT)
    table = Table("", "service", "address", "process", box=None, pad_edge=False)
    for each in findings:
        state = "[green]healthy[/]" if each.healthy else "[red]no answer[/]" if each.pid else "stopped"
        table.add_row(state, each.name, each.address, str(each.pid or "-"))
    console.print(table)
    if not all(each.healthy for each in findings):
        _said("`reelforge services up` starts what is missing; logs are in .services/logs")
        raise typer.Exit(1)


@app.command()
def join(
    workspace: Annotated[Path, typer.Argument(help="The clone on this machine whose services run.")],
    credentials: Annotated[
        Path | None, typer.Option(help="A copy of their S3 keys, where you may not read the clone's own.")
    ] = None,
) -> None:
    """Use the services of another clone: the same experiments, models and flow runs, and DVC's data to pull.

    Example: reelforge services join ../reelforge && reelforge pull
    """
    from flows.services.sharing import join as join_services

    check_workspace(ROOT)
    profile = join_services(ROOT, workspace, credentials=credentials)
    _said(f"profile.yaml points this workspace at the services of {profile.workspace}")
    _said("DVC      remote `reelforge`: `reelforge pull` fetches what the committed dvc.lock names")


@app.command()
def leave() -> None:
    """Part from the services of another clone; this workspace goes by its own files again."""
    from flows.services.sharing import leave as leave_services

    _said(f"left the services of {leave_services(ROOT)}")


@app.command()
def env() -> None:
    """Print the profile in force as shell variables, for `prefect`, `mlflow` and `aws` by themselves.

    Example: eval "$(reelforge services env)"
    """
    profile = use_profile(ROOT)
    if profile is None:
        raise UserError("no profile is in force: `reelforge services up` or `reelforge infra profile`")
    for name, value in profile.settings(ROOT).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def rotate() -> None:
    """Draw new passwords and a new S3 key, and start everything again with them."""
    from flows.services import stack

    stack.rotate(ROOT, _said)


@app.command()
def delete(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the name.")] = False,
) -> None:
    """Stop them and delete all their data: experiments, registered models, flow runs, objects. Asks for the name."""
    from flows.services import sharing, stack, state

    sharing.check_own(ROOT)
    folder = state.load(ROOT).folder.parent
    if not yes:
        _said(
            f"All experiments, registered models, flow runs and objects of the services of {folder} go for good."
        )
        if typer.prompt(f"Type {folder.name} to delete them") != folder.name:
            raise UserError("that is another name: nothing was deleted")
    stack.delete(ROOT, _said)


def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow page.")] = 5001,
    prefect_port: Annotated[int, typer.Option(help="Port of the Prefect page and API.")] = 4200,
) -> None:
    """Serve the MLflow page (runs, curves, models) and the Prefect page (flow runs, schedules) on loopback."""
    check_workspace(ROOT)
    if profile := use_profile(ROOT):
        _said(f"MLflow   {profile.mlflow_uri}\nPrefect  {profile.prefect_api.removesuffix('/api')}")
        return
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
