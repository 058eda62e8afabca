"""Registered models as people use them: who is champion, and a version's pipeline folder on this machine."""

from pathlib import Path

from components import runtime
from components.errors import UserError
from components.registry.versions import CHAMPION, TEXT_TO_VIDEO, with_alias


def champion_line(root: Path) -> str:
    """The champion in a sentence."""
    champion = with_alias(root, TEXT_TO_VIDEO, CHAMPION)
    if champion is None:
        return f"none yet ({TEXT_TO_VIDEO} in {runtime.tracking_uri(root)})"
    return f"{champion}, model {champion.digest[:12]}  (models:/{TEXT_TO_VIDEO}@{CHAMPION})"


def fetch_pipeline(root: Path, alias: str) -> Path:
    """The pipeline folder of the version that carries `alias`; downloaded where the store is not on this machine.

    Raises `UserError` if no version carries it.
    """
    import mlflow

    version = with_alias(root, TEXT_TO_VIDEO, alias)
    if version is None:
        raise UserError(
            f"{TEXT_TO_VIDEO} has no {alias} yet; `reelforge run` makes one, or use `--model workspace`"
        )
    mlflow.set_tracking_uri(runtime.tracking_uri(root))
    mlflow.set_registry_uri(runtime.tracking_uri(root))
    folder = mlflow.artifacts.download_artifacts(f"models:/{TEXT_TO_VIDEO}/{version.number}")
    return Path(folder) / "artifacts" / "pipeline"
