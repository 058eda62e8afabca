"""A server as a process group of its own, which outlives the command that started it and is found again by a record.

The record holds the process id and when that process started: an id that the system has given to somebody else is
never signalled.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.artifacts import read_json, write_json
from components.errors import UserError

SAME_START_SECONDS = 2.0  # a start time is derived from the clock, which may be corrected
POLL_SECONDS = 0.1
LOG_LINES = 15  # of a server that failed, shown to the user


class ServiceFailed(UserError):
    """A server ended, or did not answer in time."""


@dataclass(frozen=True)
class Daemon:
    """How to start and stop one server. `healthy` answers whether it serves; it may take a second, not longer."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path  # where it runs
    log: Path
    record: Path
    healthy: Callable[[], bool]
    address: str
    user: str | None = None  # to run as, where this process is root
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 20.0
    group_seconds: float = 5.0  # for what is left of the group after its leader has ended
    leftovers: tuple[Path, ...] = ()  # files that the program leaves behind when it ends

    def start(self) -> bool:
        """False if it runs already."""
        if self.process() is not None:
            return False
        self.clear()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
            )
        write_json(self.record, {"pid": process.pid, "started": psutil.Process(process.pid).create_time()})
        return True

    def clear(self) -> None:
        """End what a leader that was killed has left behind; it may hold the port."""
        if self.process() is None:
            self._end_group()

    def process(self) -> psutil.Process | None:
        """The group's leader, if it lives."""
        known = self._known()
        if known is None:
            return None
        pid, started = known
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if _lives(process) and abs(process.create_time() - started) < SAME_START_SECONDS:
                return process
        return None

    def answers(self, deadline: float) -> bool:
        """Whether it serves by now. Raises `ServiceFailed` with the end of its log where it has ended, or after
        `deadline` (of `time.monotonic()`).
        """
        if self.process() is None:
            raise ServiceFailed(f"{self.name} ended while it started; {self.log} says:\n{self._tail()}")
        if self.healthy():
            return True
        if time.monotonic() > deadline:
            raise ServiceFailed(
                f"{self.name} does not answer at {self.address}; {self.log} says:\n{self._tail()}"
            )
        return False

    def stop(self) -> bool:
        """End the whole group, gently first; False if nothing ran."""
        leader = self.process()
        if leader is not None:
            with suppress(psutil.NoSuchProcess):
                leader.send_signal(self.stop_signal)
            _wait(lambda: not _lives(leader), self.stop_seconds)
        left = self._end_group()
        self.record.unlink(missing_ok=True)
        for path in self.leftovers:
            path.unlink(missing_ok=True)
        return leader is not None or left

    def _known(self) -> tuple[int, float] | None:
        if not self.record.is_file():
            return None
        values = read_json(self.record)
        return int(values["pid"]), float(values["started"])

    def group(self) -> list[psutil.Process]:
        """Every living process of the session that the recorded process began."""
        known = self._known()
        if known is None:
            return []
        pid, started = known
        if _is_strangers(pid, started):
            return []
        members = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                older = process.create_time() < started - SAME_START_SECONDS
                if os.getsid(process.pid) == pid and not older and _lives(process):
                    members.append(process)
        return members

    def _end_group(self) -> bool:
        """TERM, then KILL, to what is left of it; True if anything was."""
        found = False
        for sign in (signal.SIGTERM, signal.SIGKILL):
            members = self.group()
            found = found or bool(members)
            for member in members:
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(sign)
            _wait(lambda: not self.group(), self.group_seconds if members else 0.0)
        return found

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def _is_strangers(pid: int, started: float) -> bool:
    """The id was given to another process, so that nothing of the recorded session is left: it would keep the id."""
    try:
        return abs(psutil.Process(pid).create_time() - started) >= SAME_START_SECONDS
    except psutil.NoSuchProcess:
        return False


def _lives(process: psutil.Process) -> bool:
    """A process that has ended stays as a zombie until its parent asks for it: that is not living."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
