"""`reelforge demo`, `run`, `stage`, `report`: the commands that work."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from components.errors import UserError
from components.params import Params, place_in
from components.runtime import profile_path
from components.storage import SCHEME
from flows.cli.display import Display, duration
from flows.cli.recipes import use_recipe
from flows.dvc import StageFailed
from flows.preflight import (
    check_captions,
    check_port,
    check_room,
    check_sources,
    check_videos,
    check_workspace,
)
from flows.share import how_to_share

ROOT = Path()
console = Console()

Videos = Annotated[
    str | None,
    typer.Option(
        help="Folder or s3://bucket/prefix with your videos (mp4, mov, mkv, webm, …), searched recursively."
    ),
]
Captions = Annotated[
    str | None,
    typer.Option(
        help="CSV, JSONL or Parquet with columns path and text (optional: start, end). Default: sidecars."
    ),
]
Recipe = Annotated[
    str | None, typer.Option(help="Start from this recipe's parameters (`reelforge recipes list`).")
]
Force = Annotated[bool, typer.Option("--force", help="Run again even what is up to date.")]
Ui = Annotated[bool, typer.Option("--ui", help="Serve the MLflow and Prefect pages when the run is done.")]
MlflowPort = Annotated[int, typer.Option(help="Port of the MLflow page, with --ui.")]
PrefectPort = Annotated[int, typer.Option(help="Port of the Prefect page, with --ui.")]


def demo(ui: Ui = False, mlflow_port: MlflowPort = 5001, prefect_port: PrefectPort = 4200) -> None:
    """Make footage, train every stage small, evaluate, gate, register: a page with generated videos at the end.

    Takes minutes on two cores. Running it again runs nothing; stopping and running it again goes on.
    """
    params = check_workspace(ROOT)
    if params.recipe != "demo":
        raise UserError(
            f"params.yaml holds the recipe `{params.recipe}`: `reelforge recipes use demo` puts the small default back"
        )
    _run_pipeline(ui, mlflow_port, prefect_port)


def run(
    videos: Videos = None,
    captions: Captions = None,
    recipe: Recipe = None,
    force: Force = False,
    ui: Ui = False,
    mlflow_port: MlflowPort = 5001,
    prefect_port: PrefectPort = 4200,
) -> None:
    """Bring the pipeline up to date: only what changed is run, as with `dvc repro`.

    --videos, --captions and --recipe are written to params.yaml, where DVC tracks them;
    `git checkout params.yaml` undoes that.

    Example: reelforge run --videos ~/footage --captions ~/footage/captions.csv
    """
    check_room(ROOT, check_workspace(ROOT))
    if recipe:
        use_recipe(ROOT, recipe)
    if videos or captions:
        _set_source(videos, captions)
    _run_pipeline(ui, mlflow_port, prefect_port, force=force)


def _set_source(videos: str | None, captions: str | None) -> None:
    from flows.edit_params import set_values

    values = {}
    if videos:
        videos = _absolute(videos)
        check_videos(place_in(ROOT, videos), Params.load(ROOT / "params.yaml").ingest, ROOT)
        values["ingest.videos"] = values["caption.source"] = videos
    if captions:
        captions = _absolute(captions)
        check_captions(place_in(ROOT, captions))
        values["caption.source"] = captions
    set_values(ROOT / "params.yaml", values)
    for key, value in values.items():
        console.print(f"params.yaml: {key} = {value}", highlight=False, soft_wrap=True, markup=False)


def _absolute(place: str) -> str:
    return place if place.startswith(SCHEME) else str(Path(place).expanduser().resolve())


def _run_pipeline(ui: bool, mlflow_port: int, prefect_port: int, *, force: bool = False) -> None:
    from components.runtime import describe_machine, quiet_prefect

    params = check_workspace(ROOT)
    check_room(ROOT, params)
    check_sources(ROOT, params)
    if ui and profile_path(ROOT) is None:  # else its services have pages already
        check_port(mlflow_port, purpose="the MLflow page", option="--mlflow-port")
        check_port(prefect_port, purpose="the Prefect page", option="--prefect-port")
    for line in describe_machine():
        console.print(line, style="dim", highlight=False, markup=False)
    quiet_prefect()
    from flows.observe import watched_by
    from flows.pipeline import reelforge

    started = time.monotonic()
    display = Display(console, ROOT.resolve())
    with display.live(), watched_by(display):
        try:
            page = reelforge(root=str(ROOT.resolve()), recipe=params.recipe, force=force)
        except StageFailed as error:
            console.print(f"[bold red]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
            console.print(
                "\nWhat is finished is kept; `reelforge run` goes on from there, `reelforge doctor` checks the machine."
            )
            raise typer.Exit(1) from None
    _summary(page, display, time.monotonic() - started, how_to_share(ROOT, params))
    if ui:
        from flows.cli import services

        services.ui(mlflow_port, prefect_port)


def _summary(page: str, display: Display, seconds: float, sharing: list[str]) -> None:
    from components.artifacts import read_json
    from components.registry.fetch import champion_line

    verdict = read_json(ROOT / "artifacts/gate/verdict.json")
    lines = [
        f"verdict     [bold]{verdict['verdict']}[/]  {escape(verdict['reason'])}",
        f"champion    {champion_line(ROOT)}",
        f"report      {Path(page).as_uri()}",
        f"videos      {escape(str((ROOT / 'artifacts/evaluate/samples').resolve()))}",
        "MLflow      reelforge ui   (runs, curves, registered models)",
        "Prefect     reelforge ui   (flow runs, logs, schedules)",
        *(f"{'' if index else 'share':<12}{line}" for index, line in enumerate(sharing)),
        "",
        'next        reelforge generate "a blue square moves up"',
        "            reelforge run --videos DIR [--captions FILE]",
        "            dvc metrics show     dvc plots show",
        "            change a value in params.yaml, then: reelforge run",
    ]
    ran = f"{display.ran} stages run, {display.cached} up to date, {duration(seconds)}"
    console.rule(ran, align="left")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)  # a path that is cut cannot be opened


def stage(
    name: Annotated[str, typer.Argument(help="A stage, as `train@stage3`; `reelforge status` lists them.")],
    force: Force = False,
) -> None:
    """Run one stage through DVC, without what comes before or after it.

    Example: reelforge stage filter --force
    """
    from components.stages import find
    from flows.dvc import reproduce
    from flows.observe import parse_progress

    find(name)
    params: Params = check_workspace(ROOT)
    check_room(ROOT, params)
    display = Display(console, ROOT.resolve())

    def hear(line: str) -> None:
        if progress := parse_progress(line):
            display.progressed(name, progress)
        else:
            console.print(line, style="dim", markup=False, highlight=False)

    started = time.monotonic()
    with display.live():
        display.plan([name], {name})
        display.started(name)
        try:
            ran = reproduce(
                name, ROOT, on_line=hear, parent_run=None, hours=params.runtime.stage_hours, force=force
            )
        except StageFailed as error:
            console.print(f"[bold red]{escape(str(error))}[/]", highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None
        display.finished(name, ran=ran, seconds=time.monotonic() - started)
    if not ran:
        console.print(f"{name} is up to date; --force runs it again")


def report() -> None:
    """Write the report page again and print where it is."""
    from components.registry.report import write_report

    check_workspace(ROOT)
    console.print(write_report(ROOT.resolve()).as_uri(), highlight=False, soft_wrap=True)


def pull() -> None:
    """Fetch what your team's last committed run has made: data, models, scores, as `dvc.lock` names them.

    Example: git pull && reelforge pull
    """
    from flows.share import pull as pull_recorded

    check_room(ROOT, check_workspace(ROOT))
    console.print(f"what {pull_recorded(ROOT)} stages have made is here; `reelforge status` shows it")
