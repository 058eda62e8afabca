"""`reelforge evaluate` and `compare`: any model under this workspace's protocol, and any two models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.errors import UserError
from flows.preflight import check_room, check_workspace

if TYPE_CHECKING:
    from components.registry.config import GateConfig

ROOT = Path()
MODELS = {"champion", "candidate", "workspace"}
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
    check_room(ROOT, params)
    if (output / "record.json").exists():
        raise UserError(f"{output} holds an evaluation already; give another folder, or remove it")
    report = evaluate_model(ROOT.resolve(), params, pipeline_folder(model).resolve(), output.resolve())
    for name, value in sorted(report.metrics.items()):
        console.print(f"{name:40} {value:.4g}", highlight=False)
    for note in report.notes:
        console.print(note, style="dim", highlight=False, soft_wrap=True, markup=False)


def compare(
    candidate: Annotated[
        str, typer.Argument(help="Folder of an evaluation or of a model, or champion, candidate, workspace.")
    ],
    champion: Annotated[str, typer.Argument(help="The one to beat, named in the same way.")],
    policy: Annotated[
        Path | None, typer.Option(help="YAML with a gate section; default: params.yaml.")
    ] = None,
) -> None:
    """Judge one evaluation or model against another and print every check. Exit code 0: promote, 3: anything else.

    A model is evaluated first, into a folder below evaluations/, unless that was done before under this protocol.
    Stopped and started again, it goes on. Example: reelforge compare artifacts/evaluate champion
    """
    from components.registry.gate import judge
    from components.registry.policy.contestant import Contestant, read_champion
    from components.registry.policy.verdict import Decision

    config = _policy(policy or ROOT / "params.yaml")
    sides = [Contestant.read(_evaluation(side)) for side in (candidate, champion)]
    frozen = ROOT / config.frozen
    verdict = judge(sides[0], sides[1], config, read_champion(frozen) if frozen.exists() else None)
    table = Table("metric", "asked", "result", "candidate", "champion", "why")
    for finding in verdict.findings:
        values = ("–" if value is None else f"{value:.4g}" for value in (finding.candidate, finding.champion))
        status = f"[{COLOURS[finding.status]}]{finding.status}[/]"
        table.add_row(finding.metric, finding.kind, status, *values, escape(finding.reason))
    console.print(table)
    console.print(f"[bold]{verdict.decision}[/]: {escape(verdict.reason)}", highlight=False, soft_wrap=True)
    if verdict.decision is not Decision.PROMOTE:
        raise typer.Exit(3)


def _policy(path: Path) -> "GateConfig":
    """The section `gate` of a file that may hold nothing else. Raises `UserError` where it is missing or wrong."""
    import yaml
    from pydantic import ValidationError

    from components.params import explain
    from components.registry.config import GateConfig

    if not path.is_file():
        raise UserError(f"{path} is missing; --policy names a YAML file with a section `gate`")
    raw = yaml.safe_load(path.read_text())
    if not isinstance(raw, dict) or "gate" not in raw:
        raise UserError(f"{path} has no section `gate`; `params.yaml` shows what is in one")
    try:
        return GateConfig.model_validate(raw["gate"])
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: gate.{line}" for line in explain(GateConfig, error))) from None


def _evaluation(side: str) -> Path:
    """Folder of the evaluation that an argument names, or that is made of the model that it names."""
    from components.evaluation.other_model import evaluation_of
    from flows.cli.generate import pipeline_folder

    folder = Path(side)
    if (folder / "record.json").is_file():
        return folder
    if side not in MODELS and not (folder / "model_index.json").is_file():
        raise UserError(
            f"{folder} holds no evaluation (no record.json) and no model (no model_index.json);"
            f" `reelforge evaluate MODEL --output {folder}` writes an evaluation"
        )
    params = check_workspace(ROOT)
    return evaluation_of(ROOT.resolve(), params, pipeline_folder(side).resolve())
