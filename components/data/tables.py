"""Lance tables at a place: in a local folder or below `s3://`, with the endpoint and region that other reads use.

Lance looks for credentials where AWS tools do. What it says about a bucket that it cannot read is long and does not
name the bucket, so a table is always looked for through `components.storage` first.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import object_store
from components.storage import Place, files_below

if TYPE_CHECKING:
    from lance import LanceDataset


def options_of(location: Place) -> dict[str, str] | None:
    """Settings that Lance needs to reach a place; none for a local one."""
    if isinstance(location, Path):
        return None
    return object_store.settings()


def exists(location: Place) -> bool:
    """True when something was ever committed there; a killed first write leaves a folder without versions."""
    return any(name.endswith(".manifest") for name in files_below(location / "_versions"))


def write(location: Place, rows: Any) -> "LanceDataset":
    """A table of these rows (a pyarrow table or reader), as the newest version of what is there."""
    import lance

    if isinstance(location, Path):
        location.parent.mkdir(parents=True, exist_ok=True)
    mode = "overwrite" if exists(location) else "create"
    return lance.write_dataset(rows, str(location), mode=mode, storage_options=options_of(location))


def open_table(location: Place, version: str | None = None) -> "LanceDataset":
    """A table at the state of a tag, or its newest one."""
    import lance

    return lance.dataset(str(location), version=version, storage_options=options_of(location))


def tags_of(location: Place) -> set[str]:
    """Tags of the states of a table; empty where there is no table."""
    return set(open_table(location).tags.list()) if exists(location) else set()
