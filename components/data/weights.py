"""Where the models that judge clips lie, so that DVC sees when one of them changes.

A parameter that names weights may be null, and DVC cannot depend on nothing. So the stages depend on one folder that
is always there; weights that lie elsewhere work too, and it is said that nobody watches them.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)
FOLDER = "weights/curation"


def unwatched(named: Mapping[str, Path | str | None], root: Path = Path()) -> list[str]:
    """Parameters, from those in `named`, whose weights lie outside of the folder that DVC hashes."""
    folder = (root / FOLDER).resolve()
    return [
        name
        for name, path in named.items()
        if path and not (root / path).resolve().is_relative_to(folder)  # links are not followed by DVC
    ]


def warn_of_unwatched(named: Mapping[str, Path | str | None], root: Path = Path()) -> None:
    """Say which weights could change without DVC running the stage again."""
    for name in unwatched(named, root):
        log.warning("%s lies outside of %s: `dvc repro` will not notice when it changes", name, FOLDER)
