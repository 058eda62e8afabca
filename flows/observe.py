"""What a running pipeline tells whoever watches. The command line draws it; a Prefect worker only logs it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from components.progress import PROGRESS_MARK, Progress


class Observer(Protocol):
    """Callbacks in the order in which things happen. `seconds` is wall time."""

    def plan(self, stages: list[str], stale: set[str]) -> None: ...
    def started(self, stage: str) -> None: ...
    def progressed(self, stage: str, progress: Progress) -> None: ...
    def finished(self, stage: str, *, ran: bool, seconds: float) -> None: ...
    def said(self, stage: str, line: str) -> None: ...


class Silent:
    """The observer when nobody watches."""

    def plan(self, stages: list[str], stale: set[str]) -> None: ...
    def started(self, stage: str) -> None: ...
    def progressed(self, stage: str, progress: Progress) -> None: ...
    def finished(self, stage: str, *, ran: bool, seconds: float) -> None: ...
    def said(self, stage: str, line: str) -> None: ...


_watching: ContextVar[Observer] = ContextVar("watching")


def observer() -> Observer:
    return _watching.get(Silent())


@contextmanager
def watched_by(watcher: Observer) -> Iterator[None]:
    """Within the block, flows report to `watcher`."""
    token = _watching.set(watcher)
    try:
        yield
    finally:
        _watching.reset(token)


def parse_progress(line: str) -> Progress | None:
    """The progress that a stage's output line carries, if it carries one."""
    if not line.startswith(PROGRESS_MARK):
        return None
    values: dict[str, Any] = json.loads(line.removeprefix(PROGRESS_MARK))
    return Progress(**values)
