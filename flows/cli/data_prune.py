"""`reelforge data prune`: room on the disk, from results and tables that no run would read again."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

ROOT = Path()
console = Console()


def register(app: typer.Typer) -> None:
    """Add this command to `reelforge data`."""
    app.command("prune")(prune)


def prune(
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without this only say what would be.")
    ] = False,
    params: Annotated[
        list[Path] | None, typer.Option(help="Another parameter file whose results are kept too.")
    ] = None,
    shared_store: Annotated[
        bool,
        typer.Option(
            "--shared-store",
            help="Also states of tables in a store outside of this workspace, which other clones may need.",
        ),
    ] = False,
) -> None:
    """Remove kept results of other code or parameters, and states of tables that no manifest here names.

    Nothing is lost but time: what is asked for again is made again. Do not run it beside a stage.

    Example: reelforge data prune --params recipes/open_sora_1_2.yaml --yes
    """
    from components.data.prune import find_removable, has_own_store, remove
    from components.params import Params, store_of

    root = ROOT.resolve()
    files = [root / "params.yaml", *(params or [])]
    found = find_removable(root, [Params.load(path) for path in files], others_too=shared_store)
    if not shared_store and not has_own_store(root):
        _say(
            f"tables in {store_of(root)} are left alone: other clones may name their states (--shared-store)"
        )
    for one in found:
        place = str(one.place).removeprefix(f"{root}/")
        _say(f"{one.size / 1e6:>10.1f} MB  {one.kind} {one.name}  {one.what}  {place}")
    if not found:
        _say("nothing to remove")
        return
    total = sum(one.size for one in found) / 1e6
    if not yes:
        _say(f"{total:>10.1f} MB in all. Nothing was removed: `reelforge data prune --yes` does it")
        return
    remove(found)
    _say(f"{total:>10.1f} MB removed")


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)
