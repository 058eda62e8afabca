"""`reelforge plan`: what a recipe needs and costs, told before a GPU is rented; and afterwards, how true that was."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from components.artifacts import write_json
from components.errors import UserError
from flows.cli.data_reports import params_of

if TYPE_CHECKING:
    from components.planning.devices import Cluster
    from components.planning.outcome import Line
    from components.planning.parts import Comparison, Plan, StagePlan

ROOT = Path()
WIDTH = 124  # columns that the tables need, in a file too; a narrower terminal wraps
console = Console()
OK, NO = "[green]fits[/]", "[bold red]no[/]"


def plan(
    recipe: Annotated[str | None, typer.Argument(help="A recipe; params.yaml by default.")] = None,
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            help="96xH100; STAGE=8xH100 for stages whose names begin so. May be given several times."
        ),
    ] = None,
    mfu: Annotated[float | None, typer.Option(help="Share of the GPUs' peak that is reached.")] = None,
    price: Annotated[float | None, typer.Option(help="Dollars for one GPU and hour.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only stages whose names begin so.")] = None,
    walk: Annotated[
        Literal["loader", "published"], typer.Option(help="As a run here draws, or as Open-Sora 1.2 did.")
    ] = "loader",
    buckets: Annotated[bool, typer.Option("--buckets", help="A table of buckets for every stage.")] = False,
    outcome: Annotated[
        bool, typer.Option("--outcome", help="Compare with the run in this workspace.")
    ] = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file, too.")
    ] = None,
) -> None:
    """Parameters, memory, time, money and storage of a recipe, before anything is spent.

    Example: reelforge plan open_sora_1_2 --gpus 96xH100 --gpus adapt=8xH100 --gpus autoencoder=8xH100 --buckets
    """
    from components.planning.networks import Networks
    from components.planning.outcome import outcome_of
    from components.planning.plan import Question
    from components.planning.plan import plan as make

    params = params_of(recipe)
    question = Question(_clusters(gpus or [], mfu, price), walk, stage)
    wide = Console(width=max(console.width, WIDTH))
    with wide.status("reading the recipe") as status:
        found = make(
            params, question, ROOT.resolve(), lambda name: status.update(f"{name} on the meta device")
        )
    lines = outcome_of(found, Networks(params, ROOT.resolve())) if outcome else []
    if as_json:
        write_json(as_json, {**_plain(found.as_dict()), "outcome": [_plain(vars(line)) for line in lines]})
    for part in (_verdicts(found), _stages(found), *_details(found, buckets), *_ends(found)):
        wide.print(part, highlight=False, soft_wrap=isinstance(part, str))
        wide.print()
    if outcome:
        wide.print(_outcome(lines))


def _clusters(given: list[str], mfu: float | None, price: float | None) -> dict[str, "Cluster"]:
    from components.planning.devices import MFU, PRICE, parse_cluster

    clusters = {
        "": parse_cluster("1", mfu=MFU if mfu is None else mfu, price=PRICE if price is None else price)
    }
    for text in given:
        name, _, kind = text.rpartition("=")
        clusters[name] = parse_cluster(kind, mfu=clusters[""].mfu, price=clusters[""].price)
    return clusters


def _verdicts(found: "Plan") -> str:
    """What is wrong, first of all; or that nothing is."""
    lines = [f"[bold red]{line}[/]" for line in found.verdicts]
    if found.stages and not found.verdicts:
        fullest = max(
            found.stages, key=lambda stage: stage.fullest.memory.total / stage.cluster.device.memory
        )
        bucket = fullest.fullest
        lines.append(
            f"[bold green]everything fits[/]: {fullest.name} bucket {bucket.name} is the fullest, with"
            f" {_gib(bucket.memory.total)} of {_gib(fullest.cluster.device.memory)} GiB at ZeRO {fullest.zero_stage}"
        )
    lines.append(f"[bold]{found.recipe}[/]: {found.gpu_hours:,.4g} GPU-hours, {found.money:,.0f} dollars")
    return "\n".join(lines)


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _stages(found: "Plan") -> Table:
    right = (
        "parameters",
        "steps",
        "PFLOP/step",
        "s/step",
        "waiting",
        "hours",
        "GPU-hours",
        "dollars",
        "fullest",
        "",
    )
    table = _table("stages", ("stage", "GPUs"), right)
    for stage in found.stages:
        waiting = 1 - stage.batch_seconds / stage.step_seconds if stage.step_seconds else 0.0
        table.add_row(
            stage.name,
            stage.cluster.name,
            f"{stage.parameters:,}",
            f"{stage.steps:,}",
            f"{stage.step_flops / 1e15:,.4g}",
            f"{stage.step_seconds:.3g}",
            f"{waiting:.0%}",
            f"{stage.hours:,.3g}",
            f"{stage.gpu_hours:,.4g}",
            f"{stage.money:,.0f}",
            f"{_gib(stage.fullest.memory.total)} GiB",
            OK if stage.fits else NO,
        )
    for name in found.taken:
        table.add_row(name, "", "", "", "", "", "", "", "", "", "taken from weights", "", style="dim")
    return table


def _details(found: "Plan", buckets: bool) -> list[Table]:
    """Memory by ZeRO stage; with `buckets` also every bucket."""
    wanted = [stage for stage in found.stages if buckets or not stage.fits]
    return [_memory(found), *(_buckets(stage, every=buckets) for stage in wanted)]


def _memory(found: "Plan") -> Table:
    columns = [f"ZeRO {stage}{again}" for again in ("", " +ckpt") for stage in range(4)]
    table = _table(
        "GiB on a GPU for the fullest bucket, by ZeRO stage and activation checkpointing (ckpt); → as configured",
        ("stage", "bucket"),
        tuple(columns),
    )
    for stage in found.stages:
        cells = []
        for choice in stage.choices:
            chosen = (choice.zero_stage, choice.recompute) == (stage.zero_stage, stage.recompute)
            text = f"{'→' if chosen else ''}{_gib(choice.bytes)}"
            cells.append(text if choice.fits else f"[red]{text}[/]")
        table.add_row(stage.name, stage.fullest.name, *cells)
    return table


def _buckets(stage: "StagePlan", *, every: bool) -> Table:
    right = (
        "size",
        "batch",
        "tokens",
        "share",
        "TFLOP",
        "seconds",
        "weights",
        "gradients",
        "optimizer",
        "EMA",
        "activations",
    )
    table = _table(f"{stage.name}: a batch of one GPU, memory in GiB", ("bucket",), (*right, "total", ""))
    for bucket in stage.buckets:
        if every or not bucket.fits:
            memory = bucket.memory
            parts = (
                memory.weights,
                memory.gradients,
                memory.optimizer,
                memory.ema,
                memory.activations,
                memory.total,
            )
            table.add_row(
                bucket.name,
                f"{bucket.height}x{bucket.width}",
                str(bucket.batch),
                f"{bucket.tokens:,}",
                f"{bucket.share:.2%}" if bucket.share else "-",
                f"{bucket.flops / 1e12:,.4g}",
                f"{bucket.seconds:.3g}",
                *(_gib(part) for part in parts),
                OK if bucket.fits else NO,
            )
    return table


def _ends(found: "Plan") -> list[Table | str]:
    parts: list[Table | str] = []
    if data := [line for stage in found.stages for line in _data(stage)]:
        parts.append("\n".join(["[bold]data[/]", *data]))
    parts.append(_storage(found))
    if found.comparison:
        parts.append(_comparison(found.comparison))
    mfu = sorted({stage.cluster.mfu for stage in found.stages})
    price = sorted({stage.cluster.price for stage in found.stages})
    assumed = [
        f"MFU {', '.join(f'{each:g}' for each in mfu)} (--mfu): model FLOPs over the dense peak, without recomputation;"
        " Open-Sora's authors reached 0.11 with STDiT, wider models 0.2 to 0.35",
        f"{', '.join(f'{each:g}' for each in price)} dollars for a GPU-hour (--price)",
        *found.assumptions,
    ]
    parts.append("\n".join(["[bold]assumed[/]", *(f"  {line}" for line in assumed)]))
    return parts


def _data(stage: "StagePlan") -> list[str]:
    """What becomes of the clips of a stage; nothing where there is nothing to say."""
    data, lines = stage.data, []
    if data.source == "clip table":
        lines.append(
            f"  {stage.name}: {data.used:,} of {data.clips:,} clips, {data.batches:,.1f} batches an epoch"
        )
        if data.dropped or data.repeated:
            lines.append(
                f"    {data.dropped:,} samples an epoch left over, {data.repeated:,} repeated to fill a batch"
            )
        lines += [f"    {count:,} clips in no bucket: {reason}" for reason, count in data.unused.items()]
    if data.empty:
        lines.append(f"  {stage.name} asks for buckets that get nothing: {', '.join(data.empty)}")
    return lines


def _storage(found: "Plan") -> str:
    largest = sum(stage.checkpoint_bytes * stage.checkpoints for stage in found.stages)
    lines = ["[bold]storage[/]"]
    if found.stages:
        last = found.stages[-1]
        lines.append(
            f"  checkpoints: {_gib(last.checkpoint_bytes)} GiB each for {last.name}, {last.checkpoints} kept;"
            f" {_gib(largest)} GiB if those of every stage were there at once"
        )
    for each in found.latents:
        per = (
            ""
            if each.source == "clip table"
            else f", {_gib(each.bytes / each.clips * 1e6)} GiB for a million clips"
        )
        lines.append(
            f"  {each.stage}: {each.rows:,} latents of {each.clips:,} clips, {_gib(each.bytes)} GiB{per}"
        )
    return "\n".join(lines)


def _comparison(found: "Comparison") -> str:
    total = found.training_flops + found.encoder_flops
    return (
        f"[bold]published[/]\n  {found.what}: {found.published_gpu_hours:,.0f} GPU-hours\n"
        f"  this arithmetic: {found.gpu_hours:,.0f} GPU-hours ({found.error:+.0%}) at an MFU of {found.mfu:g},"
        f" {found.measured}\n"
        f"  {found.training_flops:.3g} FLOPs of training and {found.encoder_flops:.3g} of encoders; the published hours"
        f" imply an MFU of {found.implied_mfu:.1%}, waiting included"
        f" ({found.implied_mfu * found.training_flops / total:.1%} of training alone)"
    )


def _outcome(lines: "list[Line]") -> Table:
    table = _table("prediction and outcome", ("stage", "what"), ("predicted", "recorded", "ratio"))
    for line in lines:
        ratio = f"{line.recorded / line.predicted:.3f}" if line.predicted else "-"
        table.add_row(line.stage, line.what, f"{line.predicted:,.6g}", f"{line.recorded:,.6g}", ratio)
    if not lines:
        raise UserError("no report of a stage of this recipe is here: run the recipe first, then ask again")
    return table


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f}" if size >= 2**30 / 10 else f"{size / 2**30:.2g}"


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    return json.loads(json.dumps(value, default=str))
