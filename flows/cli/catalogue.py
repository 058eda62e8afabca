"""`reelforge models`: the models that can be built here, with the sizes that they were published with."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from components.errors import UserError

app = typer.Typer(help="The published models: list them, or show one.", no_args_is_help=True)
console = Console()
WIDTH = 112  # columns that the tables and the line below them need, in a file too; a narrower terminal wraps
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


@app.command("list")
def list_models(
    as_json: AsJson = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="Also the small copies that tests use.")] = False,
) -> None:
    """Every model: its system, parameters, latents and tokens at the published resolution."""
    from models.catalogue import catalogue

    entries = catalogue(twins=tiny)
    if as_json:
        _print_json([entry.as_dict() for entry in entries])
        return
    tables = {
        "transformer": Table("transformer", "system", "parameters", "video", "latents", "tokens"),
        "autoencoder": Table("autoencoder", "system", "parameters", "video", "latents", "strides"),
    }
    for entry in entries:
        last = f"{entry.tokens:,}" if entry.tokens else sides(entry.strides or ())
        tables[entry.kind].add_row(
            f"[bold]{entry.name}[/]",
            entry.system,
            f"{entry.parameters:,}",
            sides(entry.video),
            sides(entry.latent),
            last,
        )
        for part, count in entry.parts.items():
            tables[entry.kind].add_row(f"[dim]  {part}[/]", "", f"[dim]{count:,}[/]")
    wide = Console(width=max(console.width, WIDTH))
    for table in tables.values():
        table.box, table.pad_edge = None, False
        for column in (2, 3, 4, 5):
            table.columns[column].justify = "right"
        wide.print(table)
        wide.print()
    wide.print(
        "[dim]video: frames x height x width in pixels, as published; latents: channels x frames x height x width;"
        "\nstrides: frames x pixels per latent. More of one: reelforge models show NAME[/]"
    )


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a model, see `reelforge models list`.")],
    as_json: AsJson = False,
) -> None:
    """One model with its whole configuration."""
    from models.catalogue import entry

    try:
        found = entry(name)
    except ValueError as error:
        raise UserError(str(error)) from None
    if as_json:
        _print_json({**found.as_dict(), "config": found.config})
        return
    facts: dict[str, Any] = {
        "system": found.system,
        "parameters": f"{found.parameters:,}",
        **{f"  {part}": f"{count:,}" for part, count in found.parts.items()},
        "published": found.published or "-",
        "video": f"{sides(found.video)} (frames, height, width)",
        "latents": f"{sides(found.latent)} (channels, frames, height, width)",
        "tokens": f"{found.tokens:,}" if found.tokens else None,
        "autoencoder": found.autoencoder,
        "strides": f"{sides(found.strides)} (frames, pixels)" if found.strides else None,
    }
    console.print(f"[bold]{found.name}[/]")
    for title, value in {**facts, **found.config}.items():
        if value is not None:
            console.print(f"  {title:<22} {value}", highlight=False, soft_wrap=True, markup=False)


def sides(values: tuple[int, ...]) -> str:
    """`(4, 15, 30, 53)` -> `4x15x30x53`."""
    return "x".join(map(str, values))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201  # rich would wrap and colour it
