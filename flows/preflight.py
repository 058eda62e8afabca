"""Everything that can be refused before work starts, is refused here."""

import shutil
import socket
from pathlib import Path

from components.errors import UserError
from components.params import Params

GIGABYTE = 1e9


def check_workspace(root: Path) -> Params:
    """The workspace's parameters, once the folder is one that a pipeline can run in. Raises `UserError`."""
    for needed in ("dvc.yaml", ".dvc", "components"):
        if not (root / needed).exists():
            raise UserError(f"{root.resolve()} has no {needed}: run this in a clone of Reelforge")
    params = Params.load(root / "params.yaml")
    free_gb = shutil.disk_usage(root).free / GIGABYTE
    if free_gb < params.runtime.min_free_gb:
        raise UserError(
            f"no space for the run: {free_gb:.1f} GB free in {root.resolve()}, a run needs"
            f" {params.runtime.min_free_gb:g} GB; free some (`dvc gc -w`, `make clean`) or lower runtime.min_free_gb"
        )
    return params


def check_videos(root: Path, params: Params) -> None:
    """The footage that the parameters name can be used. Raises `UserError`."""
    from components.data.ingest import check_folder

    from components.stages import STAGES

    if params.ingest.videos == STAGES["footage"].outputs["videos"]:
        return  # the footage stage makes it
    check_folder(root / params.ingest.videos)


def check_captions(root: Path, params: Params) -> None:
    """The captions that the parameters name can be read. Raises `UserError`."""
    from components.data.captions import check_source

    from components.stages import STAGES

    if params.caption.source != STAGES["footage"].outputs["videos"]:
        check_source(root / params.caption.source)


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
