"""`reelforge data sweep`, `buckets` and `report`: what the data set is, and what other thresholds would make of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from components.errors import UserError
from components.params import Params
from components.stages import STAGES
from flows.cli.recipes import recipe_files

if TYPE_CHECKING:
    from components.data.forecast import Forecast, Row
    from components.data.sweep import Sweep

ROOT = Path()
console = Console()
Recipe = Annotated[str | None, typer.Option(help="Ask by this recipe instead of params.yaml.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `reelforge data`."""
    app.command("sweep")(sweep)
    app.command("buckets")(buckets)
    app.command("report")(report)
    app.command("accept")(accept)


def params_of(recipe: str | None) -> Params:
    """The workspace's parameters, or those of a recipe. Raises `UserError` for an unknown one."""
    if recipe is None:
        return Params.load(ROOT / "params.yaml")
    recipes = recipe_files(ROOT)
    if recipe not in recipes:
        raise UserError(f"there is no recipe `{recipe}`; recipes: {', '.join(recipes)}")
    return Params.load(recipes[recipe])


def sweep(
    metric: Annotated[str | None, typer.Option(help="A score, as `motion`; all of them by default.")] = None,
    low: Annotated[float | None, typer.Option("--from", help="First threshold to try.")] = None,
    high: Annotated[float | None, typer.Option("--to", help="Last threshold to try.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="How many thresholds to try.")] = 9,
    recipe: Recipe = None,
) -> None:
    """What each threshold of the filter would keep, from the stored scores: nothing is computed again.

    Example: reelforge data sweep --metric motion --from 0 --to 0.2
    """
    from components.data.sweep import Range, selection_counts, sweep_table

    filtering = params_of(recipe).filter
    for found in sweep_table(ROOT.resolve(), filtering, metric, Range(low, high, steps)):
        console.print(_sweep_table(found))
    if filtering.selections and metric is None:
        for name, count in selection_counts(ROOT.resolve(), filtering).items():
            said = "asks for a score that no clip has" if count is None else f"{count:,} clips"
            console.print(f"selection {name}: {said}")


def _sweep_table(found: "Sweep") -> Table:
    rule = found.rule
    switched = "" if found.mode == "enable" else f"; score.{rule.scorer} is {found.mode}: it rejects nothing"
    table = Table(
        title=f"filter.{rule.threshold} on {rule.column}, {found.scored:,} of {found.clips:,} clips{switched}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("")
    for name in (rule.threshold, "keeps", "", "with all others", ""):
        table.add_column(name, justify="right")
    for trial in found.trials:
        shares = [(count, f"{count / max(found.clips, 1):.1%}") for count in (trial.alone, trial.joint)]
        cells = [text for count, share in shares for text in (f"{count:,}", share)]
        style = "bold" if trial.current else ""
        table.add_row("→" if trial.current else "", f"{trial.threshold:.4g}", *cells, style=style)
    return table


def buckets(
    stage: Annotated[
        str | None, typer.Option(help="A training stage; all that train on video by default.")
    ] = None,
    walk: Annotated[
        Literal["loader", "published"], typer.Option(help="As a run here draws, or as Open-Sora 1.2 did.")
    ] = "loader",
    aspects: Annotated[bool, typer.Option("--aspects", help="A line per aspect ratio.")] = False,
    recipe: Recipe = None,
) -> None:
    """How full each bucket of a training stage will be, what it drops and what it repeats.

    Works from the clip table, before latents exist.

    Example: reelforge data buckets --recipe open_sora_1_2 --stage train@stage3 --walk published
    """
    from components.data.forecast import forecast, of_video_training, read_clips, requests_of

    params = params_of(recipe)
    wanted = requests_of(params, stage) if stage else of_video_training(params)
    clips = read_clips(ROOT.resolve(), captions=any(request.encode.flips for request in wanted))
    for request in wanted:
        _print_forecast(forecast(clips, request, walk), aspects, request.batches.selection)


def _print_forecast(found: "Forecast", aspects: bool, selection: str | None) -> None:
    from components.data.forecast import by_length

    of = f" of the selection {selection}" if selection else ""
    clips = f"{found.used:,} of {found.clips:,} training clips{of}"
    table = Table(
        title=f"{found.stage}: {clips}, {found.batches:,.0f} batches an epoch",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("bucket", "frames", *(["aspect"] if aspects else [])):
        table.add_column(name)
    for name in ("offered", "kept", "batch", "batches", "dropped", "repeated", ""):
        table.add_column(name, justify="right")
    for resolution, frames, rows in by_length(found.rows):
        for name, group in [(row.aspect, [row]) for row in rows] if aspects else [("", rows)]:
            table.add_row(resolution, str(frames), *([name] if aspects else []), *_cells(group))
    console.print(table)
    for reason, count in found.unused.items():
        console.print(f"  {count:,} clips in no bucket: {reason}", highlight=False)
    if found.nothing:
        empty = ", ".join(f"{resolution} x {frames}" for resolution, frames in found.nothing)
        console.print(f"  asked for, and nothing fits: {empty}", highlight=False, soft_wrap=True)


def _cells(rows: "list[Row]") -> list[str]:
    """Numbers of one bucket, or of a bucket's aspects together."""
    sums = [sum(row.offered for row in rows), sum(row.kept for row in rows)]
    batches = sum(row.batches for row in rows)
    lost = [sum(row.dropped for row in rows), sum(row.repeated for row in rows)]
    refused = "refused: below one batch" if any(row.refused for row in rows) else ""
    return [
        *(f"{number:,}" for number in sums),
        str(rows[0].batch),
        f"{batches:,.1f}" if rows[0].policy == "merge" else f"{batches:,.0f}",
        *(f"{number:,}" if number else "" for number in lost),
        refused,
    ]


def report() -> None:
    """Write reports/data.html: funnel, distributions, clips near each threshold, sources, captions, buckets.

    Example: reelforge data report
    """
    from components.data.report.page import write_data_report

    page = write_data_report(ROOT.resolve())
    console.print(f"{page}", highlight=False, soft_wrap=True)


def accept() -> None:
    """Make the validated data set the one that later versions are compared with.

    Drift of every column is then told against it, and fails `validate` above validation.max_drift.

    Example: reelforge data accept && git commit -m "data: accept this version" data_baseline
    """
    import shutil

    from components.artifacts import read_json
    from components.data.drift import SUMMARY

    params = Params.load(ROOT / "params.yaml")
    source = ROOT / STAGES["validate"].outputs["summary"]
    if not source.is_file():
        raise UserError(
            f"{source} is missing: `reelforge stage validate` makes it of a data set that is valid"
        )
    target = ROOT / params.validation.previous / SUMMARY
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    clips = read_json(target)["clips"]
    console.print(f"later versions are compared with these {clips:,} clips; commit {target}", highlight=False)
