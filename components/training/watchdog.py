"""A run that has stopped moving: its process says where it stands and ends, so that a launcher can start it again.

A rank that waits for a dead one, or a decoder that never returns, raises nothing. The limit is kept by a thread of
the interpreter's own C code, so it also ends a process whose native code holds the interpreter.
"""

import faulthandler
import logging
import time
from contextlib import ExitStack
from pathlib import Path

from torch import nn

log = logging.getLogger(__name__)
FOLDER = "hangs"
ARMED_SECONDS = 1.0  # it is not set again more often, since that takes a thread each time


class Watchdog:
    """Ends this process with status 1 when nothing has moved for `seconds`; all stacks are then in `path`."""

    def __init__(self, path: Path, seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.seconds = path, seconds
        self._file = path.open("w")
        self._armed = 0.0
        self._hooks = ExitStack()
        self.beat()

    def follow(self, module: nn.Module) -> None:
        """Every pass through the module is a move: a step of many batches takes long, and so does a look."""
        self._hooks.callback(module.register_forward_pre_hook(lambda *_: self.beat()).remove)

    def beat(self) -> None:
        """The run moves."""
        now = time.monotonic()
        if now - self._armed >= min(ARMED_SECONDS, self.seconds / 4):
            self._armed = now
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=self._file)

    def close(self) -> None:
        """Watch no longer."""
        if self._file.closed:
            return
        self._hooks.close()
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        self.path.unlink(missing_ok=True)


def dump_path(folder: Path, *, attempt: int, rank: int) -> Path:
    """Where a rank says where it stood."""
    return folder / FOLDER / f"attempt-{attempt:03d}-rank-{rank:05d}.txt"


def dumps(folder: Path, *, attempt: int) -> dict[str, str]:
    """Name -> stacks of the ranks that ended an attempt because it had stopped moving."""
    found = sorted((folder / FOLDER).glob(f"attempt-{attempt:03d}-rank-*.txt"))
    return {path.stem: text for path in found if (text := path.read_text(errors="replace").strip())}
