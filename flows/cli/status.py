"""`reelforge status`: what is done, what is stale, what was interrupted, who is champion."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from components.params import Params
from components.report import Report
from components.stage import Stage
from components.stages import stages_of
from components.training.checkpoint_names import newest_step
from flows.cli.display import headline
from flows.preflight import check_workspace

ROOT = Path()
console = Console()


def status() -> None:
    """Every stage with its state and its key numbers; the data funnel; the registry."""
    from components.page.funnel import funnel
    from components.registry.fetch import champion_line
    from flows.dvc import changed, descendants

    params = check_workspace(ROOT)
    own = changed(ROOT, params)
    stale = descendants(own, ROOT, params)
    table = Table("stage", "state", "last result", box=None, pad_edge=False)
    for stage in stages_of(params).values():
        path = ROOT / stage.report
        numbers = headline(Report.read(path)) if path.exists() else ""
        table.add_row(stage.name, _state(stage, own, stale, params), f"[dim]{numbers}[/]")
    console.print(table)
    for step in funnel(ROOT):
        lost = ", ".join(f"{words} {count}" for words, count in step.lost)
        console.print(f"  {step.title:<20}{step.count:>9} {step.unit:<6} {lost}", highlight=False)
    console.print(f"\nchampion   {champion_line(ROOT)}", highlight=False)
    if stale:
        console.print(f"{len(own)} stages changed, {len(stale)} to bring up to date: [bold]reelforge run[/]")
    else:
        console.print("everything is up to date")


def _state(stage: Stage, own: set[str], stale: set[str], params: Params) -> str:
    paths = stage.paths(ROOT, params)
    if stage.name not in stale:
        return "[green]up to date[/]"
    if step := newest_step(paths.checkpoints):  # a stage that has finished leaves none
        return f"[yellow]interrupted at step {step}[/]"
    if not any(path.exists() for path in paths.outputs.values()):
        return "[dim]not run yet[/]"
    return "[yellow]changed[/]" if stage.name in own else "[yellow]behind a changed one[/]"
