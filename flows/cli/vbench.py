"""`reelforge vbench`: the published benchmark, in an environment of its own."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from components.errors import UserError

if TYPE_CHECKING:
    from components.evaluation.vbench.environment import Environment
    from components.evaluation.vbench.run import DimensionResult

app = typer.Typer(help="VBench: install it, make its videos, run its dimensions.", no_args_is_help=True)
console = Console()
ROOT = Path()

Weights = Annotated[Path, typer.Option(help="Folder with VBench's weights, laid out as its cache.")]
Videos = Annotated[Path, typer.Option(help="Folder with the videos.")]
Output = Annotated[Path, typer.Option(help="Folder for the results; what it holds is not run again.")]
Dimensions = Annotated[list[str] | None, typer.Option("--dimension", help="May be repeated; default: all.")]


@app.command()
def install(
    full: Annotated[
        bool, typer.Option("--full", help="All dimensions (2.2 GB), not only those without weights.")
    ] = False,
) -> None:
    """Make VBench's environment below store/vbench; without --full for the dimensions that need no weights."""
    from components.evaluation.vbench import environment

    made = environment.install(ROOT, "full" if full else "light")
    console.print(
        f"{made.folder} is ready ({made.kind}, packages {made.digest[:12]})", highlight=False, markup=False
    )


@app.command()
def status(weights: Weights = Path("weights/vbench")) -> None:
    """Which dimensions of the standard run can be run here, and what the others lack.

    Of videos that are not VBench's own, temporal_flickering needs no weights.
    """
    from components.evaluation.vbench import environment
    from components.evaluation.vbench.run import obstacles
    from components.evaluation.vbench.scores import DIMENSIONS

    installed = environment.find(ROOT)
    table = Table("dimension", "group", "can run", Column("what it lacks", overflow="fold"))
    for name, dimension in DIMENSIONS.items():
        lacking = obstacles(name, installed, weights)
        table.add_row(name, dimension.group, "no" if lacking else "yes", escape("; ".join(lacking)))
    console.print(table)


@app.command()
def generate(
    model: Annotated[
        str, typer.Option(help="champion, candidate, workspace, or a pipeline folder.")
    ] = "workspace",
    videos: Videos = Path("generated/vbench"),
    dimension: Dimensions = None,
    seed: Annotated[int, typer.Option(help="Of the first video; the others count up.")] = 0,
    batch: Annotated[int, typer.Option(help="Videos made at a time.")] = 8,
    flicker_samples: Annotated[
        int, typer.Option(help="Of each flickering prompt, of which the first five still ones count.")
    ] = 25,
) -> None:
    """Make the videos of the standard run; those that are there are kept.

    Example: reelforge vbench generate --model champion --dimension temporal_flickering
    """
    from components.artifacts import sha256_of
    from components.evaluation.vbench.prompts import package_info, standard_requests
    from components.evaluation.vbench.videos import make_videos
    from components.runtime import compute_device
    from flows.cli.generate import pipeline_folder
    from models.generation.pipeline import TextToVideoPipeline

    requests = standard_requests(
        package_info(_environment()), seed=seed, dimensions=dimension or (), flicker_samples=flicker_samples
    )
    folder = pipeline_folder(model)
    pipeline = TextToVideoPipeline.from_pretrained(folder, device=compute_device())
    settings = replace(pipeline.defaults, seed=seed)
    made = make_videos(
        requests,
        videos,
        lambda prompts, first: pipeline(prompts, batch=batch, **{**asdict(settings), "seed": first}),
        model=sha256_of(folder),
        settings=settings,
        batch=batch,
    )
    console.print(
        f"{made} videos made, {len(requests) - made} were there: {videos}", highlight=False, markup=False
    )


@app.command("run")
def run_(
    videos: Videos = Path("generated/vbench"),
    dimension: Dimensions = None,
    custom: Annotated[
        bool,
        typer.Option("--custom", help="Videos of your own prompts; the prompt is the file name less `-N`."),
    ] = False,
    weights: Weights = Path("weights/vbench"),
    output: Annotated[
        Path, typer.Option(help="Folder for the results; what it holds is not run again.")
    ] = Path("reports/vbench"),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Run the dimensions, one process each, and print their scores.

    Example: reelforge vbench run --dimension temporal_flickering
    """
    from components.evaluation.vbench import run
    from components.evaluation.vbench.prompts import expected_videos, package_info, standard_requests
    from components.evaluation.vbench.scores import DIMENSIONS

    installed = _environment()
    names = dimension or [name for name in DIMENSIONS if not custom or name in run.CUSTOM]
    requests = [] if custom else standard_requests(package_info(installed), seed=0)
    count = len(list(videos.glob("*.mp4")))
    job = run.Job(
        videos,
        "custom_input" if custom else "vbench_standard",
        {name: count if custom else expected_videos(requests, name) for name in names},
        device=device,
    )
    _show(run.run_dimensions(job, names, installed, weights=weights, results=output))


def _show(results: "dict[str, DimensionResult]") -> None:
    from components.evaluation.vbench.scores import DIMENSIONS, Group, group_score

    table = Table("dimension", "status", "raw", "normalised", "videos", "reason")
    for name, result in results.items():
        raw = "–" if result.score is None else f"{result.score:.4f}"
        normalised = "–" if result.score is None else f"{DIMENSIONS[name].normalised(result.score):.4f}"
        table.add_row(name, result.status, raw, normalised, str(len(result.videos)), escape(result.reason))
    console.print(table)
    raw_scores = {name: result.score for name, result in results.items() if result.score is not None}
    groups: tuple[Group, ...] = ("quality", "semantic")
    for group in groups:
        try:
            console.print(f"{group}  {group_score(raw_scores, group):.4f}", highlight=False)
        except ValueError as error:
            console.print(f"{group}  no score: {error}", highlight=False, style="dim")


def _environment() -> "Environment":
    from components.evaluation.vbench.environment import find

    installed = find(ROOT)
    if installed is None:
        raise UserError("VBench is not installed here; `reelforge vbench install` makes its environment")
    return installed
