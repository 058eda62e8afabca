"""Who was champion, when and why: `registry/history.jsonl`, one line per decision, never rewritten.

Aliases in MLflow say who is champion now and forget who was. Each line carries the sha256 of the line before,
so that a line that was changed or taken out is found.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.errors import ContractError

HISTORY = Path("registry") / "history.jsonl"
START = "0" * 64


def read_history(root: Path) -> list[dict[str, Any]]:
    """All decisions, oldest first. Raises `ContractError` naming the first line that does not fit the chain."""
    path = root / HISTORY
    if not path.is_file():
        return []
    entries, expected = [], START
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            entry = {}
        if entry.get("previous_line") != expected:
            raise ContractError(
                f"{path}, line {number}: the line before it was changed, or this one is not complete;"
                " compare with the version in git, and put the file back"
            )
        entries.append(entry)
        expected = hashlib.sha256(line.encode()).hexdigest()
    return entries


def append_history(root: Path, entry: dict[str, Any]) -> None:
    """Add a decision, with the time and the digest of the line before. The caller holds the registry's lock."""
    path = root / HISTORY
    path.parent.mkdir(parents=True, exist_ok=True)
    read_history(root)  # do not build on a broken chain
    lines = path.read_text().splitlines() if path.is_file() else []
    previous = hashlib.sha256(lines[-1].encode()).hexdigest() if lines else START
    stamped = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry, "previous_line": previous}
    with path.open("a") as stream:
        stream.write(json.dumps(stamped, sort_keys=True) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
