"""One process that works on one item at a time, and is ended when it crashes or takes too long.

It is spoken to in bytes, so that who only passes items on, as a node of a cluster does, need not import what they
are made of.
"""

import contextlib
import fcntl
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from components.data.outcomes import Outcome, RejectedError, Result
from components.errors import UserError

START_SECONDS = 120.0  # for a process to import what it needs
_READY, _OK, _REJECTED, _REFUSED, _BROKEN = b"r", b"o", b"x", b"?", b"!"  # the first byte of an answer
Answer = bytes | Result[Any]


@dataclass(frozen=True)
class Call:
    """A function of a module, to be imported where it is called."""

    module: str
    pickled: bytes

    @classmethod
    def of(cls, work: Callable[[Any], Any]) -> "Call":
        return cls(work.__module__, pickle.dumps(work))


def result_of(answer: Answer) -> Result[Any]:
    """Raises `RuntimeError` with the traceback of the process where the work on an item has a defect.

    Raises the `UserError` of the process where no item can be worked on, as with credentials that have expired.
    """
    if isinstance(answer, Result):
        return answer
    kind, payload = answer[:1], memoryview(answer)[1:]
    if kind == _BROKEN:
        raise RuntimeError(f"the work on an item failed in a worker process\n{bytes(payload).decode()}")
    if kind == _REFUSED:
        raise UserError(bytes(payload).decode())
    if kind == _OK:
        return Result(Outcome.OK, value=pickle.loads(payload))
    reason, detail = pickle.loads(payload)
    return Result(Outcome.REJECTED, reason=reason, detail=detail)


class ItemProcess:
    """The process, its pipe, and the time until which it has to answer."""

    def __init__(self, call: Call, item_seconds: float) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, call.module])
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, call.pickled), daemon=True)
        self.process.start()
        theirs.close()
        self.item_seconds = item_seconds
        self.alive = True
        self.idle = False  # has said that it is ready, and holds nothing
        self.holds = False
        self.deadline = time.monotonic() + START_SECONDS

    def give(self, item: bytes) -> None:
        """Hand it a pickled item."""
        self.holds, self.idle = True, False
        self.deadline = time.monotonic() + self.item_seconds
        # it died meanwhile; `answer` sees that
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(item)

    def answer(self) -> Answer | None:
        """The answer to the item it holds, if there is one; a process that died or is late is ended."""
        try:
            if self.pipe.poll():
                return self._received(self.pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            return self._died()
        return self._late() if time.monotonic() >= self.deadline else None

    def wait(self) -> None:
        """Until there is something to say, or the deadline is past."""
        wait([self.pipe], timeout=max(0.0, self.deadline - time.monotonic()))

    def _received(self, message: bytes) -> Answer | None:
        self.holds, self.idle = False, message[:1] not in (_REFUSED, _BROKEN)
        return None if message == _READY else message

    def _died(self) -> Result[Any]:
        self.process.join(timeout=5)  # the pipe closes a moment before the exit code is known
        self.stop()
        code = self.process.exitcode or 0
        if not self.holds:
            raise RuntimeError(f"a worker process ended with {code} before it took an item")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Result(Outcome.CRASHED, reason=Outcome.CRASHED, detail=how)

    def _late(self) -> Result[Any]:
        self.stop()
        if not self.holds:
            raise RuntimeError(f"a worker process did not start within {START_SECONDS:.0f} s")
        detail = f"took longer than {self.item_seconds:g} s"
        return Result(Outcome.TIMED_OUT, reason=Outcome.TIMED_OUT, detail=detail)

    def stop(self) -> None:
        self.alive = self.idle = False
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, pickled: bytes) -> None:
    """The life of a process: take an item, answer, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    _end_with_parent()
    try:
        work = pickle.loads(pickled)
    except Exception as error:
        pipe.send_bytes(_BROKEN + traceback.format_exc().encode())
        raise SystemExit(1) from error
    pipe.send_bytes(_READY)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send_bytes(_OK + pickle.dumps(work(item), protocol=pickle.HIGHEST_PROTOCOL))
        except RejectedError as rejected:
            pipe.send_bytes(_REJECTED + pickle.dumps((str(rejected.reason), rejected.detail)))
        except UserError as error:
            pipe.send_bytes(_REFUSED + str(error).encode())
            raise SystemExit(1) from error
        except Exception as error:
            pipe.send_bytes(_BROKEN + traceback.format_exc().encode())
            raise SystemExit(1) from error


def _end_with_parent() -> None:
    """The kernel ends this process when its parent is gone, also where a decoder hangs and holds the interpreter.

    The end of a pipe that the parent held is signalled with SIGIO, whose default is to end the process.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([parent.sentinel], timeout=0):  # it went before we listened
        raise SystemExit(1)
