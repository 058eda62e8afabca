"""A script in VBench's environment, as a process of its own: one job in, whatever it writes out."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.runtime import isolated_environment

LAST_LINES = 600  # characters of a child's output that are kept


@dataclass(frozen=True)
class Ended:
    """`code` None: the time was up. `said`: the end of what it printed."""

    code: int | None
    said: str

    @property
    def why(self) -> str:
        """What went wrong, in words."""
        return f"{'took too long' if self.code is None else f'exit code {self.code}'}: {self.said}"


def run_script(
    python: Path, script: Path, task: Mapping[str, Any], work: Path, *, weights: Path, seconds: float
) -> Ended:
    """Run `script JOB RESULT` in `work`, without a network. Its whole process group ends with it."""
    (work / "job.json").write_text(json.dumps(task))
    with (work / "log.txt").open("w+") as output:
        child = subprocess.Popen(
            [python, script, work / "job.json", work / "result.json"],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=work,
            env=isolated_environment(weights.resolve()),
            start_new_session=True,
        )
        try:
            code: int | None = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        output.seek(0)
        return Ended(code, output.read()[-LAST_LINES:].strip())
