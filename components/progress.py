"""Progress of long work: a bar where a person watches, a log line now and then where nobody does.

When a flow runs the stage, the lines are machine-readable and the flow draws the bar.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from components.runtime import progress_style

log = logging.getLogger(__name__)
LINE_SECONDS = {"lines": 10.0, "json": 0.5}
PROGRESS_MARK = "@progress "
Advance = Callable[..., None]


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Yield `advance(done=1, text="")`; `text` is shown beside the bar, with the time left."""
    style = progress_style()
    if style == "bar":
        yield from _bar(title, total)
    else:
        yield from _lines(title, total, style)


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


def _lines(title: str, total: int, style: str) -> Iterator[Advance]:
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
        if style == "json":
            values = {"title": title, "done": finished, "total": total, "left": round(left, 1), "text": text}
            sys.stdout.write(f"{PROGRESS_MARK}{json.dumps(values)}\n")
            sys.stdout.flush()
        elif finished < total:
            log.info("%s  %d/%d  eta %.0f s  %s", title, finished, total, left, text)

    yield advance
