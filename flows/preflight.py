"""Everything that can be refused before work starts, is refused here."""

import shutil
import socket
from collections.abc import Collection, Iterable
from contextlib import chdir
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.config import IngestConfig
from components.errors import UserError
from components.params import Params, place_in, store_of
from components.stages import STAGES, stages_of
from components.storage import Place, check_readable, check_writable, listed

if TYPE_CHECKING:
    from components.data.sources import Source

GIGABYTE = 1e9
LOOKED_AT = 20  # videos of a bucket, until one of them can be read


def check_workspace(root: Path) -> Params:
    """The workspace's parameters, once the folder is one that a pipeline can run in. Raises `UserError`."""
    for needed in ("dvc.yaml", ".dvc", "components"):
        if not (root / needed).exists():
            raise UserError(f"{root.resolve()} has no {needed}: run this in a clone of Reelforge")
    params = Params.load(root / "params.yaml")
    stages_of(params)  # every stage has its section
    return params


def check_room(root: Path, params: Params) -> None:
    """There is room on the disk for a run. Raises `UserError`."""
    free_gb = shutil.disk_usage(root).free / GIGABYTE
    if free_gb < params.runtime.min_free_gb:
        raise UserError(
            f"no space for the run: {free_gb:.1f} GB free in {root.resolve()}, a run needs"
            f" {params.runtime.min_free_gb:g} GB; free some (`reelforge data prune`, `dvc gc -w`, `make clean`), or"
            " lower runtime.min_free_gb"
        )


def check_videos(folder: Place, config: IngestConfig, root: Path) -> None:
    """At least one file of the folder, or of its manifest, can be read. Raises `UserError` naming what was found."""
    from components.data.video import UndecodableError, VideoFile

    check_readable(folder)
    problems = []
    for source in _some_sources(folder, config, root):
        if source.reason:
            problems.append(f"{source.name}: {source.detail}")
            continue
        try:
            with VideoFile(folder / source.name):
                return
        except UndecodableError as error:
            problems.append(f"{source.name}: {error.detail or error.reason}")
    if not problems:
        raise UserError(f"there is no video in {folder}: put some there, or set ingest.videos in params.yaml")
    raise UserError(f"none of the {len(problems)} videos in {folder} can be read: " + "; ".join(problems[:5]))


def _some_sources(folder: Place, config: IngestConfig, root: Path) -> "Iterable[Source]":
    """All of a local folder, or of a manifest; of a bucket, which may hold millions, those that are listed first."""
    from components.data.sources import find_sources, first_sources

    if isinstance(folder, Path) or config.manifest:
        return find_sources(listed(folder), config, root)
    return islice(first_sources(folder, images=config.images), LOOKED_AT)


def check_captions(source: Place) -> None:
    """The captions can be read and have their columns. Raises `UserError`."""
    from components.data.captions import read_captions

    check_readable(source)
    if isinstance(source, Path) or not source.is_dir():
        read_captions(source)


def check_sources(root: Path, params: Params) -> None:
    """Videos and captions that the parameters name can be used; those the footage stage makes need no check."""
    made_here = STAGES["footage"].outputs["videos"]
    check_writable(store_of(root))
    if params.ingest.videos != made_here:
        check_videos(place_in(root, params.ingest.videos), params.ingest, root)
    if params.caption.source not in {made_here, params.ingest.videos}:
        check_captions(place_in(root, params.caption.source))


def check_models(root: Path, params: Params, stale: Collection[str]) -> None:
    """Detectors, weights and the captioning model that stages which have to run ask for, hours from now perhaps.

    Raises `UserError`.
    """
    from components.data.captioning.write import check_model
    from components.data.scenes import check_detector
    from components.data.scorers import check_weights

    with chdir(root):  # where stages run, and what their paths are relative to
        if "split" in stale:
            check_detector(params.split)
        if "score" in stale:
            check_weights(params.score)
        if "caption" in stale and params.caption.vision is not None:
            check_model(params.caption.vision, Path(), params.runtime)


def check_port(port: int, *, purpose: str, option: str) -> None:
    """Nobody listens on the port yet. Raises `UserError` naming the option that changes it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UserError(
                f"port {port} is in use, {purpose} needs it; choose another with {option}"
            ) from None
