"""The same function on many items, each in a process that may die of it: here, or on the nodes of a cluster.

Decoders of damaged video abort and hang, and neither is an exception: `concurrent.futures` loses every item behind
a crash, and no pool of the standard library has a time limit. Here each worker holds one item at a time; a dead or
late process is replaced and its item is named. Where the workers are is decided by `Limits` and by nothing else.
"""

import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Generic, Protocol, TypeVar

from components.data.outcomes import Limits, Outcome, RejectedError, Result, reason_counts
from components.data.workers import Call, ItemProcess, result_of
from components.progress import progress

__all__ = ["Limits", "Outcome", "RejectedError", "Result", "reason_counts", "run_pool", "run_stream"]

In = TypeVar("In")
Out = TypeVar("Out")
LOSSES = 3  # of workers that held an item, after which it is not given to another one


@dataclass(frozen=True)
class Lost:
    """An item whose worker went away, through no fault of the item that we know of."""

    index: int
    item: Any
    detail: str


class Worker(Protocol):
    """Holds one item at a time."""

    @property
    def alive(self) -> bool: ...

    @property
    def idle(self) -> bool: ...

    def give(self, index: int, item: Any) -> None: ...

    def collect(self) -> tuple[int, Result[Any]] | Lost | None: ...

    def stop(self) -> None: ...


class Crew(Protocol):
    """Where workers come from."""

    def hire(self) -> Worker: ...

    def wait(self, workers: Sequence[Any]) -> None:
        """Until one of them has something to say."""


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
    told of each item as soon as it is done, with its index. Raises `UserError` where the cluster cannot be used.
    """
    results: dict[int, Result[Out]] = {}

    def keep(index: int, result: Result[Out]) -> None:
        results[index] = result
        finished(index, result)

    run_stream(work, items, limits, title=title, total=len(items), finished=keep)
    return [results[index] for index in range(len(items))]


def run_stream(
    work: Callable[[In], Out],
    items: Iterable[In],
    limits: Limits,
    *,
    title: str,
    total: int,
    finished: Callable[[int, Result[Out]], None],
) -> None:
    """`run_pool` for more items than memory holds: they are taken as workers become free; results go to `finished`.

    `total` is the number of items.
    """
    if not total:
        return
    waiting, crew, done = _Waiting(enumerate(items)), _crew_of(work, limits), 0
    workers: list[Worker] = []
    with progress(title, total) as advance:
        try:
            while done < total:
                while len(workers) < min(limits.workers, total - done):
                    workers.append(crew.hire())
                _hand_out(workers, waiting)
                workers = [worker for worker in workers if worker.alive]
                crew.wait(workers)
                for index, result in waiting.sorted_out(worker.collect() for worker in workers):
                    finished(index, result)
                    done += 1
                    advance()
                workers = [worker for worker in workers if worker.alive]
        finally:
            for worker in workers:
                worker.stop()


def _crew_of(work: Callable[[Any], Any], limits: Limits) -> Crew:
    if limits.cluster is None:
        return _Here(Call.of(work), limits)
    from components.data.cluster import Cluster

    return Cluster(Call.of(work), limits)


class _Waiting(Generic[In]):
    """Items that nobody holds: those that nobody had yet, and those whose worker was lost."""

    def __init__(self, items: Iterator[tuple[int, In]]) -> None:
        self._items = items
        self._back: list[tuple[int, In]] = []
        self._losses: Counter[int] = Counter()

    def take(self) -> tuple[int, In] | None:
        return self._back.pop() if self._back else next(self._items, None)

    def sorted_out(
        self, found: Iterable[tuple[int, Result[Any]] | Lost | None]
    ) -> Iterator[tuple[int, Result[Any]]]:
        """What is finished; lost items wait again, unless they have lost too many workers."""
        for one in found:
            if not isinstance(one, Lost):
                if one is not None:
                    yield one
                continue
            self._losses[one.index] += 1
            if self._losses[one.index] < LOSSES:
                self._back.append((one.index, one.item))
            else:
                detail = f"{LOSSES} workers were lost with it: {one.detail}"
                yield one.index, Result(Outcome.CRASHED, reason=Outcome.CRASHED, detail=detail)


def _hand_out(workers: Sequence[Worker], waiting: _Waiting[Any]) -> None:
    """Each idle worker gets the next item, or is stopped when there is none."""
    for worker in workers:
        if not worker.idle:
            continue
        if (item := waiting.take()) is None:
            worker.stop()
        else:
            worker.give(*item)


@dataclass(frozen=True)
class _Here:
    """Processes on this machine."""

    call: Call
    limits: Limits

    def hire(self) -> "_Worker":
        return _Worker(ItemProcess(self.call, self.limits.item_seconds))

    def wait(self, workers: Sequence["_Worker"]) -> None:
        patience = min(worker.process.deadline for worker in workers) - time.monotonic()
        wait([worker.process.pipe for worker in workers], timeout=max(0.0, patience))


class _Worker:
    """A process on this machine, and which item it holds."""

    def __init__(self, process: ItemProcess) -> None:
        self.process = process
        self.index = -1

    @property
    def alive(self) -> bool:
        return self.process.alive

    @property
    def idle(self) -> bool:
        return self.process.idle

    def give(self, index: int, item: Any) -> None:
        self.index = index
        self.process.give(pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL))

    def collect(self) -> tuple[int, Result[Any]] | Lost | None:
        answer = self.process.answer()
        return None if answer is None else (self.index, result_of(answer))

    def stop(self) -> None:
        self.process.stop()
