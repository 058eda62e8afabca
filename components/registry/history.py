"""Who was champion, when and why: one line per decision, never rewritten.

Aliases in MLflow say who is champion now and forget who was. The lines are tags of the registered model, so that all
workspaces that share a registry add to one history; each workspace keeps a copy in `registry/history.jsonl`, for git.
Each line carries the sha256 of the line before, so that a line that was changed or taken out is found.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.errors import ContractError
from components.registry.versions import TEXT_TO_VIDEO, model_tags
from components.tracking_writer import connect

HISTORY = Path("registry") / "history.jsonl"
START = "0" * 64
TAG = "history."
REASON_LIMIT = 2_000  # characters; a tag of MLflow holds 5,000


def read_history(root: Path) -> list[dict[str, Any]]:
    """All decisions in the workspace's copy, oldest first.

    Raises `ContractError` naming the first line that does not fit the chain.
    """
    return _checked(_file_lines(root), str(root / HISTORY))


def shared_history(root: Path) -> list[dict[str, Any]]:
    """All decisions of the registry, of whatever workspace; the copy's where the registry has none yet.

    Raises `ContractError` as `read_history` does.
    """
    lines = _registry_lines(root)
    return _checked(lines, f"history of {TEXT_TO_VIDEO}") if lines else read_history(root)


def append_history(root: Path, entry: dict[str, Any]) -> None:
    """Add a decision, with the time and the digest of the line before. The caller holds the registry's lock."""
    known = _registry_lines(root)
    lines = known or _file_lines(root)
    _checked(lines, f"history of {TEXT_TO_VIDEO}")  # do not build on a broken chain
    previous = hashlib.sha256(lines[-1].encode()).hexdigest() if lines else START
    reason = str(entry["reason"])[:REASON_LIMIT]
    stamped = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **entry,
        "reason": reason,
        "previous_line": previous,
    }
    lines = [*lines, json.dumps(stamped, sort_keys=True, ensure_ascii=False)]
    client = connect(root)
    for number, line in list(enumerate(lines))[len(known) :]:
        client.set_registered_model_tag(TEXT_TO_VIDEO, f"{TAG}{number:06d}", line)
    _write(root / HISTORY, lines)


def _checked(lines: Sequence[str], where: str) -> list[dict[str, Any]]:
    entries, expected = [], START
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            entry = {}
        if entry.get("previous_line") != expected:
            raise ContractError(
                f"{where}, line {number}: the line before it was changed, or this one is not complete;"
                " compare with the version in git, and put it back"
            )
        entries.append(entry)
        expected = hashlib.sha256(line.encode()).hexdigest()
    return entries


def _file_lines(root: Path) -> list[str]:
    path = root / HISTORY
    return path.read_text().splitlines() if path.is_file() else []


def _registry_lines(root: Path) -> list[str]:
    tags = model_tags(root, TEXT_TO_VIDEO)
    return [tags[name] for name in sorted(tags) if name.startswith(TAG)]


def _write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(f"{line}\n" for line in lines))
    partial.replace(path)
