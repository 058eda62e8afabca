"""VBench's own Python environment: its pins (numpy below 2, transformers 4.33) cannot live with ours.

`light` holds what the dimensions without weights need, `full` everything the package asks for. An environment is
complete when its stamp is there; one that was left half installed is made again.
"""

import logging
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.artifacts import read_json, sha256_of_json, write_json
from components.errors import UserError
from components.runtime import install_environment

log = logging.getLogger(__name__)
Kind = Literal["light", "full"]
KINDS: tuple[Kind, ...] = ("light", "full")
PACKAGE = "vbench==0.1.5"
STAMP = "complete.json"
SECONDS = 3600


@dataclass(frozen=True)
class Environment:
    """An installed environment. `digest` is that of every package and version in it."""

    kind: Kind
    folder: Path
    digest: str

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def folder_of(root: Path, kind: Kind) -> Path:
    return root / "store" / "vbench" / kind


def find(root: Path) -> Environment | None:
    """The fullest environment that is installed."""
    for kind in reversed(KINDS):
        stamp = folder_of(root, kind) / STAMP
        if stamp.is_file():
            return Environment(kind, folder_of(root, kind), read_json(stamp)["digest"])
    return None


def install(root: Path, kind: Kind) -> Environment:
    """Make the environment unless it is there. Raises `UserError` with the installer's last lines."""
    folder = folder_of(root, kind)
    if (folder / STAMP).is_file():
        return Environment(kind, folder, read_json(folder / STAMP)["digest"])
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _uv("venv", "--python", sys.executable, str(folder))
    python = str(folder / "bin" / "python")
    requirements = Path(__file__).with_name(f"requirements-{kind}.txt")
    log.info("installing VBench's %s environment into %s", kind, folder)
    _uv("pip", "install", "--python", python, "--requirements", str(requirements))
    if kind == "light":
        _uv("pip", "install", "--python", python, "--no-deps", PACKAGE)
    packages = _uv("pip", "freeze", "--python", python).splitlines()
    digest = sha256_of_json(sorted(packages))
    write_json(folder / STAMP, {"digest": digest, "packages": sorted(packages)})
    return Environment(kind, folder, digest)


def _uv(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "uv", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=install_environment(),
    )
    if done.returncode:
        raise UserError(
            f"`uv {' '.join(arguments[:2])}` for VBench's environment failed: {done.stderr.strip()[-600:]}"
        )
    return done.stdout
