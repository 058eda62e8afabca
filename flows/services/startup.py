"""Servers started side by side: each as soon as what it needs answers, all of them watched at once.

Most of a start is the servers' own imports and tables, so what does not need each other must not wait for each other.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flows.services.daemon import POLL_SECONDS, Daemon

Said = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One server in the start of all. `ready` is asked until it is true; `then` runs once, when the server answers."""

    daemon: Daemon
    needs: tuple[str, ...] = ()  # names of servers that must answer before this one starts
    ready: Callable[[], bool] = lambda: True
    then: Callable[[], None] = lambda: None


def bring_up(steps: Sequence[Step], *, seconds: float, said: Said) -> None:
    """Start what does not run, and return when all answer. Where one fails, those that were started here are stopped.

    Raises `ServiceFailed` as soon as one ends, or when one does not answer within `seconds` of its start.
    """
    running = {step.daemon.name for step in steps if step.daemon.process()}
    started: list[Daemon] = []
    try:
        _bring_up(steps, seconds, said, running=running, started=started)
    except BaseException:
        stop_all(started)
        raise


def _bring_up(
    steps: Sequence[Step], seconds: float, said: Said, *, running: set[str], started: list[Daemon]
) -> None:
    waiting, watched = list(steps), list[tuple[Step, float]]()
    answering: set[str] = set()
    while waiting or watched:
        for step in list(waiting):
            if answering.issuperset(step.needs) and step.ready():
                waiting.remove(step)
                if step.daemon.name not in running:
                    started.append(step.daemon)
                    step.daemon.start()
                watched.append((step, time.monotonic() + seconds))
        for step, deadline in list(watched):
            if step.daemon.answers(deadline):
                watched.remove((step, deadline))
                step.then()
                name = step.daemon.name
                answering.add(name)
                said(f"{name} {'runs already' if name in running else 'is up'}: {step.daemon.address}")
        if waiting or watched:
            time.sleep(POLL_SECONDS)


def stop_all(daemons: Sequence[Daemon]) -> list[bool]:
    """Stop them side by side; whether each was running."""
    with ThreadPoolExecutor(max(len(daemons), 1)) as pool:
        return list(pool.map(Daemon.stop, daemons))
