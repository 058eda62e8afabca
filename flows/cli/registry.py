"""`reelforge promote`, `rollback`, `lineage` and `registry`: questions to the registry, and who is champion."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.errors import UserError
from flows.preflight import check_workspace

ROOT = Path()
console = Console()
app = typer.Typer(help="The registry's past, and what the gate compares with.", no_args_is_help=True)


def promote(
    version: Annotated[
        int | None, typer.Option(help="Version to promote by override; else the candidate.")
    ] = None,
    override: Annotated[
        bool, typer.Option("--override", help="Against or without a verdict; recorded.")
    ] = False,
    by: Annotated[str, typer.Option(help="Who answers for an override.")] = "",
    reason: Annotated[str, typer.Option(help="Why; kept in registry/history.jsonl.")] = "",
) -> None:
    """Register this workspace's model and promote it if the verdict says so; or promote a version by override.

    Example: reelforge promote --override --version 3 --by "A. Reviewer" --reason "FVD undecided, raters prefer it"
    """
    from components.registry.promote import promote_by_hand, promote_by_verdict
    from components.registry.register import VERDICT, register_candidate

    params = check_workspace(ROOT)
    root = ROOT.resolve()
    if override:
        if version is None:
            raise UserError(
                "name the version to promote: --version N; `reelforge registry versions` lists them"
            )
        console.print(
            promote_by_hand(root, version, person=by, reason=reason),
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
        return
    if version is not None or by or reason:
        raise UserError(
            "--version, --by and --reason belong to --override; a verdict promotes the candidate it is about"
        )
    if not (root / VERDICT).is_file():
        raise UserError(f"{VERDICT} is missing: there is no verdict yet; run `reelforge run`")
    numbers = register_candidate(root, params)
    console.print(promote_by_verdict(root, params, numbers), highlight=False, soft_wrap=True, markup=False)


def rollback(reason: Annotated[str, typer.Option(help="Why; kept in registry/history.jsonl.")]) -> None:
    """Give the champion's place back to the previous champion.

    Example: reelforge rollback --reason "flicker in fast pans"
    """
    from components.registry.promote import rollback as back

    check_workspace(ROOT)
    console.print(back(ROOT.resolve(), reason), highlight=False, soft_wrap=True, markup=False)


def lineage(
    clip: Annotated[str | None, typer.Option(help="Id of a clip.")] = None,
    source: Annotated[str | None, typer.Option(help="A video file, relative to its folder.")] = None,
    licence: Annotated[str | None, typer.Option(help="A licence as the clip table names it.")] = None,
) -> None:
    """Which model versions were trained on a clip, a file or a licence.

    Example: reelforge lineage --source video_0007.mp4
    """
    from components.registry.lineage import versions_that_saw

    asked = {"clip": clip, "source": source, "licence": licence}
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) != 1:
        raise UserError("ask for one of --clip, --source or --licence")
    check_workspace(ROOT)
    found = versions_that_saw(ROOT.resolve(), **given)
    for sighting in found:
        console.print(f"{sighting.version}  {sighting.split}  {len(sighting.clips)} clips", highlight=False)
    if not found:
        console.print("no registered version was trained on it")


@app.command()
def history() -> None:
    """Who was champion, when and why; the chain of digests is checked."""
    from components.registry.history import shared_history

    check_workspace(ROOT)
    entries = shared_history(ROOT.resolve())
    if not entries:
        console.print("no decision was recorded yet")
        return
    for entry in entries:
        before = "" if entry["champion_before"] is None else f"  before: v{entry['champion_before']}"
        decision = (
            f"{entry['time']}  {entry['event']}  v{entry['version']}  {entry['model_sha256'][:12]}{before}"
        )
        for line in (decision, f"  {entry['reason']}"):
            console.print(line, highlight=False, soft_wrap=True, markup=False)


@app.command("versions")
def versions_() -> None:
    """All registered text-to-video versions, with their aliases and verdicts."""
    from components.registry.versions import TEXT_TO_VIDEO, versions

    check_workspace(ROOT)
    table = Table("version", "aliases", "verdict", "model", "recipe", "code")
    for version in versions(ROOT.resolve(), TEXT_TO_VIDEO):
        tags = version.tags
        table.add_row(
            str(version.number),
            ", ".join(version.aliases),
            tags.get("verdict", ""),
            version.digest[:12],
            escape(tags.get("recipe", "")),
            tags.get("code", "")[:12],
        )
    console.print(table)


@app.command()
def freeze() -> None:
    """Make the champion's evaluation the frozen baseline that no later champion may fall behind."""
    from components.registry.baseline import freeze_baseline

    params = check_workspace(ROOT)
    console.print(freeze_baseline(ROOT.resolve(), params), highlight=False, soft_wrap=True)


@app.command()
def margins(
    evaluations: Annotated[
        list[Path], typer.Argument(help="Evaluations of one model with different evaluate.seed.")
    ],
) -> None:
    """What margins the noise of A/A runs asks for: twice the deviation between them.

    Example: reelforge registry margins evaluations/a evaluations/b evaluations/c
    """
    from components.evaluation.record import EvaluationRecord
    from components.registry.margins import noise_of

    table = Table("metric", "runs", "mean", "deviation", "margin at least")
    for noise in noise_of([EvaluationRecord.read(folder) for folder in evaluations]):
        numbers = (f"{value:.4g}" for value in (noise.mean, noise.deviation, noise.margin))
        table.add_row(noise.metric, str(noise.runs), *numbers)
    console.print(table)
