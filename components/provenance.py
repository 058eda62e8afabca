"""Where a result came from: code revision, what DVC recorded, and the machine.

Tracking, the registry and the report all say the same things about a run; they ask here.
"""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import yaml

from components.storage import Place

GIT_SECONDS = 10
GIGABYTE = 1e9


@cache
def git_revision(root: Path) -> str:
    """Commit of the workspace, with `-dirty` if tracked files differ; `unknown` outside a repository."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return "unknown"
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command, None if git is not there or refuses."""
    command = ["git", "-C", str(root.resolve()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True)
class LockedStage:
    """One stage of a `dvc.lock`: path -> digest, of what it read and of what it wrote."""

    reads: dict[str, str] = field(default_factory=dict)
    writes: dict[str, str] = field(default_factory=dict)


def locked_stages(root: Path) -> dict[str, LockedStage]:
    """The stages of `dvc.lock` and of those under `pipelines/`; empty where nothing has been run through DVC."""
    found: dict[str, LockedStage] = {}
    for path in (root / "dvc.lock", *sorted(root.glob("pipelines/*/dvc.lock"))):
        stages = (yaml.safe_load(path.read_text()) or {}).get("stages", {}) if path.is_file() else {}
        for name, entry in stages.items():
            found[name] = LockedStage(_digests(entry, "deps"), _digests(entry, "outs"))
    return found


def _digests(entry: dict[str, Any], kind: str) -> dict[str, str]:
    return {item["path"]: f"md5:{item['md5']}" for item in entry.get(kind, []) if "md5" in item}


def locked_digest(root: Path, path: Place) -> str | None:
    """Digest that DVC recorded when a stage wrote `path`; None for a file that no stage wrote through DVC.

    Of what lies in an object store it is that of the listing, when a stage last read it.
    """
    if not isinstance(path, Path):
        read = (stage.reads for stage in locked_stages(root).values())
        return next((known[str(path)] for known in read if str(path) in known), None)
    relative = os.path.relpath(path, root)
    for stage in locked_stages(root).values():
        if relative in stage.writes:
            return stage.writes[relative]
    return None


@cache
def machine() -> dict[str, str]:
    """What this process runs on, in words: processor, cores, memory and operating system."""
    return {
        "processor": _processor(),
        "cores": str(psutil.cpu_count(logical=True)),
        "memory_gb": f"{psutil.virtual_memory().total / GIGABYTE:.0f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
