"""Worker processes for native decoders: a file that aborts or hangs costs itself, and nothing else.

Decoders of damaged video do both, and neither is an exception: `concurrent.futures` loses every item behind a
crash, and no pool of the standard library has a time limit. Here each worker holds one item at a time over a
pipe of its own; a dead or late worker is replaced and its item is named.
"""

import contextlib
import multiprocessing
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any, Generic, TypeVar

from components.progress import progress

In = TypeVar("In")
Out = TypeVar("Out")

START_SECONDS = 120.0  # for a worker to import what it needs
_READY, _OK, _REJECTED, _BROKEN = "ready", "ok", "rejected", "broken"


class Outcome(StrEnum):
    """What became of one item."""

    OK = "ok"
    REJECTED = "rejected"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True)
class Result(Generic[Out]):
    """Outcome of one item. `value` is set when it is OK; `reason` is a code, `detail` a sentence otherwise."""

    outcome: Outcome
    value: Out | None = None
    reason: str = ""
    detail: str = ""


class RejectedError(Exception):
    """Raised by the work on an item that is bad data: the item is rejected with this reason, the run goes on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True)
class Limits:
    """How many processes, and how many seconds one item may take."""

    workers: int
    item_seconds: float


def reason_counts(results: Sequence[Result[Any]]) -> dict[str, int]:
    """Number of items per reason, for a report; items that are OK are not in it."""
    return dict(sorted(Counter(result.reason for result in results if result.reason).items()))


def run_pool(
    work: Callable[[In], Out],
    items: Sequence[In],
    limits: Limits,
    *,
    title: str,
    finished: Callable[[int, Result[Out]], None] = lambda _index, _result: None,
) -> list[Result[Out]]:
    """One result per item, in the order of the items, whatever order they finished in.

    `work` is a function of a module, so that a process can import it. An exception other than `RejectedError`
    is a defect of ours: it stops the pool and is raised here with the traceback of the worker. `finished` is
    told of each item as soon as it is done, with its index.
    """
    results: dict[int, Result[Out]] = {}
    waiting = list(enumerate(items))[::-1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, work.__module__])
    workers: list[_Worker] = []
    with progress(title, len(items)) as advance:
        try:
            while len(results) < len(items):
                while len(workers) < min(limits.workers, len(items) - len(results)):
                    workers.append(_Worker(context, work, limits.item_seconds))
                _hand_out(workers, waiting)
                workers = [worker for worker in workers if worker.alive]
                for index, result in _collect(workers):
                    results[index] = result
                    finished(index, result)
                    advance()
                workers = [worker for worker in workers if worker.alive]
        finally:
            for worker in workers:
                worker.stop()
    return [results[index] for index in range(len(items))]


def _hand_out(workers: Sequence["_Worker"], waiting: list[tuple[int, Any]]) -> None:
    """Each idle worker gets the next item, or is stopped when there is none."""
    for worker in workers:
        if worker.idle and waiting:
            worker.give(*waiting.pop())
        elif worker.idle:
            worker.stop()


def _collect(workers: Sequence["_Worker"]) -> list[tuple[int, Result[Any]]]:
    """What finished, once something has or the first deadline is past."""
    patience = max(0.0, min(worker.deadline for worker in workers) - time.monotonic())
    wait([worker.pipe for worker in workers], timeout=patience)
    return [done for worker in workers if (done := worker.collect()) is not None]


class _Worker:
    """One process, its pipe, and the item it holds."""

    def __init__(self, context: Any, work: Callable[[Any], Any], item_seconds: float) -> None:
        self.pipe, theirs = context.Pipe()
        self.process: ForkServerProcess = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()
        self.item_seconds = item_seconds
        self.alive = True
        self.idle = False  # has said that it is ready, and holds nothing
        self.index: int | None = None
        self.deadline = time.monotonic() + START_SECONDS

    def give(self, index: int, item: Any) -> None:
        self.index, self.idle = index, False
        self.deadline = time.monotonic() + self.item_seconds
        with contextlib.suppress(
            BrokenPipeError
        ):  # it died meanwhile; `collect` sees that and names the item
            self.pipe.send(item)

    def collect(self) -> tuple[int, Result[Any]] | None:
        """The finished item and its result, if there is one; a worker that died or is late is ended."""
        try:
            if self.pipe.poll():
                return self._received(*self.pipe.recv())
        except (EOFError, ConnectionResetError):
            return self._died()
        return self._late() if time.monotonic() >= self.deadline else None

    def _received(self, kind: str, *payload: Any) -> tuple[int, Result[Any]] | None:
        if kind == _BROKEN:
            raise RuntimeError(f"the work on an item failed in a worker process\n{payload[0]}")
        index, self.index, self.idle = self.index, None, True
        if index is None:
            return None
        if kind == _OK:
            return index, Result(Outcome.OK, value=payload[0])
        return index, Result(Outcome.REJECTED, reason=payload[0], detail=payload[1])

    def _died(self) -> tuple[int, Result[Any]]:
        self.process.join(timeout=5)  # the pipe closes a moment before the exit code is known
        self.stop()
        code = self.process.exitcode or 0
        if self.index is None:
            raise RuntimeError(f"a worker process ended with {code} before it took an item")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return self.index, Result(Outcome.CRASHED, reason=Outcome.CRASHED, detail=how)

    def _late(self) -> tuple[int, Result[Any]]:
        self.stop()
        if self.index is None:
            raise RuntimeError(f"a worker process did not start within {START_SECONDS:.0f} s")
        detail = f"took longer than {self.item_seconds:g} s"
        return self.index, Result(Outcome.TIMED_OUT, reason=Outcome.TIMED_OUT, detail=detail)

    def stop(self) -> None:
        self.alive = self.idle = False
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """The life of a worker: take an item, answer, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    pipe.send((_READY,))
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((_OK, work(item)))
        except RejectedError as rejected:
            pipe.send((_REJECTED, str(rejected.reason), rejected.detail))
        except Exception as error:
            pipe.send((_BROKEN, traceback.format_exc()))
            raise SystemExit(1) from error
