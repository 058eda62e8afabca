"""Copies of weight folders that cost no space: hard links where the file system allows, real copies elsewhere."""

import os
import shutil
from pathlib import Path


def link_file(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy of it on another file system.

    Every writer here replaces files and never changes them in place, so a shared file stays what it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def link_tree(source: Path, target: Path) -> None:
    """`link_file` for every file below `source`. Raises `ValueError` where there is none."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        raise ValueError(f"{source} holds no files; run the stage that makes it")
    for file in files:
        link_file(file, target / file.relative_to(source))
