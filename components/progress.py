"""Progress of long work: a bar where a person watches, a log line now and then where nobody does.

When a flow runs the stage, the lines are machine-readable and the flow draws the bar. Work inside the flow's own
process is heard by a listener.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass

from components.runtime import progress_style

log = logging.getLogger(__name__)
LINE_SECONDS = {"lines": 10.0, "json": 0.5}
PROGRESS_MARK = "@progress "
Advance = Callable[..., None]


@dataclass(frozen=True)
class Progress:
    """How far some work is; `left` is its own estimate in seconds."""

    title: str
    done: int
    total: int
    left: float
    text: str


_listener: ContextVar[Callable[[Progress], None] | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Within the block, progress goes to `listener` and nowhere else."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Yield `advance(done=1, text="")`; `text` is shown beside the bar, with the time left."""
    style = "json" if (listener := _listener.get()) else progress_style()
    if style == "bar":
        yield from _bar(title, total)
    else:
        yield from _lines(title, total, style, listener or _SPEAKERS[style])


def _bar(title: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, text="")

        def advance(done: int = 1, text: str = "") -> None:
            bar.update(task, advance=done, text=text)

        yield advance


def _lines(title: str, total: int, style: str, say: Callable[[Progress], None]) -> Iterator[Advance]:
    started = said = time.monotonic()
    finished = 0

    def advance(done: int = 1, text: str = "") -> None:
        nonlocal finished, said
        finished += done
        now = time.monotonic()
        if now - said < LINE_SECONDS[style] and finished < total:
            return
        said = now
        left = (now - started) / max(finished, 1) * (total - finished)
        say(Progress(title, finished, total, round(left, 1), text))

    yield advance


def _write_json(now: Progress) -> None:
    sys.stdout.write(f"{PROGRESS_MARK}{json.dumps(asdict(now))}\n")
    sys.stdout.flush()


def _log(now: Progress) -> None:
    if now.done < now.total:
        log.info("%s  %d/%d  eta %.0f s  %s", now.title, now.done, now.total, now.left, now.text)


_SPEAKERS: dict[str, Callable[[Progress], None]] = {"json": _write_json, "lines": _log}
