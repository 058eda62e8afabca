"""The champion's evaluation as a folder of the workspace: what the gate compares a candidate with.

The registry is a service and the gate is a DVC stage, so the champion has to become a file that DVC can compare.
The folder is left alone when the champion is the very model in this workspace: what it was judged against is what
the verdict depends on, and a second run must find nothing to do.
"""

import logging
import shutil
import tempfile
from pathlib import Path

from components.artifacts import fresh_folder, sha256_of, write_json
from components.params import Params
from components.registry.register import EVALUATION_TAG, PIPELINE
from components.registry.versions import CHAMPION, TEXT_TO_VIDEO, Version, with_alias
from components.tracking_writer import connect

log = logging.getLogger(__name__)

FILES = ("record.json", "features.safetensors")  # what the gate reads of an evaluation


def sync_baseline(root: Path, params: Params) -> bool:
    """Make the baseline folder hold the champion's evaluation; True if that changed it."""
    folder = root / params.gate.baseline
    champion = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
    candidate = root / PIPELINE
    if champion and candidate.exists() and champion.digest == sha256_of(candidate) and folder.exists():
        return False
    before = sha256_of(folder) if folder.exists() else ""
    with tempfile.TemporaryDirectory() as temporary:
        fetched = Path(temporary) / "baseline"
        fetched.mkdir()
        _fetch(root, champion, fetched)
        if sha256_of(fetched) == before:
            return False
        with fresh_folder(folder) as made:
            for file in fetched.iterdir():
                shutil.copyfile(file, made / file.name)
    log.info("baseline is the evaluation of %s", champion or "no champion yet")
    return True


def _fetch(root: Path, champion: Version | None, folder: Path) -> None:
    if champion is None:
        write_json(folder / "record.json", {"champion": None})
        return
    client = connect(root)
    for name in FILES:
        stored = f"evaluation/{champion.tags[EVALUATION_TAG]}/{name}"
        with tempfile.TemporaryDirectory() as temporary:
            shutil.copyfile(client.download_artifacts(champion.run_id, stored, temporary), folder / name)
