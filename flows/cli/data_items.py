"""`reelforge data show`, `remove` and `quarantine`: one clip or file, and the ways out of the data set."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from components.data.takedowns import TAKEDOWNS, Takedown, add_takedowns
from components.errors import UserError

if TYPE_CHECKING:
    from components.registry.lineage import Sighting

ROOT = Path()
console = Console()
SHOWN = 12  # clips of a file that are printed


def register(app: typer.Typer) -> None:
    """Add these commands to `reelforge data`."""
    app.command("show")(show)
    app.command("remove")(remove)
    app.command("quarantine")(quarantine)


def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="Id of a clip, or path or sha256 of a file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Everything known of a clip or a file: source, times, scores, reasons, caption, latents, versions.

    Example: reelforge data show video_0007.mp4
    """
    from components.data.dossier import dossier

    root = ROOT.resolve()
    found = dossier(root, name)
    asked = {"clip": name} if found.clip else {"source": found.source["source"]}
    sightings = _models(root, asked)
    if as_json:
        models = [
            {"version": str(one.version), "split": one.split, "clips": len(one.clips)} for one in sightings
        ]
        print(json.dumps({**asdict(found), "models": models}, indent=2, default=str))  # noqa: T201
        return
    if found.clip:
        _section(f"clip {name}  (after {found.stage})", found.clip)
    _section(f"file {found.source.get('source', '')}", found.source)
    if found.clips:
        more = f"  and {len(found.clips) - SHOWN} more" if len(found.clips) > SHOWN else ""
        _lines(f"{len(found.clips)} clips", [" ".join(found.clips[:SHOWN]) + more])
    _lines("latents", (f"{one.family}  {one.file}  {one.rows} windows" for one in found.latents))
    _lines("data versions", (f"{one.tag}  {one.rows} clips" for one in found.versions))
    _lines("models", map(_sighting, sightings))


def remove(
    clip: Annotated[str | None, typer.Option(help="Id of a clip.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Path of a file relative to ingest.videos, or its sha256.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="A licence as the clip table names it.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in registry/takedowns.jsonl.")] = "",
) -> None:
    """Take a clip, a file or a licence out of the next version of the data, and say what holds it still.

    Example: reelforge data remove --source video_0007.mp4 --reason "asked for by its author"
    """
    from components.data.dossier import takedown_of, touched_by

    asked = {"clip": clip, "source": source, "licence": licence}
    given = [(kind, value) for kind, value in asked.items() if value]
    if len(given) != 1:
        raise UserError("name one of --clip, --source or --licence")
    if not reason.strip():
        raise UserError('say why with --reason "…": it is kept with the takedown')
    root = ROOT.resolve()
    ((kind, value),) = given
    entries = takedown_of(root, kind, value, reason.strip())
    touched = touched_by(root, entries)
    new = add_takedowns(root / TAKEDOWNS, entries)
    console.print(
        f"{len(new)} entries added to {TAKEDOWNS}" if new else f"{TAKEDOWNS} has this already",
        highlight=False,
    )
    console.print(f"{len(touched.clips)} clips of the current data set are meant", highlight=False)
    _lines("data versions that hold it", (f"{one.tag}  {one.rows} clips" for one in touched.versions))
    _lines(
        "latents that hold it", (f"{one.family}  {one.file}  {one.rows} windows" for one in touched.latents)
    )
    _lines("models that saw it", map(_sighting, _models(root, _query(entries[0]))))
    console.print(
        f"The next `reelforge run` leaves it out as taken_down. Commit {TAKEDOWNS};"
        " versions, latents and models above are left as they are: delete them where you must.",
        highlight=False,
    )


def quarantine(
    clip: Annotated[
        list[str] | None, typer.Option(help="Only this one of the reported clips; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be added.")] = False,
) -> None:
    """Take the clips that broke training steps out of the next version of the data.

    Example: reelforge data quarantine --dry-run
    """
    from components.data.quarantine import quarantine as add
    from components.data.quarantine import reported_clips
    from components.data.takedowns import QUARANTINE

    root = ROOT.resolve()
    reported = reported_clips(root)
    if unknown := sorted(set(clip or ()) - set(reported)):
        raise UserError(
            f"no training run has named {', '.join(unknown)}; named: {', '.join(reported) or 'none'}."
            " `reelforge data remove --clip` takes out any clip"
        )
    chosen = {name: reason for name, reason in reported.items() if not clip or name in clip}
    _lines("clips that broke training steps", (f"{name}  {reason}" for name, reason in chosen.items()))
    if dry_run or not chosen:
        return
    new, gone = add(root, chosen)
    console.print(
        f"{len(new)} added to {QUARANTINE}, {len(chosen) - len(new) - len(gone)} were there, {len(gone)} are in no"
        f" table any more. The next `reelforge run` leaves them out as quarantined. Commit {QUARANTINE}.",
        highlight=False,
        soft_wrap=True,
    )


def _query(entry: Takedown) -> dict[str, str]:
    """The question to the lineage: a file by its digest, so that another path makes no difference."""
    return {entry.kind: entry.digest or entry.value if entry.kind == "source" else entry.value}


def _models(root: Path, asked: Mapping[str, str]) -> "Sequence[Sighting]":
    """Registered versions that saw it; none where nothing was ever registered."""
    from components.registry.lineage import versions_that_saw
    from components.runtime import tracking_uri

    uri = tracking_uri(root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        return []
    return versions_that_saw(root, **asked)


def _sighting(one: "Sighting") -> str:
    return f"{one.version}  {one.split}  {len(one.clips)} clips"


def _section(title: str, row: Mapping[str, Any]) -> None:
    console.print(f"[bold]{title}[/]", highlight=False)
    for name, value in row.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        shown = f"{shown:.6g}" if isinstance(shown, float) else shown
        if shown not in (None, ""):
            console.print(f"  {name:<20} {shown}", highlight=False, soft_wrap=True, markup=False)


def _lines(title: str, lines: Iterable[str]) -> None:
    console.print(f"[bold]{title}[/]", highlight=False)
    for line in list(lines) or ["none"]:
        console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
