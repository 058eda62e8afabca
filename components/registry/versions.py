"""Reading the model registry: which versions there are, what they are, and who is champion.

MLflow gives versions as int from a database and as str over HTTP, and a search returns them without their
aliases; here both are put right once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.tracking_writer import connect

TEXT_TO_VIDEO = "reelforge-t2v"
AUTOENCODER = "reelforge-autoencoder"
CHAMPION, PREVIOUS, CANDIDATE = "champion", "previous", "candidate"
DIGEST_TAG = "model_sha256"
VERSIONS_PER_PAGE = 200


@dataclass(frozen=True)
class Version:
    """One version of a registered model. `tags` hold what it is made of; `run_id` holds its files."""

    name: str
    number: int
    run_id: str
    tags: dict[str, str]
    aliases: tuple[str, ...]

    @property
    def digest(self) -> str:
        return self.tags.get(DIGEST_TAG, "")

    def __str__(self) -> str:
        return f"{self.name} v{self.number}"


def versions(root: Path, name: str) -> list[Version]:
    """All versions of a registered model, oldest first; none if there is no such model."""
    client = connect(root)
    aliases = _aliases(client, name)
    found: list[Version] = []
    page: str | None = None
    while True:
        rows = client.search_model_versions(
            f"name = '{name}'", max_results=VERSIONS_PER_PAGE, page_token=page
        )
        for row in rows:
            number = int(row.version)
            names = tuple(sorted(alias for alias, holder in aliases.items() if holder == number))
            found.append(Version(name, number, str(row.run_id), dict(row.tags), names))
        page = rows.token
        if not page:
            return sorted(found, key=lambda version: version.number)


def model_tags(root: Path, name: str) -> dict[str, str]:
    """Tags of a registered model; none if there is no such model."""
    model = _model(connect(root), name)
    return dict(model.tags) if model else {}


def _aliases(client: Any, name: str) -> dict[str, int]:
    """Alias -> version number."""
    model = _model(client, name)
    return {alias: int(number) for alias, number in model.aliases.items()} if model else {}


def _model(client: Any, name: str) -> Any:
    """A registered model; None if there is no such model."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def with_alias(root: Path, name: str, alias: str) -> Version | None:
    """The version that carries an alias."""
    return next((version for version in versions(root, name) if alias in version.aliases), None)


def with_digest(root: Path, name: str, digest: str) -> Version | None:
    """The version registered from a folder of that sha256."""
    return next((version for version in versions(root, name) if version.digest == digest), None)
