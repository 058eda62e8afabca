"""Get a registered model onto this disk, and say who is champion."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from components.errors import UserError
from components.params import Params
from components.registry.history import shared_history
from components.registry.register import EVALUATION_TAG, FILES
from components.registry.versions import CHAMPION, TEXT_TO_VIDEO, with_alias, with_digest
from components.registry.weights import unpack
from components.tracking_writer import connect, has_store

CACHE = Path("store") / "registry"
INSIDE = f"{FILES}/artifacts/pipeline"  # where the MLflow model keeps the pipeline folder


def fetch_pipeline(root: Path, alias: str) -> Path:
    """Pipeline folder of the version with that alias, kept by digest. Raises `UserError` if there is none.

    And for one whose large files are missing from the store that it was registered with, or were changed there.
    """
    version = with_alias(root, TEXT_TO_VIDEO, alias)
    if version is None:
        raise UserError(f"no version of {TEXT_TO_VIDEO} is {alias}; `reelforge run` trains and registers one")
    folder = root / CACHE / version.digest
    if not _is_whole(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as partial:  # so that a download that stops leaves nothing
            packed = Path(connect(root).download_artifacts(version.run_id, INSIDE, partial))
            runtime = Params.load(root / "params.yaml").runtime
            unpack(packed, Path(partial) / "whole", root, runtime).replace(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    """False where the folder is not there, or a link in it leads to a file that has gone."""
    return folder.exists() and all(path.exists() for path in folder.rglob("*"))


def fetch_evaluation(root: Path, digest: str) -> Path | None:
    """Folder of the newest evaluation of the model with that sha256, with its videos; None where it has none here."""
    if not has_store(root):
        return None
    version = with_digest(root, TEXT_TO_VIDEO, digest)
    if version is None or EVALUATION_TAG not in version.tags:
        return None
    stored = version.tags[EVALUATION_TAG]
    folder = root / CACHE / f"evaluation-{stored}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as partial:
            Path(connect(root).download_artifacts(version.run_id, f"evaluation/{stored}", partial)).replace(
                folder
            )
    return folder


def champion_line(root: Path) -> str:
    """The champion in one line: version, and since when and why."""
    version = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
    if version is None:
        return "none yet"
    made = [entry for entry in shared_history(root) if entry["event"] != "kept back"]
    since = next((entry["time"][:10] for entry in reversed(made) if entry["version"] == version.number), "")
    return f"{version}{f', since {since}' if since else ''}"
