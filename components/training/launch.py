"""The processes of a training stage: started, watched, and started again from the last checkpoint when one is lost.

`python -m components STAGE` ends here where `runtime.launch` asks for processes of their own. Each of them runs the
same command with the environment of one rank. A rank that refuses its input or was asked to stop says so in a file;
any other end is a loss, and the group starts again.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components import runtime
from components.artifacts import read_json, write_json
from components.errors import Interruption, UserError
from components.training.checkpoint_names import newest_step
from components.training.config import LaunchConfig
from components.training.interrupts import StopRequest, stop_requests
from components.training.watchdog import dumps

log = logging.getLogger(__name__)
OUTCOME = "outcome.json"
LOOK_SECONDS = 0.2
REFUSED = 2  # exit code of a user's error
SHOWN_LINES = 40  # of the stacks of a rank that hung


class Ranks(Protocol):
    """The processes of one attempt."""

    def poll(self) -> int | None:
        """None while they run; else 0 if all ended well, or the status of the first loss that is known."""
        ...

    def ask_to_stop(self) -> None:
        """Have them write a checkpoint and leave."""
        ...

    def close(self) -> None:
        """End what is left of them."""
        ...


@dataclass(frozen=True)
class Job:
    """A stage in a workspace, to be run by several processes."""

    stage: str
    root: Path
    checkpoints: Path
    launch: LaunchConfig

    @property
    def command(self) -> list[str]:
        """What each process runs, after the interpreter."""
        return ["-m", "components", self.stage, "--root", str(self.root.resolve())]


Start = Callable[[Job, int], Ranks]  # the job and the number of the attempt


def launch_stage(job: Job, start: Start | None = None) -> None:
    """Run the stage to its end with as many processes as `job.launch` says, started by what it names, or by `start`.

    Raises `UserError` and `Interruption` as the stage itself would, and `LostRanksError` when it was lost more than
    `restarts` times without a new checkpoint.
    """
    with stop_requests() as request:
        _supervise(job, start or _starter(job.launch.kind), request)


class LostRanksError(RuntimeError):
    """Processes were lost too often."""


def report_outcome(folder: Path, message: str, exit_code: int) -> None:
    """Tell the process that started this rank why it leaves. Nothing is written where nobody started it."""
    if runtime.attempt() is not None:
        write_json(
            folder / OUTCOME, {"message": message, "exit_code": exit_code, "attempt": runtime.attempt()}
        )


def _starter(kind: str) -> Start:
    if kind == "ray":
        from components.training.launch_ray import start_on_ray

        return start_on_ray
    from components.training.launch_torchrun import start_torchrun

    return start_torchrun


def _supervise(job: Job, start: Start, request: StopRequest) -> None:
    lost, attempt, newest = 0, 0, newest_step(job.checkpoints)
    while True:
        (job.checkpoints / OUTCOME).unlink(missing_ok=True)
        with _attempt(job, start, attempt) as ranks:
            status = _watch(ranks, request, job.launch.stop_seconds)
        _raise_outcome(job, request)
        if status == 0:
            return
        said = _say_hangs(job.checkpoints, attempt)
        moved = (now := newest_step(job.checkpoints)) > newest
        lost, newest, attempt = (1 if moved else lost + 1), now, attempt + 1
        where = f"checkpoint of step {now}" if now else "the start"
        if lost > job.launch.restarts:
            raise LostRanksError(
                f"{job.stage}: its processes were lost {lost} times in a row at {where} (status {status}{said});"
                " the log above says what each said last. The same command goes on from there"
            )
        log.warning("%s: lost (status %d%s); starting again from %s", job.stage, status, said, where)


@contextmanager
def _attempt(job: Job, start: Start, attempt: int) -> Iterator[Ranks]:
    ranks = start(job, attempt)
    try:
        yield ranks
    finally:
        ranks.close()


def _watch(ranks: Ranks, request: StopRequest, stop_seconds: float) -> int:
    """Until the attempt has ended; a request to stop is passed on once."""
    deadline: float | None = None
    while (status := ranks.poll()) is None:
        if request.signal is not None and deadline is None:
            deadline = time.monotonic() + stop_seconds
            ranks.ask_to_stop()
        if deadline is not None and time.monotonic() > deadline:
            return 1
        time.sleep(LOOK_SECONDS)
    return status


def _raise_outcome(job: Job, request: StopRequest) -> None:
    """Pass on what a rank has said; a group that did not manage to leave in time was still asked to."""
    path = job.checkpoints / OUTCOME
    outcome: Mapping[str, Any] = read_json(path) if path.is_file() else {}  # stays: other nodes read it too
    if outcome.get("exit_code") == REFUSED:
        raise UserError(outcome["message"])
    if outcome:
        raise Interruption(outcome["message"], exit_code=outcome["exit_code"])
    if request.signal is not None:
        raise Interruption(
            f"stopped on request after the checkpoint of step {newest_step(job.checkpoints)}; no newer one was"
            f" written within {job.launch.stop_seconds:g} s (runtime.launch.stop_seconds)."
            " Start the same stage again to go on from there",
            exit_code=128 + request.signal,
        )


def _say_hangs(folder: Path, attempt: int) -> str:
    """Log where ranks stood that did not move any more."""
    found = dumps(folder, attempt=attempt)
    for name, stacks in found.items():
        log.error("%s did not move; its stacks:\n%s", name, "\n".join(stacks.splitlines()[:SHOWN_LINES]))
    return f", {len(found)} of them hung" if found else ""
