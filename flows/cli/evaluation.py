"""`reelforge evaluate` and `compare`: any model under this workspace's protocol, and any two evaluations."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from components.errors import UserError
from flows.preflight import check_workspace

ROOT = Path()
console = Console()
COLOURS = {"passed": "green", "failed": "red", "undecided": "yellow", "left out": "dim"}


def evaluate(
    model: Annotated[str, typer.Argument(help="champion, candidate, workspace, or a pipeline folder.")],
    output: Annotated[Path, typer.Option(help="Folder for the evaluation.")],
) -> None:
    """Evaluate one model under the protocol of params.yaml. Stopped and started again, it goes on.

    Example: reelforge evaluate champion --output evaluations/champion
    """
    from components.evaluation.other_model import evaluate_model
    from flows.cli.generate import pipeline_folder

    params = check_workspace(ROOT)
    if (output / "record.json").exists():
        raise UserError(f"{output} holds an evaluation already; give another folder, or remove it")
    report = evaluate_model(ROOT.resolve(), params, pipeline_folder(model).resolve(), output.resolve())
    for name, value in sorted(report.metrics.items()):
        console.print(f"{name:40} {value:.4g}", highlight=False)
    for note in report.notes:
        console.print(note, style="dim", highlight=False, soft_wrap=True)


def compare(
    candidate: Annotated[Path, typer.Argument(help="Folder of an evaluation.")],
    champion: Annotated[Path, typer.Argument(help="Folder of the evaluation to beat.")],
    policy: Annotated[
        Path | None, typer.Option(help="YAML with a gate section; default: params.yaml.")
    ] = None,
) -> None:
    """Judge one evaluation against another and print every check. Exit code 0: promote, 3: anything else.

    Example: reelforge compare artifacts/evaluate evaluations/champion
    """
    from components.params import Params
    from components.registry.gate import judge
    from components.registry.policy.contestant import Contestant, read_champion
    from components.registry.policy.verdict import Decision

    config = Params.load(policy or ROOT / "params.yaml").gate
    sides = [Contestant.read(_evaluation(folder)) for folder in (candidate, champion)]
    frozen = ROOT / config.frozen
    verdict = judge(sides[0], sides[1], config, read_champion(frozen) if frozen.exists() else None)
    table = Table("metric", "asked", "result", "candidate", "champion", "why")
    for finding in verdict.findings:
        values = ("–" if value is None else f"{value:.4g}" for value in (finding.candidate, finding.champion))
        status = f"[{COLOURS[finding.status]}]{finding.status}[/]"
        table.add_row(finding.metric, finding.kind, status, *values, finding.reason)
    console.print(table)
    console.print(f"[bold]{verdict.decision}[/]: {verdict.reason}", highlight=False, soft_wrap=True)
    if verdict.decision is not Decision.PROMOTE:
        raise typer.Exit(3)


def _evaluation(folder: Path) -> Path:
    if not (folder / "record.json").is_file():
        raise UserError(
            f"{folder} holds no evaluation (no record.json); `reelforge evaluate MODEL --output {folder}` writes one"
        )
    return folder
