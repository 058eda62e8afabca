"""Captions that a model has written, kept for good: no clip is asked about twice.

One file per model and way of asking, a line per clip, appended as it comes. A process that is killed loses the
line it was writing; the next run asks about that clip again and about no other.
"""

import json
import os
import threading
from pathlib import Path

FOLDER = Path("store") / "captions"


class Answers:
    """Captions by clip id. Safe to be added to from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts = _read(path)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, clip_id: str) -> str | None:
        return self._texts.get(clip_id)

    def add(self, clip_id: str, text: str) -> None:
        """Keep a caption; it is on the disk when this returns."""
        line = json.dumps({"clip_id": clip_id, "text": text}, ensure_ascii=False) + "\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                if stream.tell() and not _ends_with_line(self.path):
                    stream.write(b"\n")  # behind half a line that a killed process left
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())
            self._texts[clip_id] = text


def _ends_with_line(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _read(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    if not path.is_file():
        return texts
    with path.open("rb") as stream:
        for line in stream:
            try:
                record = json.loads(line)
                texts[record["clip_id"]] = record["text"]
            except (ValueError, KeyError, TypeError):  # half a line
                continue
    return texts
