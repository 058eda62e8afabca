"""`reelforge recipes`: full parameter sets, one per published system, in the schema of params.yaml.

And overlays: sections that replace values of any of them, as the filters of a published data set do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.errors import ParamsError, UserError
from components.params import SYSTEM_SECTIONS, Params, laid_over, read_sections

ROOT = Path()
app = typer.Typer(
    help="Full parameter sets: list them, or make one the workspace's params.yaml.", no_args_is_help=True
)
console = Console()
Overlays = Annotated[
    list[str] | None,
    typer.Option("--with", help="An overlay, as data/hdvila; may be given several times, the last one wins."),
]


def overlay_files(root: Path) -> dict[str, Path]:
    """Overlays by name, as `data/hdvila`."""
    folder = root / "recipes"
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.glob("*/*.yaml"))
    }


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


def text_of(root: Path, name: str, overlays: Sequence[str] = ()) -> str:
    """A recipe as YAML with its comments, after overlays were laid on it.

    Raises `UserError` for an unknown one, and `ParamsError` naming each key of an overlay that the recipe has not.
    """
    recipes, known = recipe_files(root), overlay_files(root)
    if name not in recipes:
        raise UserError(f"there is no recipe `{name}`; recipes: {', '.join(recipes)}")
    if unknown := [overlay for overlay in overlays if overlay not in known]:
        raise UserError(f"there is no overlay `{unknown[0]}`; overlays: {', '.join(known)}")
    Params.load(recipes[name])
    if not overlays:
        return recipes[name].read_text()
    from flows.edit_params import with_values

    changes, wanted = dict[str, Any](), read_sections(recipes[name])
    for overlay in overlays:
        raw = read_sections(known[overlay])
        if absent := sorted(SYSTEM_SECTIONS & raw.keys() - wanted.keys()):
            raise ParamsError(f"{known[overlay]}: the recipe `{name}` has no section {', '.join(absent)}")
        changes, wanted = laid_over(changes, raw), laid_over(wanted, raw)
        Params.of(wanted, known[overlay])
    return with_values(recipes[name].read_text(), changes, wanted)


def use_recipe(root: Path, name: str, overlays: Sequence[str] = (), *, force: bool = False) -> None:
    """Make a recipe the workspace's parameters. Raises `UserError` for an unknown one, or if edits would be lost."""
    text, target = text_of(root, name, overlays), root / "params.yaml"
    if not force and target.exists() and not _is_known(root, target):
        again = " ".join([name, *(f"--with {overlay}" for overlay in overlays), "--force"])
        raise UserError(
            "params.yaml has changes of its own that would be lost: keep them with `git commit params.yaml`"
            f" (or a copy under recipes/), then `reelforge recipes use {again}`"
        )
    target.write_text(text)


def _is_known(root: Path, target: Path) -> bool:
    """Whether a parameter file is a recipe, or one with an overlay, as it was written here."""
    text, recipes = target.read_text(), recipe_files(root)
    if not text or any(text == path.read_text() for path in recipes.values()):
        return True
    for overlay in overlay_files(root):
        for name in recipes:
            if text.startswith(recipes[name].read_text()[:200]) and text == _with(root, name, overlay):
                return True
    return False


def _with(root: Path, name: str, overlay: str) -> str | None:
    try:
        return text_of(root, name, [overlay])
    except UserError:
        return None


@app.command("list")
def list_recipes() -> None:
    """The recipes, and which one params.yaml holds."""
    current = Params.load(ROOT / "params.yaml").recipe
    table = Table("", "recipe", "what it is", box=None, pad_edge=False)
    for name, path in recipe_files(ROOT).items():
        table.add_row("→" if name == current else "", f"[bold]{name}[/]", escape(about(path)))
    console.print(table)
    overlays = Table("", "overlay", "what it changes", box=None, pad_edge=False)
    for name, path in overlay_files(ROOT).items():
        overlays.add_row(" ", f"[bold]{name}[/]", escape(about(path)))
    console.print()
    console.print(overlays)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a recipe, see `reelforge recipes list`.")],
    overlays: Overlays = None,
) -> None:
    """Print a recipe, with overlays laid on it.

    Example: reelforge recipes show hdvila_shifted_window --with data/hdvila
    """
    print(text_of(ROOT, name, overlays or ()), end="")  # noqa: T201  # rich would wrap and colour it


@app.command("use")
def use(
    name: Annotated[str, typer.Argument(help="Name of a recipe, see `reelforge recipes list`.")],
    overlays: Overlays = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite changes in params.yaml.")] = False,
) -> None:
    """Make a recipe the workspace's params.yaml, with overlays laid on it.

    Example: reelforge recipes use walt_t2v --with data/walt
    """
    use_recipe(ROOT, name, overlays or (), force=force)
    said = " with ".join(f"`{each}`" for each in (name, *(overlays or ())))
    console.print(f"params.yaml now holds {said}; next: reelforge run")
