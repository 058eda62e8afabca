"""Terraform at work: it ends what it has begun, whatever becomes of the command that started it.

It runs in a session of its own and writes into a file that the command shows, so that neither a closed terminal nor a
killed command cuts it off while half of a cluster is made. A record says that it is at work; the next command finds
it, waits for its end, or learns that it was killed and that its lock is nobody's.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.artifacts import read_json, write_json
from components.errors import UserError
from flows.services.daemon import Daemon

POLL_SECONDS = 0.2
CUT_OFF = "cut-off"
WAIT = "\nstopping: Terraform ends what it has begun and writes it down; Ctrl-C again stops it at once\n"


class Stopped(UserError):
    """A person stopped Terraform, which has written down how far it came."""


@dataclass(frozen=True)
class Work:
    """What Terraform does in one data folder."""

    data: Path

    @property
    def record(self) -> Path:
        return self.data / "at-work.json"

    def log(self, command: str) -> Path:
        """What the last such command has said."""
        return self.data / f"{command}.log"

    def run(self, command: str, words: tuple[str, ...], environment: Mapping[str, str]) -> int:
        """Its exit code; its words are shown. Raises `Stopped` after a Ctrl-C that it has obeyed."""
        self.data.mkdir(parents=True, exist_ok=True)
        log = self.log(command)
        plain = () if sys.stdout.isatty() else ("-no-color",)
        began = time.time()
        with log.open("wb") as written:
            process = subprocess.Popen(
                [*words[:3], *plain, *words[3:]],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(environment),
            )
        started = psutil.Process(process.pid).create_time()
        write_json(self.record, {"pid": process.pid, "started": started, "began": began, "command": command})
        stops = _follow(process, log)
        if process.returncode >= 0 and stops <= 1:  # by itself: its state is written and its lock given back
            self.record.unlink(missing_ok=True)
        if stops and process.returncode != 0:
            raise Stopped(
                f"`terraform {command}` was stopped; what it did until then is in its state, and the same command goes"
                " on from there"
            )
        return process.returncode

    def wait(self, said: Callable[[str], None]) -> float | None:
        """Let an earlier command's Terraform end. When that began; None where none was cut off from its command."""
        if not self.record.is_file():
            return None
        known, leader = read_json(self.record), self._daemon()
        if leader.process() is not None:
            said(
                f"an earlier `terraform {known['command']}` is still at work (process {known['pid']}): waiting"
            )
            while leader.process() is not None:
                time.sleep(POLL_SECONDS)
            # nobody has its exit code; where it was killed, what follows finds its lock
        leader.clear()  # providers that outlived it
        (self.data / CUT_OFF).touch()
        return float(known["began"])

    @property
    def cut_off(self) -> bool:
        """Some command was, and none has put in order since what it may have left."""
        return (self.data / CUT_OFF).exists()

    def in_order(self) -> None:
        """What was cut off has been put in order."""
        (self.data / CUT_OFF).unlink(missing_ok=True)

    def _daemon(self) -> Daemon:
        return Daemon("terraform", (), {}, self.data, self.data / "log", self.record, lambda: True, "")


def _follow(process: subprocess.Popen[bytes], log: Path) -> int:
    """Show what it writes until it has ended. How often it was asked to stop."""
    stops = 0
    with log.open("rb") as written:
        while True:
            try:
                ended = process.poll() is not None  # asked before its last words are read
                sys.stdout.write(written.read().decode(errors="replace"))
                sys.stdout.flush()
                if ended:
                    return stops
                time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                stops += 1
                process.send_signal(signal.SIGINT)  # the second one is Terraform's hard stop
                sys.stdout.write(WAIT if stops == 1 else "")
