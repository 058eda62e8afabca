"""`reelforge recipes`: full parameter sets, one per published system, in the schema of params.yaml."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from components.errors import UserError
from components.params import Params

ROOT = Path()
app = typer.Typer(
    help="Full parameter sets: list them, or make one the workspace's params.yaml.", no_args_is_help=True
)
console = Console()


def recipe_files(root: Path) -> dict[str, Path]:
    """Recipes by name, in alphabetical order."""
    return {path.stem: path for path in sorted((root / "recipes").glob("*.yaml"))}


def about(path: Path) -> str:
    """The comment that a recipe starts with."""
    lines = path.read_text().splitlines()
    return " ".join(line.removeprefix("#").strip() for line in _until_first_value(lines))


def _until_first_value(lines: list[str]) -> list[str]:
    for index, line in enumerate(lines):
        if not line.startswith("#"):
            return lines[:index]
    return lines


def use_recipe(root: Path, name: str, *, force: bool = False) -> None:
    """Make a recipe the workspace's parameters. Raises `UserError` for an unknown one, or if edits would be lost."""
    recipes = recipe_files(root)
    if name not in recipes:
        raise UserError(f"there is no recipe `{name}`; recipes: {', '.join(recipes)}")
    Params.load(recipes[name])
    target = root / "params.yaml"
    text = target.read_text() if target.exists() else ""
    known = {path.read_text() for path in recipes.values()}
    if text and text not in known and not force:
        raise UserError(
            "params.yaml has changes of its own that would be lost: keep them with `git commit params.yaml`"
            f" (or a copy under recipes/), then `reelforge recipes use {name} --force`"
        )
    shutil.copyfile(recipes[name], target)


@app.command("list")
def list_recipes() -> None:
    """The recipes, and which one params.yaml holds."""
    current = Params.load(ROOT / "params.yaml").recipe
    table = Table("", "recipe", "what it is", box=None, pad_edge=False)
    for name, path in recipe_files(ROOT).items():
        table.add_row("→" if name == current else "", f"[bold]{name}[/]", about(path))
    console.print(table)


@app.command("use")
def use(
    name: Annotated[str, typer.Argument(help="Name of a recipe, see `reelforge recipes list`.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite changes in params.yaml.")] = False,
) -> None:
    """Make a recipe the workspace's params.yaml."""
    use_recipe(ROOT, name, force=force)
    console.print(f"params.yaml now holds `{name}`; next: reelforge run")
