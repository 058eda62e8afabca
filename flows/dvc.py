"""DVC as the flows use it: what is stale, and one stage at a time in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Timer, current_thread, main_thread
from typing import IO, Any

from components.errors import Interruption, UserError
from components.params import Params
from components.runtime import stage_environment
from components.stages import STAGES, stages_of
from components.storage import Place

KEPT_LINES = 200  # of a stage's output, for the error message
STOP_SECONDS = (
    180  # what an interrupted stage gets to write its checkpoint: more than `runtime.launch.stop_seconds`
)
STOPPED = {130, 143}  # exit codes of a stage that was asked to stop, and can go on
EXIT_CODE = re.compile(r"exited with (-?\d+)")


class StageFailed(RuntimeError):
    """A stage's process ended badly. `mendable` is true where running it again unchanged may help."""

    def __init__(self, stage: str, message: str, *, mendable: bool) -> None:
        super().__init__(f"stage {stage} failed: {message}")
        self.mendable = mendable


class StageRefused(UserError):
    """A stage refused its input; trying again would not help."""


def dvc_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def changed(root: Path, params: Params) -> set[str]:
    """Stages of these parameters whose own parameters, inputs or outputs differ from what DVC has recorded.

    Raises `UserError` if DVC can't tell.
    """
    stages = {stage.address: stage.name for stage in stages_of(params).values()}
    files = dict.fromkeys(stage.file for stage in stages_of(params).values())
    result = subprocess.run(
        dvc_command("status", "--json", *files),
        cwd=root,
        env=stage_environment(None),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise UserError(f"`dvc status` failed in {root}: {result.stderr.strip() or result.stdout.strip()}")
    return {stages[address] for address in json.loads(result.stdout) if address in stages}


def descendants(names: set[str], root: Path, params: Params) -> set[str]:
    """`names` and every stage that reads, directly or not, what they write. The table is in running order."""
    found: set[str] = set()
    written: list[Path] = []
    for stage in stages_of(params).values():
        paths = stage.paths(root, params)
        if stage.name in names or any(_within(path, written) for path in paths.inputs.values()):
            found.add(stage.name)
            written.extend(paths.outputs.values())
    return found


def _within(path: Place, folders: list[Path]) -> bool:
    """No stage writes to the object store that videos come from."""
    return isinstance(path, Path) and any(
        path == folder or folder in path.parents or path in folder.parents for folder in folders
    )


def reproduce(
    stage: str,
    root: Path,
    *,
    on_line: Callable[[str], None],
    parent_run: str | None,
    hours: float,
    force: bool = False,
) -> bool:
    """Run `dvc repro --single-item` for one stage; True if it ran, False if it was up to date.

    Every line of output goes to `on_line`. Raises `StageRefused` for a user's error (exit code 2 of the stage),
    `Interruption` where it was asked to stop and can go on, `StageFailed` for anything else, and after `hours`.
    """
    address = STAGES[stage].address if stage in STAGES else stage
    command = dvc_command("repro", "--single-item", *(["--force"] if force else []), address)
    environment = {**stage_environment(parent_run), "REELFORGE_PROGRESS": "json"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    kept: deque[str] = deque(maxlen=KEPT_LINES)
    ran = False
    with _process(command, root, environment) as process, _time_limit(process, hours * 3600) as is_over:
        assert process.stdout is not None
        for line in _lines(process.stdout):
            kept.append(line)
            ran = ran or line.startswith(f"Running stage '{address}'")
            on_line(line)
        code = process.wait()
    if is_over():
        message = f"it took longer than {hours:g} h (runtime.stage_hours), and was ended"
        raise StageFailed(stage, message, mendable=False)
    if code != 0:
        raise _failure(stage, list(kept))
    return ran


def _lines(stream: IO[str]) -> Iterator[str]:
    for line in stream:
        if text := line.rstrip():
            yield text


@contextmanager
def _process(command: list[str], root: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A child in a process group of its own. Leaving early interrupts it, so that it can write its checkpoint."""
    with _interruptible():
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            _stop(process, process.communicate)


@contextmanager
def _interruptible() -> Iterator[None]:
    """A child that is started in the block heeds an interruption even where this process was told to ignore it.

    A shell's script has its background jobs do so, a worker for instance; a stage would inherit that and could not be
    stopped. Signals are the main thread's, which is where flows run.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN and current_thread() is main_thread()
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _time_limit(process: subprocess.Popen[str], seconds: float) -> Iterator[Callable[[], bool]]:
    """Stop the child after so long, also one that says nothing; what is yielded tells whether that was needed."""
    over = Event()

    def end() -> None:
        if process.poll() is None:
            over.set()
            _stop(process, process.wait)  # what it still says is read by the thread that waits for its lines

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()


def _stop(process: subprocess.Popen[str], wait: Callable[..., Any]) -> None:
    """Interrupt the child's group, and end it where it does not leave in time."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        wait()


def _failure(stage: str, lines: list[str]) -> BaseException:
    code = next((int(found[1]) for line in reversed(lines) if (found := EXIT_CODE.search(line))), None)
    said = [line.removeprefix(f"{stage}: ") for line in lines if line.startswith(f"{stage}: ")]
    if code == 2 and said:
        return StageRefused(f"{stage}: " + "\n".join(said))
    if code in STOPPED:
        return Interruption(f"{stage}: " + "\n".join(said or ["stopped on request"]), exit_code=code)
    return StageFailed(stage, "\n".join(lines[-25:]), mendable=code != 2)
