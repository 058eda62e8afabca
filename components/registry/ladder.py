"""The champion's ladder as a folder of the workspace: what the stage `ladder` holds a candidate against.

It comes out of the champion's files in the registry. As with the champion's evaluation (see `baseline`), the folder is
left alone while the champion is the very model in this workspace, so that a second run finds nothing to do.
"""

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from components.artifacts import fresh_folder, sha256_of, write_json
from components.ladder.record import FILE
from components.params import Params
from components.registry.fetch import INSIDE
from components.registry.register import PIPELINE
from components.registry.versions import CHAMPION, TEXT_TO_VIDEO, Version, with_alias
from components.tracking_writer import connect
from models.generation.layout import TRANSFORMER

log = logging.getLogger(__name__)
CHAMPION_FILE = "champion.json"


def sync_ladder(root: Path, params: Params) -> bool:
    """Make the folder `ladder.champion` hold the champion's ladder, if it has one; True if that changed it."""
    folder, candidate = root / params.ladder.champion, root / PIPELINE
    champion = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
    if champion and folder.exists() and candidate.exists() and champion.digest == sha256_of(candidate):
        return False
    with TemporaryDirectory() as temporary:
        fetched = Path(temporary) / "ladder"
        write_json(fetched / CHAMPION_FILE, {"champion": champion.digest if champion else None})
        if champion and (stored := _stored(root, champion)):
            shutil.copyfile(
                connect(root).download_artifacts(champion.run_id, stored, temporary), fetched / FILE
            )
        if folder.exists() and sha256_of(fetched) == sha256_of(folder):
            return False
        with fresh_folder(folder) as made:
            shutil.copytree(fetched, made, dirs_exist_ok=True)
    log.info("the ladder to climb is that of %s", champion or "no champion yet")
    return True


def _stored(root: Path, champion: Version) -> str | None:
    """Where the run of a version keeps its ladder."""
    place = f"{INSIDE}/{TRANSFORMER}"
    kept = {file.path for file in connect(root).list_artifacts(champion.run_id, place)}
    return f"{place}/{FILE}" if f"{place}/{FILE}" in kept else None
