"""`reelforge doctor`: can this machine run the pipeline, and what to do where it cannot."""

import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.errors import UserError
from flows.cli.doctor_services import service_checks
from flows.share import how_it_is_shared

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

ROOT = Path()
console = Console()
PACKAGES = (
    "torch",
    "deepspeed",
    "diffusers",
    "transformers",
    "prefect",
    "mlflow",
    "dvc",
    "pylance",
    "great-expectations",
    "av",
)
# package -> (first bad release, what breaks)
INCOMPATIBLE = {
    "fastapi": ("0.151", "the Prefect API answers 422 or does not start"),
    "sqlalchemy": ("2.1", "the Prefect scheduler never makes a run"),
    "marshmallow": ("4", "Great Expectations cannot save results"),
}


def doctor() -> None:
    """Check packages, machine, workspace, registry and services; say how to mend what is wrong."""
    table = Table("", "what", "finding", box=None, pad_edge=False)
    failed: set[str] = set()
    for name, check in {**service_checks(ROOT), **CHECKS}.items():
        if name == "champion" and failed & {"MLflow", "databases"}:
            continue  # it would be asked for minutes
        try:
            table.add_row("[green]ok[/]", name, escape(check()))
        except UserError as error:
            failed.add(name)
            table.add_row("[red]!![/]", name, f"[red]{escape(str(error))}[/]")
    console.print(table)
    if failed:
        raise typer.Exit(1)


def _python() -> str:
    if sys.version_info[:2] != (3, 11):
        raise UserError(f"Python {sys.version.split()[0]}; Reelforge needs 3.11: python3.11 -m venv .venv")
    return sys.version.split()[0]


def _packages() -> str:
    from packaging.version import Version

    found, wanted = [], _wanted()
    for name in PACKAGES:
        try:
            there = version(name)
        except PackageNotFoundError:
            raise UserError(f"{name} is not installed: `make install`") from None
        if name in wanted and not wanted[name].contains(Version(there).public, prereleases=True):
            raise UserError(f"{name} {there} is installed, Reelforge needs {wanted[name]}: `make install`")
        found.append(f"{name} {there}")
    return ", ".join(found)


def _wanted() -> "dict[str, SpecifierSet]":
    """Package -> versions that Reelforge's own installation asks for; empty where only its folder is on the path."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(each) for each in requires("reelforge") or []]
    except PackageNotFoundError:
        return {}
    return {each.name: each.specifier for each in asked if each.specifier}


def _incompatible() -> str:
    from packaging.version import Version

    for name, (first_bad, symptom) in INCOMPATIBLE.items():
        if Version(version(name)) >= Version(first_bad):
            raise UserError(f"{name} {version(name)}: {symptom}; `pip install '{name}<{first_bad}'`")
    return ", ".join(f"{name} {version(name)}" for name in INCOMPATIBLE)


def _machine() -> str:
    from components.runtime import describe_machine

    return "; ".join(describe_machine())


def _disk() -> str:
    from flows.preflight import check_room, check_workspace

    check_room(ROOT, check_workspace(ROOT))
    return f"{shutil.disk_usage(ROOT).free / 1e9:.0f} GB free, params.yaml is valid"


def _codecs() -> str:
    missing = [
        name for name, mode in (("h264", "r"), ("hevc", "r"), ("libx264", "w")) if not _has_codec(name, mode)
    ]
    if missing:
        raise UserError(
            f"PyAV lacks {', '.join(missing)}: reinstall it from its wheel (`pip install --force-reinstall av`)"
        )
    return "decodes H.264 and HEVC, encodes H.264"


def _has_codec(name: str, mode: str) -> bool:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def _cluster() -> str:
    from components.data.cluster import describe
    from components.params import Params

    runtime = Params.load(ROOT / "params.yaml").runtime
    if runtime.cluster is None:
        return "none is named: work is done on this machine"
    return describe(runtime.cluster, {str(pool): share for pool, share in runtime.gpus.items()})


def _storage() -> str:
    from components.params import Params, place_in
    from components.runtime import profile_store
    from components.storage import check_readable, check_writable

    params = Params.load(ROOT / "params.yaml")
    videos, store = place_in(ROOT, params.ingest.videos), params.runtime.store_place(ROOT)
    check_readable(videos)
    check_writable(store)
    said = " (as the profile says)" if params.runtime.store is None and profile_store(ROOT) else ""
    return f"videos in {params.ingest.videos}, tables and latents in {params.runtime.store_uri(ROOT)}{said}"


def _registry() -> str:
    from components.registry.fetch import champion_line

    return champion_line(ROOT)


def _git() -> str:
    if shutil.which("git") is None:
        raise UserError("git is not installed; DVC needs it")
    if not (ROOT / ".git").exists():
        raise UserError("this folder is not a git clone: `git init`, so that DVC can version it")
    if not (ROOT / ".dvc/config").is_file():
        raise UserError(
            "DVC is not initialised in this folder: `dvc init`, or run this in a clone of Reelforge"
        )
    return f"git clone, DVC initialised; {how_it_is_shared(ROOT)}"


CHECKS: dict[str, Callable[[], str]] = {
    "Python": _python,
    "packages": _packages,
    "known incompatibilities": _incompatible,
    "machine": _machine,
    "workspace": _disk,
    "version control": _git,
    "codecs": _codecs,
    "cluster": _cluster,
    "storage": _storage,
    "champion": _registry,
}
