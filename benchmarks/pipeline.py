"""The promises of `make demo`, measured against their limits in one run.

    python benchmarks/pipeline.py [--keep FOLDER]

Clones the repository into an empty folder, runs `reelforge demo` there (packages are those of this interpreter, so
installation is not counted), then `reelforge run` and `dvc repro` with nothing changed. Prints seconds, peak memory
of the whole process tree and toy scores, each as a share of its limit: below 1 is kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parents[1]
SAMPLE_SECONDS = 0.5


@dataclass
class Measured:
    """One command: wall seconds, and the most memory (proportional set size, GB) that its process tree held."""

    seconds: float
    peak_gb: float
    output: str


def tree_gb(process: psutil.Process) -> float:
    """Memory of a process and its descendants; shared pages are counted once, by proportional set size."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e9


def measure(command: list[str], folder: Path) -> Measured:
    """Run a command to its end. Raises `RuntimeError` with its output if it fails."""
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PREFECT_HOME": str(folder.parent / "prefect-home"),
    }
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = 0.0
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(SAMPLE_SECONDS):
            peak = max(peak, tree_gb(psutil.Process(process.pid)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    output, _ = process.communicate()
    stop.set()
    watcher.join()
    if process.returncode != 0:
        raise RuntimeError(f"{command} failed:\n{output[-4000:]}")
    return Measured(time.monotonic() - started, peak, output)


def row(what: str, value: float, limit: float, unit: str) -> None:
    print(f"{what:<44}{value:>10.2f} {unit:<4} limit {limit:>8.2f}   ratio {value / limit:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="clone into this new folder and keep it")
    folder = (parser.parse_args().keep or Path(tempfile.mkdtemp(prefix="reelforge-")) / "clone").resolve()
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    sys.path.insert(0, str(REPOSITORY))
    from components.runtime import describe_machine, has_matrix_units

    print("; ".join(describe_machine()), flush=True)
    cli = [sys.executable, "-m", "flows.cli.app"]
    demo = measure([*cli, "demo"], folder)
    again = measure([*cli, "run"], folder)
    repro = measure([sys.executable, "-m", "dvc", "repro"], folder)
    row("demo, after installation", demo.seconds, 600 if has_matrix_units() else 1200, "s")
    row("demo, peak memory of the process tree", demo.peak_gb, 6.0, "GB")
    row("reelforge run, nothing changed", again.seconds, 60, "s")
    row("dvc repro, nothing changed", repro.seconds, 15, "s")
    scores = json.loads((folder / "reports/evaluate.json").read_text())["metrics"]
    row("toy FVD / that of the untrained model", scores["toy_fvd"] / scores["toy_fvd_untrained"], 0.2, "")
    for name in (
        "colour_accuracy",
        "motion_accuracy",
        "colour_accuracy_held_out",
        "motion_accuracy_held_out",
    ):
        row(f"3 x chance / {name}", 0.75 / max(scores[name], 1e-9), 1.0, "")
    seconds = json.loads((folder / ".dvc/tmp/reelforge-seconds.json").read_text())
    print("seconds per stage:", json.dumps(seconds))


if __name__ == "__main__":
    main()
