"""`reelforge rollback` and `reelforge lineage`: questions to the registry, and the way back."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.errors import UserError
from flows.preflight import check_workspace

ROOT = Path()
console = Console()


def rollback(reason: Annotated[str, typer.Option(help="Why; kept in registry/history.jsonl.")]) -> None:
    """Give the champion's place back to the previous champion.

    Example: reelforge rollback --reason "flicker in fast pans"
    """
    from components.registry.promote import rollback as back

    check_workspace(ROOT)
    console.print(back(ROOT.resolve(), reason), highlight=False)


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
